package server

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
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
// account with the address. Neither the answer nor its time tells. How many it may
// ask for is told to the caller's address, whoever they are for.
func (s *Service) RequestPasswordReset(ctx context.Context, in *api.RequestPasswordResetInput) error {
	began := s.Now()
	ctx = auth.Acting(ctx, audit.Stranger)
	if err := s.Budgets.Spend(ctx, budget.MailsFrom, s.caller(ctx)); err != nil {
		return answer.Spent(err)
	}
	var did syntax.DID
	a, err := s.DB.AccountByEmail(ctx, email.Normalize(in.Email))
	if err == nil {
		did = a.DID
	} else if !errors.Is(err, db.ErrNotFound) {
		return err
	}
	visitor, err := s.Budgets.Visitor(ctx, did, address(ctx))
	if err != nil {
		return err
	}
	if did == "" {
		err = s.Codes.MailNobody(ctx, emailcode.ResetPassword, visitor)
	} else {
		err = s.Codes.MailVisitor(ctx, did, emailcode.ResetPassword, visitor)
	}
	if err != nil && !errors.Is(err, db.ErrNotFound) && !errors.Is(err, emailcode.ErrNoEmail) {
		return err // those two: it has changed since
	}
	if s.Wait != nil {
		s.Wait(ctx, resetAnswers-s.Now().Sub(began))
	}
	return nil
}
