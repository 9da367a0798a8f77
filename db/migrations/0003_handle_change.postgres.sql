-- Changes of handles that the PLC directory may not know of yet. before: the
-- handle that it knows, which nobody else gets meanwhile. lease_until: from then on
-- anybody may take the change up.
CREATE TABLE handle_change (
  did         TEXT COLLATE "C" PRIMARY KEY REFERENCES account (did) ON DELETE CASCADE,
  before      TEXT COLLATE "C" UNIQUE,
  holder      TEXT COLLATE "C" NOT NULL,
  lease_until BIGINT NOT NULL
);
CREATE INDEX handle_change_lease_until ON handle_change (lease_until);
