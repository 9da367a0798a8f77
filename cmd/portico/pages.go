package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/host/proof"
	"portico/impl/owner"
)

// pages are the routes beside XRPC.
type pages struct {
	settings func() *settings // at the moment
	accounts accountFinder
	domains  domainReader
	names    nameReader
	proof    func(challenge string) []byte // see package proof
	console  http.Handler                  // nil: it is not on the public origin
}

// accountFinder is [account.Accounts].
type accountFinder interface {
	ShownByHandle(ctx context.Context, h syntax.Handle) (*db.Account, error)
}

type domainReader interface {
	Current(ctx context.Context) *handle.Domains
}

type nameReader interface {
	State(ctx context.Context) *host.State
}

const banner = `
  ___  ___  ___ _____ ___ ___ ___
 | _ \/ _ \| _ \_   _|_ _/ __/ _ \
 |  _/ (_) |   / | |  | | (_| (_) |
 |_|  \___/|_|_\ |_| |___\___\___/

This is an AT Protocol Personal Data Server (aka, an atproto PDS)

Most API routes are under /xrpc/

    Protocol: https://atproto.com
`

// atprotoDID is the page by which a handle is proven.
const atprotoDID = "/.well-known/atproto-did"

func (p *pages) register(e *echo.Echo) error {
	home, err := p.home()
	if err != nil {
		return err
	}
	e.Pre(p.handleHosts, p.prove)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", home, vary)
		e.Add(method, "/robots.txt", text("# Hello!\n\n# Crawling the public API is allowed\nUser-agent: *\nAllow: /"), vary)
		e.Add(method, "/.well-known/did.json", p.didDocument, vary)
		e.Add(method, atprotoDID, p.handle, vary)
		e.Add(method, "/.well-known/oauth-protected-resource", p.protectedResource, vary)
		e.Add(method, changePassword, p.changePassword, vary)
		e.Add(method, "/tls-check", p.tlsCheck, vary)
	}
	p.consoleRoutes(e)
	return nil
}

// home answers at /: browsers get a page, everybody else the text that servers of the
// protocol have there.
func (p *pages) home() (echo.HandlerFunc, error) {
	draw := func(s *settings) (*drawnHome, error) {
		page, policy, err := drawPage("home.html", struct {
			ServiceName, Address, PrivacyPolicyURL, TermsOfServiceURL, ContactEmail, Version string
			Development                                                                      bool
		}{s.ServiceName, s.PublicURL.Host, s.PrivacyPolicyURL, s.TermsOfServiceURL, s.ContactEmail, s.Version, s.Development})
		if err != nil {
			return nil, err
		}
		return &drawnHome{s, file("text/html; charset=utf-8", policy, page)}, nil
	}
	first, err := draw(p.settings())
	if err != nil {
		return nil, err
	}
	var kept atomic.Pointer[drawnHome]
	kept.Store(first)
	return func(c echo.Context) error {
		c.Response().Header().Set("Vary", "Accept, Accept-Encoding")
		if !strings.Contains(strings.ToLower(c.Request().Header.Get("Accept")), "text/html") {
			return plain(c, banner)
		}
		home, now := kept.Load(), p.settings()
		if home.of != now {
			var err error
			if home, err = draw(now); err != nil {
				return err
			}
			kept.Store(home)
		}
		return home.html(c)
	}, nil
}

// drawnHome is the first page as some settings make it.
type drawnHome struct {
	of   *settings
	html echo.HandlerFunc
}

// handleHosts keeps all but one page from the hosts that are people's handles. Those
// are not this server: what a browser keeps for one, or lets it do, belongs to that
// person's name. The host that clients know the server by is never one of them, and
// neither is any other that is under no domain of handles.
//
// Who asks any of them with a challenge whether it is this server is answered: the name
// that the server is to have may be one under a domain of handles.
//
// While the server moves to another name, who reads a page under the handle that somebody
// had is sent to the one that they have. Not for good: the move may be turned back, and
// browsers keep what they are told is for good.
func (p *pages) handleHosts(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		name := hostName(xrpc.CallFrom(r.Context()).Host())
		if r.URL.Path == atprotoDID || challengeOf(r) != "" || strings.EqualFold(name, p.settings().Hostname) || strings.EqualFold(name, "localhost") ||
			!p.domains.Current(r.Context()).Ours(name) || p.names.State(r.Context()).Host(name) {
			return next(c)
		}
		uncached(c)
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			if a, err := p.accounts.ShownByHandle(r.Context(), syntax.Handle(name)); err == nil && a.Active() && a.Handle != "" && a.Handle.String() != name {
				return c.Redirect(http.StatusTemporaryRedirect, "https://"+a.Handle.String()+r.URL.RequestURI())
			}
		}
		return echo.ErrNotFound
	}
}

// prove answers the challenge of who wants to know whether a host leads to this server.
func (p *pages) prove(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if answer := proof.Sign(p.proof, challengeOf(c.Request())); answer != "" {
			c.Response().Header().Set(proof.Answer, answer)
		}
		return next(c)
	}
}

