// Package emailcode proves that somebody reads the mail of an account: it mails
// codes to the account's address and knows them again when they are typed.
//
// A code serves one purpose, once, for a quarter of an hour, and only as long as
// the account has the address that it went to. Nothing but a keyed hash of it is
// kept. Guesses are paid for from budgets, see package budget.
package emailcode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/code"
	"portico/impl/mail/outbox"
)

// A Purpose is what a code may be used for. A code of one purpose is none of another.
type Purpose string

// The purposes that there are. They are stored, and so never change.
const (
	ConfirmEmail  Purpose = "confirm_email"
	UpdateEmail   Purpose = "update_email"
	ResetPassword Purpose = "reset_password"
	DeleteAccount Purpose = "delete_account"
	PLCOperation  Purpose = "plc_operation"
	SignIn        Purpose = "sign_in"
)

const (
	// Life is how long a code can be used.
	Life = 15 * time.Minute
	// live is how many codes of a purpose an account has at a time. With one alone,
	// a stranger who asks for codes would void the owner's with each.
	live = 3
)

// Why a code was not accepted, or not sent.
var (
	ErrInvalid = errors.New("emailed code is wrong or used")
	ErrExpired = errors.New("emailed code is too old")
	ErrNoEmail = errors.New("account has no email address")
)

// Codes are the emailed codes of one server. It is safe for concurrent use.
type Codes struct {
	DB      *db.DB
	Keys    *keyring.Ring
	Budgets *budget.Ledger
	Outbox  *outbox.Outbox
	Brand   func() mail.Brand
	Now     func() time.Time
	Rand    io.Reader // a secure source
}

// Mail queues the letter with a new code for the owner of did, asked for by a session of
// the account, which pays: payer is [budget.Account] or [budget.App]. Whether the letter
// arrives is not known here, and nobody waits for it. It returns db.ErrNotFound, ErrNoEmail
// or a [*budget.Spent].
//
// To an address that nobody has confirmed the session is a stranger: what is sent there
// is bounded more narrowly, and while codes are alive there may be none. Most narrowly
// bounded is what an account in quarantine may cause.
func (c *Codes) Mail(ctx context.Context, did syntax.DID, p Purpose, payer budget.Payer) error {
	return c.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		return c.MailIn(ctx, tx, a, p, payer)
	})
}

// MailIn is Mail for an account that tx has locked.
func (c *Codes) MailIn(ctx context.Context, tx *db.Tx, a *db.Account, p Purpose, payer budget.Payer) error {
	if a.Email == "" {
		return ErrNoEmail
	}
	if err := c.Budgets.SpendIn(ctx, tx, budget.OwnMails.For(string(p)), payer); err != nil {
		return err
	}
	if err := c.Budgets.SpendHeld(ctx, tx, a, payer); err != nil {
		return err
	}
	if a.EmailConfirmedAt != nil {
		return c.send(ctx, tx, a, p)
	}
	strangers := budget.MailsToStrangers
	if payer == budget.App(a.DID) {
		strangers = budget.MailsOfAppsToStrangers
	}
	if err := c.Budgets.SpendIn(ctx, tx, strangers, payer); err != nil {
		return err
	}
	return c.sendToStranger(ctx, tx, a, p)
}

// MailVisitor queues the letter with a new code for the owner of did, asked for by somebody
// without a session: visitor is what [budget.Ledger.Visitor] returns for it. A visitor from
// an unknown address, or who has spent what the known one has, makes no code while three
// are alive, so that none is voided by it, and none while there is one when the day's
// letters were sent. So whether a letter is queued is not said. It returns db.ErrNotFound
// or ErrNoEmail.
func (c *Codes) MailVisitor(ctx context.Context, did syntax.DID, p Purpose, visitor budget.Payer) error {
	err := c.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if a.Email == "" {
			return ErrNoEmail
		}
		if visitor.Stranger() {
			return c.sendToStranger(ctx, tx, a, p)
		}
		err = c.Budgets.SpendIn(ctx, tx, budget.OwnMails.For(string(p)), visitor)
		if isSpent(err) {
			return c.sendToStranger(ctx, tx, a, p)
		}
		if err != nil {
			return err
		}
		return c.send(ctx, tx, a, p)
	})
	if isSpent(err) {
		return nil // so many letters wait already that one more would say nothing new
	}
	return err
}

// MailNobody writes as MailVisitor does, for an address that no account has: visitor is
// that of no account.
func (c *Codes) MailNobody(ctx context.Context, p Purpose, visitor budget.Payer) error {
	return c.DB.Write(ctx, func(tx *db.Tx) error {
		return c.Budgets.CountIn(ctx, tx, budget.OwnMails.For(string(p)), visitor)
	})
}

