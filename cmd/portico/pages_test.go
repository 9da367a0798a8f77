package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
)

type someAccounts map[syntax.Handle]*db.Account

func (s someAccounts) ShownByHandle(_ context.Context, h syntax.Handle) (*db.Account, error) {
	if h == "broken.test" {
		return nil, errors.New("the disk is on fire")
	}
	if a, ok := s[h]; ok {
		return a, nil
	}
	return nil, db.ErrNotFound
}

type someDomains struct{ domains *handle.Domains }

func (s someDomains) Current(context.Context) *handle.Domains { return s.domains }

type someNames struct{ state *host.State }

func (s someNames) State(context.Context) *host.State { return s.state }

func servePages(t *testing.T, o xrpc.Options) *httptest.Server {
	t.Helper()
	return servePagesAs(t, "pds.test", o)
}

// servePagesAs is servePages for a server that clients know by a name.
func servePagesAs(t *testing.T, name string, o xrpc.Options) *httptest.Server {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	e := echo.New()
	xrpc.NewServer(e, o)
	err := (&pages{
		settings: (&settings{
			Hostname: name, PublicURL: &url.URL{Scheme: "https", Host: name}, ServiceDID: syntax.DID("did:web:" + name),
		}).itself,
		names:   someNames{host.Only(name)},
		domains: someDomains{handle.NewDomains(name, handle.Open, []handle.Domain{{Name: "test"}, {Name: "example.com"}}, "gone.example.com")},
		accounts: someAccounts{
			"alice.test": {DID: "did:plc:alice"},
			"away.test":  {DID: "did:plc:away", DeactivatedAt: new(time.Now())},
			"down.test":  {DID: "did:plc:down", TakedownRef: new("x")},
			"alice.org":  {DID: "did:plc:foreign"},

			"example.com":            {DID: "did:plc:root"},
			"pds.example.net":        {DID: "did:plc:host"},
			"alice.gone.example.com": {DID: "did:plc:gone"},
		},
	}).register(e)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return s
}

func fetch(t *testing.T, s *httptest.Server, path, host string, headers ...string) (status int, kind, body string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	vary := "Accept-Encoding"
	if path == "/" && answer.StatusCode == http.StatusOK {
		vary = "Accept, Accept-Encoding"
	}
	if got := answer.Header.Values("Vary"); len(got) != 1 || got[0] != vary {
		t.Errorf("%s: Vary %q", path, got)
	}
	if got := answer.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("%s: Access-Control-Allow-Origin %q", path, got)
	}
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(b)
}

func TestTLSCheck(t *testing.T) {
	s := servePagesAs(t, "pds.example.net", xrpc.Options{})
	const yes = `{"success":true}`
	const missing = `{"error":"InvalidRequest","message":"bad or missing domain query param"}`
	const elsewhere = `{"error":"InvalidRequest","message":"handles are not provided on this domain"}`
	const nobody = `{"error":"NotFound","message":"handle not found for this domain"}`
	for _, tt := range []struct {
		query  string
		status int
		body   string
	}{
		{"?domain=alice.test", 200, yes},
		{"?domain=ALICE.Test", 200, yes},
		{"?domain=alice.test.", 200, yes},
		{"?domain=Alice.TEST.", 200, yes},
		{"?domain=pds.example.net.", 200, yes},
		{"?domain=alice.test..", 400, elsewhere},
		{"?domain=.", 400, missing},
		{"?domain=example.com", 200, yes}, // a domain that is somebody's handle
		{"?domain=pds.example.net", 200, yes},
		{"?domain=PDS.example.net", 200, yes},
		{"", 400, missing},
		{"?domain=", 400, missing},
		{"?domain=alice.org", 400, elsewhere},
		{"?domain=alice.gone.example.com", 400, elsewhere},
		{"?domain=localhost", 400, elsewhere},
		{"?domain=bob.test", 404, nobody},
		{"?domain=test", 404, nobody},
		{"?domain=away.test", 404, nobody},
		{"?domain=down.test", 404, nobody},
		{"?domain=broken.test", 500, `{"error":"InternalServerError","message":"Internal Server Error"}`},
	} {
		status, _, body := fetch(t, s, "/tls-check"+tt.query, "127.0.0.1:3000")
		if status != tt.status || strings.TrimSpace(body) != tt.body {
			t.Errorf("%s: %d %s, want %d %s", tt.query, status, body, tt.status, tt.body)
		}
	}
	if status, _, _ := fetch(t, s, "/tls-check?domain=alice.test", "alice.test"); status != 404 {
		t.Errorf("on a handle's host: %d", status)
	}
}

