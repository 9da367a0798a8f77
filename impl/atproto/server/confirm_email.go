package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
)

var errNotThisEmail = errors.New("not the account's address")

// ConfirmEmail proves with an emailed code that the address is the owner's.
func (s *Service) ConfirmEmail(ctx context.Context, in *api.ConfirmEmailInput) error {
	caller := auth.Caller(ctx)
	if email.Normalize(in.Email) != caller.Account.Email {
		return invalidEmail()
	}
	err := s.Codes.Use(ctx, caller.Payer(), emailcode.ConfirmEmail, caller.DID, in.Token, func(tx *db.Tx, a *db.Account) error {
		if email.Normalize(in.Email) != a.Email {
			return errNotThisEmail // changed since
		}
		a.EmailConfirmedAt = new(s.Now())
		if err := tx.UpdateAccount(ctx, a); err != nil {
			return err
		}
		return audit.Record(ctx, tx, s.Now(), a.DID, audit.EmailConfirmed, "")
	})
	switch {
	case errors.Is(err, errNotThisEmail):
		return invalidEmail()
	case errors.Is(err, db.ErrNotFound):
		return api.ErrConfirmEmailAccountNotFound.New(http.StatusBadRequest, "user not found")
	}
	if err == nil && caller.Account.Held() {
		s.Accounts.ReleaseSoon()
	}
	return answer.Code(err)
}

func invalidEmail() error {
	return api.ErrConfirmEmailInvalidEmail.New(http.StatusBadRequest, "invalid email")
}
