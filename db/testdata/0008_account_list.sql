-- A session that was refreshed seventy times, before sessions had families.
INSERT INTO account (did, state, password_hash, created_at, invites_disabled) VALUES ('did:plc:six', 'ready', 'hash', 1767323045000000, FALSE);
INSERT INTO session (id, did, app_password, created_at, expires_at, next_id)
WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 70)
SELECT CAST('link ' || (100 + n) AS BLOB), 'did:plc:six', NULL, 1767323045000000 + n, 4102444800000000,
  CASE WHEN n < 70 THEN CAST('link ' || (101 + n) AS BLOB) END FROM n;
