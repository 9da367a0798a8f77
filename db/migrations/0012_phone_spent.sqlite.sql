-- How many accounts signed up with a number that is no longer theirs, because somebody
-- else got the account back: they count until a time, or who has a number would have as
-- many accounts with it as mailboxes.
CREATE TABLE phone_spent (
  number BLOB PRIMARY KEY,
  uses   INTEGER NOT NULL,
  until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX phone_spent_until ON phone_spent (until);
