-- Sessions that came from each other are found by their family, which is the id of the
-- first, instead of from one to the next. generation counts them.
CREATE TABLE session_with_family (
  id           BLOB PRIMARY KEY,
  did          TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  app_password TEXT,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  next_id      BLOB,
  family       BLOB NOT NULL,
  generation   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO session_with_family
WITH RECURSIVE chain (id, next_id, family, generation) AS (
  SELECT s.id, s.next_id, s.id, 0 FROM session s WHERE NOT EXISTS (SELECT 1 FROM session p WHERE p.next_id = s.id)
  UNION ALL
  SELECT s.id, s.next_id, c.family, c.generation + 1 FROM chain c JOIN session s ON s.id = c.next_id
)
SELECT s.id, s.did, s.app_password, s.created_at, s.expires_at, s.next_id, c.family, c.generation
FROM chain c JOIN session s ON s.id = c.id;
DROP TABLE session;
ALTER TABLE session_with_family RENAME TO session;
CREATE INDEX session_family ON session (family, generation);
CREATE INDEX session_did ON session (did, expires_at);
CREATE INDEX session_latest ON session (did, created_at) WHERE next_id IS NULL;
CREATE INDEX session_expires_at ON session (expires_at);
DELETE FROM session AS s WHERE generation <= (SELECT max(f.generation) FROM session f WHERE f.family = s.family) - 64;
