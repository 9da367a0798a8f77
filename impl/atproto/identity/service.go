// Package identity is com.atproto.identity: handles, and what the DIDs of accounts
// say.
//
// Each method is a file that reads like its paragraph of the protocol. Who may call
// what, and how often, is policy.go.
package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/identity"
	"portico/db"
	"portico/impl/account"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
	"portico/impl/mail/emailcode"
)

// Service is the behaviour of com.atproto.identity. It is safe for concurrent use.
type Service struct {
	DB         *db.DB
	Budgets    *budget.Ledger
	Accounts   *account.Accounts
	Identities *account.Identities
	Codes      *emailcode.Codes
	Domains    *domain.Domains
	Resolve    Resolver
	AppView    HandleResolver // asked by resolveHandle alone, in place of Resolve; nil: none
	Directory  Directory
	Log        *slog.Logger
}

// HandleResolver knows handles outside this server's domains.
type HandleResolver interface {
	// ResolveHandle returns the DID that h names. Any error means that it names none,
	// for all that could be found out.
	ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error)
}

// Resolver reads the network's identities: handles by DNS or HTTPS, and documents.
type Resolver interface {
	HandleResolver
	// Resolve returns the document of a DID; fresh bypasses the cache.
	Resolve(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
}

// Directory is the PLC directory; *plc.Client is one.
type Directory interface {
	// Last returns the last operation that counts, which may be a tombstone.
	Last(ctx context.Context, did syntax.DID) (plc.Operation, error)
	// Submit posts any operation once.
	Submit(ctx context.Context, did syntax.DID, op plc.Operation) error
	// Registered says what the directory holds of an operation.
	Registered(ctx context.Context, did syntax.DID, op plc.Operation) (plc.Presence, error)
}

var _ api.Service = (*Service)(nil)

// object is v, which always can be, as JSON.
func object(v any) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return b, nil
}
