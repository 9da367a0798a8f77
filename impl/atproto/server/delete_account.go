package server

import (
	"context"
	"errors"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/password"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/mail/emailcode"
)

// DeleteAccount removes an account for good. Whoever has its password and the
// code from its mailbox is its owner; a session is not asked for. The DID stays
// as it is: it belongs to its owner, not to this server.
func (s *Service) DeleteAccount(ctx context.Context, in *api.DeleteAccountInput) error {
	const wrong = "Invalid did or password"
	if password.Length(in.Password) > password.MaxLogin {
		return xrpc.AuthenticationRequired("Password too long. Consider resetting your password.")
	}
	ctx = auth.Acting(ctx, audit.Stranger)
	a, err := s.DB.AccountByDID(ctx, in.DID)
	if errors.Is(err, db.ErrNotFound) {
		return errNoAccount()
	}
	if err != nil {
		return err
	}
	if there, err := s.admitsTo(ctx, a, in.Token); err != nil {
		return err
	} else if !there {
		return errNoAccount()
	}
	if err := s.checkPassword(ctx, a, in.Password); err != nil {
		return loginError(err, wrong)
	}
	payer, err := s.Budgets.Visitor(ctx, a.DID, address(ctx))
	if err != nil {
		return err
	}
	err = s.Codes.Use(ctx, payer, emailcode.DeleteAccount, a.DID, in.Token, func(tx *db.Tx, now *db.Account) error {
		if now.PasswordHash != a.PasswordHash {
			return xrpc.AuthenticationRequired(wrong) // changed while it was being checked
		}
		return s.Accounts.Delete(ctx, tx, a.DID)
	})
	if errors.Is(err, db.ErrNotFound) {
		return errNoAccount() // somebody else has just deleted it
	}
	if err != nil {
		return answer.Code(err)
	}
	s.Accounts.Forget(ctx, a.DID)
	s.Log.InfoContext(ctx, "deleted an account", "did", a.DID)
	return nil
}

// admitsTo reports whether the account a is there for the caller: one in quarantine is for
// whoever is signed in to it, or has the code that was mailed to its owner.
func (s *Service) admitsTo(ctx context.Context, a *db.Account, typed string) (bool, error) {
	if there, err := auth.Sees(ctx, a); there || err != nil {
		return there, err
	}
	return s.Codes.Usable(ctx, emailcode.DeleteAccount, a, typed)
}

func errNoAccount() error { return xrpc.InvalidRequest("account not found") }
