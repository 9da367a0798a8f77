// Package grant keeps what apps ask for, and what they were given: requests that were pushed,
// the answers of owners, codes, and the sessions whose tokens apps have.
//
// All is in the database, so that restarts and several processes change nothing. Request URIs,
// codes and tokens rest as keyed hashes. Of two who use the same code or the same refresh token
// at once one gets an ordinary answer and the other an ordinary refusal. What an account's
// sessions end with, such as a new password, ends these too: see db.Tx.EndSessions.
//
// # Who ends a session
//
// Refresh tokens are good once (RFC 9700, 4.14). Who shows one again is refused, and, as far as
// anybody can tell, was robbed, or is the thief. So that ends the session; but only where
//
//   - the one who shows it is the client of the session with its DPoP key and, where the session is
//     bound to one, with its authentication key: anybody else could not have used the token
//     anyhow, and is not to end what an owner has by having seen a token of it. RFC 9700 would
//     have a token revoked that another client shows. To refuse it takes nothing from its owner;
//   - it was exchanged [RaceLasts] ago or longer. Within that time two tabs of one app, or a client that
//     had no answer and asks again, are refused, and whoever came first goes on; so it is where
//     the clock was set back since;
//   - it is one of the 64 of its session that were exchanged last. Any before is unknown.
//
// The same holds for a code that is shown again, where its exchange counts as what opened the
// session. Nothing that is refused for another reason ends a session, but that it is over.
package grant

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/keyring"
)

// An Error is one of OAuth: Name and Description go to the client.
type Error struct{ Name, Description string }

func (e *Error) Error() string { return e.Name + ": " + e.Description }

const (
	authorized = "This request was already authorized"
	rejected   = "This request was already rejected"
)

// Answered says whether a request gets no other answer since the browser that has it open
// answered it before.
func (e *Error) Answered() bool { return e.Description == authorized || e.Description == rejected }

// Errors of requests.
var (
	// ErrUnknown says that there is no such request, or none any more.
	ErrUnknown = errors.New("unknown authorization request")
	// ErrMany says that an address has as many requests under way as it may.
	ErrMany = errors.New("too many authorization requests")
	// ErrOver says that the account takes no proofs of then any more, or does not exist.
	ErrOver = errors.New("sign-in is over")
	// ErrHeld says that the account is in quarantine, and lets no app in.
	ErrHeld = errors.New("account is in quarantine")
)

// Lifetimes are how long what apps have lasts. A session of no time lasts for as long as it
// is refreshed.
type Lifetimes struct {
	Access              time.Duration // an access token
	PublicSession       time.Duration // of a client without a key
	PublicRefresh       time.Duration // a refresh token that is not used
	ConfidentialSession time.Duration
	ConfidentialRefresh time.Duration
	Remembered          time.Duration // an account in a browser
}

// How long these last.
const (
	RequestLasts = 5 * time.Minute
	CodeLasts    = time.Minute
	// RaceLasts is how long after a token was exchanged, or a code, the same once more is not
	// held against the client.
	RaceLasts = 10 * time.Second
	// MaxRequests is how many requests may be under way from one address.
	MaxRequests = 100
	// MaxSessions is how many apps an account may have let in at a time: beyond it the one
	// that was not used for longest ends.
	MaxSessions = 200
	// MaxRemembered is how many accounts a browser remembers.
	MaxRemembered = 10

	challengesLast = 26 * time.Hour // after they were used
	maxRequests    = 20_000         // of all together
	maxConsents    = 500            // of an account
	maxBrowsers    = 100            // that remember an account
)

// Parameters are those of a request that was found to be in order.
type Parameters struct {
	RedirectURI   string `json:"redirect_uri"`
	Scope         string `json:"scope"`
	State         string `json:"state,omitempty"`
	CodeChallenge string `json:"code_challenge"` // S256
	ResponseMode  string `json:"response_mode,omitempty"`
	Prompt        string `json:"prompt,omitempty"`
	LoginHint     string `json:"login_hint,omitempty"`
	UILocales     string `json:"ui_locales,omitempty"` // languages, the ones that the user likes most first
	// MaxAge is how many seconds ago the owner may have proved who they are; nil: any number.
	MaxAge *int64 `json:"max_age,omitempty"`
}

// A Request is one that was pushed.
type Request struct {
	ClientID  string
	ClientKey string // see client.Clients.Authenticate
	DPoPKey   string // thumbprint
	Parameters
	ExpiresAt time.Time

	id []byte
}

// Tokens are what a client gets.
type Tokens struct {
	Access    string
	Refresh   string // "" for none
	Scope     string // what was granted, includes spelled out
	ExpiresIn time.Duration
	DID       syntax.DID
}

// A Session is an app that was let in.
type Session struct {
	ID         []byte
	DID        syntax.DID
	ClientID   string
	ClientName string
	ClientKey  string
	DPoPKey    string
	Scope      string // as it was consented to
	Granted    string // includes spelled out
	CreatedAt  time.Time
	UsedAt     time.Time
	ExpiresAt  time.Time
	Address    string
	Agent      string
}

// Grants are those of this server. It is safe for concurrent use. A browser is the secret
// that it has in its cookie, of which a keyed hash is kept.
type Grants struct {
	DB        *db.DB
	Keys      *keyring.Ring
	Budgets   *budget.Ledger
	Now       func() time.Time
	Rand      io.Reader // a secure source
	Secret    []byte    // signs access tokens, and nothing else
	Issuer    string
	Audience  func() string // of tokens: the DID of this server
	Lifetimes func() Lifetimes
	// Expand spells out the includes of a scope; see permissionset.Sets.
	Expand func(ctx context.Context, scope string) (string, error)
}

// mac is what rests of a secret.
func (g *Grants) mac(purpose, secret string) []byte {
	mac := g.Keys.MAC("oauth "+purpose, []byte(secret))
	return mac[:]
}

// secret is a new one, of so many random bytes, in hexadecimal.
func (g *Grants) secret(prefix string, size int) (string, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(g.Rand, b); err != nil {
		return "", fmt.Errorf("make secret: %w", err)
	}
	return prefix + hex.EncodeToString(b), nil
}

// made says whether a text can be one that secret made: nothing else is looked for.
func made(text, prefix string, size int) bool {
	digits, ok := strings.CutPrefix(text, prefix)
	return ok && len(digits) == 2*size && strings.Trim(digits, "0123456789abcdef") == ""
}

// line is a text that somebody else made up, cut to what is kept of it.
func line(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
	for len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "")
	}
	return text
}

const maxLine = 300 // bytes

// acting says that the account is who acts in ctx, for the record.
func acting(ctx context.Context, did syntax.DID) context.Context {
	return audit.With(ctx, audit.Who{Actor: did.String(), Address: audit.From(ctx).Address})
}
