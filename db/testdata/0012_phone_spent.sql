-- Rows of the table that this step made, as they were written in its day.
INSERT INTO phone_spent (number, uses, until) VALUES (CAST('number' AS BLOB), 2, 4102444800000000);
