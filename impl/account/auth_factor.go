package account

import (
	"context"
	"fmt"

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
