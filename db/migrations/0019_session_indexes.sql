-- A session that is exchanged changes its end, so that is in no index that can do without
-- it; and one of the sessions of an account by their families serves for both.
DROP INDEX session_did;
DROP INDEX session_family;
CREATE INDEX session_did ON session (did, family, generation);
