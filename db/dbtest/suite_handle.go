package dbtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// handlesTaken checks which of some handles somebody has.
func (s *suite) handlesTaken(asked []syntax.Handle, want ...syntax.Handle) {
	s.Helper()
	got, err := s.db.HandlesTaken(s.Context(), asked...)
	s.ok(err)
	slices.Sort(got)
	slices.Sort(want)
	s.equal("handles taken", slices.Compact(got), want)
}

func (s *suite) handleChanges() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	old := reservation(1).Account.Handle
	_, err := s.db.HandleChange(ctx, did(1))
	s.is(err, db.ErrNotFound)
	change := db.HandleChange{DID: did(1), Before: old, Holder: "one", LeaseUntil: start0.Add(time.Minute)}
	s.must(s.rename(1, "new.test", &change))
	got, err := s.db.HandleChange(ctx, did(1))
	s.ok(err)
	s.equal("change", *got, change)

	// Nobody else gets the handle from before, and its owner does.
	s.is(s.db.Available(ctx, old, ""), db.ErrHandleTaken)
	many := []syntax.Handle{old}
	for i := range 40 {
		many = append(many, syntax.Handle(fmt.Sprint("free", i, ".test")))
	}
	s.handlesTaken(append(many, "new.test", reservation(2).Account.Handle), "new.test", old, reservation(2).Account.Handle)
	s.handlesTaken(nil)
	s.is(s.db.HandleFree(ctx, old, did(2)), db.ErrHandleTaken)
	s.is(s.db.HandleFree(ctx, "new.test", did(2)), db.ErrHandleTaken)
	s.ok(s.db.HandleFree(ctx, "new.test", did(1)))
	s.ok(s.db.HandleFree(ctx, old, did(1)))
	s.is(s.db.Write(ctx, s.rename(2, old, nil)), db.ErrHandleTaken)
	r := reservation(3)
	r.Account.Handle = old
	s.is(s.db.Write(ctx, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) }), db.ErrHandleTaken)
	s.must(s.rename(1, old, nil))
	s.must(s.rename(1, "new.test", nil))

	for until, want := range map[time.Time]int{start0.Add(time.Minute - time.Microsecond): 0, start0.Add(time.Minute): 1} {
		all, err := s.db.HandleChanges(ctx, until, 10)
		s.ok(err)
		s.equal("changes due", len(all), want)
	}
	change.Holder, change.Before = "two", ""
	s.must(func(tx *db.Tx) error { return tx.PutHandleChange(ctx, change) })
	got, err = s.db.HandleChange(ctx, did(1))
	s.ok(err)
	s.equal("change taken up", *got, change)
	s.ok(s.db.HandleFree(ctx, old, did(2)))
	s.must(func(tx *db.Tx) error { return tx.DeleteHandleChange(ctx, did(1)) })
	_, err = s.db.HandleChange(ctx, did(1))
	s.is(err, db.ErrNotFound)

	s.must(func(tx *db.Tx) error { return tx.PutHandleChange(ctx, change) })
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(1)) })
	_, err = s.db.HandleChange(ctx, did(1))
	s.is(err, db.ErrNotFound)
}

// rename gives account n another handle, and records the change.
func (s *suite) rename(n int, h syntax.Handle, change *db.HandleChange) func(tx *db.Tx) error {
	return func(tx *db.Tx) error {
		a, err := tx.LockAccount(s.Context(), did(n))
		if err != nil {
			return err
		}
		a.Handle = h
		if err := tx.UpdateAccount(s.Context(), a); err != nil || change == nil {
			return err
		}
		return tx.PutHandleChange(s.Context(), *change)
	}
}

// A handle that is given up in the same moment in which others ask for it is
// theirs only after the change is over.
func (s *suite) raceHandleGivenUp() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	for round := range 20 {
		change := db.HandleChange{DID: did(1), Before: reservation(1).Account.Handle, Holder: "one", LeaseUntil: start0}
		var all sync.WaitGroup
		all.Go(func() {
			if err := s.db.Write(ctx, s.rename(1, "new.test", &change)); err != nil {
				s.Error(err)
			}
		})
		r := reservation(10 + round)
		r.Account.Handle = reservation(1).Account.Handle
		for _, take := range []func(*db.Tx) error{
			s.rename(2, reservation(1).Account.Handle, nil), func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) },
		} {
			all.Go(func() {
				if err := s.db.Write(ctx, take); !errors.Is(err, db.ErrHandleTaken) {
					s.Errorf("round %d: a handle that may go back was given away: %v", round, err)
				}
			})
		}
		all.Wait()
		s.must(s.rename(1, reservation(1).Account.Handle, nil))
		s.must(func(tx *db.Tx) error { return tx.DeleteHandleChange(ctx, did(1)) })
	}
}
