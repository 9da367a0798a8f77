// Package grant keeps what apps ask for, and what they were given: requests that were pushed,
// the answers of owners, codes, and the sessions whose tokens apps have.
//
// All is in the database, so that restarts and several processes change nothing. Request URIs,
// codes and tokens rest as keyed hashes. Of two who use the same code or the same refresh token
// at once one gets an ordinary answer and the other an ordinary refusal. What an account's
// sessions end with, such as a new password, ends these too: see db.Tx.EndSessions.
package grant

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/budget"
	"portico/impl/keyring"
)

// An Error is one of OAuth: Name and Description go to the client.
type Error struct{ Name, Description string }

func (e *Error) Error() string { return e.Name + ": " + e.Description }

// Errors of requests.
var (
	// ErrUnknown says that there is no such request, or none any more.
	ErrUnknown = errors.New("unknown authorization request")
	// ErrMany says that an address has as many requests under way as it may.
	ErrMany = errors.New("too many authorization requests")
	// ErrOver says that the account takes no proofs of then any more, or does not exist.
	ErrOver = errors.New("sign-in is over")
)

// Lifetimes are how long what apps have lasts.
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
	// MaxRequests is how many requests may be under way from one address.
	MaxRequests = 100
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

// Grants are those of this server. It is safe for concurrent use.
type Grants struct {
	DB        *db.DB
	Keys      *keyring.Ring
	Budgets   *budget.Ledger
	Now       func() time.Time
	Rand      io.Reader
	Secret    []byte // signs access tokens, and nothing else
	Issuer    string
	Audience  func() string // of tokens: the DID of this server
	Lifetimes func() Lifetimes
	// Expand spells out the includes of a scope; see permissionset.Sets.
	Expand func(ctx context.Context, scope string) (string, error)
}

// Push keeps a request, which payer pays for, for [RequestLasts], and returns its URI. It
// returns ErrMany.
func (g *Grants) Push(ctx context.Context, payer budget.Payer, r Request) (uri string, err error) {
	panic("not written")
}

// Open returns a request for a browser, which is the only one that may answer it from then on:
// the first that opens it. It returns an [*Error] where the client may be told, with the request: it has
// expired, was pushed by another client, is open in another browser or was answered; none of
// that changes anything. Else it returns ErrUnknown.
func (g *Grants) Open(ctx context.Context, uri, clientID string, browser []byte) (*Request, error) {
	panic("not written")
}

// An Answer is an owner's consent.
type Answer struct {
	DID            syntax.DID
	ProvedAt       time.Time // when they proved who they are
	Scope          string    // what they consent to, at most what was asked for
	Granted        string    // what that was, spelled out, when they saw it
	Remember       bool      // what was consented to, for the next time
	ClientName     string
	Address, Agent string
}

// Approve answers a request that browser opened, and returns the code for the client. It
// returns an [*Error] when it was answered or is over, and ErrOver.
func (g *Grants) Approve(ctx context.Context, r *Request, browser []byte, a Answer) (code string, err error) {
	panic("not written")
}

// Reject answers a request that browser opened: nothing comes of it. One that was answered is
// no error.
func (g *Grants) Reject(ctx context.Context, r *Request, browser []byte) error { panic("not written") }

// An Exchange is who wants tokens.
type Exchange struct {
	ClientID, ClientKey, DPoPKey string
	Confidential                 bool
	Refreshes                    bool // the client registered refresh_token
}

// Redeem exchanges a code. It returns an [*Error].
func (g *Grants) Redeem(ctx context.Context, x Exchange, code, redirectURI, verifier string) (*Tokens, error) {
	panic("not written")
}

// Refresh exchanges a refresh token (§6.3). It returns an [*Error].
func (g *Grants) Refresh(ctx context.Context, x Exchange, refresh string) (*Tokens, error) {
	panic("not written")
}

// Revoke ends the session of a token of any kind, if it is the client's (§6.4). It says nothing
// else of it.
func (g *Grants) Revoke(ctx context.Context, clientID, token string) error { panic("not written") }

// Verify returns the session of an access token, which has to be bound to the DPoP key of that
// thumbprint. It returns an [*Error] named invalid_token. It costs one row read.
func (g *Grants) Verify(ctx context.Context, token, dpopKey string) (*Session, error) {
	panic("not written")
}

// Sessions are those of an account, the newest first.
func (g *Grants) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	panic("not written")
}

// End ends a session of an account, and what its owner consented to for that client. One that is over is no error.
func (g *Grants) End(ctx context.Context, did syntax.DID, id []byte) error { panic("not written") }

// Once notes that something with this id was used, and says false if it had been before. It is
// remembered until then, also by other processes and after a restart.
func (g *Grants) Once(ctx context.Context, id []byte, until time.Time) (bool, error) {
	panic("not written")
}

// Consented says whether the owner allowed the client all of this before: scope, and what it
// is spelled out.
func (g *Grants) Consented(ctx context.Context, did syntax.DID, clientID, scope, granted string) (bool, error) {
	panic("not written")
}

// A Remembered account is one that signed in with a browser before.
type Remembered struct {
	DID      syntax.DID
	ProvedAt time.Time
}

// Remembered are the accounts that a browser remembers, those proved last first.
func (g *Grants) Remembered(ctx context.Context, browser []byte) ([]Remembered, error) {
	panic("not written")
}

// Remember lets a browser remember an account, at most 10 of them. It returns ErrOver.
func (g *Grants) Remember(ctx context.Context, browser []byte, did syntax.DID, proved time.Time, address, agent string) error {
	panic("not written")
}

// Forget is the opposite of Remember.
func (g *Grants) Forget(ctx context.Context, browser []byte, did syntax.DID) error {
	panic("not written")
}

// Move gives another browser all that one has: requests that it opened, accounts that it
// remembers. The cookie of a browser changes when somebody signs in.
func (g *Grants) Move(ctx context.Context, from, to []byte) error { panic("not written") }
