-- Repositories: the commit and how much there is, and the nodes of the tree, each where
-- it stands. What is there, an empty tree for every account, is moved in Go.
ALTER TABLE repo RENAME TO repo_root;

CREATE TABLE repo (
  did            TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  commit_cid     BLOB NOT NULL,
  commit_block   BLOB NOT NULL,
  rev            TEXT NOT NULL,
  data_cid       BLOB NOT NULL,
  layer          INTEGER NOT NULL,
  records        INTEGER NOT NULL,
  nodes          INTEGER NOT NULL,
  expected_blobs INTEGER NOT NULL,
  imported_blobs INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE node (
  did   TEXT NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  low   TEXT NOT NULL,
  layer INTEGER NOT NULL,
  cid   BLOB NOT NULL,
  rev   TEXT NOT NULL,
  data  BLOB NOT NULL,
  PRIMARY KEY (did, low, layer)
) STRICT, WITHOUT ROWID;