func isSpent(err error) bool {
	_, spent := errors.AsType[*budget.Spent](err)
	return spent
}

// sendToStranger is send to a mailbox whose owner may not want any of it. The mailbox
// pays, and is never shut: when its day's letters were sent there is one whenever no code
// is alive.
func (c *Codes) sendToStranger(ctx context.Context, tx *db.Tx, a *db.Account, p Purpose) error {
	alive, err := tx.LiveCodes(ctx, string(p), a.DID, a.Email, c.Now())
	if err != nil || alive >= live {
		return err
	}
	err = c.Budgets.SpendIn(ctx, tx, budget.Mails.For(string(p)), budget.Recipient(a.Email))
	switch {
	case isSpent(err) && alive > 0:
		return nil
	case err != nil && !isSpent(err):
		return err
	}
	return c.send(ctx, tx, a, p)
}

// send queues the letter with a new code. When too many wait it returns a [*budget.Spent].
func (c *Codes) send(ctx context.Context, tx *db.Tx, a *db.Account, p Purpose) error {
	text, err := c.issue(ctx, tx, a, p)
	if err != nil {
		return err
	}
	err = c.Outbox.Post(ctx, tx, a.DID, string(p), c.letter(p, a, text), c.Now().Add(Life))
	if errors.Is(err, outbox.ErrFull) {
		return &budget.Spent{Kind: "outbox", Wait: Life}
	}
	return err
}

// letter is what carries a code of a purpose.
func (c *Codes) letter(p Purpose, a *db.Account, text string) mail.Letter {
	switch p {
	case ConfirmEmail:
		return c.Brand().Confirm(a.Email, text)
	case UpdateEmail:
		return c.Brand().Update(a.Email, text)
	case ResetPassword:
		return c.Brand().Reset(a.Email, outbox.Named(a), text)
	case DeleteAccount:
		return c.Brand().Delete(a.Email, text)
	case PLCOperation:
		return c.Brand().PLCOperation(a.Email, text)
	case SignIn:
		return c.Brand().SignIn(a.Email, outbox.Named(a), text)
	}
	panic(fmt.Sprintf("emailcode: no letter carries a code for %q", p))
}

// issue makes a code for the address of a, an account that tx has locked, and
// stores its keyed hash. The oldest of more than three stops working.
func (c *Codes) issue(ctx context.Context, tx *db.Tx, a *db.Account, p Purpose) (string, error) {
	text, err := code.New(c.Rand)
	if err != nil {
		return "", err
	}
	now := c.Now()
	err = tx.InsertCode(ctx, db.EmailCode{
		Purpose: string(p), DID: a.DID, Email: a.Email, MAC: c.mac(p, a.DID, text),
		CreatedAt: now, ExpiresAt: now.Add(Life),
	}, live)
	if err != nil {
		return "", fmt.Errorf("issue %s code: %w", p, err)
	}
	return text, nil
}

// Use spends the code that the owner of did typed and runs act, all in one
// transaction: when act fails the code can be used again. payer pays for a wrong one.
// act gets the account as it is now, locked, and does not write to the codes but to
// remove them. It may run more than once, like every transaction.
//
// Use returns ErrInvalid, ErrExpired or a [*budget.Spent]; db.ErrNotFound when there
// is no account; and the errors of act.
func (c *Codes) Use(
	ctx context.Context, payer budget.Payer, p Purpose, did syntax.DID, typed string, act func(tx *db.Tx, a *db.Account) error,
) error {
	// Each purpose has a budget of its own: guessing one must not shut another.
	return c.spend(ctx, typed, budget.WrongCodes.For(string(p)), payer, func(tx *db.Tx, text string) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if err := c.check(ctx, tx, p, a, text); err != nil {
			return err
		}
		if err := c.proven(ctx, tx, p, a); err != nil {
			return err
		}
		return act(tx, a)
	})
}

// UseReset is Use for the one purpose whose codes name their account: nobody has
// said whose password it is. Payer pays for wrong ones.
func (c *Codes) UseReset(ctx context.Context, payer budget.Payer, typed string, act func(tx *db.Tx, a *db.Account) error) error {
	return c.spend(ctx, typed, budget.WrongResetCodes, payer, func(tx *db.Tx, text string) error {
		found, err := tx.EmailCode(ctx, string(ResetPassword), "", c.mac(ResetPassword, "", text))
		if errors.Is(err, db.ErrNotFound) {
			return ErrInvalid
		}
		if err != nil {
			return err
		}
		a, err := tx.LockAccount(ctx, found.DID)
		if errors.Is(err, db.ErrNotFound) {
			return ErrInvalid
		}
		if err != nil {
			return err
		}
		// Only now that the account is locked nobody else can be using it.
		if err := c.check(ctx, tx, ResetPassword, a, text); err != nil {
			return err
		}
		if err := c.proven(ctx, tx, ResetPassword, a); err != nil {
			return err
		}
		return act(tx, a)
	})
}

