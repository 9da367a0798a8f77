-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO handle_domain (domain, invite_policy, removed, at) VALUES ('example.com', 'invite', FALSE, 1767323045000000);
