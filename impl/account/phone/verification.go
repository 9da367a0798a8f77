package phone

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/budget"
	"portico/impl/keyring"
)

// What a provider says about a number.
var (
	// ErrNumber says that the provider knows that nobody has the number, or that it
	// takes no text messages.
	ErrNumber = errors.New("number takes no text messages")
	// ErrCountry says that the provider sends nothing to where the number is.
	ErrCountry = errors.New("no text messages are sent to the number's country")
)

// A Provider sends codes in text messages. It is safe for concurrent use. Its errors
// hold neither numbers nor codes.
type Provider interface {
	// Send sends a new code to n. It returns ErrNumber, ErrCountry, or another error when
	// no code was sent or that is unknown.
	Send(ctx context.Context, n Number) error
	// Check reports whether code, 4 to 10 digits, was sent to n lately and not used since.
	// If so it is used now: of two who ask at the same time, one is told true.
	Check(ctx context.Context, n Number, code string) (bool, error)
}

// Why a number was not proven, or no code was sent.
var (
	ErrWrong = errors.New("phone code is wrong, too old or used")
	// ErrSend and ErrCheck say that the provider failed, or that the day's text messages
	// are sent.
	ErrSend  = errors.New("could not send a text message")
	ErrCheck = errors.New("could not check a phone code")
)

// Verification is the phone verification of one server. Its fields are set before
// first use; it is safe for concurrent use.
type Verification struct {
	DB       *db.DB
	Keys     *keyring.Ring
	Budgets  *budget.Ledger
	Provider Provider
	// Max is how many accounts a number may have at a time.
	Max int
	// MaxTexts is how many text messages are sent in a day, to whomever; 0 is no limit. Who
	// has many addresses and many numbers has no other.
	MaxTexts int
	// Bypass is a number that counts as proven, whatever the code, for any number of
	// accounts; "" for none. Whoever knows it needs no phone, so it is a secret.
	Bypass Number
	Now    func() time.Time
}

// Request sends a code to n, for which the caller pays. It returns db.ErrPhoneTaken,
// ErrNumber, ErrCountry, ErrSend or, when the caller has asked too often, a [*budget.Spent].
//
// When n was sent as many as it may be, by whomever it was asked, nothing is sent and
// nothing is said of that: it would tell who else is about to sign up.
//
// What n is makes no difference to what a caller pays for asking: the answer alone
// tells of numbers that are full, and of the one that needs no code.
func (v *Verification) Request(ctx context.Context, n Number, caller budget.Payer) error {
	if err := v.pay(ctx, budget.TextsFrom, caller); err != nil || v.bypassed(n) {
		return err
	}
	if err := v.free(ctx, n); err != nil {
		return err
	}
	// Paid before it is sent: one that failed may have cost money all the same.
	if err := v.spend(ctx, n); isSpent(err) {
		return nil
	} else if err != nil {
		return err
	}
	err := v.Provider.Send(ctx, n)
	if err == nil || errors.Is(err, ErrNumber) || errors.Is(err, ErrCountry) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrSend, err)
}

// Free returns db.ErrPhoneTaken when n has as many accounts as it may have, and
// a [*budget.Spent] when the caller has asked too often. Nothing is reserved:
// [Verification.Claim] decides.
func (v *Verification) Free(ctx context.Context, n Number, caller budget.Payer) error {
	if err := v.pay(ctx, budget.NumbersFrom, caller); err != nil || v.bypassed(n) {
		return err
	}
	return v.free(ctx, n)
}

func (v *Verification) free(ctx context.Context, n Number) error {
	accounts, err := v.DB.PhoneAccounts(ctx, v.mac(n))
	if err == nil && accounts >= v.Max {
		return db.ErrPhoneTaken
	}
	return err
}

// Prove spends the code that was typed as one that was sent to n. It asks the provider,
// so it is called outside of transactions, and last of all that may refuse a sign-up:
// a code proves a number once. It returns ErrCheck or ErrWrong, this also when too many
// codes were tried for n, by whomever.
func (v *Verification) Prove(ctx context.Context, n Number, typed string) error {
	if v.bypassed(n) {
		return nil
	}
	code, ok := parseCode(typed)
	if !ok {
		return ErrWrong // and no guess that is worth counting
	}
	// Every try counts, also the right one, and before it is made: guesses that are made
	// at the same time are not free.
	if err := v.pay(ctx, budget.PhoneCodes, budget.Number(v.mac(n))); isSpent(err) {
		return ErrWrong
	} else if err != nil {
		return err
	}
	ok, err := v.Provider.Check(ctx, n, code)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrCheck, err)
	case !ok:
		return ErrWrong
	}
	return nil
}

// Claim is what an account that was proven to have n takes of it.
func (v *Verification) Claim(n Number) db.PhoneClaim {
	if v.bypassed(n) {
		return db.PhoneClaim{}
	}
	return db.PhoneClaim{Number: v.mac(n), Max: v.Max}
}

func (v *Verification) bypassed(n Number) bool {
	return v.Bypass != "" && subtle.ConstantTimeCompare([]byte(n), []byte(v.Bypass)) == 1
}

// pay takes from what payer has of b, also when the caller has hung up.
func (v *Verification) pay(ctx context.Context, b budget.Budget, payer budget.Payer) error {
	return v.Budgets.Spend(context.WithoutCancel(ctx), b, payer)
}

// spend pays for a text message to n.
func (v *Verification) spend(ctx context.Context, n Number) error {
	return v.DB.Write(ctx, func(tx *db.Tx) error {
		for _, b := range []budget.Budget{budget.TextsTo, budget.TextsToInADay} {
			if err := v.Budgets.SpendIn(ctx, tx, b, budget.Number(v.mac(n))); err != nil {
				return err
			}
		}
		if v.MaxTexts == 0 {
			return nil
		}
		err := v.Budgets.SpendIn(ctx, tx, budget.Texts(v.MaxTexts), budget.Server())
		if isSpent(err) {
			return fmt.Errorf("%w: there were %d in a day", ErrSend, v.MaxTexts)
		}
		return err
	})
}

func isSpent(err error) bool {
	_, spent := errors.AsType[*budget.Spent](err)
	return spent
}

// mac is the keyed hash that stands for n in the database. There are few enough numbers
// to try them all, so it hides them from those alone who do not have the key.
func (v *Verification) mac(n Number) []byte { return numberMAC(v.Keys, n) }

func numberMAC(keys *keyring.Ring, n Number) []byte {
	mac := keys.MAC("phone-number", []byte(n))
	return mac[:]
}