func TestHandlePage(t *testing.T) {
	s := servePagesAs(t, "pds.example.net", xrpc.Options{})
	const path, text, html = "/.well-known/atproto-did", "text/plain; charset=utf-8", "text/html; charset=utf-8"
	for _, tt := range []struct {
		name, host string
		headers    []string
		status     int
		kind, body string
	}{
		{"active", "alice.test", nil, 200, text, "did:plc:alice"},
		{"with port", "alice.test:8080", nil, 200, text, "did:plc:alice"},
		{"not in lower case", "Alice.test", nil, 200, text, "did:plc:alice"},
		{"with the final dot", "alice.test.", nil, 200, text, "did:plc:alice"},
		{"with the final dot and a port", "ALICE.test.:8080", nil, 200, text, "did:plc:alice"},
		{"with two final dots", "alice.test..", nil, 404, html, "User not found"},
		{"forwarded as it was typed", "proxy", []string{"X-Forwarded-Host", "Alice.Test."}, 200, text, "did:plc:alice"},
		{"a removed domain with the final dot", "alice.gone.example.com.", nil, 404, html, "User not found"},
		{"unknown", "bob.test", nil, 404, html, "User not found"},
		{"deactivated", "away.test", nil, 404, html, "User not found"},
		{"taken down", "down.test", nil, 404, html, "User not found"},
		{"not our domain", "alice.org", nil, 404, html, "User not found"},
		{"the domain itself", "test", nil, 404, html, "User not found"},
		{"a domain that is a handle", "example.com", nil, 200, text, "did:plc:root"},
		{"this server as a handle", "pds.example.net", nil, 200, text, "did:plc:host"},
		{"a domain that was removed", "alice.gone.example.com", nil, 404, html, "User not found"},
		{"forwarded by a trusted peer", "proxy", []string{"X-Forwarded-Host", "alice.test"}, 200, text, "did:plc:alice"},
		{"forwarded by two", "proxy", []string{"X-Forwarded-Host", "alice.test:443, inner"}, 200, text, "did:plc:alice"},
		{"forwarded by two, for another", "proxy", []string{"X-Forwarded-Host", "outer, alice.test"}, 404, html, "User not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, kind, body := fetch(t, s, path, tt.host, tt.headers...)
			if status != tt.status || kind != tt.kind || body != tt.body {
				t.Errorf("%d %s %q, want %d %s %q", status, kind, body, tt.status, tt.kind, tt.body)
			}
		})
	}
	if status, _, body := fetch(t, s, path, "broken.test"); status != 500 || strings.Contains(body, "fire") {
		t.Errorf("a failing look-up answers %d %q", status, body)
	}
}

// A peer that is nobody's proxy does not choose the host name by a header.
func TestHandlePageOfStrangers(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://proxy/.well-known/atproto-did", nil)
	r.RemoteAddr = "203.0.113.7:1234"
	r.Header.Set("X-Forwarded-Host", "alice.test")
	for listed, want := range map[string]int{"203.0.113.8": 404, "203.0.113.7": 200} {
		w := httptest.NewRecorder()
		servePages(t, xrpc.Options{Callers: func() *xrpc.Callers {
			return &xrpc.Callers{BypassIPs: []netip.Addr{netip.MustParseAddr(listed)}}
		}}).Config.Handler.ServeHTTP(w, r.Clone(t.Context()))
		if w.Code != want {
			t.Errorf("with %s listed: %d, want %d", listed, w.Code, want)
		}
	}
}

