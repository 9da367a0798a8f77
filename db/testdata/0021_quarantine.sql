-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO quarantine (did, rule, state, since, address, mail_domain, genesis, next_at, attempts, reason) VALUES ('did:plc:one', 'confirmed', 'held', 1767323045000000, '198.51.100.0/24', 'mail.test', CAST('{}' AS BLOB), 1767323045000000, 1, 'the directory does not answer');
INSERT INTO browser_session (id, kind, did, created_at, seen_at, proved_at, expires_at, address, agent) VALUES (CAST('browser' AS BLOB), 'account', 'did:plc:one', 1767323045000000, 1767323045000000, 1767323045000000, 4102444800000000, '198.51.100.1', 'Firefox');
INSERT INTO session_origin (did, family, opened_at, address, agent) VALUES ('did:plc:one', CAST('family' AS BLOB), 1767323045000000, '198.51.100.1', 'Firefox');
