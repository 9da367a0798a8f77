package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/password"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/budget"
)

var (
	errBadCredentials = errors.New("unknown account or wrong password")
	errLoginsSpent    = errors.New("too many wrong passwords")
)

// loginError is the answer to a sign-in that failed; wrong is what it says to a
// wrong password.
func loginError(err error, wrong string) error {
	switch {
	case errors.Is(err, errBadCredentials):
		return xrpc.AuthenticationRequired(wrong)
	case errors.Is(err, errLoginsSpent):
		return xrpc.RateLimitExceeded("Rate Limit Exceeded")
	case errors.Is(err, password.ErrBusy):
		return xrpc.NotEnoughResources("Not Enough Resources")
	}
	return err
}

// A login is an account whose password the caller knows. app is the app password
// that was used, nil for the account's own.
type login struct {
	account *db.Account
	app     *db.AppPassword
}

// login finds the account that identifier names and checks the password against
// it and, unless it is taken down, against its app passwords. Wrong passwords are
// paid for from a budget of the account, or of the identifier where it names
// none, so that the budget does not tell which accounts exist either.
func (s *Service) login(ctx context.Context, identifier, text string) (*login, error) {
	identifier = strings.ToLower(identifier)
	a, err := s.findAccount(ctx, identifier)
	if err != nil {
		return nil, err
	}
	if password.IsApp(text) {
		// Nobody has no app passwords. Looking for them takes its time all the same.
		owner := a
		if a == nil || a.TakenDown() {
			owner = new(db.Account)
		}
		app, err := s.appPassword(ctx, owner, text)
		if app != nil || err != nil {
			return &login{a, app}, err
		}
	}
	key := identifier
	if a != nil {
		key = a.DID.String()
	}
	if err := s.checkPassword(ctx, a, key, text); err != nil {
		return nil, err
	}
	return &login{account: a}, nil
}

// findAccount returns nil when identifier names no account.
func (s *Service) findAccount(ctx context.Context, identifier string) (a *db.Account, err error) {
	if strings.Contains(identifier, "@") {
		a, err = s.DB.AccountByEmail(ctx, identifier)
	} else if did, bad := syntax.ParseDID(identifier); bad == nil {
		a, err = s.DB.AccountByDID(ctx, did)
	} else if handle, bad := syntax.ParseHandle(identifier); bad == nil {
		a, err = s.DB.AccountByHandle(ctx, handle)
	}
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find account of login: %w", err)
	}
	return a, nil
}

// appPassword returns the app password of a whose text this is, or nil. It is
// found by a keyed hash: 80 random bits need no slow one.
func (s *Service) appPassword(ctx context.Context, a *db.Account, text string) (*db.AppPassword, error) {
	app, err := s.DB.AppPasswordByMAC(ctx, a.DID, s.Sessions.AppPasswordMAC(a.DID, text))
	if errors.Is(err, db.ErrNotFound) {
		return s.importedAppPassword(ctx, a, text)
	}
	if err != nil {
		return nil, fmt.Errorf("find app password: %w", err)
	}
	return app, nil
}

// checkPassword checks the account password of a, which is nil for an unknown
// account: that costs the same. It returns errBadCredentials, errLoginsSpent or
// password.ErrBusy.
//
// The budget is read on both sides of the slow hash. Reading it before keeps the
// hash from being a free way to load the server; reading it after means that of
// many guesses sent at once, a right one is worth nothing once the wrong ones
// have spent the budget.
func (s *Service) checkPassword(ctx context.Context, a *db.Account, key, text string) error {
	wrong, err := s.passwordBudget(ctx, a)
	if err != nil {
		return err
	}
	if err := s.loginsLeft(ctx, wrong, key); err != nil {
		return err
	}
	ok, err := s.verify(ctx, a, text)
	if err != nil {
		return fmt.Errorf("check password: %w", err)
	}
	if !ok {
		// Also when the caller has hung up: that is no way to guess for free.
		if err := s.countFailure(context.WithoutCancel(ctx), a, wrong, key); err != nil {
			return err
		}
		return errBadCredentials
	}
	if err := s.loginsLeft(ctx, wrong, key); err != nil {
		return err
	}
	if s.Passwords.NeedsRehash(a.PasswordHash) {
		return s.rehash(ctx, a, text)
	}
	return nil
}

// passwordBudget is what the caller's wrong passwords for a are paid from.
func (s *Service) passwordBudget(ctx context.Context, a *db.Account) (budget.Budget, error) {
	c := xrpc.CallFrom(ctx)
	if a == nil || c == nil {
		return budget.FailedPasswords, nil
	}
	return budget.PasswordsFrom(ctx, s.DB, a.DID, c.IP, s.Now())
}

// countFailure takes a wrong password from what key has of a budget, and records it
// where it was that of an account. The budget bounds the record too.
func (s *Service) countFailure(ctx context.Context, a *db.Account, wrong budget.Budget, key string) error {
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		if a != nil {
			if err := s.recordFailure(ctx, tx, a.DID, "wrong password"); err != nil {
				return err
			}
		}
		_, err := wrong.SpendIn(ctx, tx, key, s.Now())
		return err
	})
}

// recordFailure records a failed sign-in, unless the account is gone: of those
// nothing is kept.
func (s *Service) recordFailure(ctx context.Context, tx *db.Tx, did syntax.DID, why string) error {
	_, err := tx.LockAccount(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return audit.Record(ctx, tx, s.Now(), did, audit.SignInFailed, why)
}

func (s *Service) verify(ctx context.Context, a *db.Account, text string) (bool, error) {
	if a == nil || a.PasswordHash == "" {
		return false, s.Passwords.VerifyNothing(ctx, s.hashesFor(ctx), text)
	}
	return s.Passwords.Verify(ctx, s.hashesFor(ctx), a.PasswordHash, text)
}

func (s *Service) loginsLeft(ctx context.Context, wrong budget.Budget, key string) error {
	left, err := wrong.Left(ctx, s.DB, key, s.Now())
	if err == nil && !left {
		return errLoginsSpent
	}
	return err
}

// rehash replaces a hash of an old kind, now that the password is known. A
// password that was changed meanwhile stays as it is.
func (s *Service) rehash(ctx context.Context, a *db.Account, text string) error {
	hash, err := s.Passwords.Hash(ctx, s.hashesFor(ctx), text)
	if errors.Is(err, password.ErrBusy) {
		return nil // the old hash serves until a quieter login
	}
	if err != nil {
		return fmt.Errorf("hash password again: %w", err)
	}
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		now, err := tx.LockAccount(ctx, a.DID)
		if err != nil {
			return err
		}
		if now.PasswordHash != a.PasswordHash {
			return session.ErrStale
		}
		now.PasswordHash = hash
		return tx.UpdateAccount(ctx, now)
	})
	switch {
	case errors.Is(err, session.ErrStale):
		return nil // whoever goes on with the old one will notice
	case errors.Is(err, db.ErrNotFound):
		return errBadCredentials // deleted since it was found
	case err != nil:
		return fmt.Errorf("replace old password hash: %w", err)
	}
	a.PasswordHash = hash
	return nil
}
