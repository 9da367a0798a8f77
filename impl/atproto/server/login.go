package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/adopted"
	"portico/impl/account/password"
	"portico/impl/account/session"
	"portico/impl/answer"
	"portico/impl/audit"
	"portico/impl/budget"
)

var errBadCredentials = errors.New("unknown account or wrong password")

// loginError is the answer to a sign-in that failed; wrong is what it says to a
// wrong password.
func loginError(err error, wrong string) error {
	if errors.Is(err, errBadCredentials) {
		return xrpc.AuthenticationRequired(wrong)
	}
	return answer.Spent(err)
}

// A login is an account whose password the caller knows. app is the app password
// that was used, nil for the account's own.
type login struct {
	account *db.Account
	app     *db.AppPassword
}

// login finds the account that identifier names and checks the password against
// it and, unless it is taken down, against its app passwords.
func (s *Service) login(ctx context.Context, identifier, text string) (*login, error) {
	a, err := s.accountNamed(ctx, identifier)
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
	if err := s.checkPassword(ctx, a, text); err != nil {
		return nil, err
	}
	return &login{account: a}, nil
}

// findAccount returns nil when identifier, in lower case, names no account.
func (s *Service) findAccount(ctx context.Context, identifier string) (a *db.Account, err error) {
	if strings.Contains(identifier, "@") {
		a, err = s.DB.AccountByEmail(ctx, identifier)
	} else if did, bad := syntax.ParseDID(identifier); bad == nil {
		a, err = s.DB.ReadAccount(ctx, did)
	} else if handle, bad := syntax.ParseHandle(identifier); bad == nil {
		a, err = s.Accounts.AccountByHandle(ctx, handle)
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
// account. It returns errBadCredentials, password.ErrBusy, or a [*budget.Spent] when
// the caller's address has sent too many wrong passwords, to whatever accounts.
//
// Nothing else is told: not whether there is an account, nor that others, or this
// caller, have spent what may be guessed of it. Then a right password is as good as
// a wrong one, and all that is done is done all the same, in as many statements.
// What is left is read after the slow hash: of many guesses sent at once, a right one
// is worth nothing once the wrong ones have spent the budget.
func (s *Service) checkPassword(ctx context.Context, a *db.Account, text string) error {
	if err := s.Budgets.Left(ctx, budget.WrongPasswordsFrom, s.caller(ctx)); err != nil {
		return err
	}
	v, err := s.visitor(ctx, a)
	if err != nil {
		return err
	}
	ok, err := s.verify(ctx, a, v.known, text)
	if err != nil {
		return fmt.Errorf("check password: %w", err)
	}
	spent, err := s.spent(ctx, v)
	if err != nil {
		return err
	}
	if !ok || spent != nil {
		// Also when the caller has hung up: that is no way to guess for free.
		if err := s.countFailure(context.WithoutCancel(ctx), v, spent); err != nil {
			return err
		}
		return errBadCredentials
	}
	if s.Passwords.NeedsRehash(a.PasswordHash) {
		return s.rehash(ctx, a, text)
	}
	return nil
}

// A visitor is somebody who has typed the name of an account.
type visitor struct {
	did   syntax.DID // "" for a name that is nobody's
	wrong budget.Budget
	payer budget.Payer
	known bool // the account's owner has been where v is
}

func (s *Service) visitor(ctx context.Context, a *db.Account) (visitor, error) {
	v := visitor{wrong: s.Budgets.WrongPasswords(address(ctx))}
	if a != nil {
		v.did = a.DID
	}
	var err error
	v.payer, err = s.Budgets.Visitor(ctx, v.did, address(ctx))
	v.known = !v.payer.Stranger()
	return v, err
}

// spent is not nil when the account takes no more passwords from where v is.
func (s *Service) spent(ctx context.Context, v visitor) (*budget.Spent, error) {
	err := s.Budgets.Left(ctx, v.wrong, v.payer)
	if spent, ok := errors.AsType[*budget.Spent](err); ok {
		return spent, nil
	}
	return nil, err
}

// countFailure takes a wrong password from what v and its address have. Once v has spent
// what it had, that is no longer recorded; the owner is told instead, if it was strangers.
func (s *Service) countFailure(ctx context.Context, v visitor, spent *budget.Spent) error {
	now := s.Now()
	recorded, guessed, until := v.did, syntax.DID(""), now
	if spent != nil {
		recorded, until = "", now.Add(spent.Wait)
		if v.payer.Stranger() && v.wrong.Kind == budget.FailedPasswords.Kind {
			guessed = v.did
		}
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := audit.RecordOfAccount(ctx, tx, now, recorded, audit.SignInFailed, "wrong password"); err != nil {
			return err
		}
		if err := tx.NoteGuessed(ctx, guessed, now, until); err != nil {
			return err
		}
		if err := s.Budgets.CountIn(ctx, tx, budget.WrongPasswordsFrom, s.caller(ctx)); err != nil {
			return err
		}
		return s.Budgets.CountIn(ctx, tx, v.wrong, v.payer)
	})
}

// address is the caller's, invalid where there is none.
func address(ctx context.Context) netip.Addr {
	if c := xrpc.CallFrom(ctx); c != nil {
		return c.IP
	}
	return netip.Addr{}
}

func (s *Service) verify(ctx context.Context, a *db.Account, known bool, text string) (bool, error) {
	caller := s.hashesFor(ctx)
	caller.Known = known
	if a == nil || a.PasswordHash == "" {
		return false, s.Passwords.VerifyNothing(ctx, caller, text)
	}
	return s.Passwords.Verify(ctx, caller, a.PasswordHash, text)
}

// rehash replaces a hash of an old kind, now that the password is known; that of another
// server stays known for the way back there, while there is one. A password that was
// changed meanwhile stays as it is.
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
		if err := tx.UpdateAccount(ctx, now); err != nil {
			return err
		}
		return adopted.KeepPassword(ctx, tx, a.DID, a.PasswordHash, hash)
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
