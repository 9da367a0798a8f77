-- Which account signed up with which phone number: a keyed hash, never the number.
-- The slots of a number are counted from 0; there are as many as it may have accounts.
CREATE TABLE phone_verification (
  did        TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  number     BYTEA NOT NULL,
  slot       INTEGER NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (number, slot)
);

-- Codes sent to phone numbers, both as keyed hashes, where no provider keeps them.
CREATE TABLE phone_code (
  number     BYTEA NOT NULL,
  mac        BYTEA NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (number, mac)
);
CREATE INDEX phone_code_expires_at ON phone_code (expires_at);
