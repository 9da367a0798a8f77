-- Records with their values, in the bytewise order of their paths (collection/rkey).
-- link_to is what a record points at, if it is of those that replace each other.
CREATE TABLE record (
  did          TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  path         TEXT NOT NULL,
  cid          BLOB NOT NULL,
  rev          TEXT NOT NULL,
  indexed_at   INTEGER NOT NULL,
  takedown_ref TEXT,
  link_to      TEXT,
  value        BLOB NOT NULL,
  PRIMARY KEY (did, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_rev ON record (did, rev);
CREATE INDEX record_link_to ON record (did, link_to) WHERE link_to IS NOT NULL;

-- The collections of which an account has records.
CREATE TABLE collection (
  did        TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  collection TEXT NOT NULL,
  PRIMARY KEY (did, collection)
) STRICT, WITHOUT ROWID;
CREATE INDEX collection_collection ON collection (collection, did);

-- A blob is temporary while it has a temp_key: no record names it yet.
CREATE TABLE blob (
  did          TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  cid          BLOB NOT NULL,
  mime         TEXT NOT NULL,
  size         INTEGER NOT NULL,
  temp_key     TEXT,
  created_at   INTEGER NOT NULL,
  takedown_ref TEXT,
  PRIMARY KEY (did, cid)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_temp_key ON blob (did, temp_key) WHERE temp_key IS NOT NULL;
CREATE INDEX blob_temporary ON blob (created_at) WHERE temp_key IS NOT NULL;

-- While the file of a blob that has no row is removed, none can come to be.
CREATE TABLE blob_claim (
  did   TEXT NOT NULL,
  cid   BLOB NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (did, cid)
) STRICT, WITHOUT ROWID;

-- The blobs that records name, whether they are here or not.
CREATE TABLE record_blob (
  did  TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  path TEXT NOT NULL,
  cid  BLOB NOT NULL,
  PRIMARY KEY (did, path, cid)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_blob_cid ON record_blob (did, cid);

-- Where the number and the time go into a body; both 0 where that was not stored.
ALTER TABLE event ADD COLUMN cut1 INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN cut2 INTEGER NOT NULL DEFAULT 0;
-- The highest number that was removed because of its age.
ALTER TABLE event_counter ADD COLUMN outdated INTEGER NOT NULL DEFAULT 0;

-- Repositories are listed in the order in which their accounts were made.
CREATE INDEX account_created_at ON account (created_at, did);
