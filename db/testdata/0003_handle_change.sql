-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO handle_change (did, before, holder, lease_until) VALUES ('did:plc:one', 'old.test', 'holder', 1767323045000000);
