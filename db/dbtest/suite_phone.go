package dbtest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"portico/db"
)

var number = []byte("keyed hash of a number")

// onPhone is the reservation of account n for a number of two accounts.
func onPhone(n int) db.Reservation {
	r := reservation(n)
	r.Phone = db.PhoneClaim{Number: number, Max: 2}
	return r
}

func (s *suite) phoneAccounts() {
	ctx := s.Context()
	has := func(want int) {
		s.Helper()
		n, err := s.db.PhoneAccounts(ctx, number)
		s.ok(err)
		s.equal("accounts", n, want)
	}
	reserve := func(n int) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.ReserveAccount(ctx, onPhone(n)) }
	}
	has(0)
	s.must(reserve(1))
	s.must(reserve(2))
	has(2)
	s.fails(db.ErrPhoneTaken, reserve(3))
	s.ok(s.db.Available(ctx, "user3.test", "")) // nothing is left of it
	s.fails(db.ErrInviteUnavailable, func(tx *db.Tx) error {
		r := onPhone(3)
		r.InviteCode = "none"
		return tx.ReserveAccount(ctx, r)
	})
	s.create(4) // without a number

	// A sign-up that is given up returns the number, a deletion too.
	s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(1), "me", time.Time{}) })
	has(1)
	s.must(reserve(3))
	s.fails(db.ErrPhoneTaken, reserve(1))
	for n := 2; n <= 3; n++ {
		s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(n), "me") })
	}
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(3)) })
	has(1)
	s.must(reserve(1))
	has(2)

	// Fewer are allowed now than there are.
	s.fails(db.ErrPhoneTaken, func(tx *db.Tx) error {
		r := onPhone(5)
		r.Phone.Max = 1
		return tx.ReserveAccount(ctx, r)
	})
	// An account that no longer has its number uses it up all the same, for a year.
	release := func(n int, want bool) {
		s.Helper()
		var had bool
		s.must(func(tx *db.Tx) (err error) {
			had, err = tx.ReleasePhone(ctx, did(n))
			return err
		})
		s.equal("released", had, want)
	}
	release(2, true)
	release(2, false)
	release(4, false)
	has(2)
	s.fails(db.ErrPhoneTaken, reserve(5))
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	has(2)
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "me") })
	release(1, true)
	has(2)
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(365*24*time.Hour-time.Second)) })
	has(2)
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(366*24*time.Hour)) })
	has(0)
	other, err := s.db.PhoneAccounts(ctx, []byte("another"))
	s.ok(err)
	s.equal("accounts of another number", other, 0)
}

func (s *suite) phoneCodes() {
	ctx := s.Context()
	one, two, other := []byte("one"), []byte("two"), []byte("another number")
	sent := func() {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			return errors.Join(
				tx.InsertPhoneCode(ctx, number, one, start0.Add(time.Minute)),
				tx.InsertPhoneCode(ctx, number, one, start0.Add(2*time.Minute)), // chance made the same again
				tx.InsertPhoneCode(ctx, number, two, start0.Add(time.Minute)),
				tx.InsertPhoneCode(ctx, other, two, start0.Add(time.Hour)),
			)
		})
	}
	use := func(number, mac []byte, after time.Duration) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.UsePhoneCode(ctx, number, mac, start0.Add(after)) }
	}
	sent()
	s.fails(db.ErrNotFound, use(other, one, 0))
	s.fails(db.ErrNotFound, use(number, []byte("three"), 0))
	s.fails(db.ErrNotFound, use(number, two, time.Minute))
	s.must(use(number, one, time.Minute))
	s.fails(db.ErrNotFound, use(number, one, 0))
	s.fails(db.ErrNotFound, use(number, two, 0)) // goes with the one that was used
	s.must(use(other, two, 0))

	sent()
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(2*time.Minute)) })
	s.fails(db.ErrNotFound, use(number, one, 0))
	s.must(use(other, two, 0))
}

// racePhone: of many who sign up with one number at once as many succeed as may,
// also while others give up theirs.
func (s *suite) racePhone() {
	ctx := s.Context()
	got := s.raceReserve(func(r *db.Reservation) { r.Phone = db.PhoneClaim{Number: number, Max: 3} })
	s.equal("outcomes", got, map[error]int{nil: 3, db.ErrPhoneTaken: racers - 3})
	n, err := s.db.PhoneAccounts(ctx, number)
	s.ok(err)
	s.equal("accounts", n, 3)

	var made atomic.Int64
	s.race(racers, func(ctx context.Context, i int) error {
		r := reservation(100 + i)
		r.Phone = db.PhoneClaim{Number: []byte("another"), Max: 3}
		err := s.db.Write(ctx, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
		if err != nil {
			return err
		}
		if n := made.Add(1); n%2 == 0 {
			return s.db.Write(ctx, func(tx *db.Tx) error { return tx.AbortAccount(ctx, r.Account.DID, "me", time.Time{}) })
		}
		return nil
	})
	n, err = s.db.PhoneAccounts(ctx, []byte("another"))
	s.ok(err)
	if kept := int(made.Load()+1) / 2; n != kept || n > 3 {
		s.Errorf("%d accounts, %d kept theirs", n, kept)
	}
}

// racePhoneCode: a code makes one account.
func (s *suite) racePhoneCode() {
	ctx := s.Context()
	s.must(func(tx *db.Tx) error {
		for i := range 3 {
			if err := tx.InsertPhoneCode(ctx, number, fmt.Append(nil, i), start0.Add(time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
	got := s.race(racers, func(ctx context.Context, i int) error {
		return s.db.Write(ctx, func(tx *db.Tx) error { return tx.UsePhoneCode(ctx, number, []byte("1"), start0) })
	})
	s.equal("outcomes", got, map[error]int{nil: 1, db.ErrNotFound: racers - 1})
}
