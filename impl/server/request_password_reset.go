package server

import (
	"context"
	"errors"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/email"
	"portico/impl/emailcode"
)

// RequestPasswordReset mails a code that sets a new password, if there is an
// account with the address. The answer does not tell, nor does its time: a write
// is made for an unknown address too, and a letter nobody gets is composed.
func (s *Service) RequestPasswordReset(ctx context.Context, in *api.RequestPasswordResetInput) error {
	address := email.Normalize(in.Email)
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.AccountByEmail(ctx, address)
		if errors.Is(err, db.ErrNotFound) {
			return s.Codes.MailNobody(ctx, tx, emailcode.ResetPassword, address)
		}
		if err != nil {
			return err
		}
		return s.Codes.MailIn(ctx, tx, a, emailcode.ResetPassword)
	})
	if errors.Is(err, emailcode.ErrMailsSpent) {
		// To say so would tell that the address is known.
		return nil
	}
	return err
}