// proven removes the codes of a purpose, of which one was used, and gives back to the
// mailbox that proved to be the owner's what strangers had spent of it.
func (c *Codes) proven(ctx context.Context, tx *db.Tx, p Purpose, a *db.Account) error {
	if err := tx.DeleteCodes(ctx, a.DID, string(p)); err != nil {
		return err
	}
	return c.Budgets.GiveBack(ctx, tx, budget.Recipient(a.Email), budget.Mails)
}

// ResetOf returns whose reset code was typed, or "" when it is none that can be used
// now. It spends nothing, and whoever relies on it still calls UseReset.
func (c *Codes) ResetOf(ctx context.Context, typed string) (syntax.DID, error) {
	found, err := c.DB.EmailCode(ctx, string(ResetPassword), "", c.mac(ResetPassword, "", code.Normalize(typed)))
	if errors.Is(err, db.ErrNotFound) || err == nil && !c.Now().Before(found.ExpiresAt) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return found.DID, nil
}

// Usable reports whether a code that was typed could be used now for a purpose of a. It spends
// nothing, and whoever relies on it still calls Use.
func (c *Codes) Usable(ctx context.Context, p Purpose, a *db.Account, typed string) (bool, error) {
	found, err := c.DB.EmailCode(ctx, string(p), a.DID, c.mac(p, a.DID, code.Normalize(typed)))
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return err == nil && found.Email == a.Email && c.Now().Before(found.ExpiresAt), err
}

// spend runs use in a transaction with the code that was typed as it was issued,
// if payer has any of b left, and takes one from it when use returns ErrInvalid. What
// has not the form of a code is wrong, but no guess that is worth counting.
func (c *Codes) spend(
	ctx context.Context, typed string, b budget.Budget, payer budget.Payer, use func(tx *db.Tx, text string) error,
) error {
	text := code.Normalize(typed)
	if !code.Valid(text) {
		return ErrInvalid
	}
	if err := c.Budgets.Left(ctx, b, payer); err != nil {
		return err
	}
	err := c.DB.Write(ctx, func(tx *db.Tx) error { return use(tx, text) })
	if !errors.Is(err, ErrInvalid) {
		return err
	}
	// Also when the caller has hung up: that is no way to guess for free.
	ctx = context.WithoutCancel(ctx)
	if err := c.DB.Write(ctx, func(tx *db.Tx) error { return c.Budgets.CountIn(ctx, tx, b, payer) }); err != nil {
		return err
	}
	return ErrInvalid
}

// check returns nil when text, normalized, is a live code of a, which tx has
// locked; ErrInvalid or ErrExpired when it is not. A code that went to an address
// which is no longer the account's is invalid.
func (c *Codes) check(ctx context.Context, tx *db.Tx, p Purpose, a *db.Account, text string) error {
	found, err := tx.EmailCode(ctx, string(p), a.DID, c.mac(p, a.DID, text))
	switch {
	case errors.Is(err, db.ErrNotFound):
		return ErrInvalid
	case err != nil:
		return err
	case found.Email != a.Email:
		return ErrInvalid
	case !c.Now().Before(found.ExpiresAt):
		return ErrExpired
	}
	return nil
}

func (c *Codes) mac(p Purpose, did syntax.DID, text string) []byte {
	return mac(c.Keys, p, did, text)
}

// mac is the keyed hash by which a code is found. A reset code is found without
// knowing whose it is.
func mac(keys *keyring.Ring, p Purpose, did syntax.DID, text string) []byte {
	if p == ResetPassword {
		did = ""
	}
	mac := keys.MAC("email-code", []byte(string(p)+"\x00"+did.String()+"\x00"+text))
	return mac[:]
}

// Adopted is the row of a code that another server has sent to an account at a time, and
// which is as good here until it would have been too old there. It reports false when that
// is over at now, or text is no code of a purpose that there is here.
func Adopted(keys *keyring.Ring, p Purpose, a *db.Account, text string, sent, now time.Time) (db.EmailCode, bool) {
	text = code.Normalize(text)
	known := slices.Contains([]Purpose{ConfirmEmail, UpdateEmail, ResetPassword, DeleteAccount, PLCOperation}, p)
	if !known || !code.Valid(text) || a.Email == "" || !sent.Add(Life).After(now) {
		return db.EmailCode{}, false
	}
	return db.EmailCode{
		Purpose: string(p), DID: a.DID, Email: a.Email, MAC: mac(keys, p, a.DID, text), CreatedAt: sent, ExpiresAt: sent.Add(Life),
	}, true
}
