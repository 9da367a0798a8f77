// Package auth says who a caller is.
//
// Each [xrpc.Authenticator] here is one kind of credential that the methods of
// the server accept. An authenticator that lets a request through leaves what it
// learned in the context; handlers read it with [Caller], [RefreshToken] and
// [Issuer], which panic where no such authenticator ran: a wrong policy must
// never look like an anonymous caller.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
	"portico/impl/budget"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/scope"
)

// Gate makes the authenticators of one server.
type Gate struct {
	DB            *db.DB
	Budgets       *budget.Ledger
	Now           func() time.Time
	Tokens        *token.Issuer
	Services      *serviceauth.Verifier
	AdminPassword func() string // at the moment
	// ModService is the DID whose service tokens moderate; "" for none.
	ModService syntax.DID
	// Proofs and Grants are for apps that accounts let in by OAuth; without Grants there are
	// none.
	Proofs *dpop.Verifier
	Grants *grant.Grants

	once   sync.Once
	scopes *lru.Cache[string, scope.Set] // as they were read
}

// A Principal is the account behind a session token, or behind the token of an app.
type Principal struct {
	DID   syntax.DID
	Scope token.Scope // "" for an app
	App   *App        // nil for a session token
	// Account is nil when it no longer exists: the token outlived it.
	Account *db.Account

	issued time.Time // the token
}

// StillSignedIn returns the answer to a token that is over by now, where a is the
// caller's account and locked. A body may come in slowly, long after its token was
// looked at: what gives a caller a way in that outlives the token asks once more.
func (p Principal) StillSignedIn(a *db.Account) error {
	if p.issued.Before(a.TokensValidFrom) {
		return xrpc.ExpiredToken("Token has expired")
	}
	return nil
}

// ByApp reports whether not the owner of the account acts but an app, which has an app
// password or was let in by OAuth.
func (p Principal) ByApp() bool {
	return p.App != nil || p.Scope == token.AppPass || p.Scope == token.AppPassPrivileged
}

// Payer pays for what the session causes: the account, or its apps where it was opened
// with an app password or is an app's.
func (p Principal) Payer() budget.Payer {
	if token.Full.Has(p.Scope) {
		return budget.Account(p.DID)
	}
	return budget.App(p.DID)
}

type contextKey int

const (
	principalKey contextKey = iota
	refreshKey
	issuerKey
	readingKey
	moderatesKey
	presentedKey
)

// Caller returns the account behind the access token of the request.
func Caller(ctx context.Context) Principal {
	p, ok := SignedIn(ctx)
	if !ok {
		panic("auth: the method's policy leaves no caller in the context")
	}
	return p
}

// SignedIn is [Caller] where the policy of the method may let callers in that have no
// access token: those are not.
func SignedIn(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey).(*Principal)
	if !ok {
		return Principal{}, false
	}
	return *p, true
}

// signedIn is a context with the caller in it. The two are one piece of memory, unlike those
// of context.WithValue.
type signedIn struct {
	context.Context
	caller Principal
}

func (s *signedIn) Value(key any) any {
	if key == principalKey {
		return &s.caller
	}
	return s.Context.Value(key)
}

// RefreshToken returns the refresh token of the request.
func RefreshToken(ctx context.Context) token.Claims { return must[token.Claims](ctx, refreshKey) }

// Issuer returns the DID that signed the service token of the request, or "" for
// an anonymous caller. Where a service of that DID signed, its fragment follows, so
// that it equals no account's.
func Issuer(ctx context.Context) syntax.DID { return must[syntax.DID](ctx, issuerKey) }

func must[T any](ctx context.Context, key contextKey) T {
	v, ok := ctx.Value(key).(T)
	if !ok {
		panic(fmt.Sprintf("auth: the method's policy leaves no %T in the context", v))
	}
	return v
}

// Names of the protocol that no lexicon declares.
var (
	errAuthMissing     = xrpc.Undeclared("AuthMissing")
	errMissingTokenID  = xrpc.Undeclared("MissingTokenId")
	errMissingJWT      = xrpc.Undeclared("MissingJwt")
	errAccountNotFound = xrpc.Undeclared("AccountNotFound")
	errTakedown        = xrpc.Undeclared("AccountTakedown")
	errDeactivated     = xrpc.Undeclared("AccountDeactivated")
)

func authMissing() error {
	return errAuthMissing.New(http.StatusUnauthorized, "Authentication Required")
}

// AccountNotFound is the answer to a token whose account is gone.
func AccountNotFound() error {
	return errAccountNotFound.New(http.StatusForbidden, "Account not found")
}

// scheme is the type of an Authorization header.
type scheme string

const (
	none   scheme = ""
	basic  scheme = "basic"
	bearer scheme = "bearer"

	proving scheme = "dpop"
)

// credential splits the Authorization header (contract §2.3).
func credential(c *xrpc.Call) (scheme, string, error) {
	header := c.Request.Header.Get("Authorization")
	if header == "" {
		return none, "", nil
	}
	kind, rest, ok := strings.Cut(header, " ")
	if !ok || strings.Contains(rest, " ") {
		return none, "", xrpc.InvalidToken("Malformed authorization header")
	}
	if kind == "Bearer" { // as clients write it
		return bearer, rest, nil
	}
	switch s := scheme(strings.ToLower(kind)); s {
	case basic, bearer, proving:
		return s, rest, nil
	}
	return none, "", xrpc.InvalidToken("Unsupported authorization type: " + kind)
}

