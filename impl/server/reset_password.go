package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/emailcode"
	"portico/impl/mail"
	"portico/impl/outbox"
	"portico/impl/password"
	"portico/impl/session"
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
	hash, err := s.hashForReset(ctx, in)
	if err != nil {
		return err
	}
	err = s.Codes.UseReset(ctx, s.payer(ctx), in.Token, func(tx *db.Tx, a *db.Account) error {
		if hash == "" {
			return emailcode.ErrInvalid // there was no such code a moment ago
		}
		return s.setPassword(ctx, tx, a, hash)
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
	hash, err := s.Passwords.Hash(ctx, in.Password)
	if errors.Is(err, password.ErrBusy) {
		return "", xrpc.NotEnoughResources("Not Enough Resources")
	}
	if err != nil {
		return "", fmt.Errorf("hash new password: %w", err)
	}
	return hash, nil
}

// payer is whom a wrong reset code is charged to: the address of the caller, or
// nobody for an exempt one.
func (s *Service) payer(ctx context.Context) string {
	ip := xrpc.CallFrom(ctx).IP
	if s.exempt(ip) {
		return ""
	}
	return budget.Address(ip)
}

// setPassword gives a, which tx has locked, a new password, ends all its sessions
// and tells the owner. Wrong passwords of the past are forgotten: who chose a new
// one is not to wait for them.
func (s *Service) setPassword(ctx context.Context, tx *db.Tx, a *db.Account, hash string) error {
	a.PasswordHash = hash
	a.TokensValidFrom = session.ValidFrom(s.Now())
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return err
	}
	if err := tx.EndSessions(ctx, a.DID); err != nil {
		return err
	}
	if err := tx.ClearBudget(ctx, budget.FailedPasswords.Kind, a.DID.String()); err != nil {
		return err
	}
	return s.Outbox.Announce(ctx, tx, a.DID, mail.KindPasswordChanged, s.Brand.PasswordChanged(a.Email, outbox.Named(a), s.Now()))
}

func (s *Service) passwordTooShort() string {
	return fmt.Sprintf("Password too short. Minimum length is %d characters.", s.Config.PasswordMinLength)
}
