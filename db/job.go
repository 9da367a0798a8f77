package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// A job is one that a single process does at a time.
type job struct {
	bun.BaseModel `bun:"table:job,alias:j"`

	Name       string    `bun:"name,pk"`
	Holder     string    `bun:"holder"`
	LeaseUntil time.Time `bun:"lease_until"`
}

var (
	claimJob = prepared(func(b *builder) bun.Query {
		return b.insert(new(job)).On("CONFLICT (name) DO UPDATE").
			Set("holder = excluded.holder").Set("lease_until = excluded.lease_until").
			Where("j.holder = excluded.holder OR j.lease_until <= ?", b.p())
	})
	releaseJob = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*job)(nil)).Where("name = ?", b.p()).Where("holder = ?", b.p())
	})
)

// ClaimJob reports whether holder may do the named job until the given time: it
// may when it has it already, or nobody has it at now.
func (tx *Tx) ClaimJob(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	n, err := tx.exec(ctx, claimJob, append(values(&job{Name: name, Holder: holder, LeaseUntil: until}), now)...)
	return n == 1, wrap(err, "claim job %s", name)
}

// ReleaseJob gives a job back. One that somebody else has is left to them.
func (tx *Tx) ReleaseJob(ctx context.Context, name, holder string) error {
	_, err := tx.exec(ctx, releaseJob, name, holder)
	return wrap(err, "release job %s", name)
}
