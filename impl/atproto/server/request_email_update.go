package server

import (
	"context"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/mail/emailcode"
)

// RequestEmailUpdate mails the code that the next change of address needs. An
// address that nobody confirmed can be changed without one, if neither sign-in codes go
// to it nor the account has an authenticator app or a passkey.
func (s *Service) RequestEmailUpdate(ctx context.Context) (*api.RequestEmailUpdateOutput, error) {
	var needed bool
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, auth.Caller(ctx).DID)
		if err != nil {
			return err
		}
		if a.Email == "" {
			return emailcode.ErrNoEmail
		}
		if needed, err = s.changeNeedsCode(ctx, tx, a); err != nil || !needed {
			return err
		}
		return s.Codes.MailIn(ctx, tx, a, emailcode.UpdateEmail, auth.Caller(ctx).Payer())
	})
	if err != nil {
		return nil, answer.Mail(err)
	}
	return &api.RequestEmailUpdateOutput{TokenRequired: needed}, nil
}
