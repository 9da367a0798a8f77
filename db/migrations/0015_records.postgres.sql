-- Records with their values, in the bytewise order of their paths (collection/rkey).
-- link_to is what a record points at, if it is of those that replace each other.
CREATE TABLE record (
  did          TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  path         TEXT COLLATE "C" NOT NULL,
  cid          BYTEA NOT NULL,
  rev          TEXT COLLATE "C" NOT NULL,
  indexed_at   BIGINT NOT NULL,
  takedown_ref TEXT,
  link_to      TEXT COLLATE "C",
  value        BYTEA NOT NULL,
  PRIMARY KEY (did, path)
);
CREATE INDEX record_rev ON record (did, rev, path);
CREATE INDEX record_link_to ON record (did, link_to) WHERE link_to IS NOT NULL;

-- The collections of which an account has records.
CREATE TABLE collection (
  did        TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  collection TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (did, collection)
);
CREATE INDEX collection_collection ON collection (collection, did);

-- A blob is temporary while it has a temp_key: no record names it yet.
CREATE TABLE blob (
  did          TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  cid          BYTEA NOT NULL,
  mime         TEXT NOT NULL,
  size         BIGINT NOT NULL,
  temp_key     TEXT COLLATE "C",
  created_at   BIGINT NOT NULL,
  takedown_ref TEXT,
  PRIMARY KEY (did, cid)
);
CREATE INDEX blob_temp_key ON blob (did, temp_key) WHERE temp_key IS NOT NULL;
CREATE INDEX blob_temporary ON blob (created_at) WHERE temp_key IS NOT NULL;

-- While the file of a blob that has no row is removed, none can come to be.
CREATE TABLE blob_claim (
  did   TEXT COLLATE "C" NOT NULL,
  cid   BYTEA NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (did, cid)
);

-- The blobs that records name, whether they are here or not.
CREATE TABLE record_blob (
  did  TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  path TEXT COLLATE "C" NOT NULL,
  cid  BYTEA NOT NULL,
  PRIMARY KEY (did, path, cid)
);
CREATE INDEX record_blob_cid ON record_blob (did, cid);

-- Where the number and the time go into a body; both 0 where that was not stored.
ALTER TABLE event ADD COLUMN cut1 INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN cut2 INTEGER NOT NULL DEFAULT 0;
-- The highest number that was removed because of its age.
ALTER TABLE event_counter ADD COLUMN outdated BIGINT NOT NULL DEFAULT 0;

-- Repositories are listed in the order in which their accounts were made.
CREATE INDEX account_created_at ON account (created_at, did);

-- As in all tables: else what joins by a DID reads the whole, and revs are not compared
-- bytewise.
ALTER TABLE repo ALTER COLUMN did TYPE TEXT COLLATE "C", ALTER COLUMN rev TYPE TEXT COLLATE "C";
ALTER TABLE node ALTER COLUMN did TYPE TEXT COLLATE "C", ALTER COLUMN rev TYPE TEXT COLLATE "C";
