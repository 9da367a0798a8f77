package account

import (
	"context"
	"fmt"
	"strings"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// SetAuthFactor switches signing in to a with an emailed code on or off, and tells
// the owner if that changes anything. The address stays confirmed. It returns a
// [*budget.Spent] when an account in quarantine has caused as many mails as it may.
func (c Credentials) SetAuthFactor(ctx context.Context, tx *db.Tx, a *db.Account, on bool) error {
	if a.EmailAuthFactor == on {
		return nil
	}
	a.EmailAuthFactor = on
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return fmt.Errorf("switch sign-in code: %w", err)
	}
	if audit.From(ctx).Actor != audit.Admin {
		if err := c.Budgets.SpendHeld(ctx, tx, a, budget.Account(a.DID)); err != nil {
			return err
		}
	}
	event, kind, letter := audit.SignInCodeOff, mail.KindSignInCodeOff, c.Brand().SignInCodeOff
	if on {
		event, kind, letter = audit.SignInCodeOn, mail.KindSignInCodeOn, c.Brand().SignInCodeOn
	}
	if err := audit.Record(ctx, tx, c.Now(), a.DID, event, ""); err != nil {
		return err
	}
	return c.Outbox.Announce(ctx, tx, a.DID, kind, letter(a.Email, outbox.Named(a), c.Now()))
}

// ResetFactors lets a be signed in to with the password alone: no emailed code is asked for, and
// authenticator app, recovery codes and passkeys are removed. The owner is told of what changed.
// Errors are those of SetAuthFactor.
func (c Credentials) ResetFactors(ctx context.Context, tx *db.Tx, a *db.Account) error {
	if err := c.SetAuthFactor(ctx, tx, a, false); err != nil {
		return err
	}
	app, passkeys, err := tx.DeleteFactors(ctx, a.DID)
	if err != nil {
		return fmt.Errorf("reset second factors: %w", err)
	}
	if !app && passkeys == 0 {
		return nil
	}
	var removed []string
	if app {
		removed = append(removed, "authenticator app")
	}
	if passkeys > 0 {
		removed = append(removed, fmt.Sprintf("passkeys: %d", passkeys))
	}
	if err := audit.Record(ctx, tx, c.Now(), a.DID, audit.FactorsReset, strings.Join(removed, ", ")); err != nil {
		return err
	}
	if a.EmailConfirmedAt == nil {
		return nil // it may be that of somebody who never heard of the account
	}
	letter := c.Brand().FactorsChanged(a.Email, outbox.Named(a), c.Now(), mail.FactorsReset, "")
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindFactorsChanged, letter)
}
