-- What the apps of an account keep for it, a JSON array with an entry each in the order in
-- which they were stored.
CREATE TABLE preferences (
  did  TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  list BYTEA NOT NULL
);
