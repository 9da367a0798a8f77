-- What an operator decided about the domains of handles. invite_policy: NULL is
-- the server's own setting. removed: no handles are given there, even if the
-- settings name it.
CREATE TABLE handle_domain (
  domain        TEXT COLLATE "C" PRIMARY KEY CHECK (domain = lower(domain)),
  invite_policy TEXT COLLATE "C" CHECK (invite_policy IN ('open', 'invite', 'closed')),
  removed       BOOLEAN NOT NULL,
  at            BIGINT NOT NULL
);
-- Whose handles are under a domain: all after the first dot is the domain.
ALTER TABLE account ADD COLUMN handle_parent TEXT COLLATE "C" GENERATED ALWAYS AS (substr(handle, strpos(handle, '.') + 1)) STORED;
CREATE INDEX account_handle_parent ON account (handle_parent);
