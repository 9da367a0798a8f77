-- Requests of apps to be let into an account, until they are answered and their code is
-- exchanged, or they end.
CREATE TABLE oauth_request (
  id              BYTEA PRIMARY KEY,
  payer           BYTEA NOT NULL,
  client_id       TEXT COLLATE "C" NOT NULL,
  client_key      TEXT,
  dpop_key        TEXT NOT NULL,
  parameters      TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  browser         BYTEA,
  answered_at     BIGINT,
  did             TEXT COLLATE "C" REFERENCES account (did) ON DELETE CASCADE,
  proved_at       BIGINT,
  scope           TEXT,
  consented       TEXT,
  code            BYTEA UNIQUE,
  code_expires_at BIGINT,
  client_name     TEXT,
  address         TEXT,
  agent           TEXT
);
CREATE INDEX oauth_request_payer ON oauth_request (payer, created_at);
CREATE INDEX oauth_request_browser ON oauth_request (browser) WHERE browser IS NOT NULL;
CREATE INDEX oauth_request_did ON oauth_request (did) WHERE did IS NOT NULL;
CREATE INDEX oauth_request_expires_at ON oauth_request (expires_at);

-- What apps were let into. Of the scope consented is how it was spelled out then, and granted
-- what is left of that. A session is over when it was not refreshed until refresh_expires_at.
CREATE TABLE oauth_session (
  id                 BYTEA PRIMARY KEY,
  did                TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  client_id          TEXT COLLATE "C" NOT NULL,
  client_key         TEXT,
  client_name        TEXT,
  dpop_key           TEXT NOT NULL,
  scope              TEXT NOT NULL,
  consented          TEXT NOT NULL,
  granted            TEXT NOT NULL,
  token              BYTEA NOT NULL UNIQUE,
  token_expires_at   BIGINT NOT NULL,
  refresh            BYTEA UNIQUE,
  refresh_expires_at BIGINT NOT NULL,
  refreshes          BIGINT NOT NULL,
  code               BYTEA NOT NULL UNIQUE,
  created_at         BIGINT NOT NULL,
  used_at            BIGINT NOT NULL,
  expires_at         BIGINT NOT NULL,
  address            TEXT NOT NULL,
  agent              TEXT NOT NULL
);
CREATE INDEX oauth_session_did ON oauth_session (did, used_at);
CREATE INDEX oauth_session_refresh_expires_at ON oauth_session (refresh_expires_at);

-- Refresh tokens that were exchanged: the latest of each session.
CREATE TABLE oauth_spent_refresh (
  refresh    BYTEA PRIMARY KEY,
  session    BYTEA NOT NULL REFERENCES oauth_session (id) ON DELETE CASCADE,
  generation BIGINT NOT NULL,
  spent_at   BIGINT NOT NULL
);
CREATE INDEX oauth_spent_refresh_session ON oauth_spent_refresh (session, generation);

-- What is good for once, and was used.
CREATE TABLE oauth_used (
  id         BYTEA PRIMARY KEY,
  expires_at BIGINT NOT NULL
);
CREATE INDEX oauth_used_expires_at ON oauth_used (expires_at);

-- Accounts that browsers remember at the pages where apps are let in.
CREATE TABLE oauth_remembered (
  browser    BYTEA NOT NULL,
  did        TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  created_at BIGINT NOT NULL,
  proved_at  BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  address    TEXT NOT NULL,
  agent      TEXT NOT NULL,
  PRIMARY KEY (browser, did)
);
CREATE INDEX oauth_remembered_did ON oauth_remembered (did);
CREATE INDEX oauth_remembered_expires_at ON oauth_remembered (expires_at);

-- What owners allowed apps before, so that they need not be asked again.
CREATE TABLE oauth_consent (
  did        TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  client_id  TEXT COLLATE "C" NOT NULL,
  scope      TEXT NOT NULL,
  granted    TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (did, client_id)
);

-- Permission sets of the network, as they were read last.
CREATE TABLE permission_set (
  nsid       TEXT COLLATE "C" PRIMARY KEY,
  document   TEXT,
  fetched_at BIGINT NOT NULL,
  tried_at   BIGINT NOT NULL
);
CREATE INDEX permission_set_tried_at ON permission_set (tried_at);
