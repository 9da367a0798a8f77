package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A TOTP is the secret that the owner of an account has in an authenticator app, sealed by its
// owner's package.
type TOTP struct {
	bun.BaseModel `bun:"table:totp,alias:o"`

	DID       syntax.DID `bun:"did,pk"`
	Sealed    []byte     `bun:"sealed"`
	Step      int64      `bun:"step"` // the latest whose code was used
	CreatedAt time.Time  `bun:"created_at"`
}

// A recoveryCode is for whoever has the authenticator app no more.
type recoveryCode struct {
	bun.BaseModel `bun:"table:recovery_code,alias:r"`

	DID syntax.DID `bun:"did,pk"`
	MAC []byte     `bun:"mac,pk"` // keyed hash
}

// A Passkey is a credential of WebAuthn.
type Passkey struct {
	bun.BaseModel `bun:"table:passkey,alias:y"`

	ID        []byte     `bun:"id,pk"` // the authenticator chose it
	DID       syntax.DID `bun:"did"`
	Name      string     `bun:"name"`    // what its owner calls it
	Public    []byte     `bun:"public"`  // COSE key
	Flags     int        `bun:"flags"`   // of the authenticator data, when it was made
	Counter   int64      `bun:"counter"` // of signatures, 0 where none are counted
	CreatedAt time.Time  `bun:"created_at"`
	UsedAt    *time.Time `bun:"used_at"`
}

var (
	selectTOTP = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*TOTP)(nil)).Where("did = ?", b.p())
	})
	selectTOTPs = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*TOTP)(nil)).Where("did > ?", b.p()), "did")
	})
	putTOTP = prepared(func(b *builder) bun.Query {
		return b.insert(new(TOTP)).On("CONFLICT (did) DO UPDATE").
			Set("sealed = excluded.sealed").Set("step = excluded.step").Set("created_at = excluded.created_at")
	})
	spendTOTP = prepared(func(b *builder) bun.Query {
		step, did := b.p(), b.p()
		return b.NewUpdate().Model((*TOTP)(nil)).Set("step = ?", step).Where("did = ?", did).Where("step < ?", step)
	})
	resealTOTP = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*TOTP)(nil)).Set("sealed = ?", b.p()).Where("did = ?", b.p()).Where("sealed = ?", b.p())
	})
	deleteTOTP = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*TOTP)(nil)).Where("did = ?", b.p())
	})

	insertRecoveryCode = prepared(func(b *builder) bun.Query { return b.insert(new(recoveryCode)) })
	countRecoveryCodes = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*recoveryCode)(nil)).ColumnExpr("count(*)").Where("did = ?", b.p())
	})
	useRecoveryCode = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*recoveryCode)(nil)).Where("did = ?", b.p()).Where("mac = ?", b.p())
	})
	deleteRecoveryCodes = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*recoveryCode)(nil)).Where("did = ?", b.p())
	})

	insertPasskey = prepared(func(b *builder) bun.Query {
		return b.insert(new(Passkey)).On("CONFLICT (id) DO NOTHING")
	})
	selectPasskey = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Passkey)(nil)).Where("id = ?", b.p())
	})
	selectPasskeys = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Passkey)(nil)).Where("did = ?", b.p()).Order("created_at", "id")
	})
	countPasskeys = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Passkey)(nil)).ColumnExpr("count(*)").Where("did = ?", b.p())
	})
	renamePasskey = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Passkey)(nil)).Set("name = ?", b.p()).Where("did = ?", b.p()).Where("id = ?", b.p())
	})
	// A counter that does not go on, of an authenticator that counts, is that of a copy.
	usePasskey = prepared(func(b *builder) bun.Query {
		counter, at, id := b.p(), b.p(), b.p()
		return b.NewUpdate().Model((*Passkey)(nil)).Set("counter = ?", counter).Set("used_at = ?", at).
			Where("id = ?", id).Where("counter < ? OR (counter = 0 AND ? = 0)", counter, counter)
	})
	deletePasskey = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Passkey)(nil)).Where("did = ?", b.p()).Where("id = ?", b.p())
	})
	deletePasskeys = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Passkey)(nil)).Where("did = ?", b.p())
	})
)

// TOTP returns the secret of an account's authenticator app, or ErrNotFound.
func (q *queries) TOTP(ctx context.Context, did syntax.DID) (*TOTP, error) {
	o, err := one[TOTP](ctx, q, selectTOTP, did)
	return o, wrap(err, "read TOTP of %s", did)
}

// TOTPs returns up to limit secrets in the order of their DIDs, those after the given one: the
// way to seal all of them anew.
func (q *queries) TOTPs(ctx context.Context, after syntax.DID, limit int) ([]TOTP, error) {
	all, err := many[TOTP](ctx, q, selectTOTPs, after, limit)
	return all, wrap(err, "list TOTPs")
}

// PutTOTP stores a secret in the place of the one that the account has. It returns
// ErrNotFound when there is no account.
func (tx *Tx) PutTOTP(ctx context.Context, o TOTP) error {
	_, err := tx.exec(ctx, putTOTP, values(&o)...)
	return wrap(err, "store TOTP of %s", o.DID)
}

// SpendTOTP notes that the code of a step was used. It returns ErrNotFound when that one or a
// later was used before, or there is no secret any more: of those who use a step at once, one
// does not get it.
func (tx *Tx) SpendTOTP(ctx context.Context, did syntax.DID, step int64) error {
	return wrap(found(tx.exec(ctx, spendTOTP, step, did)), "spend TOTP of %s", did)
}

