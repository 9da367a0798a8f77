-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO adopted_secret (did, kind, name, beside, sealed) VALUES ('did:plc:one', 'password', CAST('' AS BLOB), CAST('hash' AS BLOB), CAST('sealed' AS BLOB));
INSERT INTO host_name (name, since, until) VALUES ('pds.example.com', 1767323045000000, NULL);
INSERT INTO did_move (did, state, next_at, attempts, reason) VALUES ('did:plc:one', 'waiting', 1767326645000000, 1, 'the directory did not answer');
