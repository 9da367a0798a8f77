-- Where the owners of accounts were seen, by address or by /64. The latest few of each.
CREATE TABLE known_address (
  did     TEXT COLLATE "C" NOT NULL REFERENCES account (did) ON DELETE CASCADE,
  address TEXT COLLATE "C" NOT NULL,
  seen_at BIGINT NOT NULL,
  PRIMARY KEY (did, address)
);
CREATE INDEX known_address_seen_at ON known_address (seen_at);

-- Accounts at which strangers spent what they may guess. until: when new places can try
-- again. told_at: when a letter said so.
CREATE TABLE guessed_account (
  did     TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  since   BIGINT NOT NULL,
  until   BIGINT NOT NULL,
  told_at BIGINT
);
CREATE INDEX guessed_account_since ON guessed_account (since);

-- Addresses in the record are forgotten before its entries are.
CREATE INDEX audit_address ON audit (at) WHERE address IS NOT NULL;

-- Of what often happens and concerns no account there is one entry for an address.
CREATE INDEX audit_event ON audit (event, address, id) WHERE did IS NULL;

-- Keys of budgets were plain addresses; from now on they are keyed hashes.
DELETE FROM budget;
