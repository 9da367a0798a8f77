-- What owners prove themselves with beside their password, or in its place.
CREATE TABLE totp (
  did        TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  sealed     BYTEA NOT NULL,
  step       BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE recovery_code (
  did TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  mac BYTEA NOT NULL,
  PRIMARY KEY (did, mac)
);

CREATE TABLE passkey (
  id         BYTEA PRIMARY KEY,
  did        TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  name       TEXT NOT NULL,
  public     BYTEA NOT NULL,
  flags      BIGINT NOT NULL,
  counter    BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  used_at    BIGINT
);
CREATE INDEX passkey_did ON passkey (did, created_at);