// challengeOf is the challenge of a request that asks for a proof, else "".
func challengeOf(r *http.Request) string {
	if r.Method != http.MethodGet || r.URL.Path != proof.Path {
		return ""
	}
	return r.Header.Get(proof.Challenge)
}

// uncached keeps caches from giving to others what is answered by the name of a host,
// which whoever asks through a proxy may be able to choose beside the URL.
func uncached(c echo.Context) { c.Response().Header().Set("Cache-Control", "no-store") }

// vary tells caches that an answer may come compressed, by a proxy if not from here.
func vary(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set("Vary", "Accept-Encoding")
		return next(c)
	}
}

func text(s string) echo.HandlerFunc {
	return func(c echo.Context) error { return plain(c, s) }
}

func plain(c echo.Context, s string) error {
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", []byte(s))
}

func object(c echo.Context, v any) error {
	c.Response().Header().Set("Content-Type", "application/json; charset=utf-8")
	return c.JSON(http.StatusOK, v)
}

// didDocument is the document of the service's own did:web. It is made from the
// configuration, and the name that the server had or is to have: a Host header must not
// decide what this server's identity says, but which of its names is asked for. Another
// server's did:web, or a did:plc, is not ours to serve.
func (p *pages) didDocument(c echo.Context) error {
	s := p.settings()
	did := s.ServiceDID.String()
	// The names of a move are few, known, and proven to be this server's.
	name := hostName(xrpc.CallFrom(c.Request().Context()).Host())
	if implied := host.ServiceDID(name); slices.Contains(p.names.State(c.Request().Context()).Audiences(), implied) {
		uncached(c)
		did = implied
	} else if did != "did:web:"+s.Hostname {
		return echo.ErrNotFound
	}
	return object(c, map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1"},
		"id":       did,
		"service": []map[string]string{{
			"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": s.PublicURL.String(),
		}},
	})
}

// protectedResource describes this server as what OAuth tokens are for (RFC 9728), and names
// itself as who gives them.
func (p *pages) protectedResource(c echo.Context) error {
	return object(c, struct {
		Resource      string   `json:"resource"`
		Servers       []string `json:"authorization_servers"`
		Scopes        []string `json:"scopes_supported"`
		Methods       []string `json:"bearer_methods_supported"`
		Documentation string   `json:"resource_documentation"`
	}{
		Resource:      p.settings().PublicURL.String(),
		Servers:       []string{p.settings().PublicURL.String()},
		Scopes:        []string{},
		Methods:       []string{"header"},
		Documentation: "https://atproto.com",
	})
}

// changePassword is where password managers send people who want another password.
const changePassword = "/.well-known/change-password"

func (p *pages) changePassword(c echo.Context) error {
	return c.Redirect(http.StatusFound, p.settings().PublicURL.String()+owner.Path+"/password")
}

// handle answers whose handle the host name of the request is.
func (p *pages) handle(c echo.Context) error {
	uncached(c)
	name := hostName(xrpc.CallFrom(c.Request().Context()).Host())
	// A host that is under a domain which was removed is not asked about here.
	if domains := p.domains.Current(c.Request().Context()); !domains.Ours(name) && !domains.Root(name) {
		return notFound(c)
	}
	a, err := p.accounts.ShownByHandle(c.Request().Context(), syntax.Handle(name))
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && !a.Active():
		return notFound(c)
	case err != nil:
		return err
	}
	return plain(c, a.DID.String())
}

// tlsCheck tells a proxy that makes certificates when they are asked for whether a host
// name is one to get one for: the server's, or a handle that somebody has here. Without
// it, who makes up names makes certificates. Operators' proxies ask the reference's
// installation the same.
func (p *pages) tlsCheck(c echo.Context) error {
	ctx, name := c.Request().Context(), hostName(c.QueryParam("domain"))
	domains := p.domains.Current(ctx)
	switch {
	case name == "":
		return xrpc.InvalidRequest("bad or missing domain query param")
	case name == strings.ToLower(p.settings().Hostname), p.names.State(ctx).Host(name):
		return object(c, map[string]bool{"success": true})
	case !domains.Ours(name):
		return xrpc.InvalidRequest("handles are not provided on this domain")
	}
	a, err := p.accounts.ShownByHandle(ctx, syntax.Handle(name))
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && !a.Active():
		return errNoHandle.New(http.StatusNotFound, "handle not found for this domain")
	case err != nil:
		return err
	}
	return object(c, map[string]bool{"success": true})
}

// hostName is the name of a host as handles are written: in lower case, without the dot
// that says that it is the whole name.
func hostName(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

var errNoHandle = xrpc.Undeclared("NotFound")

func notFound(c echo.Context) error {
	return c.Blob(http.StatusNotFound, "text/html; charset=utf-8", []byte("User not found"))
}
