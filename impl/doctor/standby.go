package doctor

import (
	"context"
	"fmt"
)

// Standby is what is known of the database that is read beside the one that is written.
type Standby struct {
	// Primary says that it is none: what is read there spares the primary nothing.
	Primary bool
	// Other says that it is of another database, Unknown that this cannot be told.
	Other, Unknown bool
	// Behind is how many bytes of the log it has still to replay.
	Behind int64
}

// farBehind is how many bytes of the log a standby may have to replay.
const farBehind = 16 << 20

func (e *Examination) standby(ctx context.Context) Result {
	const setting = "PORTICO_DATABASE_READ_URL"
	s, err := e.Standby(ctx)
	switch {
	case err != nil:
		return failed(brief(err.Error()), "Look at whether the servers of PORTICO_DATABASE_URL and "+setting+" run, and take connections of this machine; until then the primary is read")
	case s.Other:
		return failed("it is not a standby of the database that is written, and is not read", "Correct "+setting)
	case s.Primary:
		return warning("it is no standby, but takes writes", "Let "+setting+" lead to a standby, or leave it out")
	case s.Behind > farBehind:
		return warning(fmt.Sprintf("it is %d MiB behind the primary, and hardly read", s.Behind>>20), "Look at its log, and at pg_stat_replication on the primary")
	case s.Unknown:
		return ok("it is %d bytes behind the primary; whether it is of the same database is known once a server has read there", s.Behind)
	}
	return ok("it is %d bytes behind the primary", s.Behind)
}
