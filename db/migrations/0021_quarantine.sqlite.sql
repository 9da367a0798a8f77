-- Accounts in quarantine: they are not there for anybody but their owner and the operator.
ALTER TABLE account ADD COLUMN held_at INTEGER;

CREATE TABLE quarantine (
  did           TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  rule          TEXT NOT NULL CHECK (rule IN ('confirmed', 'approved')),
  state         TEXT NOT NULL CHECK (state IN ('held', 'sent', 'shown', 'brought')),
  since         INTEGER NOT NULL,
  address       TEXT,
  mail_domain   TEXT,
  genesis       BLOB,
  client_signed INTEGER NOT NULL DEFAULT 0,
  approved_at   INTEGER,
  next_at       INTEGER NOT NULL,
  holder        TEXT,
  attempts      INTEGER NOT NULL DEFAULT 0,
  reason        TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX quarantine_since ON quarantine (since, did);
CREATE INDEX quarantine_next_at ON quarantine (next_at);

-- Who is signed in to the pages of this server with a browser.
CREATE TABLE browser_session (
  id         BLOB PRIMARY KEY,
  kind       TEXT NOT NULL CHECK (kind IN ('account', 'console')),
  did        TEXT REFERENCES account (did) ON DELETE CASCADE,
  created_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL,
  proved_at  INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  address    TEXT NOT NULL,
  agent      TEXT NOT NULL,
  bound      BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX browser_session_did ON browser_session (did) WHERE did IS NOT NULL;
CREATE INDEX browser_session_expires_at ON browser_session (expires_at);
CREATE INDEX browser_session_owner ON browser_session (kind, coalesce(did, ''));

-- Where the sessions of apps were opened. Beside them, so that to refresh one costs no more.
CREATE TABLE session_origin (
  did       TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  family    BLOB NOT NULL,
  opened_at INTEGER NOT NULL,
  address   TEXT,
  agent     TEXT NOT NULL,
  PRIMARY KEY (did, family)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_origin_opened_at ON session_origin (opened_at);
