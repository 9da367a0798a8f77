-- Which account signed up with which phone number: a keyed hash, never the number.
-- The slots of a number are counted from 0; there are as many as it may have accounts.
CREATE TABLE phone_verification (
  did        TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  number     BLOB NOT NULL,
  slot       INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (number, slot)
) STRICT, WITHOUT ROWID;

-- Codes sent to phone numbers, both as keyed hashes, where no provider keeps them.
CREATE TABLE phone_code (
  number     BLOB NOT NULL,
  mac        BLOB NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (number, mac)
) STRICT, WITHOUT ROWID;
CREATE INDEX phone_code_expires_at ON phone_code (expires_at);
