package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A HandleChange says that an account got its handle while the PLC directory may
// not know of it yet. As long as it is there nobody else gets the handle from
// before, so that the change can be taken back.
type HandleChange struct {
	bun.BaseModel `bun:"table:handle_change,alias:handle_change"`

	DID        syntax.DID    `bun:"did,pk"`
	Before     syntax.Handle `bun:"before,nullzero"` // "" for none
	Holder     string        `bun:"holder"`          // who works on it
	LeaseUntil time.Time     `bun:"lease_until"`     // from then on anybody may take it up
}

var (
	selectHandleChange = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*HandleChange)(nil)).Where("did = ?", b.p())
	})
	selectHandleChanges = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*HandleChange)(nil)).Where("lease_until <= ?", b.p()).Order("lease_until"), "did")
	})
	putHandleChange = prepared(func(b *builder) bun.Query {
		return b.insert(new(HandleChange)).On("CONFLICT (did) DO UPDATE").
			Set("before = excluded.before").Set("holder = excluded.holder").Set("lease_until = excluded.lease_until")
	})
	deleteHandleChange = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*HandleChange)(nil)).Where("did = ?", b.p())
	})
	// A handle is another's who has it, or who may get it back.
	handleOfAnother = prepared(func(b *builder) bun.Query {
		handle, did := b.p(), b.p()
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("1").Where("handle = ?", handle).Where("did <> ?", did).
			UnionAll(b.NewSelect().Model((*HandleChange)(nil)).ColumnExpr("1").Where("before = ?", handle).Where("did <> ?", did))
	})
	handleComesBackToAnother = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*HandleChange)(nil)).ColumnExpr("1").Where("before = ?", b.p()).Where("did <> ?", b.p())
	})
)

// HandleChange returns the change of an account's handle that is under way, or
// ErrNotFound.
func (q *queries) HandleChange(ctx context.Context, did syntax.DID) (*HandleChange, error) {
	c, err := one[HandleChange](ctx, q, selectHandleChange, did)
	return c, wrap(err, "read handle change of %s", did)
}

// HandleChanges returns up to limit changes whose lease ends no later than until,
// the oldest first.
func (q *queries) HandleChanges(ctx context.Context, until time.Time, limit int) ([]HandleChange, error) {
	changes, err := many[HandleChange](ctx, q, selectHandleChanges, until, limit)
	return changes, wrap(err, "list handle changes")
}

// PutHandleChange stores a change of an account that this transaction has locked,
// in place of the one it had.
func (tx *Tx) PutHandleChange(ctx context.Context, c HandleChange) error {
	_, err := tx.exec(ctx, putHandleChange, values(&c)...)
	return wrap(err, "store handle change of %s", c.DID)
}

// DeleteHandleChange forgets the change of an account that this transaction has
// locked. The handle from before is free.
func (tx *Tx) DeleteHandleChange(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteHandleChange, did)
	return wrap(err, "delete handle change of %s", did)
}

// HandleFree returns ErrHandleTaken when an account in whatever state has the
// handle, or may get it back, unless that is did. Nothing is reserved.
func (q *queries) HandleFree(ctx context.Context, handle syntax.Handle, did syntax.DID) error {
	taken, err := q.exists(ctx, handleOfAnother, handle, did)
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
	held, err := tx.exists(ctx, handleComesBackToAnother, handle, did)
	if err == nil && held {
		err = ErrHandleTaken
	}
	return err
}
