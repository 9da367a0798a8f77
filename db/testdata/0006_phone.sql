-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO phone_verification (did, number, slot, created_at)
VALUES ('did:plc:one', CAST('number' AS BLOB), 2, 1767323045000000);
INSERT INTO phone_code (number, mac, expires_at) VALUES (CAST('number' AS BLOB), CAST('mac' AS BLOB), 4102444800000000);
