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
	"portico/impl/code"
)

// What an emailed code may be used for. A code of one purpose is none of another.
const (
	purposeConfirmEmail  = "confirm_email"
	purposeUpdateEmail   = "update_email"
	purposeResetPassword = "reset_password"
	purposeDeleteAccount = "delete_account"
	purposePLCOperation  = "plc_operation"
	purposeSignIn        = "sign_in"
)

const (
	codeLife = 15 * time.Minute
	// liveCodes is how many codes of a purpose an account has at a time. With one
	// alone, a stranger who asks for codes would void the owner's with each.
	liveCodes = 3
)

var (
	errCodeInvalid = errors.New("emailed code is wrong or used")
	errCodeExpired = errors.New("emailed code is too old")
	errCodesSpent  = errors.New("too many wrong emailed codes")
)

// codeError is the answer to an emailed code that was not accepted; other errors
// are returned as they are.
func codeError(err error) error {
	switch {
	case errors.Is(err, errCodeInvalid):
		return xrpc.InvalidToken("Token is invalid")
	case errors.Is(err, errCodeExpired):
		return xrpc.ExpiredToken("Token is expired")
	case errors.Is(err, errCodesSpent):
		return xrpc.RateLimitExceeded("Rate Limit Exceeded")
	}
	return err
}

// issueCode makes a code for the address of a, an account that tx has locked, and
// stores its keyed hash. The oldest of more than three stops working.
func (s *Service) issueCode(ctx context.Context, tx *db.Tx, a *db.Account, purpose string) (string, error) {
	text, err := code.New(s.Rand)
	if err != nil {
		return "", err
	}
	now := s.Now()
	err = tx.InsertCode(ctx, db.EmailCode{
		Purpose: purpose, DID: a.DID, Email: a.Email, MAC: s.codeMAC(purpose, a.DID, text),
		CreatedAt: now, ExpiresAt: now.Add(codeLife),
	}, liveCodes)
	if err != nil {
		return "", fmt.Errorf("issue %s code: %w", purpose, err)
	}
	return text, nil
}

// useCode spends the code that the owner of did typed and runs act, all in one
// transaction: when act fails the code can be used again. act gets the account as
// it is now, locked, and does not write to the codes but to remove them. It may
// run more than once, like every transaction.
//
// useCode returns errCodeInvalid, errCodeExpired or errCodesSpent, see
// [codeError]; db.ErrNotFound when there is no account; and the errors of act.
func (s *Service) useCode(
	ctx context.Context, purpose string, did syntax.DID, typed string, act func(tx *db.Tx, a *db.Account) error,
) error {
	// Each purpose has a budget of its own: guessing one must not shut another.
	spent := budget.WrongCodes
	spent.Kind += "/" + purpose
	return s.spendCode(ctx, typed, spent, did.String(), func(tx *db.Tx, text string) error {
		a, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if err := s.checkCode(ctx, tx, purpose, a, text); err != nil {
			return err
		}
		if err := tx.DeleteCodes(ctx, did, purpose); err != nil {
			return err
		}
		return act(tx, a)
	})
}

// useResetCode is useCode for the one purpose whose codes name their account:
// nobody has said whose password it is. Wrong ones are charged to the address of
// the caller, unless that is exempt.
func (s *Service) useResetCode(ctx context.Context, typed string, act func(tx *db.Tx, a *db.Account) error) error {
	ip := xrpc.CallFrom(ctx).IP
	key := budget.Address(ip)
	if s.exempt(ip) {
		key = ""
	}
	return s.spendCode(ctx, typed, budget.WrongResetCodes, key, func(tx *db.Tx, text string) error {
		c, err := tx.EmailCode(ctx, purposeResetPassword, "", s.codeMAC(purposeResetPassword, "", text))
		if errors.Is(err, db.ErrNotFound) {
			return errCodeInvalid
		}
		if err != nil {
			return err
		}
		a, err := tx.LockAccount(ctx, c.DID)
		if errors.Is(err, db.ErrNotFound) {
			return errCodeInvalid
		}
		if err != nil {
			return err
		}
		// Only now that the account is locked nobody else can be using it.
		if err := s.checkCode(ctx, tx, purposeResetPassword, a, text); err != nil {
			return err
		}
		if err := tx.DeleteCodes(ctx, a.DID, purposeResetPassword); err != nil {
			return err
		}
		return act(tx, a)
	})
}

// spendCode runs use in a transaction with the code that was typed as it was
// issued, if key has any of b left, and takes one from it when use returns
// errCodeInvalid. An empty key has no budget. What has not the form of a code is
// wrong, but no guess that is worth counting.
func (s *Service) spendCode(
	ctx context.Context, typed string, b budget.Budget, key string, use func(tx *db.Tx, text string) error,
) error {
	text := code.Normalize(typed)
	if !code.Valid(text) {
		return errCodeInvalid
	}
	if key != "" {
		left, err := b.Left(ctx, s.DB, key, s.Now())
		if err != nil {
			return err
		}
		if !left {
			return errCodesSpent
		}
	}
	err := s.DB.Write(ctx, func(tx *db.Tx) error { return use(tx, text) })
	if key == "" || !errors.Is(err, errCodeInvalid) {
		return err
	}
	// Also when the caller has hung up: that is no way to guess for free.
	if _, err := b.Spend(context.WithoutCancel(ctx), s.DB, key, s.Now()); err != nil {
		return err
	}
	return errCodeInvalid
}

// checkCode returns nil when text, normalized, is a live code of a, which tx has
// locked; errCodeInvalid or errCodeExpired when it is not. A code that went to an
// address which is no longer the account's is invalid.
func (s *Service) checkCode(ctx context.Context, tx *db.Tx, purpose string, a *db.Account, text string) error {
	c, err := tx.EmailCode(ctx, purpose, a.DID, s.codeMAC(purpose, a.DID, text))
	switch {
	case errors.Is(err, db.ErrNotFound):
		return errCodeInvalid
	case err != nil:
		return err
	case c.Email != a.Email:
		return errCodeInvalid
	case !s.Now().Before(c.ExpiresAt):
		return errCodeExpired
	}
	return nil
}

// codeMAC is the keyed hash by which a code is found. A reset code is found
// without knowing whose it is.
func (s *Service) codeMAC(purpose string, did syntax.DID, text string) []byte {
	if purpose == purposeResetPassword {
		did = ""
	}
	mac := s.Sessions.Keys.MAC("email-code", []byte(purpose+"\x00"+did.String()+"\x00"+text))
	return mac[:]
}
