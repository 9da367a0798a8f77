package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
	Budgets *budget.Ledger
	Outbox  *outbox.Outbox
	Brand   func() mail.Brand
	Now     func() time.Time
}

// SetPassword gives a the password with this hash. All its sessions end, and the
// access tokens that were issued before; app passwords stay. What strangers spent on the
// account is forgotten: who chose a new password is not to wait for them. So is where its
// owner was, but for the address from, if it is one that proved to be the owner's.
func (c Credentials) SetPassword(ctx context.Context, tx *db.Tx, a *db.Account, hash string, from netip.Addr) error {
	if err := c.setPassword(ctx, tx, a, hash, from, ""); err != nil {
		return err
	}
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindPasswordChanged, c.Brand().PasswordChanged(a.Email, outbox.Named(a), c.Now()))
}

// setPassword is SetPassword without a word to the owner; detail is recorded.
func (c Credentials) setPassword(ctx context.Context, tx *db.Tx, a *db.Account, hash string, from netip.Addr, detail string) error {
	a.PasswordHash = hash
	a.TokensValidFrom = session.ValidFrom(c.Now(), a.TokensValidFrom)
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := tx.EndSessions(ctx, a.DID); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := c.forgetVisitors(ctx, tx, a, from); err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	return audit.Record(ctx, tx, c.Now(), a.DID, audit.PasswordChanged, detail)
}

// forgetVisitors gives back what strangers may have spent, wrong passwords, wrong codes
// and the mails that carry codes, and makes addresses unknown but for one.
func (c Credentials) forgetVisitors(ctx context.Context, tx *db.Tx, a *db.Account, but netip.Addr) error {
	if err := c.Budgets.Proven(ctx, tx, a.DID); err != nil {
		return err
	}
	if a.Email != "" {
		if err := c.Budgets.GiveBack(ctx, tx, budget.Recipient(a.Email), budget.Mails); err != nil {
			return err
		}
	}
	return c.Budgets.Unknow(ctx, tx, a.DID, but)
}

// SetEmail gives a another address, in lower case, or makes it confirm the one that
// it has, unless signing in depends on that: then it stays confirmed. Codes that were
// mailed stop working, and so does signing in with emailed codes when the address is
// new; the owner is told at the old one.
//
// It returns db.ErrEmailTaken, and a [*budget.Spent] when an account in quarantine has caused
// as many mails as it may.
func (c Credentials) SetEmail(ctx context.Context, tx *db.Tx, a *db.Account, address string) error {
	old, confirmed := a.Email, a.EmailConfirmedAt != nil
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
	tell, operator := old != "", audit.From(ctx).Actor == audit.Admin
	if tell && !confirmed && !operator {
		var err error
		if tell, err = c.mayTell(ctx, tx, a, old); err != nil {
			return err
		}
	}
	if tell && confirmed && !operator {
		if err := c.Budgets.SpendHeld(ctx, tx, a, budget.Account(a.DID)); err != nil {
			return err
		}
	}
	if err := c.Budgets.CountIn(ctx, tx, budget.AddressesGiven, budget.RecipientOf(a.DID, address)); err != nil || !tell {
		return err
	}
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindEmailChanged, c.Brand().EmailChanged(old, outbox.Named(a), c.Now(), factorOff))
}

// mayTell reports whether an address that nobody confirmed, and that a has no more, is
// told of that. It may be that of somebody who never heard of the account: of one that was
// given within the hour, by mistake or on purpose, there is nothing to tell; another is
// told once a day, and the account pays. Its change by the operator is always told.
func (c Credentials) mayTell(ctx context.Context, tx *db.Tx, a *db.Account, old string) (bool, error) {
	if c.Now().Sub(a.CreatedAt) < budget.AddressesGiven.Window {
		return false, nil // given at sign-up
	}
	for _, pay := range []struct {
		budget budget.Budget
		payer  budget.Payer
	}{
		{budget.AddressesGiven, budget.RecipientOf(a.DID, old)},
		{budget.Announcements, budget.RecipientOf(a.DID, old)},
		{budget.MailsToStrangers, budget.Account(a.DID)},
	} {
		err := c.Budgets.SpendIn(ctx, tx, pay.budget, pay.payer)
		if _, spent := errors.AsType[*budget.Spent](err); spent {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	err := c.Budgets.SpendHeld(ctx, tx, a, budget.Account(a.DID))
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return false, nil
	}
	return err == nil, err
}
