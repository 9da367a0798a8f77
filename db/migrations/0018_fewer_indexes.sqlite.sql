-- A row is in no index where nobody looks for it: each costs as much to write as the row.
-- Codes that somebody has earned are for who made them, and those of the operator are not
-- listed by owner.
DROP INDEX invite_created_by;
DROP INDEX invite_for_account;
CREATE INDEX invite_for_account ON invite (for_account) WHERE for_account <> 'admin';
-- Codes that were never used are listed in the order of the table.
DROP INDEX invite_used;
CREATE INDEX invite_used ON invite (used, code) WHERE used > 0;
-- Entries that have an address are in audit_address by their age.
DROP INDEX audit_at;
CREATE INDEX audit_at ON audit (at) WHERE address IS NULL;
-- There is one entry for an address of what strangers do, and of nothing else.
DROP INDEX audit_event;
CREATE INDEX audit_event ON audit (event, address, id) WHERE did IS NULL AND actor = 'stranger';
-- AUTOINCREMENT writes the last number of a table into another one, so that none is given
-- twice. Only the order of the numbers matters here, which they have without. The word
-- changes nothing of what is stored, and a table of a million rows takes long to copy.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ' AUTOINCREMENT', '') WHERE type = 'table' AND name = 'audit';
DELETE FROM sqlite_sequence WHERE name = 'audit';
PRAGMA writable_schema = RESET;
