-- How many accounts signed up with a number that is no longer theirs, because somebody
-- else got the account back: they count until a time, or who has a number would have as
-- many accounts with it as mailboxes.
CREATE TABLE phone_spent (
  number BYTEA PRIMARY KEY,
  uses   BIGINT NOT NULL,
  until  BIGINT NOT NULL
);
CREATE INDEX phone_spent_until ON phone_spent (until);
