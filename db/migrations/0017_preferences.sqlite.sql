-- What the apps of an account keep for it, a JSON array with an entry each in the order in
-- which they were stored.
CREATE TABLE preferences (
  did  TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  list BLOB NOT NULL
) STRICT;
