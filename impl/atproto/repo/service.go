// Package repo is com.atproto.repo: what is read of the records of accounts, how they are
// written, the blobs that they mention, and repositories that are brought along.
//
// Each method is a file that reads like its paragraph of the protocol. What the methods
// that write have in common is write.go, what becomes of a record that a client sends is
// prepare.go, and who may call what, and how often, policy.go.
package repo

import (
	"context"
	"errors"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/blob/rows"
	"portico/impl/identity/resolve"
	"portico/impl/proxy"
	"portico/impl/records"
	"portico/impl/repo/importer"
	"portico/impl/repo/record"
)

// Service is the behaviour of com.atproto.repo. It is safe for concurrent use.
type Service struct {
	DB        *db.DB
	Records   *records.Writer
	Blobs     *rows.Blobs
	Keys      *record.Keys // for those who give none
	Documents Documents
	Accounts  *account.Accounts
	Imports   *importer.Importer // nil: none are accepted
	Proxy     *proxy.Proxy
}

// Documents reads the documents of DIDs.
type Documents interface {
	// Resolve returns the document of a DID; fresh bypasses the cache.
	Resolve(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
}

var _ api.Service = (*Service)(nil)

// account returns the account that a client names, in any state, or nil when there is
// none that the caller may know of. Handles are compared as they are.
func (s *Service) account(ctx context.Context, name syntax.AtIdentifier) (*db.Account, error) {
	return s.readAccount(ctx, &s.DB.Reader, name)
}

// readAccount is account that reads with r.
func (s *Service) readAccount(ctx context.Context, r *db.Reader, name syntax.AtIdentifier) (*db.Account, error) {
	var a *db.Account
	var err error
	if strings.HasPrefix(name.String(), "did:") {
		a, err = r.AccountByDID(ctx, syntax.DID(name))
	} else {
		a, err = s.Accounts.ReadByHandle(ctx, r, syntax.Handle(name))
	}
	a, err = auth.Seen(ctx, a, err)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return a, err
}

func newURI(did syntax.DID, path string) syntax.ATURI {
	return syntax.ATURI("at://" + did.String() + "/" + path)
}
