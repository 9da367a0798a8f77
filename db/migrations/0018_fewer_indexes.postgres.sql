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