// ResealTOTP replaces the sealed form of o by another one of the same secret. What is gone or
// sealed otherwise by now stays as it is.
func (tx *Tx) ResealTOTP(ctx context.Context, o TOTP, sealed []byte) error {
	_, err := tx.exec(ctx, resealTOTP, sealed, o.DID, o.Sealed)
	return wrap(err, "reseal TOTP of %s", o.DID)
}

// DeleteTOTP removes the secret of an account and says whether there was one.
func (tx *Tx) DeleteTOTP(ctx context.Context, did syntax.DID) (bool, error) {
	n, err := tx.exec(ctx, deleteTOTP, did)
	return n > 0, wrap(err, "delete TOTP of %s", did)
}

// ReplaceRecoveryCodes stores the keyed hashes of new recovery codes, none too, in the place
// of those that the account has. It returns ErrNotFound when there is no account.
func (tx *Tx) ReplaceRecoveryCodes(ctx context.Context, did syntax.DID, macs ...[]byte) error {
	if _, err := tx.exec(ctx, deleteRecoveryCodes, did); err != nil {
		return wrap(err, "delete recovery codes of %s", did)
	}
	for _, mac := range macs {
		if _, err := tx.exec(ctx, insertRecoveryCode, values(&recoveryCode{DID: did, MAC: mac})...); err != nil {
			return wrap(err, "store recovery code of %s", did)
		}
	}
	return nil
}

// RecoveryCodes counts the recovery codes that an account has left.
func (q *queries) RecoveryCodes(ctx context.Context, did syntax.DID) (int, error) {
	var n int
	err := q.get(ctx, countRecoveryCodes, []any{did}, &n)
	return n, wrap(err, "count recovery codes of %s", did)
}

// UseRecoveryCode removes a recovery code. It returns ErrNotFound when the account has no
// such one, or no more.
func (tx *Tx) UseRecoveryCode(ctx context.Context, did syntax.DID, mac []byte) error {
	return wrap(found(tx.exec(ctx, useRecoveryCode, did, mac)), "use recovery code of %s", did)
}

// InsertPasskey stores a passkey, if its account, which the transaction has locked, has fewer
// than most. It returns ErrTooManyPasskeys where not, ErrPasskeyTaken when there is one with
// its ID, of whatever account, and ErrNotFound when there is no account.
func (tx *Tx) InsertPasskey(ctx context.Context, p Passkey, most int) error {
	var n int
	if err := tx.get(ctx, countPasskeys, []any{p.DID}, &n); err != nil {
		return wrap(err, "count passkeys of %s", p.DID)
	}
	if n >= most {
		return wrap(ErrTooManyPasskeys, "store passkey of %s", p.DID)
	}
	added, err := tx.exec(ctx, insertPasskey, values(&p)...)
	if err == nil && added == 0 {
		err = ErrPasskeyTaken
	}
	return wrap(err, "store passkey of %s", p.DID)
}

// Passkey returns a passkey of whatever account, or ErrNotFound.
func (q *queries) Passkey(ctx context.Context, id []byte) (*Passkey, error) {
	p, err := one[Passkey](ctx, q, selectPasskey, id)
	return p, wrap(err, "read passkey")
}

// Passkeys returns the passkeys of an account, the oldest first.
func (q *queries) Passkeys(ctx context.Context, did syntax.DID) ([]Passkey, error) {
	all, err := many[Passkey](ctx, q, selectPasskeys, did)
	return all, wrap(err, "list passkeys of %s", did)
}

// RenamePasskey gives a passkey of an account another name. It returns ErrNotFound.
func (tx *Tx) RenamePasskey(ctx context.Context, did syntax.DID, id []byte, name string) error {
	return wrap(found(tx.exec(ctx, renamePasskey, name, did, id)), "rename passkey of %s", did)
}

// UsePasskey notes that a passkey has signed at a time, with which counter. It returns
// ErrNotFound when it is gone, or the counter does not go on where it counts.
func (tx *Tx) UsePasskey(ctx context.Context, id []byte, counter int64, at time.Time) error {
	return wrap(found(tx.exec(ctx, usePasskey, counter, at, id)), "note use of passkey")
}

// DeletePasskey removes a passkey of an account. It returns ErrNotFound.
func (tx *Tx) DeletePasskey(ctx context.Context, did syntax.DID, id []byte) error {
	return wrap(found(tx.exec(ctx, deletePasskey, did, id)), "delete passkey of %s", did)
}

// DeleteFactors removes the secret of the authenticator app, the recovery codes and the
// passkeys of an account, and says whether there was a secret and how many passkeys there were.
func (tx *Tx) DeleteFactors(ctx context.Context, did syntax.DID) (totp bool, passkeys int64, err error) {
	if totp, err = tx.DeleteTOTP(ctx, did); err != nil {
		return false, 0, err
	}
	if err := tx.ReplaceRecoveryCodes(ctx, did); err != nil {
		return false, 0, err
	}
	passkeys, err = tx.DeletePasskeys(ctx, did)
	return totp, passkeys, err
}

// DeletePasskeys removes the passkeys of an account, and says how many there were.
func (tx *Tx) DeletePasskeys(ctx context.Context, did syntax.DID) (int64, error) {
	n, err := tx.exec(ctx, deletePasskeys, did)
	return n, wrap(err, "delete passkeys of %s", did)
}