func TestPages(t *testing.T) {
	s := servePages(t, xrpc.Options{})
	status, kind, body := fetch(t, s, "/", "pds.test")
	if status != 200 || kind != "text/plain; charset=utf-8" ||
		!strings.Contains(body, "This is an AT Protocol Personal Data Server (aka, an atproto PDS)") ||
		!strings.Contains(body, "Most API routes are under /xrpc/") {
		t.Errorf("/ answers %d %s %q", status, kind, body)
	}
	status, kind, body = fetch(t, s, "/", "pds.test", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if status != 200 || kind != "text/html; charset=utf-8" || !strings.Contains(body, "<code>pds.test</code>") ||
		!strings.Contains(body, `href="/docs"`) || strings.Contains(body, "development server") {
		t.Errorf("/ answers a browser %d %s %q", status, kind, body)
	}
	const robots = "# Hello!\n\n# Crawling the public API is allowed\nUser-agent: *\nAllow: /"
	if status, _, body := fetch(t, s, "/robots.txt", "pds.test"); status != 200 || body != robots {
		t.Errorf("/robots.txt answers %d %q", status, body)
	}
	const resource = `{"resource":"https://pds.test","authorization_servers":["https://pds.test"],"scopes_supported":[],"bearer_methods_supported":["header"],"resource_documentation":"https://atproto.com"}`
	status, kind, body = fetch(t, s, "/.well-known/oauth-protected-resource", "evil.example")
	if status != 200 || kind != "application/json; charset=utf-8" || strings.TrimSpace(body) != resource {
		t.Errorf("/.well-known/oauth-protected-resource answers %d %s %s", status, kind, body)
	}
	// To the server's own name, whatever host is asked for.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/.well-known/change-password", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if to := answer.Header.Get("Location"); answer.StatusCode != 302 || to != "https://pds.test/account/password" {
		t.Errorf("/.well-known/change-password answers %d %q", answer.StatusCode, to)
	}
	if status, kind, body := fetch(t, s, "/nothing", "pds.test"); status != 404 || !strings.HasPrefix(kind, "text/html") || !strings.Contains(body, "Cannot GET /nothing") {
		t.Errorf("/nothing answers %d %s %q", status, kind, body)
	}
}

// DESIGN 35: the document of the server's did:web is served from its configuration, and
// the same whatever host is asked for.
func TestDesign35DIDDocument(t *testing.T) {
	s := servePages(t, xrpc.Options{})
	const did = `{"@context":["https://www.w3.org/ns/did/v1"],"id":"did:web:pds.test","service":[{"id":"#atproto_pds","serviceEndpoint":"https://pds.test","type":"AtprotoPersonalDataServer"}]}`
	for _, host := range []string{"pds.test", "evil.example"} {
		if status, _, body := fetch(t, s, "/.well-known/did.json", host); status != 200 || strings.TrimSpace(body) != did {
			t.Errorf("/.well-known/did.json of %s answers %d %s", host, status, body)
		}
	}
}

// A host that is somebody's handle is that person's, not this server.
func TestHandleHosts(t *testing.T) {
	s := servePages(t, xrpc.Options{Version: "v1.2.3"})
	ours := []string{
		"alice.test", "bob.test:8080", "ALICE.Test", "alice.test.", "test", "alice.example.com", "example.com", "pds.example.com",
	}
	all := []string{"/", "/robots.txt", "/xrpc/_health", "/xrpc/com.atproto.server.describeServer", "/XRPC/_health", "/.well-known/did.json",
		"/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server", "/.well-known/change-password", "/oauth/jwks", "/oauth/authorize", "/openapi.json", "/docs", "/.well-known/atproto-did/", "/nothing"}
	for _, host := range ours {
		for _, path := range all {
			status, kind, body := fetch(t, s, path, host)
			if status != 404 || kind != "text/html; charset=utf-8" || !strings.Contains(body, "Cannot GET ") {
				t.Errorf("%s%s answers %d %s %q", host, path, status, kind, body)
			}
		}
	}
	if status, _, body := fetch(t, s, "/.well-known/atproto-did", "alice.test"); status != 200 || body != "did:plc:alice" {
		t.Errorf("%d %q", status, body)
	}
	// By whatever other name a client comes, it finds the server.
	for _, host := range []string{
		"pds.test", "PDS.test:2583", "pds.test.", "localhost", "localhost:2583", "127.0.0.1:2583", "[::1]:2583", "192.0.2.1", "portico", "portico:2583",
		"alice.org", "alice.gone.example.com", "mytest", "example.com.evil.org", "",
	} {
		for path, want := range map[string]int{"/": 200, "/xrpc/_health": 200, "/.well-known/did.json": 200, "/nothing": 404} {
			if status, _, body := fetch(t, s, path, host); status != want {
				t.Errorf("%s%s answers %d %q", host, path, status, body)
			}
		}
	}
	// Only a proxy says which host was asked for.
	if status, _, _ := fetch(t, s, "/", "pds.test", "X-Forwarded-Host", "alice.test"); status != 404 {
		t.Errorf("forwarded for a handle: %d", status)
	}
	if status, _, _ := fetch(t, s, "/", "alice.test", "X-Forwarded-Host", "pds.test"); status != 200 {
		t.Errorf("forwarded for the server: %d", status)
	}
}

