-- Repositories: the commit and how much there is, and the nodes of the tree, each where
-- it stands. What is there, an empty tree for every account, is moved in Go.
ALTER TABLE repo RENAME TO repo_root;
ALTER INDEX repo_pkey RENAME TO repo_root_pkey;

CREATE TABLE repo (
  did            TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  commit_cid     BYTEA NOT NULL,
  commit_block   BYTEA NOT NULL,
  rev            TEXT NOT NULL,
  data_cid       BYTEA NOT NULL,
  layer          INTEGER NOT NULL,
  records        BIGINT NOT NULL,
  nodes          BIGINT NOT NULL,
  expected_blobs BIGINT NOT NULL,
  imported_blobs BIGINT NOT NULL
);

-- Low is compared bytewise, and last: a path is found by one probe a layer. A commit
-- rewrites rows where they are, for which the pages have room.
CREATE TABLE node (
  did   TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  low   TEXT COLLATE "C" NOT NULL,
  layer INTEGER NOT NULL,
  cid   BYTEA NOT NULL,
  rev   TEXT NOT NULL,
  data  BYTEA NOT NULL,
  PRIMARY KEY (did, layer, low)
) WITH (fillfactor = 70);
