-- What owners prove themselves with beside their password, or in its place.
CREATE TABLE totp (
  did        TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  sealed     BLOB NOT NULL,
  step       INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE recovery_code (
  did TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  mac BLOB NOT NULL,
  PRIMARY KEY (did, mac)
) STRICT, WITHOUT ROWID;

CREATE TABLE passkey (
  id         BLOB PRIMARY KEY,
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  name       TEXT NOT NULL,
  public     BLOB NOT NULL,
  flags      INTEGER NOT NULL,
  counter    INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  used_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX passkey_did ON passkey (did, created_at);
