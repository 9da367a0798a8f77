-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO known_address (did, address, seen_at) VALUES ('did:plc:one', '192.0.2.0', 1767323045000000);
INSERT INTO guessed_account (did, since, until) VALUES ('did:plc:one', 1767323045000000, 1767326645000000);
INSERT INTO budget (kind, key, spent, reset_at) VALUES ('failed-passwords', 'key', 4, 1767326645000000);
