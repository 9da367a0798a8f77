package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/budget"
	"portico/impl/mail"
)

// announcementLife is how long an announcement is worth sending.
const announcementLife = 3 * 24 * time.Hour

var (
	errNoEmail    = errors.New("account has no email address")
	errMailsSpent = errors.New("too many mails to one recipient")
)

// mailError is the answer to a mail that could not be queued.
func mailError(err error) error {
	switch {
	case errors.Is(err, db.ErrNotFound):
		return xrpc.InvalidRequest("account not found")
	case errors.Is(err, errNoEmail):
		return xrpc.InvalidRequest("account does not have an email address")
	case errors.Is(err, errMailsSpent):
		return xrpc.RateLimitExceeded("Rate Limit Exceeded")
	}
	return err
}

// mailCode queues the letter with a new code for the owner of did. Whether it
// arrives is not known here, and the caller's answer does not wait for it.
func (s *Service) mailCode(ctx context.Context, did syntax.DID, purpose string) error {
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		return s.mailCodeIn(ctx, tx, a, purpose)
	})
}

// mailCodeIn is mailCode for an account that tx has locked. It returns errNoEmail
// or errMailsSpent.
func (s *Service) mailCodeIn(ctx context.Context, tx *db.Tx, a *db.Account, purpose string) error {
	if a.Email == "" {
		return errNoEmail
	}
	ok, err := budget.Mails.SpendIn(ctx, tx, a.Email, s.Now())
	if err != nil {
		return err
	}
	if !ok {
		return errMailsSpent
	}
	text, err := s.issueCode(ctx, tx, a, purpose)
	if err != nil {
		return err
	}
	return s.Outbox.Post(ctx, tx, a.DID, purpose, s.codeLetter(purpose, a, text), s.Now().Add(codeLife))
}

// codeLetter is the letter that carries a code of a purpose.
func (s *Service) codeLetter(purpose string, a *db.Account, text string) mail.Letter {
	switch purpose {
	case purposeConfirmEmail:
		return s.Brand.Confirm(a.Email, text)
	case purposeUpdateEmail:
		return s.Brand.Update(a.Email, text)
	case purposeResetPassword:
		return s.Brand.Reset(a.Email, named(a), text)
	case purposeDeleteAccount:
		return s.Brand.Delete(a.Email, text)
	case purposePLCOperation:
		return s.Brand.PLCOperation(a.Email, text)
	case purposeSignIn:
		return s.Brand.SignIn(a.Email, named(a), text)
	}
	panic(fmt.Sprintf("server: no letter carries a code for %q", purpose))
}

// named is how a letter calls an account.
func named(a *db.Account) string {
	if a.Handle == "" {
		return a.Email
	}
	return a.Handle.String()
}

// announce queues a letter that tells an owner what happened to the account. An
// account without an address has nobody to tell.
func (s *Service) announce(ctx context.Context, tx *db.Tx, did syntax.DID, kind string, l mail.Letter) error {
	if l.To == "" {
		return nil
	}
	return s.Outbox.Post(ctx, tx, did, kind, l, s.Now().Add(announcementLife))
}
