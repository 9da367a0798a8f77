package db

import (
	"context"
	"time"
)

// ClaimJob reports whether holder may do the named job until the given time: it
// may when it has it already, or nobody has it at now.
func (tx *Tx) ClaimJob(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	n, err := tx.execText(ctx, `INSERT INTO job (name, holder, lease_until) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
		WHERE job.holder = excluded.holder OR job.lease_until <= ?`, name, holder, micros(until), micros(now))
	return n == 1, wrap(err, "claim job %s", name)
}

// ReleaseJob gives a job back. One that somebody else has is left to them.
func (tx *Tx) ReleaseJob(ctx context.Context, name, holder string) error {
	_, err := tx.execText(ctx, `DELETE FROM job WHERE name = ? AND holder = ?`, name, holder)
	return wrap(err, "release job %s", name)
}
