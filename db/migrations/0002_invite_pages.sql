-- Codes are listed in pages, by their age or by how often they were used.
CREATE INDEX invite_created_at ON invite (created_at, code);
CREATE INDEX invite_used ON invite (used, code);
