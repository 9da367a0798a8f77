-- Sessions that came from each other are found by their family, which is the id of the
-- first, instead of from one to the next. generation counts them.
ALTER TABLE session ADD COLUMN family BYTEA;
ALTER TABLE session ADD COLUMN generation BIGINT;
WITH RECURSIVE chain (id, next_id, family, generation) AS (
  SELECT s.id, s.next_id, s.id, CAST(0 AS BIGINT) FROM session s WHERE NOT EXISTS (SELECT 1 FROM session p WHERE p.next_id = s.id)
  UNION ALL
  SELECT s.id, s.next_id, c.family, c.generation + 1 FROM chain c JOIN session s ON s.id = c.next_id
)
UPDATE session s SET family = c.family, generation = c.generation FROM chain c WHERE c.id = s.id;
ALTER TABLE session ALTER COLUMN family SET NOT NULL;
ALTER TABLE session ALTER COLUMN generation SET NOT NULL;
DROP INDEX session_next_id;
CREATE INDEX session_family ON session (family, generation);
CREATE INDEX session_latest ON session (did, created_at) WHERE next_id IS NULL;
DELETE FROM session s WHERE generation <= (SELECT max(f.generation) FROM session f WHERE f.family = s.family) - 64;
