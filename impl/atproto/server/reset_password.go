package server

import (
	"context"
	"fmt"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail/emailcode"
)

// ResetPassword sets a new password with an emailed code, which alone says whose.
// Nothing that could sign in to the account before can do so after.
func (s *Service) ResetPassword(ctx context.Context, in *api.ResetPasswordInput) error {
	if err := answer.NewPassword(in.Password, s.Config().PasswordMinLength); err != nil {
		return err
	}
	ctx = auth.Acting(ctx, audit.Stranger) // who had the code
	did, err := s.Codes.ResetOf(ctx, in.Token)
	if err != nil {
		return err
	}
	var hash string
	var keys account.ForeignKeys
	if did != "" { // nobody makes the server work with a made-up code
		hash, err = s.Passwords.Hash(ctx, s.hashesFor(ctx), in.Password)
		if err != nil {
			return answer.Spent(fmt.Errorf("hash new password: %w", err))
		}
		keys = s.DIDs.ForeignKeys(ctx, did)
	}
	err = s.Codes.UseReset(ctx, s.caller(ctx), in.Token, func(tx *db.Tx, a *db.Account) error {
		if a.DID != did {
			return emailcode.ErrInvalid // there was no such code a moment ago
		}
		return s.credentials().Recover(ctx, tx, a, hash, address(ctx), keys)
	})
	return answer.Code(err)
}

// caller pays with its address.
func (s *Service) caller(ctx context.Context) budget.Payer {
	return s.Budgets.Caller(address(ctx))
}

// credentials changes how owners sign in.
func (s *Service) credentials() account.Credentials {
	return account.Credentials{Budgets: s.Budgets, Outbox: s.Outbox, Brand: s.Brand, Now: s.Now}
}
