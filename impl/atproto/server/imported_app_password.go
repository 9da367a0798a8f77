package server

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"portico/db"
	"portico/impl/account/adopted"
	"portico/impl/account/session"
	"portico/impl/budget"
)

// importedAppPassword returns the app password of a whose text this is among
// those that came from another server and were not used here yet, or nil. Those of
// the reference have slow hashes, so looking costs one of those and the budget of wrong
// passwords is asked first; the one found gets the hash that all others have.
func (s *Service) importedAppPassword(ctx context.Context, a *db.Account, text string) (*db.AppPassword, error) {
	if err := s.Budgets.Left(ctx, budget.WrongPasswordsFrom, s.caller(ctx)); err != nil {
		return nil, err
	}
	v, err := s.visitor(ctx, a)
	if err != nil {
		return nil, err
	}
	spent, err := s.spent(ctx, v)
	if err != nil {
		return nil, err
	}
	did := a.DID
	if spent != nil {
		did = "" // where there are none, which takes as many statements
	}
	mac := s.Sessions.AppPasswordMAC(did, text)
	imported, err := s.DB.ImportedAppPasswords(ctx, did)
	if err != nil {
		return nil, err
	}
	slow := false
	for _, app := range imported {
		if session.MatchesMoved(app.Scrypt, did, text) {
			return s.adoptAppPassword(ctx, app, mac)
		}
		slow = slow || !session.IsMovedHash(app.Scrypt)
	}
	if slow {
		caller := s.hashesFor(ctx)
		caller.Known = v.known
		hash, err := s.Passwords.ImportedAppHash(ctx, caller, did.String(), text)
		if err != nil {
			return nil, fmt.Errorf("check app password: %w", err)
		}
		for _, app := range imported {
			if subtle.ConstantTimeCompare([]byte(app.Scrypt), []byte(hash)) == 1 {
				return s.adoptAppPassword(ctx, app, mac)
			}
		}
	}
	// Another login may have given it our hash after this one looked for that.
	app, err := s.DB.AppPasswordByMAC(ctx, did, mac)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return app, err
}

// adoptAppPassword gives an imported app password our hash. It returns nil when
// the password was revoked meanwhile, be it that another has its name now.
func (s *Service) adoptAppPassword(ctx context.Context, app db.AppPassword, mac []byte) (*db.AppPassword, error) {
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, app.DID); err != nil {
			return err
		}
		now, err := tx.AppPasswordByName(ctx, app.DID, app.Name)
		switch {
		case err != nil:
			return err
		case subtle.ConstantTimeCompare(now.MAC, mac) == 1:
			return nil // another login was first
		case now.Scrypt != app.Scrypt:
			return db.ErrNotFound
		}
		if err := tx.SetAppPasswordMAC(ctx, app.DID, app.Name, mac); err != nil {
			return err
		}
		return adopted.KeepAppPassword(ctx, tx, app.DID, app.Name, app.Scrypt, mac)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("adopt imported app password: %w", err)
	}
	app.MAC, app.Scrypt = mac, ""
	return &app, nil
}
