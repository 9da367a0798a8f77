// Package authserver is what clients of OAuth call: metadata (RFC 8414, RFC 9728), pushed
// authorization requests (RFC 9126), tokens and their revocation (RFC 7009), as the
// specification "OAuth" of the AT Protocol wants them.
//
// It decides what a request is allowed to ask; who the client is, package client says, and
// what is kept, package grant.
package authserver

import (
	"log/slog"
	"net/http"
	"time"

	"portico/impl/budget"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
)

// Config is what the endpoints are made of.
type Config struct {
	Issuer  string // the origin of this server
	Clients *client.Clients
	Proofs  *dpop.Verifier
	Grants  *grant.Grants
	Budgets *budget.Ledger
	Now     func() time.Time
	Log     *slog.Logger
}

// Paths of the endpoints, and of the pages, which are package authorize.
const (
	MetadataPath  = "/.well-known/oauth-authorization-server"
	KeysPath      = "/oauth/jwks"
	PushPath      = "/oauth/par"
	TokenPath     = "/oauth/token"
	RevokePath    = "/oauth/revoke"
	AuthorizePath = "/oauth/authorize"
)

// New returns what answers at all of these paths but the last.
func New(c Config) http.Handler { panic("not written") }
