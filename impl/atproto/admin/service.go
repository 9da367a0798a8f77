// Package admin is com.atproto.admin: what operators and moderators do to accounts.
//
// Each method is a file that reads like its paragraph of the protocol. What it does
// to an account is the domain's, the same as when an owner does it, and is recorded
// there under the caller's name. Who may call what is policy.go.
package admin

import (
	"context"
	"time"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/password"
	"portico/impl/audit"
	"portico/impl/blob/rows"
	"portico/impl/mail/outbox"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Service is the behaviour of com.atproto.admin. It is safe for concurrent use.
type Service struct {
	DB          *db.DB
	Blobs       *rows.Blobs
	Accounts    *account.Accounts
	DIDs        *account.Verifier
	Identities  *account.Identities
	Credentials account.Credentials
	Passwords   *password.Hasher
	Outbox      *outbox.Outbox
	// PasswordMinLength returns what it is at the moment, in UTF-16 code units.
	PasswordMinLength func() int
	Now               func() time.Time
}

var _ api.Service = (*Service)(nil)

// errNotFound is a name of the protocol that these methods' lexicons do not declare.
var errNotFound = xrpc.Undeclared("NotFound")

// record adds to the record of did what tx does to it.
func (s *Service) record(ctx context.Context, tx *db.Tx, did syntax.DID, event, detail string) error {
	return audit.Record(ctx, tx, s.Now(), did, event, detail)
}
