package server

import (
	"context"
	"fmt"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/account/password"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail/emailcode"
)

var errInvalidPassword = xrpc.Undeclared("InvalidPassword")

// ResetPassword sets a new password with an emailed code, which alone says whose.
// Every session of the account ends.
func (s *Service) ResetPassword(ctx context.Context, in *api.ResetPasswordInput) error {
	switch n := password.Length(in.Password); {
	case n > password.MaxNew:
		return xrpc.InvalidRequest("Invalid password length.")
	case n < s.Config.PasswordMinLength:
		return errInvalidPassword.New(http.StatusBadRequest, s.passwordTooShort())
	}
	ctx = auth.Acting(ctx, audit.Stranger) // who had the code
	hash, err := s.hashForReset(ctx, in)
	if err != nil {
		return err
	}
	err = s.Codes.UseReset(ctx, s.caller(ctx), in.Token, func(tx *db.Tx, a *db.Account) error {
		if hash == "" {
			return emailcode.ErrInvalid // there was no such code a moment ago
		}
		return s.credentials().SetPassword(ctx, tx, a, hash, address(ctx))
	})
	return answer.Code(err)
}

// hashForReset hashes the new password, outside of any transaction, if the code
// is one that was issued: nobody makes the server work with a made-up one. It
// returns "" for those.
func (s *Service) hashForReset(ctx context.Context, in *api.ResetPasswordInput) (string, error) {
	issued, err := s.Codes.ResetIssued(ctx, in.Token)
	if err != nil || !issued {
		return "", err
	}
	hash, err := s.Passwords.Hash(ctx, s.hashesFor(ctx), in.Password)
	if err != nil {
		return "", answer.Spent(fmt.Errorf("hash new password: %w", err))
	}
	return hash, nil
}

// caller pays with its address.
func (s *Service) caller(ctx context.Context) budget.Payer {
	return s.Budgets.Caller(address(ctx))
}

// credentials changes how owners sign in.
func (s *Service) credentials() account.Credentials {
	return account.Credentials{Budgets: s.Budgets, Outbox: s.Outbox, Brand: s.Brand, Now: s.Now}
}

func (s *Service) passwordTooShort() string {
	return fmt.Sprintf("Password too short. Minimum length is %d characters.", s.Config.PasswordMinLength)
}
