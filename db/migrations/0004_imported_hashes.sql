-- Whether any hash of the reference's is left is asked at every sign-in.
CREATE INDEX account_imported_hash ON account (did) WHERE substr(password_hash, 1, 1) <> '$';
CREATE INDEX app_password_imported_hash ON app_password (did) WHERE mac IS NULL;
