-- Imports of repositories that began to change rows and have not ended: until one has, the
-- rows of the account are neither the old repository nor the new one.
CREATE TABLE unfinished_import (
  did TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  id  TEXT NOT NULL
);
