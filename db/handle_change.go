package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A HandleChange says that an account got its handle while the PLC directory may
// not know of it yet. As long as it is there nobody else gets the handle from
// before, so that the change can be taken back.
type HandleChange struct {
	DID        syntax.DID
	Before     syntax.Handle // "" for none
	Holder     string        // who works on it
	LeaseUntil time.Time     // from then on anybody may take it up
}

const handleChanges = `SELECT did, before, holder, lease_until FROM handle_change `

func (c *HandleChange) dest() []any {
	return []any{(*string)(&c.DID), orEmpty{(*string)(&c.Before)}, &c.Holder, (*stamp)(&c.LeaseUntil)}
}

// HandleChange returns the change of an account's handle that is under way, or
// ErrNotFound.
func (q *queries) HandleChange(ctx context.Context, did syntax.DID) (*HandleChange, error) {
	c := new(HandleChange)
	err := q.get(ctx, handleChanges+`WHERE did = ?`, []any{string(did)}, c.dest()...)
	if err != nil {
		return nil, wrap(err, "read handle change of %s", did)
	}
	return c, nil
}

// HandleChanges returns up to limit changes whose lease ends no later than until,
// the oldest first.
func (q *queries) HandleChanges(ctx context.Context, until time.Time, limit int) ([]HandleChange, error) {
	var all []HandleChange
	err := q.each(ctx, handleChanges+`WHERE lease_until <= ? ORDER BY lease_until, did LIMIT ?`, []any{micros(until), limit},
		func(row *sql.Rows) error {
			var c HandleChange
			err := row.Scan(c.dest()...)
			all = append(all, c)
			return err
		})
	return all, wrap(err, "list handle changes")
}

// PutHandleChange stores a change of an account that this transaction has locked,
// in place of the one it had.
func (tx *Tx) PutHandleChange(ctx context.Context, c HandleChange) error {
	_, err := tx.exec(ctx, `INSERT INTO handle_change (did, before, holder, lease_until) VALUES (?, ?, ?, ?)
		ON CONFLICT (did) DO UPDATE SET before = excluded.before, holder = excluded.holder, lease_until = excluded.lease_until`,
		string(c.DID), text(c.Before), c.Holder, micros(c.LeaseUntil))
	return wrap(err, "store handle change of %s", c.DID)
}

// DeleteHandleChange forgets the change of an account that this transaction has
// locked. The handle from before is free.
func (tx *Tx) DeleteHandleChange(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, `DELETE FROM handle_change WHERE did = ?`, string(did))
	return wrap(err, "delete handle change of %s", did)
}

// HandleFree returns ErrHandleTaken when an account in whatever state has the
// handle, or may get it back, unless that is did. Nothing is reserved.
func (q *queries) HandleFree(ctx context.Context, handle syntax.Handle, did syntax.DID) error {
	taken, err := q.exists(ctx, `SELECT 1 FROM account WHERE handle = ? AND did <> ?
		UNION ALL SELECT 1 FROM handle_change WHERE before = ? AND did <> ?`, string(handle), string(did), string(handle), string(did))
	if err == nil && taken {
		err = ErrHandleTaken
	}
	return wrap(err, "look for %s", handle)
}

// keepsHandle returns ErrHandleTaken when the handle that an account has just got
// may go back to another one. Asked after the write this misses none: who wrote a
// handle that somebody gave up comes after the change of that other account.
func (tx *Tx) keepsHandle(ctx context.Context, handle syntax.Handle, did syntax.DID) error {
	if handle == "" {
		return nil
	}
	held, err := tx.exists(ctx, `SELECT 1 FROM handle_change WHERE before = ? AND did <> ?`, string(handle), string(did))
	if err == nil && held {
		err = ErrHandleTaken
	}
	return err
}
