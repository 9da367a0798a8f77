-- What several servers of one database, and of different versions, have to know of each other.

-- The newest step of the oldest version that works with the database once the step is made.
-- Where it is NULL that is the step itself.
ALTER TABLE migration ADD COLUMN oldest TEXT;

-- A mark is left by every transaction that was committed, for an hour: who has lost the
-- connection over a COMMIT asks for it. An id begins with its time, so that marks are
-- dropped in their order.
CREATE TABLE tx_mark (id BYTEA PRIMARY KEY);

-- Whoever counts the requests of a payer has its row, one of 256, meanwhile.
CREATE TABLE oauth_payer (id SMALLINT PRIMARY KEY);
INSERT INTO oauth_payer (id) SELECT generate_series(0, 255);
