-- In which order the letters of the outbox leave: urgent ones, which carry codes, before
-- the others, and among equals those first that found fewer letters waiting for the same
-- recipient or from the same cause. cause is a keyed hash.
ALTER TABLE mail ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN pile INTEGER NOT NULL DEFAULT 0;
ALTER TABLE mail ADD COLUMN cause TEXT;
CREATE INDEX mail_order ON mail (urgent, pile, next_at, id) WHERE state IN ('queued', 'sending');
CREATE INDEX mail_recipient ON mail (recipient) WHERE state IN ('queued', 'sending');
CREATE INDEX mail_cause ON mail (cause) WHERE state IN ('queued', 'sending');
CREATE INDEX mail_sending ON mail (next_at) WHERE state = 'sending';
