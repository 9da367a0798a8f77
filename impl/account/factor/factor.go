// Package factor is what owners prove themselves with beside the password of their account:
// the codes of an authenticator app, recovery codes, and passkeys.
//
// Each code is good once: of an app the step of its latest code is kept, and none up to it is
// taken again; a recovery code is a row that goes. What they prove is decided where somebody
// signs in. Wrong ones are paid for from budgets, see package budget; whoever can try them has
// given the password of the account, so that it is no secret what is left.
package factor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor/passkey"
	"portico/impl/account/factor/totp"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/code"
	"portico/impl/mail/outbox"
)

// Wanted is what people are told who bring the password without a code.
const Wanted = "Enter the code of your authenticator app, or a recovery code"

// Codes is how many recovery codes there are in a set.
const Codes = 10

var (
	// ErrInvalid says that a code is wrong, or was used before.
	ErrInvalid = errors.New("code of a second factor is wrong or used")
	// ErrOff says that an account has no authenticator app.
	ErrOff = errors.New("account has no authenticator app")
)

// What wrong codes are paid from. Three codes of an app are good at a time: of twenty a day, a
// stranger who has the password hits one in two years of fifty. Those of fifty bits are counted
// like emailed ones, so that whoever resets the password is left with them.
var (
	wrongTOTP     = budget.WrongAuthenticatorCodes
	wrongRecovery = budget.WrongCodes.For("recovery")
	changes       = budget.OwnMails.For("factors")
)

// Factors are those of the accounts of one server. It is safe for concurrent use.
type Factors struct {
	DB       *db.DB
	Keys     *keyring.Ring
	Budgets  *budget.Ledger
	Sessions *session.Sessions
	Outbox   *outbox.Outbox
	Brand    func() mail.Brand
	Now      func() time.Time
	Rand     io.Reader // a secure source
	// Site is what passkeys are for; nil: there are none, because the host of the server is an
	// address.
	Site *passkey.Site
}

// Asked reports whether signing in to an account with its password asks for a code of its
// authenticator app.
func (f *Factors) Asked(ctx context.Context, did syntax.DID) (bool, error) {
	_, err := f.DB.TOTP(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Any reports whether an account has an authenticator app or a passkey, as tx sees it.
func (f *Factors) Any(ctx context.Context, tx *db.Tx, did syntax.DID) (bool, error) {
	if _, err := tx.TOTP(ctx, did); !errors.Is(err, db.ErrNotFound) {
		return err == nil, err
	}
	keys, err := tx.Passkeys(ctx, did)
	return len(keys) > 0, err
}

// Use spends the code that somebody typed who has the password of did: one of its
// authenticator app, or a recovery code, of which the owner is told. It runs act in the same
// transaction: when act fails the code can be used again. payer pays for a wrong one. act gets
// the account as it is now, locked, and may run more than once.
//
// Use returns ErrInvalid or a [*budget.Spent]; db.ErrNotFound when there is no account; ErrOff
// when it has no authenticator app any more; and the errors of act.
func (f *Factors) Use(ctx context.Context, payer budget.Payer, did syntax.DID, typed string, act func(tx *db.Tx, a *db.Account) error) error {
	b, use := wrongTOTP, f.useTOTP
	text := digits(typed)
	if !totp.Valid(text) {
		b, use = wrongRecovery, f.useRecovery
		if text = code.Normalize(typed); !code.Valid(text) {
			return ErrInvalid // and no guess that is worth counting
		}
	}
	if err := f.Budgets.Left(ctx, b, payer); err != nil {
		return err
	}
	err := f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if err := use(ctx, tx, a, text); err != nil {
			return err
		}
		return act(tx, a)
	})
	if !errors.Is(err, ErrInvalid) {
		return err
	}
	// Also when the caller has hung up: that is no way to guess for free.
	ctx = context.WithoutCancel(ctx)
	if err := f.DB.Write(ctx, func(tx *db.Tx) error { return f.Budgets.CountIn(ctx, tx, b, payer) }); err != nil {
		return err
	}
	return ErrInvalid
}

