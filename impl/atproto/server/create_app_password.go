package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/password"
	"portico/impl/answer"
	"portico/impl/audit"
)

// maxAppPasswords is how many an account may make. Imported ones may be more.
const maxAppPasswords = 100

var errTooManyAppPasswords = errors.New("too many app passwords")

// CreateAppPassword makes a password for one app. Its text is in this answer and
// nowhere else.
func (s *Service) CreateAppPassword(ctx context.Context, in *api.CreateAppPasswordInput) (*api.CreateAppPasswordOutput, error) {
	if err := checkAppPasswordName(in.Name); err != nil {
		return nil, err
	}
	text, err := password.NewApp(s.Rand)
	if err != nil {
		return nil, err
	}
	caller := auth.Caller(ctx)
	did := caller.DID
	app := db.AppPassword{
		DID: did, Name: in.Name, MAC: s.Sessions.AppPasswordMAC(did, text), Privileged: xrpc.ValueOf(in.Privileged), CreatedAt: s.Now(),
	}
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		a, err := tx.LockAccount(ctx, did) // so that the number holds until this one is there
		if err != nil {
			return err
		}
		if err := caller.StillSignedIn(a); err != nil {
			return err
		}
		n, err := tx.CountAppPasswords(ctx, did)
		if err != nil {
			return err
		}
		if n >= maxAppPasswords {
			return errTooManyAppPasswords
		}
		if err := tx.InsertAppPassword(ctx, app); err != nil {
			return err
		}
		return audit.Record(ctx, tx, s.Now(), did, audit.AppPasswordCreated, app.Name)
	})
	switch {
	case errors.Is(err, errTooManyAppPasswords):
		return nil, xrpc.InvalidRequest("An account has at most 100 app passwords: revoke one that is no longer used")
	case errors.Is(err, db.ErrNameTaken):
		return nil, xrpc.InvalidRequest("An app password with this name already exists")
	case errors.Is(err, db.ErrNotFound):
		return nil, auth.AccountNotFound()
	case err != nil:
		return nil, fmt.Errorf("create app password: %w", err)
	}
	return &api.CreateAppPasswordOutput{
		Name: app.Name, Password: text, CreatedAt: answer.Datetime(app.CreatedAt), Privileged: new(app.Privileged),
	}, nil
}

// maxAppPasswordName is the length of a name in bytes that every engine can still
// put into an index beside the account's DID.
const maxAppPasswordName = 2000

// checkAppPasswordName refuses what the database cannot keep as a name.
func checkAppPasswordName(name string) error {
	switch {
	case len(name) > maxAppPasswordName:
		return xrpc.InvalidRequest("App password name is too long")
	case strings.ContainsRune(name, 0):
		return xrpc.InvalidRequest("App password name must not contain NUL")
	}
	return nil
}
