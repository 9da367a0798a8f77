package dbtest

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) didMoves() {
	ctx := s.Context()
	minute := func(n int) time.Time { return start0.Add(time.Duration(n) * time.Minute) }
	add := func(after syntax.DID, limit, at int, want ...syntax.DID) {
		s.Helper()
		var added []syntax.DID
		s.must(func(tx *db.Tx) (err error) {
			added, err = tx.AddDIDMoves(ctx, after, limit, minute(at))
			return err
		})
		s.equal("added", added, want)
	}
	counts := func(waiting, done, left int) {
		s.Helper()
		n, err := s.db.CountDIDMoves(ctx)
		s.ok(err)
		s.equal("counts", n, db.DIDMoveCounts{Waiting: waiting, Done: done, Left: left})
	}
	due := func(at int, want ...db.DIDMove) {
		s.Helper()
		all, err := s.db.DueDIDMoves(ctx, minute(at), 10)
		s.ok(err)
		s.equal("due", all, want)
	}
	release := func(at, want int) {
		s.Helper()
		var n int
		s.must(func(tx *db.Tx) (err error) {
			n, err = tx.ReleaseDIDMoves(ctx, minute(at))
			return err
		})
		s.equal("released", n, want)
	}
	claim := func(m *db.DIDMove, until time.Time) {
		s.Helper()
		var claimed db.DIDMove
		s.must(func(tx *db.Tx) error {
			claimed = *m
			return tx.ClaimDIDMove(ctx, &claimed, until)
		})
		*m = claimed
	}
	counts(0, 0, 0)
	add("", 10, 0)
	for n := range 3 {
		s.create(n)
	}
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(3)) })
	add("", 2, 1, did(0), did(1))
	add(did(2), 2, 0, did(3)) // one under creation too
	add("", 5, 2, did(2))
	add("", 5, 2)
	counts(4, 0, 0)
	waiting := func(n, at int) db.DIDMove { return db.DIDMove{DID: did(n), State: db.DIDWaiting, NextAt: minute(at)} }
	due(-1)
	due(1, waiting(3, 0), waiting(0, 1), waiting(1, 1))

	m, late := waiting(0, 1), waiting(0, 1)
	claim(&m, minute(5))
	s.equal("claimed", m, db.DIDMove{DID: did(0), State: db.DIDWaiting, NextAt: minute(5), Attempts: 1})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.ClaimDIDMove(ctx, &late, minute(6)) })
	due(1, waiting(3, 0), waiting(1, 1))

	m.State, m.Reason = db.DIDLeft, "elsewhere"
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, m, minute(1)) })
	s.must(func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, m, minute(5)) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, m, minute(5)) })
	done := waiting(1, 1)
	claim(&done, minute(5))
	done.State = db.DIDDone
	s.must(func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, done, minute(5)) })
	counts(2, 1, 1)
	got, err := s.db.DIDMove(ctx, did(0))
	s.ok(err)
	s.equal("row", *got, m)
	left, err := s.db.DIDMoves(ctx, db.DIDLeft, "", 10)
	s.ok(err)
	s.equal("left", left, []db.DIDMove{m})
	left, err = s.db.DIDMoves(ctx, db.DIDLeft, did(0), 10)
	s.ok(err)
	s.equal("left behind the last", len(left), 0)

	s.must(func(tx *db.Tx) error {
		n, err := tx.RetryDIDMoves(ctx, minute(7))
		s.equal("tried again", n, 1)
		return err
	})
	counts(3, 1, 0)
	// What was claimed before all start anew is not settled.
	claimed := waiting(0, 7)
	claim(&claimed, minute(9))
	s.must(func(tx *db.Tx) error { return tx.RestartDIDMoves(ctx, minute(8)) })
	release(7, 0)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, claimed, minute(9)) })
	due(8, waiting(0, 8), waiting(1, 8), waiting(2, 8), waiting(3, 8))

	// Those whose turn is far off come sooner.
	s.must(func(tx *db.Tx) error { return tx.HastenDIDMoves(ctx, minute(8), minute(3)) })
	due(3)
	s.must(func(tx *db.Tx) error { return tx.HastenDIDMoves(ctx, minute(7), minute(3)) })
	due(3, waiting(0, 3), waiting(1, 3), waiting(2, 3), waiting(3, 3))

	// What is claimed is released, and nothing else: not one that has failed, nor one that
	// has just been started anew.
	s.must(func(tx *db.Tx) error { return tx.RestartDIDMoves(ctx, minute(8)) })
	claimed = waiting(0, 8)
	failed := waiting(1, 8)
	claim(&claimed, minute(10))
	claim(&failed, minute(10))
	failed.NextAt, failed.Reason = minute(9), "no answer"
	s.must(func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, failed, minute(10)) })
	release(7, 1)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SettleDIDMove(ctx, claimed, minute(10)) })
	claimed.NextAt = minute(7)
	due(9, claimed, waiting(2, 8), waiting(3, 8), failed)
	claim(&failed, minute(10))
	s.equal("claimed again", failed, db.DIDMove{DID: did(1), State: db.DIDWaiting, NextAt: minute(10), Attempts: 2})
	release(9, 2)

	// Of an account that is gone there is no row.
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	_, err = s.db.DIDMove(ctx, did(2))
	s.is(err, db.ErrNotFound)
	counts(3, 0, 0)
	s.must(func(tx *db.Tx) error { return tx.DeleteDIDMoves(ctx) })
	counts(0, 0, 0)
}