// digits is what somebody typed without blanks, hyphens and whatever else is neither a letter
// nor a digit.
func digits(typed string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, typed)
}

func (f *Factors) useTOTP(ctx context.Context, tx *db.Tx, a *db.Account, text string) error {
	secret, err := f.secret(ctx, tx, a.DID)
	if err != nil {
		return err
	}
	step, ok := secret.Find(text, f.Now())
	if !ok {
		return ErrInvalid
	}
	err = tx.SpendTOTP(ctx, a.DID, step)
	if errors.Is(err, db.ErrNotFound) {
		return ErrInvalid // used before
	}
	return err
}

func (f *Factors) secret(ctx context.Context, tx *db.Tx, did syntax.DID) (s totp.Secret, err error) {
	row, err := tx.TOTP(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return s, ErrOff
	}
	if err != nil {
		return s, err
	}
	b, err := f.Keys.Open(SealedTOTP, did.String(), row.Sealed)
	if err == nil {
		s, err = totp.Read(b)
	}
	if err != nil {
		return s, fmt.Errorf("secret of the authenticator app of %s: %w", did, err)
	}
	return s, nil
}

// SealedTOTP is the purpose under which secrets of authenticator apps are sealed.
const SealedTOTP = "portico/totp"

// Reseal returns the secret of o sealed with the current key of keys. Errors are those of
// Open there.
func Reseal(keys *keyring.Ring, o db.TOTP) ([]byte, error) {
	return keys.Reseal(SealedTOTP, o.DID.String(), o.Sealed)
}

func (f *Factors) useRecovery(ctx context.Context, tx *db.Tx, a *db.Account, text string) error {
	err := tx.UseRecoveryCode(ctx, a.DID, f.mac(a.DID, text))
	if errors.Is(err, db.ErrNotFound) {
		return ErrInvalid
	}
	if err != nil {
		return err
	}
	left, err := tx.RecoveryCodes(ctx, a.DID)
	if err != nil {
		return err
	}
	detail := fmt.Sprintf("Recovery codes left: %d.", left)
	// Whoever uses one is let in whatever letters were sent.
	if err := f.announce(ctx, tx, a, mail.RecoveryCodeUsed, detail); err != nil {
		return err
	}
	return audit.Record(ctx, tx, f.Now(), a.DID, audit.RecoveryCodeUsed, fmt.Sprintf("left: %d", left))
}

func (f *Factors) mac(did syntax.DID, text string) []byte {
	mac := f.Keys.MAC("recovery-code", []byte(did.String()+"\x00"+text))
	return mac[:]
}

// announce tells the owner, where an address is confirmed: no other is anybody's for sure.
func (f *Factors) announce(ctx context.Context, tx *db.Tx, a *db.Account, change mail.FactorChange, detail string) error {
	if a.EmailConfirmedAt == nil {
		return nil
	}
	return f.Outbox.Announce(ctx, tx, a.DID, mail.KindFactorsChanged, f.Brand().FactorsChanged(a.Email, outbox.Named(a), f.Now(), change, detail))
}

// ended records what the owner took away, and tells it as far as changed does: that it is gone
// waits for no budget, or a thief of a session could spend it and keep a passkey.
func (f *Factors) ended(ctx context.Context, tx *db.Tx, a *db.Account, event, detail string, change mail.FactorChange) error {
	err := f.mayTell(ctx, tx, a)
	_, silent := errors.AsType[*budget.Spent](err)
	if err != nil && !silent {
		return err
	}
	if err := audit.Record(ctx, tx, f.Now(), a.DID, event, detail); err != nil || silent {
		return err
	}
	return f.announce(ctx, tx, a, change, "")
}

