package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/session"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail/emailcode"
)

// checkAuthFactor asks for the emailed code of a login with the account password,
// where the owner wants one to be asked for. An app password is for apps that
// could not ask. It returns session.ErrStale, and the code can be used again, when
// the password is no longer the one that was checked.
func (s *Service) checkAuthFactor(ctx context.Context, login *login, typed string) error {
	a := login.account
	if !a.EmailAuthFactor || login.app != nil {
		return nil
	}
	payer, err := s.Budgets.Visitor(ctx, a.DID, address(ctx))
	if err != nil {
		return err
	}
	if typed == "" {
		if err := s.mailSignInCode(ctx, a.DID, payer); err != nil {
			return err
		}
		return api.ErrCreateSessionAuthFactorTokenRequired.New(http.StatusUnauthorized,
			"A sign in code has been sent to your email address")
	}
	err = s.Codes.Use(ctx, payer, emailcode.SignIn, a.DID, typed, func(_ *db.Tx, now *db.Account) error {
		if now.PasswordHash != a.PasswordHash {
			return session.ErrStale // replaced since it was checked
		}
		return nil
	})
	if errors.Is(err, db.ErrNotFound) {
		return session.ErrStale
	}
	if errors.Is(err, emailcode.ErrInvalid) {
		ctx := context.WithoutCancel(ctx)
		failure := s.DB.Write(ctx, func(tx *db.Tx) error {
			return audit.RecordOfAccount(ctx, tx, s.Now(), a.DID, audit.SignInFailed, "wrong sign-in code")
		})
		if failure != nil {
			return failure
		}
	}
	return answer.Code(err)
}

// mailSignInCode mails the code, or leaves it at those that are alive: whoever has the
// password can neither void what the owner was mailed nor keep her from being mailed one.
func (s *Service) mailSignInCode(ctx context.Context, did syntax.DID, visitor budget.Payer) error {
	err := s.Budgets.Spend(ctx, budget.MailsFrom, s.caller(ctx))
	if err == nil {
		err = s.Codes.MailVisitor(ctx, did, emailcode.SignIn, visitor)
	}
	if errors.Is(err, db.ErrNotFound) {
		return session.ErrStale
	}
	return answer.Mail(err)
}
