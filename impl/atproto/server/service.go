// Package server is com.atproto.server: sign-up, sessions and the life of an
// account.
//
// Each method is a file that reads like its paragraph of the protocol: read,
// check, act, answer. Who may call what, and how often, is policy.go.
package server

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/factor"
	"portico/impl/account/invite"
	"portico/impl/account/password"
	"portico/impl/account/phone"
	"portico/impl/account/session"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/resolve"
	"portico/impl/mail"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
	"portico/impl/mail/outbox"
)

// Service is the behaviour of com.atproto.server. It is safe for concurrent use.
type Service struct {
	DB        *db.DB
	Budgets   *budget.Ledger
	Accounts  *account.Accounts
	DIDs      *account.Verifier
	Sessions  *session.Sessions
	Passwords *password.Hasher
	Handles   *handle.Rules
	Domains   *domain.Domains
	Emails    *email.Rules
	Resolve   Resolver
	Codes     *emailcode.Codes
	Factors   *factor.Factors
	Phones    *phone.Verification // nil: sign-up asks for no phone number
	Outbox    *outbox.Outbox
	Brand     func() mail.Brand
	Config    func() Config // what it is at the moment
	Now       func() time.Time
	// Wait returns after d or when ctx ends, at once when d is not positive. nil waits
	// never: then the time of an answer may tell whether an address is known.
	Wait func(ctx context.Context, d time.Duration)
	Rand io.Reader // of codes; a secure source
	Log  *slog.Logger

	described xrpc.Kept[described, api.DescribeServerOutput]
}

// Resolver reads the network's identities.
type Resolver interface {
	// ResolveHandle returns the DID that a handle outside this server's domains
	// names, by DNS or HTTPS.
	ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error)
	// Resolve returns the document of a DID; fresh bypasses the cache.
	Resolve(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
}

// Config is what the operator decided.
type Config struct {
	ServiceDID         syntax.DID
	ModService         syntax.DID // whose service tokens moderate, "" for none
	Hostname           string
	BlobUploadLimit    int64          // in bytes
	InviteEarning      invite.Earning // how accounts earn codes where codes are required
	PrivacyPolicy      string         // URL, "" for none; the next two likewise
	TermsOfService     string
	ContactEmail       string
	SendsMail          bool // there is a mail server; without one nobody may depend on its codes
	DocumentInSessions bool // didDoc with every session, not only at sign-up
	PasswordMinLength  int  // in UTF-16 code units
	SignUpsPerDay      int  // without an invite, of all callers together; 0 is no cap
}

var _ api.Service = (*Service)(nil)
