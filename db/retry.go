package db

import "time"

// ErrUnavailable says that the database did not answer in time, or that nobody can say
// whether a transaction was committed. It is worth trying again in some seconds.
var ErrUnavailable error = unavailable{}

type unavailable struct{}

func (unavailable) Error() string { return "database is not available" }

// RetryAfter is what clients are told.
func (unavailable) RetryAfter() time.Duration { return 5 * time.Second }
