package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A PLCOperation is a row of the embedded PLC directory's log.
type PLCOperation struct {
	Seq       int64
	DID       syntax.DID
	CID       string
	Operation []byte // the signed operation as JSON
	Nullified bool
	CreatedAt time.Time
}

type plcRow struct {
	bun.BaseModel `bun:"table:plc_operation,alias:plc"`

	Seq       int64      `bun:",pk,autoincrement"`
	DID       syntax.DID `bun:"did"`
	CID       string     `bun:"cid"`
	Operation []byte     `bun:""`
	Nullified bool       `bun:""`
	CreatedAt stamp      `bun:""`
}

func plcOperations(rows []plcRow) []PLCOperation {
	ops := make([]PLCOperation, len(rows))
	for i, r := range rows {
		ops[i] = PLCOperation{
			Seq: r.Seq, DID: r.DID, CID: r.CID, Operation: r.Operation, Nullified: r.Nullified, CreatedAt: time.Time(r.CreatedAt),
		}
	}
	return ops
}

// LockPLC keeps other transactions from appending operations until this one
// ends. Whoever decides by a log what may be appended locks first.
func (tx *Tx) LockPLC(ctx context.Context) error {
	if !tx.postgres {
		return nil // there is one writer
	}
	_, err := tx.execText(ctx, `SELECT pg_advisory_xact_lock(?)`, int64(plcLock))
	return wrap(err, "lock PLC log")
}

// PLCOperations returns the whole log of a DID, the oldest first.
func (q *queries) PLCOperations(ctx context.Context, did syntax.DID) ([]PLCOperation, error) {
	var rows []plcRow
	err := q.run.bun().NewSelect().Model(&rows).Where("did = ?", string(did)).Order("seq").Scan(ctx)
	return plcOperations(rows), wrap(err, "read PLC log of %s", did)
}

// PLCExport returns up to limit operations of all DIDs with numbers above seq, by
// number.
func (q *queries) PLCExport(ctx context.Context, seq int64, limit int) ([]PLCOperation, error) {
	var rows []plcRow
	err := q.run.bun().NewSelect().Model(&rows).Where("seq > ?", seq).Order("seq").Limit(int64(limit)).Scan(ctx)
	return plcOperations(rows), wrap(err, "export PLC log")
}

// PLCExportAfter returns up to limit operations of all DIDs that were made after
// the given time, by time and number.
func (q *queries) PLCExportAfter(ctx context.Context, after time.Time, limit int) ([]PLCOperation, error) {
	var rows []plcRow
	s := q.run.bun().NewSelect().Model(&rows).Order("created_at", "seq").Limit(int64(limit))
	if !after.IsZero() {
		s = s.Where("created_at > ?", stamp(after))
	}
	err := s.Scan(ctx)
	return plcOperations(rows), wrap(err, "export PLC log")
}

// AppendPLCOperation stores an operation and sets its Seq, and nullifies the
// given ones of the same DID.
func (tx *Tx) AppendPLCOperation(ctx context.Context, op *PLCOperation, nullify ...string) error {
	if err := tx.LockPLC(ctx); err != nil {
		return err
	}
	err := tx.getText(ctx, `INSERT INTO plc_operation (did, cid, operation, nullified, created_at) VALUES (?, ?, ?, ?, ?) RETURNING seq`,
		[]any{string(op.DID), op.CID, op.Operation, op.Nullified, micros(op.CreatedAt)}, &op.Seq)
	if err != nil {
		return wrap(err, "append PLC operation of %s", op.DID)
	}
	for _, cid := range nullify {
		err := found(tx.execText(ctx, `UPDATE plc_operation SET nullified = ? WHERE did = ? AND cid = ?`, true, string(op.DID), cid))
		if err != nil {
			return wrap(err, "nullify PLC operation %s", cid)
		}
	}
	return nil
}

// HasPLCOperations reports whether the embedded directory was ever used.
func (q *queries) HasPLCOperations(ctx context.Context) (bool, error) {
	ok, err := q.existsText(ctx, `SELECT 1 FROM plc_operation LIMIT 1`)
	return ok, wrap(err, "look for PLC operations")
}
