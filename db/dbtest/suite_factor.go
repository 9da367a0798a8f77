package dbtest

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func passkey(id string, did syntax.DID, at time.Time) db.Passkey {
	return db.Passkey{ID: []byte(id), DID: did, Name: "Key " + id, Public: []byte("public " + id), Flags: 0x45, CreatedAt: at}
}

func (s *suite) secondFactors() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	_, err := s.db.TOTP(ctx, did(1))
	s.is(err, db.ErrNotFound)
	first := db.TOTP{DID: did(1), Sealed: []byte("first"), Step: 10, CreatedAt: start0}
	put := func(o db.TOTP) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.PutTOTP(ctx, o) })
	}
	put(first)
	put(db.TOTP{DID: did(2), Sealed: []byte("other"), Step: 10, CreatedAt: start0})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.PutTOTP(ctx, db.TOTP{DID: did(9), Sealed: []byte("x"), CreatedAt: start0})
	})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SpendTOTP(ctx, did(1), 10) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SpendTOTP(ctx, did(1), 9) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SpendTOTP(ctx, did(9), 11) })
	s.must(func(tx *db.Tx) error { return tx.SpendTOTP(ctx, did(1), 11) })
	s.must(func(tx *db.Tx) error { return tx.ResealTOTP(ctx, first, []byte("again")) })
	s.must(func(tx *db.Tx) error { return tx.ResealTOTP(ctx, first, []byte("late")) })
	one, err := s.db.TOTP(ctx, did(1))
	s.ok(err)
	s.equal("resealed", *one, db.TOTP{DID: did(1), Sealed: []byte("again"), Step: 11, CreatedAt: start0})
	all, err := s.db.TOTPs(ctx, "", 1)
	s.ok(err)
	s.equal("the first", len(all), 1)
	all, err = s.db.TOTPs(ctx, all[0].DID, 5)
	s.ok(err)
	s.equal("the others", len(all), 1)
	second := db.TOTP{DID: did(1), Sealed: []byte("second"), Step: 1, CreatedAt: start0.Add(time.Hour)}
	put(second)
	one, err = s.db.TOTP(ctx, did(1))
	s.ok(err)
	s.equal("replaced", *one, second)

	left := func(did syntax.DID) int {
		s.Helper()
		n, err := s.db.RecoveryCodes(ctx, did)
		s.ok(err)
		return n
	}
	s.must(func(tx *db.Tx) error { return tx.ReplaceRecoveryCodes(ctx, did(1), []byte("a"), []byte("b")) })
	s.must(func(tx *db.Tx) error { return tx.ReplaceRecoveryCodes(ctx, did(2), []byte("a")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.ReplaceRecoveryCodes(ctx, did(9), []byte("a")) })
	s.must(func(tx *db.Tx) error { return tx.UseRecoveryCode(ctx, did(1), []byte("a")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.UseRecoveryCode(ctx, did(1), []byte("a")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.UseRecoveryCode(ctx, did(2), []byte("b")) })
	s.equal("left", []int{left(did(1)), left(did(2))}, []int{1, 1})
	s.must(func(tx *db.Tx) error { return tx.ReplaceRecoveryCodes(ctx, did(1), []byte("c"), []byte("d")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.UseRecoveryCode(ctx, did(1), []byte("b")) })

	insert := func(p db.Passkey) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.InsertPasskey(ctx, p, 2) }
	}
	s.must(insert(passkey("a", did(1), start0.Add(time.Second))))
	s.must(insert(passkey("b", did(1), start0)))
	s.fails(db.ErrTooManyPasskeys, insert(passkey("c", did(1), start0)))
	s.fails(db.ErrPasskeyTaken, insert(passkey("a", did(2), start0)))
	s.fails(db.ErrNotFound, insert(passkey("c", did(9), start0)))
	s.must(insert(passkey("c", did(2), start0)))
	use := func(id string, counter int64) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.UsePasskey(ctx, []byte(id), counter, start0.Add(time.Hour)) }
	}
	s.must(use("a", 0)) // one that counts nothing
	s.must(use("a", 0))
	s.must(use("a", 7))
	s.fails(db.ErrNotFound, use("a", 7))
	s.fails(db.ErrNotFound, use("a", 6))
	s.fails(db.ErrNotFound, use("a", 0))
	s.must(use("a", 8))
	s.fails(db.ErrNotFound, use("x", 1))
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.RenamePasskey(ctx, did(1), []byte("c"), "mine") })
	s.must(func(tx *db.Tx) error { return tx.RenamePasskey(ctx, did(1), []byte("b"), "mine") })
	a, b := passkey("a", did(1), start0.Add(time.Second)), passkey("b", did(1), start0)
	a.Counter, a.UsedAt, b.Name = 8, new(start0.Add(time.Hour)), "mine"
	keys, err := s.db.Passkeys(ctx, did(1))
	s.ok(err)
	s.equal("passkeys, the oldest first", keys, []db.Passkey{b, a})
	found, err := s.db.Passkey(ctx, []byte("a"))
	s.ok(err)
	s.equal("passkey", *found, a)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.DeletePasskey(ctx, did(2), []byte("a")) })
	s.must(func(tx *db.Tx) error { return tx.DeletePasskey(ctx, did(1), []byte("a")) })
	_, err = s.db.Passkey(ctx, []byte("a"))
	s.is(err, db.ErrNotFound)

	s.must(func(tx *db.Tx) error {
		totp, n, err := tx.DeleteFactors(ctx, did(1))
		if err == nil && (!totp || n != 1) {
			err = fmt.Errorf("deleted %t, %d", totp, n)
		}
		return err
	})
	_, err = s.db.TOTP(ctx, did(1))
	s.is(err, db.ErrNotFound)
	keys, err = s.db.Passkeys(ctx, did(1))
	s.ok(err)
	s.equal("none of it is left", []int{left(did(1)), len(keys)}, []int{0, 0})
	s.equal("another's are", left(did(2)), 1)
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	_, err = s.db.TOTP(ctx, did(2))
	s.is(err, db.ErrNotFound)
	_, err = s.db.Passkey(ctx, []byte("c"))
	s.is(err, db.ErrNotFound)
	s.equal("of a deleted account", left(did(2)), 0)
}

// Of those who use the same step, code or counter at once, one does.
func (s *suite) raceFactors() {
	s.create(1)
	s.must(func(tx *db.Tx) error {
		ctx := s.Context()
		if err := tx.PutTOTP(ctx, db.TOTP{DID: did(1), Sealed: []byte("s"), Step: 1, CreatedAt: start0}); err != nil {
			return err
		}
		if err := tx.ReplaceRecoveryCodes(ctx, did(1), []byte("code")); err != nil {
			return err
		}
		return tx.InsertPasskey(ctx, passkey("a", did(1), start0), 20)
	})
	for name, use := range map[string]func(ctx context.Context, tx *db.Tx) error{
		"step":          func(ctx context.Context, tx *db.Tx) error { return tx.SpendTOTP(ctx, did(1), 2) },
		"recovery code": func(ctx context.Context, tx *db.Tx) error { return tx.UseRecoveryCode(ctx, did(1), []byte("code")) },
		"counter":       func(ctx context.Context, tx *db.Tx) error { return tx.UsePasskey(ctx, []byte("a"), 5, start0) },
	} {
		got := s.race(racers, func(ctx context.Context, _ int) error {
			return s.db.Write(ctx, func(tx *db.Tx) error { return use(ctx, tx) })
		})
		s.equal(name, got, map[error]int{nil: 1, db.ErrNotFound: racers - 1})
	}
}
