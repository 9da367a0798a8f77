-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO tx_mark (id) VALUES (CAST('mark' AS BYTEA));