// mayTell pays for a letter of a change. It returns a [*budget.Spent].
func (f *Factors) mayTell(ctx context.Context, tx *db.Tx, a *db.Account) error {
	if err := f.Budgets.SpendIn(ctx, tx, changes, budget.Account(a.DID)); err != nil {
		return err
	}
	if a.EmailConfirmedAt == nil {
		return nil
	}
	return f.Budgets.SpendHeld(ctx, tx, a, budget.Account(a.DID))
}

// changed records what the owner changed, and tells it: at most thirty times a day, then it
// returns a [*budget.Spent].
func (f *Factors) changed(ctx context.Context, tx *db.Tx, a *db.Account, event, detail string, change mail.FactorChange) error {
	if err := f.mayTell(ctx, tx, a); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, f.Now(), a.DID, event, detail); err != nil {
		return err
	}
	return f.announce(ctx, tx, a, change, "")
}

// Enable lets signing in to an account ask for codes of the authenticator app that has a
// secret, in the place of another one, if a code of it was typed; and returns new recovery
// codes, which nobody sees again. It returns ErrInvalid for a code that is none of the secret's,
// a [*budget.Spent], or db.ErrNotFound when there is no account.
func (f *Factors) Enable(ctx context.Context, did syntax.DID, secret totp.Secret, typed string) ([]string, error) {
	now := f.Now()
	step, ok := secret.Find(digits(typed), now)
	if !ok {
		return nil, ErrInvalid
	}
	sealed, err := f.Keys.Seal(SealedTOTP, did.String(), secret[:])
	if err != nil {
		return nil, err
	}
	return f.withCodes(ctx, did, func(tx *db.Tx, a *db.Account) error {
		if err := tx.PutTOTP(ctx, db.TOTP{DID: did, Sealed: sealed, Step: step, CreatedAt: now}); err != nil {
			return err
		}
		return f.changed(ctx, tx, a, audit.AuthenticatorOn, "", mail.AuthenticatorOn)
	})
}

// NewCodes replaces the recovery codes of an account. It returns ErrOff when it has no
// authenticator app, for which they are, a [*budget.Spent], or db.ErrNotFound.
func (f *Factors) NewCodes(ctx context.Context, did syntax.DID) ([]string, error) {
	return f.withCodes(ctx, did, func(tx *db.Tx, a *db.Account) error {
		if _, err := tx.TOTP(ctx, did); errors.Is(err, db.ErrNotFound) {
			return ErrOff
		} else if err != nil {
			return err
		}
		return f.changed(ctx, tx, a, audit.RecoveryCodesMade, "", mail.RecoveryCodesMade)
	})
}

// withCodes makes a new set of recovery codes in a transaction with act.
func (f *Factors) withCodes(ctx context.Context, did syntax.DID, act func(tx *db.Tx, a *db.Account) error) ([]string, error) {
	texts, macs := make([]string, Codes), make([][]byte, Codes)
	for i := range texts {
		var err error
		if texts[i], err = code.New(f.Rand); err != nil {
			return nil, err
		}
		macs[i] = f.mac(did, texts[i])
	}
	err := f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if err := act(tx, a); err != nil {
			return err
		}
		return tx.ReplaceRecoveryCodes(ctx, did, macs...)
	})
	if err != nil {
		return nil, err
	}
	return texts, nil
}

// Disable lets signing in ask for no codes of an app any more, and removes the recovery codes.
// It returns ErrOff when there was no app, or db.ErrNotFound.
func (f *Factors) Disable(ctx context.Context, did syntax.DID) error {
	return f.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		was, err := tx.DeleteTOTP(ctx, did)
		if err != nil {
			return err
		}
		if !was {
			return ErrOff
		}
		if err := tx.ReplaceRecoveryCodes(ctx, did); err != nil {
			return err
		}
		return f.ended(ctx, tx, a, audit.AuthenticatorOff, "", mail.AuthenticatorOff)
	})
}