// Session accepts access tokens with one of scopes, and those of apps. Of accounts that are
// taken down there are none of apps.
func (g *Gate) Session(scopes token.Scopes, apps Apps, checks ...Check) xrpc.Authenticator {
	return &session{g, scopes, apps, checks}
}

// A Check is a demand on the account behind a token.
type Check int

const (
	// Exists demands that the account has not been deleted.
	Exists Check = iota
	// NotTakenDown demands Exists, and that no moderator has taken it down.
	NotTakenDown
	// NotDeactivated demands Exists, and that its owner has not deactivated it.
	NotDeactivated
	// NotHeld demands that it is not held in quarantine: what the method does would leave it.
	NotHeld
)

func (c Check) String() string {
	return [...]string{"exists", "not taken down", "not deactivated", "not in quarantine"}[c]
}

// Verify returns the answer to somebody whose account does not meet c; a may be nil, for
// none.
func (c Check) Verify(a *db.Account) error {
	switch {
	case c == NotHeld:
		if a != nil && a.Held() {
			return Quarantined()
		}
	case a == nil:
		return AccountNotFound()
	case c == NotTakenDown && a.TakenDown():
		return errTakedown.New(http.StatusUnauthorized, "Account has been taken down")
	case c == NotDeactivated && a.Deactivated():
		return errDeactivated.New(http.StatusUnauthorized, "Account is deactivated")
	}
	return nil
}

// Active returns the answer to somebody who wants what only active accounts have; a may be
// nil, for none.
func Active(a *db.Account) error {
	for _, c := range []Check{Exists, NotTakenDown, NotDeactivated} {
		if err := c.Verify(a); err != nil {
			return err
		}
	}
	return nil
}

type session struct {
	gate   *Gate
	scopes token.Scopes
	apps   Apps
	checks []Check
}

func (s *session) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "session(%s; app: %s)", s.scopes, s.apps)
	for _, c := range s.checks {
		fmt.Fprintf(&b, ", %s", c)
	}
	return b.String()
}

func (s *session) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	kind, text, err := credential(c)
	if err != nil {
		return nil, err
	}
	c.Private()
	p, err := s.verify(ctx, c, kind, text)
	if err != nil {
		return nil, err
	}
	return &signedIn{p.acting(ctx, c), p}, nil
}

// verify returns who calls.
func (s *session) verify(ctx context.Context, c *xrpc.Call, kind scheme, text string) (Principal, error) {
	switch kind {
	case bearer:
		return s.signedIn(ctx, text)
	case proving:
		return s.app(ctx, c, text)
	case none:
		return Principal{}, authMissing()
	}
	return Principal{}, xrpc.InvalidToken("Unexpected authorization type")
}

// signedIn returns whose access token a text is.
func (s *session) signedIn(ctx context.Context, text string) (Principal, error) {
	access, err := s.gate.Tokens.VerifyAccess(text, s.scopes)
	if errors.Is(err, token.ErrUnverifiable) && claims(text, "cnf") {
		return Principal{}, xrpc.InvalidToken("Malformed token") // an app's, without its proof
	}
	if err != nil {
		return Principal{}, tokenError(err)
	}
	p := Principal{DID: access.DID, Scope: access.Scope, issued: access.IssuedAt}
	p.Account, err = s.gate.account(ctx, access.DID)
	if err != nil {
		return Principal{}, err
	}
	if p.Account != nil {
		if err := p.StillSignedIn(p.Account); err != nil {
			return Principal{}, err
		}
	}
	for _, check := range s.checks {
		if err := check.Verify(p.Account); err != nil {
			return Principal{}, err
		}
	}
	return p, nil
}

// account is the account of did, or nil when there is none.
func (g *Gate) account(ctx context.Context, did syntax.DID) (*db.Account, error) {
	a, err := g.DB.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find account of token: %w", err)
	}
	return a, nil
}

// Refresh accepts refresh tokens.
func (g *Gate) Refresh() xrpc.Authenticator { return &refresh{gate: g} }

// SpentRefresh accepts refresh tokens even when their time is over, for signing
// out with one.
func (g *Gate) SpentRefresh() xrpc.Authenticator { return &refresh{gate: g, spent: true} }

type refresh struct {
	gate  *Gate
	spent bool
}

func (r *refresh) String() string {
	if r.spent {
		return "refresh token, expired ones too"
	}
	return "refresh token"
}

func (r *refresh) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	c.Private() // of a header that can't be read too, unlike elsewhere
	kind, text, err := credential(c)
	if err != nil {
		return nil, err
	}
	if kind != bearer {
		return nil, authMissing()
	}
	verify := r.gate.Tokens.VerifyRefresh
	if r.spent {
		verify = r.gate.Tokens.VerifyRefreshAnyTime
	}
	claims, err := verify(text)
	if err != nil {
		return nil, tokenError(err)
	}
	return context.WithValue(acting(ctx, c, claims.DID.String()), refreshKey, claims), nil
}

// tokenError is the answer to a session token that did not verify.
func tokenError(err error) error {
	switch {
	case errors.Is(err, token.ErrMissing):
		return authMissing()
	case errors.Is(err, token.ErrExpired):
		return xrpc.ExpiredToken("Token has expired")
	case errors.Is(err, token.ErrMalformed):
		return xrpc.InvalidToken("Malformed token")
	case errors.Is(err, token.ErrScope):
		return xrpc.InvalidToken("Bad token scope")
	case errors.Is(err, token.ErrMissingID):
		return errMissingTokenID.New(http.StatusUnauthorized, "Unexpected missing refresh token id")
	default:
		return xrpc.InvalidToken("Token could not be verified")
	}
}
