-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO totp (did, sealed, step, created_at) VALUES ('did:plc:one', CAST('sealed' AS BLOB), 58910768, 1767323045000000);
INSERT INTO recovery_code (did, mac) VALUES ('did:plc:one', CAST('recovery' AS BLOB));
INSERT INTO passkey (id, did, name, public, flags, counter, created_at, used_at) VALUES (CAST('passkey' AS BLOB), 'did:plc:one', 'Telephone', CAST('public' AS BLOB), 29, 7, 1767323045000000, 1767323046000000);
