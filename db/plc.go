package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A PLCOperation is a row of the embedded PLC directory's log.
type PLCOperation struct {
	bun.BaseModel `bun:"table:plc_operation,alias:plc"`

	Seq       int64      `bun:"seq,pk,autoincrement"`
	DID       syntax.DID `bun:"did"`
	CID       string     `bun:"cid"`
	Operation []byte     `bun:"operation"` // the signed operation as JSON
	Nullified bool       `bun:"nullified"`
	CreatedAt time.Time  `bun:"created_at"`
}

var (
	// Postgres' only; a transaction of SQLite is alone.
	lockPLC = prepared(func(b *builder) bun.Query {
		// Nobody else holds this mode, nor writes; who reads does not wait.
		return b.NewRaw("LOCK TABLE plc_operation IN SHARE ROW EXCLUSIVE MODE")
	})
	insertPLCOperation = prepared(func(b *builder) bun.Query {
		return b.insertReturning("seq", new(PLCOperation), "seq")
	})
	nullifyPLCOperation = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*PLCOperation)(nil)).Set("nullified = ?", true).Where("did = ?", b.p()).Where("cid = ?", b.p())
	})
	selectPLCOperations = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*PLCOperation)(nil)).Where("did = ?", b.p()).Order("seq")
	})
	selectPLCExport = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*PLCOperation)(nil)).Where("seq > ?", b.p()), "seq")
	})
	selectPLCExportAfter = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*PLCOperation)(nil)).Where("created_at > ?", b.p()).Order("created_at"), "seq")
	})
	hasPLCOperations = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*PLCOperation)(nil)).ColumnExpr("1").Limit(1)
	})
)

// LockPLC keeps other transactions from appending operations until this one
// ends. Whoever decides by a log what may be appended locks first.
func (tx *Tx) LockPLC(ctx context.Context) error {
	if !tx.postgres {
		return nil // there is one writer
	}
	_, err := tx.exec(ctx, lockPLC)
	return wrap(err, "lock PLC log")
}

// PLCOperations returns the whole log of a DID, the oldest first.
func (q *queries) PLCOperations(ctx context.Context, did syntax.DID) ([]PLCOperation, error) {
	ops, err := many[PLCOperation](ctx, q, selectPLCOperations, did)
	return ops, wrap(err, "read PLC log of %s", did)
}

// PLCExport returns up to limit operations of all DIDs with numbers above seq, by
// number.
func (q *queries) PLCExport(ctx context.Context, seq int64, limit int) ([]PLCOperation, error) {
	ops, err := many[PLCOperation](ctx, q, selectPLCExport, seq, limit)
	return ops, wrap(err, "export PLC log")
}

// PLCExportAfter returns up to limit operations of all DIDs that were made after
// the given time, by time and number.
func (q *queries) PLCExportAfter(ctx context.Context, after time.Time, limit int) ([]PLCOperation, error) {
	if after.IsZero() {
		after = time.Unix(0, 0) // the zero time is NULL, which is before nothing
	}
	ops, err := many[PLCOperation](ctx, q, selectPLCExportAfter, after, limit)
	return ops, wrap(err, "export PLC log")
}

// AppendPLCOperation stores an operation and sets its Seq, and nullifies the
// given ones of the same DID.
func (tx *Tx) AppendPLCOperation(ctx context.Context, op *PLCOperation, nullify ...string) error {
	if err := tx.LockPLC(ctx); err != nil {
		return err
	}
	if err := tx.get(ctx, insertPLCOperation, values(op, "seq"), &op.Seq); err != nil {
		return wrap(err, "append PLC operation of %s", op.DID)
	}
	for _, cid := range nullify {
		if err := found(tx.exec(ctx, nullifyPLCOperation, op.DID, cid)); err != nil {
			return wrap(err, "nullify PLC operation %s", cid)
		}
	}
	return nil
}

// HasPLCOperations reports whether the embedded directory was ever used.
func (q *queries) HasPLCOperations(ctx context.Context) (bool, error) {
	ok, err := q.exists(ctx, hasPLCOperations)
	return ok, wrap(err, "look for PLC operations")
}
