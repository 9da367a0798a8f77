-- What an operator decided about the domains of handles. invite_policy: NULL is
-- the server's own setting. removed: no handles are given there, even if the
-- settings name it.
CREATE TABLE handle_domain (
  domain        TEXT PRIMARY KEY CHECK (domain = lower(domain)),
  invite_policy TEXT CHECK (invite_policy IN ('open', 'invite', 'closed')),
  removed       INTEGER NOT NULL,
  at            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Whose handles are under a domain: all after the first dot is the domain.
ALTER TABLE account ADD COLUMN handle_parent TEXT GENERATED ALWAYS AS (substr(handle, instr(handle, '.') + 1)) VIRTUAL;
CREATE INDEX account_handle_parent ON account (handle_parent);