// DESIGN, small ones: what goes by the host is no-store. A proxy's word for the host is
// nothing for a cache, which goes by the URL: otherwise a stranger could have it say whose
// handle a host is, or that nothing is here.
func TestDesignSmallOnesHostsAreNotCached(t *testing.T) {
	s := servePages(t, xrpc.Options{})
	for _, tt := range [][3]string{
		{"/.well-known/atproto-did", "alice.test", "bob.test"},
		{"/.well-known/atproto-did", "bob.test", "alice.test"},
		{"/xrpc/_health", "pds.test", "alice.test"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+tt[1]+tt[0], nil)
		r.RemoteAddr = "127.0.0.1:1234"
		r.Header.Set("X-Forwarded-Host", tt[2])
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, r)
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%q: Cache-Control %q of status %d", tt, got, w.Code)
		}
	}
}

// The server may live under a domain of handles itself.
func TestHostUnderHandleDomain(t *testing.T) {
	s := servePagesAs(t, "portico.example.com", xrpc.Options{})
	for host, want := range map[string]int{"portico.example.com": 200, "Portico.example.com:443": 200, "alice.example.com": 404, "example.com": 404} {
		if status, _, _ := fetch(t, s, "/xrpc/_health", host); status != want {
			t.Errorf("%s: %d, want %d", host, status, want)
		}
	}
}

// To pages an account in quarantine is not there: they answer byte for byte what they answer
// for a handle that nobody has, and tell of it once it is released.
func TestPagesHideQuarantine(t *testing.T) {
	d := dbtest.Open(t)
	const did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hold := func(at *time.Time) {
		t.Helper()
		err := d.Write(t.Context(), func(tx *db.Tx) error {
			a, err := tx.LockAccount(t.Context(), did)
			if err != nil {
				return err
			}
			a.HeldAt = at
			return tx.UpdateAccount(t.Context(), a)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := d.Write(t.Context(), func(tx *db.Tx) error {
		err := tx.ReserveAccount(t.Context(), db.Reservation{
			Account: db.Account{DID: did, Handle: "held.test", Email: "held@example.com", CreatedAt: now}, Holder: "test", LeaseUntil: now,
			Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte("sealed")},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(t.Context(), did, "test")
	})
	if err != nil {
		t.Fatal(err)
	}
	e := echo.New()
	xrpc.NewServer(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)})
	p := &pages{
		settings: (&settings{Hostname: "pds.test", PublicURL: &url.URL{Scheme: "https", Host: "pds.test"}, ServiceDID: "did:web:pds.test"}).itself,
		names:    someNames{host.Only("pds.test")}, domains: someDomains{handle.NewDomains("pds.test", handle.Open, []handle.Domain{{Name: "test"}}, "")},
		accounts: &account.Accounts{DB: d},
	}
	if err := p.register(e); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	answer := func(path, host string) string {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		a.Header.Del("Date")
		a.Header.Del("X-Request-Id")
		return fmt.Sprint(a.StatusCode, a.Header, string(body))
	}
	hold(&now)
	asks := []struct{ path, host, released string }{
		{"/.well-known/atproto-did", "%s.test", "200"}, {"/tls-check?domain=%s.test", "pds.test", "200"},
		{"/", "%s.test", "404"}, {"/.well-known/did.json", "%s.test", "404"}, {"/xrpc/_health", "%s.test", "404"},
	}
	called := func(text, name string) string { return strings.ReplaceAll(text, "%s", name) }
	for _, a := range asks {
		held, nobody := answer(called(a.path, "held"), called(a.host, "held")), answer(called(a.path, "nope"), called(a.host, "nope"))
		if held != nobody || !strings.HasPrefix(held, "404") {
			t.Errorf("%s at %s\nin quarantine %s\nnobody's      %s", a.path, a.host, held, nobody)
		}
	}
	hold(nil)
	for _, a := range asks {
		if got := answer(called(a.path, "held"), called(a.host, "held")); !strings.HasPrefix(got, a.released) {
			t.Errorf("%s at %s after the release: %s, want %s", a.path, a.host, got, a.released)
		}
	}
}
