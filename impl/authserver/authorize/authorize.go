// Package authorize is the pages at /oauth/authorize, where people let apps into their
// accounts: they sign in or sign up, choose an account, read what the app wants to do, and
// allow or deny it.
//
// All that package page promises of pages holds. Passwords, codes and new accounts go through
// the methods that clients call, with their budgets. Nothing is redirected to before client
// and redirect URI are known to belong together; an app that the operator does not trust is
// shown by its address alone.
//
// Who signs in without having the browser remember it is signed in for the one request: what
// says so is sealed into the forms of its pages, for this browser and this request, and good
// for a quarter of an hour. What is remembered proves who somebody is, but for what is grave.
package authorize

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/token"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/oauth/client"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/scope"
	"portico/impl/page"
	"portico/impl/page/signin"
	"portico/impl/page/words"
)

// Config is what the pages are made of.
type Config struct {
	Origin      string // of the server, as browsers see it, and the issuer
	ServiceName string
	SendsMail   bool
	Branding    page.Branding
	Captcha     *Captcha // at sign-up; nil: none
	// Methods answers XRPC, see page.Inside.
	Methods http.Handler

	Clients Clients
	Grants  Grants
	Sets    Sets

	DB      *db.DB
	Keys    *keyring.Ring
	Factors *factor.Factors // nil: no passkeys
	Tokens  *token.Issuer
	Budgets *budget.Ledger
	Now     func() time.Time
	Rand    io.Reader
	Log     *slog.Logger
}

// A Captcha has people show that they are none of many machines: hCaptcha's, which runs in their
// browser, and answers something that Verify finds good or not.
type Captcha struct {
	SiteKey string
	Verify  func(ctx context.Context, answer string, caller netip.Addr) (bool, error)
}

// Clients find apps: [client.Clients].
type Clients interface {
	Find(ctx context.Context, id string) (*client.Client, error)
}

// Grants keep what apps ask for, and what browsers remember: [grant.Grants].
type Grants interface {
	Open(ctx context.Context, uri, clientID string, browser []byte) (*grant.Request, error)
	Approve(ctx context.Context, r *grant.Request, browser []byte, a grant.Answer) (code string, err error)
	Reject(ctx context.Context, r *grant.Request, browser []byte) error
	Consented(ctx context.Context, did syntax.DID, clientID, scope, granted string) (bool, error)
	Remembered(ctx context.Context, browser []byte) ([]grant.Remembered, error)
	Remember(ctx context.Context, browser []byte, did syntax.DID, proved time.Time, address, agent string) error
	Forget(ctx context.Context, browser []byte, did syntax.DID) error
	Move(ctx context.Context, from, to []byte) error
}

// Sets find what scopes include: permissionset.Sets.
type Sets interface {
	All(ctx context.Context, scope string) (map[syntax.NSID]*scope.PermissionSet, error)
	Expand(ctx context.Context, scope string) (string, error)
}

// Path is where the pages begin.
const Path = "/oauth/authorize"

const (
	// rememberedProves is how long a remembered account needs no other proof at most: that of
	// the longest for which accounts can be remembered.
	rememberedProves = 30 * 24 * time.Hour
	// keepsCookie is how long browsers keep their cookie that remember an account: longer than
	// any account is remembered.
	keepsCookie = 400 * 24 * time.Hour
)

type authorize struct {
	Config
	site    *page.Site
	methods *signin.Methods
}

//go:embed all:files
var files embed.FS

// script goes on at once where a page carries an answer to an app. The page is not kept in the
// history: who goes back comes to the one before.
const script = `'use strict';
document.querySelector('form[data-now]')?.submit();
{
  const back = document.querySelector('a[data-now]');
  if (back) location.replace(back.href);
}
`

// New makes the pages. They answer at and below [Path].
func New(c Config) (http.Handler, error) {
	inner, err := fs.Sub(files, "files")
	if err != nil {
		return nil, err
	}
	style, err := fs.ReadFile(inner, "authorize.css")
	if err != nil {
		return nil, err
	}
	a := &authorize{Config: c, methods: &signin.Methods{
		Origin: c.Origin, HTTP: page.Inside(c.Methods), Keys: c.Keys, Tokens: c.Tokens, Factors: c.Factors, Now: c.Now,
	}}
	a.site, err = page.New(page.Config{
		Name: "authorize", Origins: []string{c.Origin}, Title: c.ServiceName, Home: "/account", Files: inner, Log: c.Log,
		Branding: c.Branding, Languages: words.Languages, Style: string(style), Script: script,
		Sessions: &page.Sessions{Keys: c.Keys, Now: c.Now, Rand: c.Rand, Kind: "authorize"},
	})
	if err != nil {
		return nil, fmt.Errorf("pages where apps are let in: %w", err)
	}
	a.site.Handle("GET "+Path, a.arrive)
	for name, f := range map[string]func(q *ask) error{
		"sign-in": (*ask).signIn, "code": (*ask).signIn, "sign-up": (*ask).signUp, "reset-request": (*ask).requestReset, "reset": (*ask).reset,
		"choose": (*ask).choose, "forget": (*ask).forget, "allow": (*ask).allow, "deny": (*ask).deny, "confirm": (*ask).confirm,
	} {
		a.site.Handle("POST "+Path+"/"+name, a.asked(f))
	}
	return a.site, nil
}
