-- What several servers of one database, and of different versions, have to know of each other.

-- The newest step of the oldest version that works with the database once the step is made.
-- Where it is NULL that is the step itself.
ALTER TABLE migration ADD COLUMN oldest TEXT;
