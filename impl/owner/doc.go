// Package owner is the pages for the people who have accounts here, /account, and for those
// who were sent an invite, /invite/CODE.
//
// Owners see who is signed in to their account, end sessions, make app passwords, change what
// they have here, take it with them, and leave. All of it is done by the methods that apps
// call, with their budgets and in their words. What changes something asks for the password,
// and for the emailed code of those who want one, unless it was given within [ProofLasts]; an
// app password opens nothing here. Who is taken down can read why the pages are closed, take
// the data along, and deactivate.
package owner

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	identityapi "portico/api/atproto/identity"
	api "portico/api/atproto/server"
	syncapi "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/factor"
	"portico/impl/account/token"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/oauth/grant"
	"portico/impl/page"
	"portico/impl/page/signin"
)

// How long things last. Browsers forget the cookie when they are closed, too.
const (
	// ProofLasts is how long after the password was given changes do not ask for it again.
	ProofLasts  = 10 * time.Minute
	sessionIdle = 7 * 24 * time.Hour
	sessionLife = 30 * 24 * time.Hour
	// maxBrowsers is how many browsers may be signed in to an account.
	maxBrowsers = 20
)

// Paths below which the pages are.
const (
	Path       = "/account"
	InvitePath = "/invite"
)

// Config is what the pages are made of.
type Config struct {
	Origin      string // of the server, as browsers see it
	ServiceName string
	Contact     string // an email address of the operator, "" for none
	SendsMail   bool
	// Methods answers XRPC, see [page.Inside].
	Methods http.Handler

	DB      *db.DB
	Keys    *keyring.Ring
	Tokens  *token.Issuer
	Budgets *budget.Ledger
	Factors *factor.Factors
	Grants  *grant.Grants // nil: apps are not let in
	Now     func() time.Time
	Rand    io.Reader
	Log     *slog.Logger
}

type owner struct {
	Config
	site    *page.Site
	methods *signin.Methods
}

//go:embed files
var files embed.FS

// New makes the pages. They answer at and below [Path] and [InvitePath].
func New(c Config) (http.Handler, error) {
	inner, err := fs.Sub(files, "files")
	if err != nil {
		return nil, err
	}
	o := &owner{Config: c, methods: &signin.Methods{
		Origin: c.Origin, HTTP: page.Inside(c.Methods), Keys: c.Keys, Tokens: c.Tokens, Now: c.Now, Factors: c.Factors,
	}}
	nav := []page.Link{
		{Path: Path, Text: "Account"}, {Path: "/account/sessions", Text: "Sessions"}, {Path: appsPath, Text: "Apps"}, {Path: "/account/app-passwords", Text: "App passwords"},
		{Path: "/account/email", Text: "Email"}, {Path: "/account/password", Text: "Password"}, {Path: securityPath, Text: "Security"}, {Path: "/account/handle", Text: "Handle"},
		{Path: "/account/data", Text: "Data"}, {Path: "/account/close", Text: "Close"},
	}
	if c.Grants == nil {
		nav = slices.DeleteFunc(nav, func(l page.Link) bool { return l.Path == appsPath })
	}
	o.site, err = page.New(page.Config{
		Name: "account", Origins: []string{c.Origin}, Title: c.ServiceName, Home: Path, Files: inner, Log: c.Log,
		Funcs: template.FuncMap{"is": func(b *bool) bool { return b != nil && *b }},
		Nav:   nav,
		Sessions: &page.Sessions{
			DB: c.DB, Keys: c.Keys, Now: c.Now, Rand: c.Rand, Kind: db.BrowserOfAccount, Idle: sessionIdle, Life: sessionLife, Most: maxBrowsers,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("pages of accounts: %w", err)
	}
	o.signIns()
	o.overview()
	o.sessions()
	if c.Grants != nil {
		o.apps()
	}
	o.appPasswords()
	o.email()
	o.password()
	o.security()
	o.handle()
	o.data()
	o.closing()
	o.invites()
	return o.site, nil
}

// server, names and repo call methods as the account that v is signed in to.
func (o *owner) server(v *page.Visit) *api.Client { return &api.Client{Client: o.client(v)} }
func (o *owner) names(v *page.Visit) *identityapi.Client {
	return &identityapi.Client{Client: o.client(v)}
}
func (o *owner) repo(v *page.Visit) *syncapi.Client { return &syncapi.Client{Client: o.client(v)} }

func (o *owner) client(v *page.Visit) xrpc.Client { return o.methods.As(o.methods.Bearer(v.Account)) }

// show puts a page for those who are signed in on the site. Others are sent to sign in.
func (o *owner) show(path string, f func(v *page.Visit) error) {
	o.site.Handle("GET "+path, func(v *page.Visit) error {
		if v.Session == nil || closed(v, path) {
			return v.Redirect(Path)
		}
		return f(v)
	})
}

// closed says whether a page is not for the account of v, which is taken down: its methods
// would refuse everything.
func closed(v *page.Visit, path string) bool {
	return v.Account.TakenDown() && !strings.HasPrefix(path, "/account/data") && path != "/account/close" && path != "/account/deactivate"
}

// change puts what a form does on the site, for those who are signed in and have proved
// lately that it is they who are.
func (o *owner) change(path string, f func(v *page.Visit) error) {
	o.site.Handle("POST "+path, func(v *page.Visit) error {
		if v.Session == nil {
			v.Say("You are not signed in any more.")
			return v.Redirect(Path)
		}
		if closed(v, path) {
			return v.Redirect(Path)
		}
		if ok, err := o.proved(v); !ok || err != nil {
			return err
		}
		return f(v)
	})
}

// told lets form show a refusal; any other error is nobody's business.
func told(err error, form func(status int, message string) error) error {
	refusal := page.Refused(err)
	if refusal == nil {
		return err
	}
	return form(refusal.Status, refusal.Message)
}

// done says what was done, and goes on with a path.
func done(v *page.Visit, path, message string) error {
	v.Say(message)
	return v.Redirect(path)
}

// account is the account of v as it is now: methods have changed it meanwhile.
func (o *owner) account(v *page.Visit) (*db.Account, error) {
	a, err := o.DB.ReadAccount(v.Context(), v.Account.DID)
	if err == nil {
		v.Account = a
	}
	return a, err
}

// handleOf is the handle of an account as it is shown, the DID where it has none.
func handleOf(a *db.Account) string {
	if a.Handle == "" || a.Handle == syntax.HandleInvalid {
		return a.DID.String()
	}
	return "@" + a.Handle.String()
}
