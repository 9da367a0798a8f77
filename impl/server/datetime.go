package server

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// datetime is t as clients are told it: in UTC, to the millisecond.
func datetime(t time.Time) syntax.Datetime {
	return syntax.Datetime(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}
