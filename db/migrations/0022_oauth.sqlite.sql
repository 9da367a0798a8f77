-- Requests of apps to be let into an account, until they are answered and their code is
-- exchanged, or they end.
CREATE TABLE oauth_request (
  id              BLOB PRIMARY KEY,
  payer           BLOB NOT NULL,
  client_id       TEXT NOT NULL,
  client_key      TEXT,
  dpop_key        TEXT NOT NULL,
  parameters      TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER NOT NULL,
  browser         BLOB,
  answered_at     INTEGER,
  did             TEXT REFERENCES account (did) ON DELETE CASCADE,
  proved_at       INTEGER,
  scope           TEXT,
  consented       TEXT,
  code            BLOB UNIQUE,
  code_expires_at INTEGER,
  client_name     TEXT,
  address         TEXT,
  agent           TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_request_payer ON oauth_request (payer, created_at);
CREATE INDEX oauth_request_browser ON oauth_request (browser) WHERE browser IS NOT NULL;
CREATE INDEX oauth_request_did ON oauth_request (did) WHERE did IS NOT NULL;
CREATE INDEX oauth_request_expires_at ON oauth_request (expires_at);

-- What apps were let into. Of the scope consented is how it was spelled out then, and granted
-- what is left of that. A session is over when it was not refreshed until refresh_expires_at.
CREATE TABLE oauth_session (
  id                 BLOB PRIMARY KEY,
  did                TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  client_id          TEXT NOT NULL,
  client_key         TEXT,
  client_name        TEXT,
  dpop_key           TEXT NOT NULL,
  scope              TEXT NOT NULL,
  consented          TEXT NOT NULL,
  granted            TEXT NOT NULL,
  token              BLOB NOT NULL UNIQUE,
  token_expires_at   INTEGER NOT NULL,
  refresh            BLOB UNIQUE,
  refresh_expires_at INTEGER NOT NULL,
  refreshes          INTEGER NOT NULL,
  code               BLOB NOT NULL UNIQUE,
  created_at         INTEGER NOT NULL,
  used_at            INTEGER NOT NULL,
  expires_at         INTEGER NOT NULL,
  address            TEXT NOT NULL,
  agent              TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_session_did ON oauth_session (did, used_at);
CREATE INDEX oauth_session_refresh_expires_at ON oauth_session (refresh_expires_at);

-- Refresh tokens that were exchanged: the latest of each session.
CREATE TABLE oauth_spent_refresh (
  refresh    BLOB PRIMARY KEY,
  session    BLOB NOT NULL REFERENCES oauth_session (id) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  spent_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_spent_refresh_session ON oauth_spent_refresh (session, generation);

-- What is good for once, and was used.
CREATE TABLE oauth_used (
  id         BLOB PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_used_expires_at ON oauth_used (expires_at);

-- Accounts that browsers remember at the pages where apps are let in.
CREATE TABLE oauth_remembered (
  browser    BLOB NOT NULL,
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  created_at INTEGER NOT NULL,
  proved_at  INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  address    TEXT NOT NULL,
  agent      TEXT NOT NULL,
  PRIMARY KEY (browser, did)
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_remembered_did ON oauth_remembered (did);
CREATE INDEX oauth_remembered_expires_at ON oauth_remembered (expires_at);

-- What owners allowed apps before, so that they need not be asked again.
CREATE TABLE oauth_consent (
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  client_id  TEXT NOT NULL,
  scope      TEXT NOT NULL,
  granted    TEXT NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (did, client_id)
) STRICT, WITHOUT ROWID;

-- Permission sets of the network, as they were read last.
CREATE TABLE permission_set (
  nsid       TEXT PRIMARY KEY,
  document   TEXT,
  fetched_at INTEGER NOT NULL,
  tried_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX permission_set_tried_at ON permission_set (tried_at);
