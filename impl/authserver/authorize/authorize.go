// Package authorize is the pages at /oauth/authorize, where people let apps into their
// accounts: they sign in or sign up, choose an account, read what the app wants to do, and
// allow or deny it.
//
// All that package page promises of pages holds. Passwords, codes and new accounts go through
// the methods that clients call, with their budgets. Nothing is redirected to before client
// and redirect URI are known to belong together; an app that the operator does not trust is
// shown by its address alone.
package authorize

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"portico/db"
	"portico/impl/account/token"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/oauth/client"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
)

// Config is what the pages are made of.
type Config struct {
	Origin      string // of the server, as browsers see it, and the issuer
	ServiceName string
	// Methods answers XRPC, see page.Inside.
	Methods http.Handler

	Clients *client.Clients
	Grants  *grant.Grants
	Sets    *permissionset.Sets

	DB      *db.DB
	Keys    *keyring.Ring
	Tokens  *token.Issuer
	Budgets *budget.Ledger
	Now     func() time.Time
	Rand    io.Reader
	Log     *slog.Logger
}

// Path is where the pages begin.
const Path = "/oauth/authorize"

// New makes the pages.
func New(c Config) (http.Handler, error) { panic("not written") }
