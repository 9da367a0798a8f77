package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/session"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/mail/emailcode"
)

// checkAuthFactor asks for what a login with the account password takes beside it: a code of
// the authenticator app, or a recovery code, where the owner has one; else the emailed code,
// where the owner wants one. Who has both is asked for that of the app, and nothing is mailed.
// An app password is for apps that could not ask. It returns session.ErrStale, and the code can
// be used again, when the password is no longer the one that was checked.
func (s *Service) checkAuthFactor(ctx context.Context, login *login, typed string) error {
	a := login.account
	if login.app != nil {
		return nil
	}
	app, err := s.Factors.Asked(ctx, a.DID)
	if err != nil || !app && !a.EmailAuthFactor {
		return err
	}
	payer, err := s.Budgets.Visitor(ctx, a.DID, address(ctx))
	if err != nil {
		return err
	}
	if typed == "" {
		return s.askForCode(ctx, a.DID, app, payer)
	}
	unchanged := func(_ *db.Tx, now *db.Account) error {
		if now.PasswordHash != a.PasswordHash {
			return session.ErrStale // replaced since it was checked
		}
		return nil
	}
	wrong := "wrong sign-in code"
	if app {
		wrong = "wrong code of the authenticator app, or recovery code"
		err = s.Factors.Use(ctx, payer, a.DID, typed, unchanged)
		if errors.Is(err, factor.ErrOff) {
			return session.ErrStale // another answer, now that it is off
		}
	} else {
		err = s.Codes.Use(ctx, payer, emailcode.SignIn, a.DID, typed, unchanged)
	}
	if errors.Is(err, db.ErrNotFound) {
		return session.ErrStale
	}
	if errors.Is(err, emailcode.ErrInvalid) || errors.Is(err, factor.ErrInvalid) {
		ctx := context.WithoutCancel(ctx)
		failure := s.DB.Write(ctx, func(tx *db.Tx) error {
			return audit.RecordOfAccount(ctx, tx, s.Now(), a.DID, audit.SignInFailed, wrong)
		})
		if failure != nil {
			return failure
		}
	}
	return answer.Code(err)
}

// askForCode is the answer to who brings the password without the code, which is mailed where
// there is no authenticator app.
func (s *Service) askForCode(ctx context.Context, did syntax.DID, app bool, visitor budget.Payer) error {
	if app {
		return api.ErrCreateSessionAuthFactorTokenRequired.New(http.StatusUnauthorized, factor.Wanted)
	}
	if err := s.mailSignInCode(ctx, did, visitor); err != nil {
		return err
	}
	return api.ErrCreateSessionAuthFactorTokenRequired.New(http.StatusUnauthorized,
		"A sign in code has been sent to your email address")
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
