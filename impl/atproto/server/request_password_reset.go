package server

import (
	"context"
	"errors"
	"time"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
)

// resetAnswers is when a request for a password reset is answered, counted from
// its beginning. A code and a letter cost some writes more than nothing does; in
// this time there is room for both.
const resetAnswers = 200 * time.Millisecond

// RequestPasswordReset mails a code that sets a new password, if there is an
// account with the address. Neither the answer nor its time tells.
func (s *Service) RequestPasswordReset(ctx context.Context, in *api.RequestPasswordResetInput) error {
	began, address := s.Now(), email.Normalize(in.Email)
	ctx = auth.Acting(ctx, audit.Stranger)
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccountByEmail(ctx, address)
		if errors.Is(err, db.ErrNotFound) {
			return s.Codes.MailNobody(ctx, tx, emailcode.ResetPassword, address)
		}
		if err != nil {
			return err
		}
		return s.Codes.MailIn(ctx, tx, a, emailcode.ResetPassword)
	})
	if _, spent := errors.AsType[*budget.Spent](err); err != nil && !spent {
		return err
	}
	// A spent budget is no error: to say so would tell that the address is known.
	if s.Wait != nil {
		s.Wait(ctx, resetAnswers-s.Now().Sub(began))
	}
	return nil
}
