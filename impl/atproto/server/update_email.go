package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
)

var (
	errCodeRequired = errors.New("change needs an emailed code")
	errUnconfirmed  = errors.New("address is not confirmed")
	errNoMailer     = errors.New("this server sends no mail")
)

// UpdateEmail changes the account's address, or switches signing in with an
// emailed code on and off while the address stays.
//
// A confirmed address is changed only with a code that was mailed to it, and so is one,
// confirmed or not, that sign-in codes go to, or whose account has an authenticator app or
// a passkey, which a reset by mail gets past; switching those codes off needs one too: a
// stolen session alone must not be enough to take an account over.
func (s *Service) UpdateEmail(ctx context.Context, in *api.UpdateEmailInput) error {
	if !s.Emails.Supported(in.Email) {
		return xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	}
	caller, address, typed := auth.Caller(ctx), email.Normalize(in.Email), xrpc.ValueOf(in.Token)
	change := func(tx *db.Tx, a *db.Account) error {
		if err := caller.StillSignedIn(a); err != nil {
			return err
		}
		return s.changeEmail(ctx, tx, a, address, in.EmailAuthFactor)
	}

	if address != caller.Account.Email {
		// The answer tells whether somebody has it.
		if err := s.Budgets.Spend(ctx, budget.AddressesNamed, caller.Payer()); err != nil {
			return answer.Spent(err)
		}
	}
	var err error
	if typed != "" {
		err = s.Codes.Use(ctx, caller.Payer(), emailcode.UpdateEmail, caller.DID, typed, change)
	} else {
		err = s.DB.Write(ctx, func(tx *db.Tx) error {
			a, err := tx.LockAccount(ctx, caller.DID)
			if err != nil {
				return err
			}
			needed, err := s.changeNeedsCode(ctx, tx, a)
			if err != nil {
				return err
			}
			if needed && !switchesOn(a, address, in.EmailAuthFactor) {
				return errCodeRequired
			}
			return change(tx, a)
		})
	}
	switch {
	case errors.Is(err, db.ErrNotFound):
		return xrpc.InvalidRequest("account not found")
	case errors.Is(err, errCodeRequired):
		return api.ErrUpdateEmailTokenRequired.New(http.StatusBadRequest, "confirmation token required")
	case errors.Is(err, errUnconfirmed):
		return xrpc.InvalidRequest("Confirm your email address before you turn on sign-in by emailed code")
	case errors.Is(err, errNoMailer):
		return xrpc.InvalidRequest("This server sends no mail, so it cannot send sign-in codes")
	case errors.Is(err, db.ErrEmailTaken):
		return xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	}
	return answer.Code(err)
}

// changeNeedsCode says whether an emailed code is asked of who changes a's address.
func (s *Service) changeNeedsCode(ctx context.Context, tx *db.Tx, a *db.Account) (bool, error) {
	if takesCodes(a) {
		return true, nil
	}
	return s.Factors.Any(ctx, tx, a.DID)
}

// takesCodes says whether a's address is one that codes of sign-ins may go to.
func takesCodes(a *db.Account) bool { return a.EmailConfirmedAt != nil || a.EmailAuthFactor }

// switchesOn says whether an update asks for the sign-in code at a confirmed address
// and nothing else.
func switchesOn(a *db.Account, address string, factor *bool) bool {
	return address == a.Email && a.EmailConfirmedAt != nil && xrpc.ValueOf(factor)
}

// changeEmail does what the update asks for to a, which tx has locked. Whether
// the caller may, has been decided.
func (s *Service) changeEmail(ctx context.Context, tx *db.Tx, a *db.Account, address string, factor *bool) error {
	same := address == a.Email
	switch {
	case a.Email == "":
		// Whoever signed up without a password has no address, and gets none here:
		// with one, a reset would make the password that there shall not be.
		return nil
	case xrpc.ValueOf(factor) && !s.Config().SendsMail:
		return errNoMailer
	case xrpc.ValueOf(factor) && !(same && takesCodes(a)): // it is on, or the address confirmed
		return errUnconfirmed
	case same && factor != nil && (*factor || a.EmailAuthFactor):
		return s.credentials().SetAuthFactor(ctx, tx, a, *factor)
	}
	return s.credentials().SetEmail(ctx, tx, a, address)
}
