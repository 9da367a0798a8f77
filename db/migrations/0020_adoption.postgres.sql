-- What an account had on the server that it was adopted from, in the form that only that one
-- can use: kept for the way back until the adoption is finished. beside is what stands for it
-- here; once that is another one, what is sealed is outdated.
CREATE TABLE adopted_secret (
  did    TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  kind   TEXT NOT NULL CHECK (kind IN ('password', 'app password', 'session')),
  name   BYTEA NOT NULL,
  beside BYTEA NOT NULL,
  sealed BYTEA NOT NULL,
  PRIMARY KEY (did, kind, name)
);

-- Every host name that this server has had, and the one that it has.
CREATE TABLE host_name (
  name  TEXT COLLATE "C" PRIMARY KEY,
  since BIGINT NOT NULL,
  until BIGINT
);

-- The DIDs that are to be changed, or were, by the move that is under way.
CREATE TABLE did_move (
  did      TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  state    TEXT NOT NULL CHECK (state IN ('waiting', 'done', 'left')),
  next_at  BIGINT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  reason   TEXT
);
CREATE INDEX did_move_next_at ON did_move (next_at) WHERE state = 'waiting';
CREATE INDEX did_move_state ON did_move (state, did);
