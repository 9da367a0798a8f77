-- Entries of the record are forgotten at some age.
CREATE INDEX audit_at ON audit (at);
