-- Whether the client signed the genesis of a creation: then nobody here may end its DID.
ALTER TABLE creation ADD COLUMN client_signed INTEGER NOT NULL DEFAULT 0;
