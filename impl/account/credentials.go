package account

import (
	"context"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// Credentials changes how the owners of accounts sign in, and tells them. Whoever
// calls its methods has decided that it may be, and has locked the account.
type Credentials struct {
	Outbox *outbox.Outbox
	Brand  mail.Brand
	Now    func() time.Time
}

// SetPassword gives a the password with this hash. All its sessions end, and the
// access tokens that were issued before; app passwords stay. Wrong passwords of the
// past are forgotten: who chose a new one is not to wait for them.
func (c Credentials) SetPassword(ctx context.Context, tx *db.Tx, a *db.Account, hash string) error {
	a.PasswordHash = hash
	a.TokensValidFrom = session.ValidFrom(c.Now(), a.TokensValidFrom)
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := tx.EndSessions(ctx, a.DID); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := budget.ForgetPasswords(ctx, tx, a.DID); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := audit.Record(ctx, tx, c.Now(), a.DID, audit.PasswordChanged, ""); err != nil {
		return err
	}
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindPasswordChanged, c.Brand.PasswordChanged(a.Email, outbox.Named(a), c.Now()))
}

// SetEmail gives a another address, in lower case, or makes it confirm the one that
// it has, unless signing in depends on that: then it stays confirmed. Codes that were
// mailed stop working, and so does signing in with emailed codes when the address is
// new; the owner is told at the old one.
//
// It returns db.ErrEmailTaken.
func (c Credentials) SetEmail(ctx context.Context, tx *db.Tx, a *db.Account, address string) error {
	old := a.Email
	factorOff := a.EmailAuthFactor && address != old
	if factorOff {
		a.EmailAuthFactor = false
	}
	if !a.EmailAuthFactor {
		a.EmailConfirmedAt = nil
	}
	a.Email = address
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return fmt.Errorf("set email: %w", err)
	}
	if err := tx.DeleteCodes(ctx, a.DID); err != nil {
		return fmt.Errorf("set email: %w", err)
	}
	detail := ""
	switch {
	case a.EmailAuthFactor:
		detail = "unchanged"
	case address == old:
		detail = "to be confirmed again"
	case factorOff:
		detail = "sign-in codes off"
	}
	if err := audit.Record(ctx, tx, c.Now(), a.DID, audit.EmailChanged, detail); err != nil {
		return err
	}
	if address == old {
		return nil
	}
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindEmailChanged, c.Brand.EmailChanged(old, outbox.Named(a), c.Now(), factorOff))
}
