-- Single accounts that move between this server and another.
-- Works with: 0024_more_nodes

-- An account that leaves for another host, or comes from one. details is JSON of the owner's
-- package. next_at is when a job looks after it, if nobody did before.
CREATE TABLE account_move (
  did     TEXT PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  state   TEXT NOT NULL CHECK (state IN ('stopped', 'pointing', 'undoing', 'gone', 'coming', 'ready')),
  host    TEXT NOT NULL,
  since   INTEGER NOT NULL,
  next_at INTEGER,
  details TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX account_move_next_at ON account_move (next_at) WHERE next_at IS NOT NULL;

-- What of an account is taken down goes with it.
CREATE INDEX record_takedown ON record (did, path) WHERE takedown_ref IS NOT NULL;
CREATE INDEX blob_takedown ON blob (did, cid) WHERE takedown_ref IS NOT NULL;
