-- Times are microseconds since 1970 in UTC. NULL stands for "none" everywhere.

-- Every account, from its reservation on: handle, email and DID are unique over
-- all states. Handle and email are stored in lower case.
CREATE TABLE account (
  did               TEXT PRIMARY KEY,
  handle            TEXT UNIQUE CHECK (handle = lower(handle)),
  email             TEXT UNIQUE CHECK (email = lower(email)),
  state             TEXT NOT NULL CHECK (state IN ('creating', 'ready')),
  password_hash     TEXT,
  created_at        INTEGER NOT NULL,
  email_confirmed_at INTEGER,
  email_auth_factor INTEGER NOT NULL DEFAULT 0,
  deactivated_at    INTEGER,
  delete_after      INTEGER,
  delete_announced_at INTEGER,
  takedown_ref      TEXT,
  invites_disabled  INTEGER NOT NULL DEFAULT 0,
  tokens_valid_from INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX account_delete_after ON account (delete_after) WHERE delete_after IS NOT NULL;

-- The creations under way. lease_until: from then on anybody may take it up.
CREATE TABLE creation (
  did         TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  genesis     BLOB,
  invite_code TEXT,
  holder      TEXT NOT NULL,
  lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Creations given up whose DID may still turn up in the directory. next_at is
-- the time of the next look, or the end of the lease of who is looking.
CREATE TABLE cleanup (
  did        TEXT PRIMARY KEY,
  genesis    BLOB NOT NULL,
  looks      INTEGER NOT NULL DEFAULT 0,
  aborted_at INTEGER NOT NULL,
  next_at    INTEGER NOT NULL,
  holder     TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX cleanup_next_at ON cleanup (next_at);

CREATE TABLE signing_key (
  did     TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  purpose TEXT NOT NULL,
  public  TEXT NOT NULL,
  sealed  BLOB NOT NULL,
  PRIMARY KEY (did, purpose)
) STRICT, WITHOUT ROWID;

-- Keys handed out before there is an account. id is the DID or the key itself.
CREATE TABLE reserved_key (
  id         TEXT PRIMARY KEY,
  did        TEXT,
  public     TEXT NOT NULL,
  sealed     BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reserved_key_expires_at ON reserved_key (expires_at);

CREATE TABLE repo (
  did  TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  root TEXT NOT NULL,
  rev  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE repo_block (
  did  TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  cid  TEXT NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (did, cid)
) STRICT, WITHOUT ROWID;

-- One row: the number and time of the last event. It is locked last in every
-- transaction that appends, so that commit order is number order.
CREATE TABLE event_counter (
  id   INTEGER PRIMARY KEY CHECK (id = 1),
  last INTEGER NOT NULL,
  time INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
  seq  INTEGER PRIMARY KEY,
  did  TEXT NOT NULL,
  kind TEXT NOT NULL,
  body BLOB NOT NULL,
  time INTEGER NOT NULL
) STRICT;
CREATE INDEX event_did ON event (did, seq);

-- Refresh tokens by the keyed hash of their id.
CREATE TABLE session (
  id           BLOB PRIMARY KEY,
  did          TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  app_password TEXT,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  next_id      BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX session_did ON session (did, expires_at);
CREATE INDEX session_next_id ON session (next_id) WHERE next_id IS NOT NULL;
CREATE INDEX session_expires_at ON session (expires_at);

CREATE TABLE app_password (
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  name       TEXT NOT NULL,
  mac        BLOB,
  scrypt     TEXT,
  privileged INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (did, name)
) STRICT, WITHOUT ROWID;

-- Codes sent by mail, as keyed hashes.
CREATE TABLE email_code (
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  purpose    TEXT NOT NULL,
  mac        BLOB NOT NULL,
  email      TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (did, purpose, mac)
) STRICT, WITHOUT ROWID;
CREATE INDEX email_code_mac ON email_code (purpose, mac);
CREATE INDEX email_code_expires_at ON email_code (expires_at);

-- The outbox. next_at is the time of the next attempt, or the end of the lease
-- of who is sending. sealed is erased when the mail needs no further attempt.
CREATE TABLE mail (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  recipient  TEXT NOT NULL,
  kind       TEXT NOT NULL,
  did        TEXT,
  sealed     BLOB,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  next_at    INTEGER NOT NULL,
  attempts   INTEGER NOT NULL DEFAULT 0,
  state      TEXT NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'failed', 'expired')),
  holder     TEXT,
  last_error TEXT,
  sent_at    INTEGER
) STRICT;
CREATE INDEX mail_next_at ON mail (next_at) WHERE state IN ('queued', 'sending');
CREATE INDEX mail_did ON mail (did) WHERE did IS NOT NULL;
CREATE INDEX mail_created_at ON mail (created_at);

-- used counts every use, also those of accounts that are gone since.
CREATE TABLE invite (
  code        TEXT PRIMARY KEY,
  uses        INTEGER NOT NULL,
  used        INTEGER NOT NULL DEFAULT 0,
  disabled    INTEGER NOT NULL DEFAULT 0,
  for_account TEXT NOT NULL,
  created_by  TEXT NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_for_account ON invite (for_account);
CREATE INDEX invite_created_by ON invite (created_by);
CREATE TABLE invite_use (
  code    TEXT NOT NULL REFERENCES invite (code) ON DELETE CASCADE,
  used_by TEXT NOT NULL,
  used_at INTEGER NOT NULL,
  PRIMARY KEY (code, used_by)
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_use_used_by ON invite_use (used_by);

CREATE TABLE budget (
  kind     TEXT NOT NULL,
  key      TEXT NOT NULL,
  spent    INTEGER NOT NULL,
  reset_at INTEGER NOT NULL,
  PRIMARY KEY (key, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_reset_at ON budget (reset_at);

CREATE TABLE job (
  name        TEXT PRIMARY KEY,
  holder      TEXT NOT NULL,
  lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE did_document (
  did        TEXT PRIMARY KEY,
  document   BLOB NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The embedded PLC directory.
CREATE TABLE plc_operation (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  did        TEXT NOT NULL,
  cid        TEXT NOT NULL,
  operation  BLOB NOT NULL,
  nullified  INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  UNIQUE (did, cid)
) STRICT;
CREATE INDEX plc_operation_created_at ON plc_operation (created_at, seq);

CREATE TABLE audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  did     TEXT,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  address TEXT,
  event   TEXT NOT NULL,
  detail  TEXT
) STRICT;
CREATE INDEX audit_did ON audit (did, id);
