-- Accounts are listed in pages, in the order of their DIDs: those in a status, and
-- those whose handles are under a domain.
ALTER TABLE account ADD COLUMN status TEXT GENERATED ALWAYS AS (CASE
  WHEN state = 'creating' THEN 'creating' WHEN takedown_ref IS NOT NULL THEN 'takendown'
  WHEN deactivated_at IS NOT NULL THEN 'deactivated' ELSE 'active' END) VIRTUAL;
CREATE INDEX account_status ON account (status, did);
DROP INDEX account_handle_parent;
CREATE INDEX account_handle_parent ON account (handle_parent, did);
