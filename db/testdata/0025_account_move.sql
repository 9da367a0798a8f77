-- Rows of the tables that this step made, as they were written in its day.
INSERT INTO account_move (did, state, host, since, next_at, details) VALUES ('did:plc:one', 'stopped', 'https://pds.example.net', 1767323045000000, 1767323645000000, '{"deactivatedAt":"2026-01-02T03:04:05Z"}');
