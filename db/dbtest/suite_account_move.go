package dbtest

import (
	"errors"
	"time"

	"portico/db"
)

func (s *suite) accountMoves() {
	ctx := s.Context()
	alice, bob := s.withRepo(1), s.withRepo(2)
	_, err := s.db.AccountMove(ctx, alice)
	s.is(err, db.ErrNotFound)
	leaving := db.AccountMove{
		DID: alice, State: db.MoveStopped, Host: "https://two.test", Since: start0, NextAt: new(start0.Add(time.Minute)), Details: `{"a":1}`,
	}
	coming := db.AccountMove{DID: bob, State: db.MoveComing, Host: "https://three.test", Since: start0, Details: "{}"}
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.PutAccountMove(ctx, leaving), tx.PutAccountMove(ctx, coming))
	})
	for _, want := range []db.AccountMove{leaving, coming} {
		got, err := s.db.AccountMove(ctx, want.DID)
		s.ok(err)
		s.equal("move", *got, want)
	}
	due := func(at time.Time, want ...db.AccountMove) {
		s.Helper()
		got, err := s.db.DueAccountMoves(ctx, at, 10)
		s.ok(err)
		s.equal("due", got, want)
	}
	due(start0.Add(time.Minute - time.Microsecond))
	due(start0.Add(time.Minute), leaving)
	coming.State, coming.NextAt = db.MoveReady, new(start0)
	s.must(func(tx *db.Tx) error { return tx.PutAccountMove(ctx, coming) })
	due(start0.Add(time.Hour), coming, leaving)
	s.must(func(tx *db.Tx) error { return tx.DeleteAccountMove(ctx, bob) })
	s.must(func(tx *db.Tx) error { return tx.DeleteAccountMove(ctx, bob) })
	due(start0.Add(time.Hour), leaving)

	// Nothing is signed for an account that is switched off.
	got, err := s.db.WritingKey(ctx, alice, "atproto")
	s.ok(err)
	s.equal("key", *got, key(alice))
	s.must(func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, alice)
		if err != nil {
			return err
		}
		a.DeactivatedAt = new(start0)
		return tx.UpdateAccount(ctx, a)
	})
	_, err = s.db.WritingKey(ctx, alice, "atproto")
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		_, _, err := tx.LockRepoAndKey(ctx, alice, "atproto")
		return err
	})

	down := s.blob("down", "")
	down.TakedownRef = "blob"
	s.putRecords(1, record("a.b.c/1", "1"), record("a.b.c/2", "2"))
	s.must(func(tx *db.Tx) error {
		return errors.Join(tx.TakeDownRecord(ctx, alice, "a.b.c/2", "record"), tx.InsertBlob(ctx, alice, down), tx.InsertBlob(ctx, alice, s.blob("up", "")))
	})
	takedowns, err := s.db.Takedowns(ctx, alice, 10)
	s.ok(err)
	s.equal("taken down", takedowns, []db.Takedown{{Path: "a.b.c/2", Ref: "record"}, {CID: down.CID, Ref: "blob"}})

	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, alice) })
	_, err = s.db.AccountMove(ctx, alice)
	s.is(err, db.ErrNotFound)
}
