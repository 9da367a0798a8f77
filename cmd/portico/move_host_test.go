package main

import (
	"crypto/rand"
	encoding "encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/token"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/host/proof"
)

// While a server moves, and after it for who was left, the hosts of old handles prove them,
// and lead to the new ones.
func TestPagesOfAMove(t *testing.T) {
	e := echo.New()
	xrpc.NewServer(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)})
	move := &host.Move{From: "old.example.net", To: "new.example.net", Handles: true, Switched: true}
	moved := someAccounts{}
	for _, name := range []string{"alice.old.example.net", "alice.new.example.net"} { // as Accounts finds it
		moved[syntax.Handle(name)] = &db.Account{DID: "did:plc:alice", Handle: "alice.new.example.net"}
	}
	moved["bob.old.example.net"] = &db.Account{DID: "did:plc:bob", Handle: "bob.old.example.net"}
	err := (&pages{
		settings: (&settings{
			Hostname: move.To, PublicURL: &url.URL{Scheme: "https", Host: move.To}, ServiceDID: "did:web:new.example.net",
		}).itself,
		names:    someNames{&host.State{Process: move.To, Name: move.To, Move: move}},
		domains:  someDomains{handle.NewDomains(move.To, handle.Open, []handle.Domain{{Name: move.To}, {Name: move.From, Policy: handle.Closed}})},
		accounts: moved,
		proof:    func(challenge string) []byte { return []byte(challenge) },
	}).register(e)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	defer s.Close()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, tt := range []struct {
		method, host, path string
		status             int
		location, body     string
	}{
		{"GET", "alice.old.example.net", "/profile?x=1", 307, "https://alice.new.example.net/profile?x=1", ""},
		{"HEAD", "Alice.OLD.example.net", "/", 307, "https://alice.new.example.net/", ""},
		{"POST", "alice.old.example.net", "/xrpc/com.atproto.server.createSession", 404, "", ""},
		{"GET", "alice.new.example.net", "/profile", 404, "", ""},
		{"GET", "bob.old.example.net", "/", 404, "", ""},
		{"GET", "nobody.old.example.net", "/", 404, "", ""},
		{"GET", "alice.old.example.net", "/.well-known/atproto-did", 200, "", "did:plc:alice"},
		{"GET", "alice.new.example.net", "/.well-known/atproto-did", 200, "", "did:plc:alice"},
		{"GET", "bob.old.example.net", "/.well-known/atproto-did", 200, "", "did:plc:bob"},
		{"GET", "old.example.net", "/", 200, "", "Personal Data Server"},
		{"GET", "old.example.net", "/.well-known/did.json", 200, "", `"did:web:old.example.net"`},
		{"GET", "new.example.net", "/.well-known/did.json", 200, "", `"did:web:new.example.net"`},
		{"GET", "evil.example", "/.well-known/did.json", 200, "", `"did:web:new.example.net"`},
		{"GET", "localhost", "/tls-check?domain=old.example.net", 200, "", "true"},
		{"GET", "localhost", "/tls-check?domain=new.example.net", 200, "", "true"},
		{"GET", "localhost", "/tls-check?domain=alice.old.example.net", 200, "", "true"},
		{"GET", "localhost", "/tls-check?domain=nobody.old.example.net", 404, "", ""},
	} {
		r, err := http.NewRequest(tt.method, s.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = tt.host
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != tt.status || a.Header.Get("Location") != tt.location || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s %s%s: %d %q %s", tt.method, tt.host, tt.path, a.StatusCode, a.Header.Get("Location"), body)
		}
		if tt.status == 307 && a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control %q", tt.path, a.Header.Get("Cache-Control"))
		}
	}
}

// A name that is to be the server's may be under a domain of handles, whose hosts are asked
// for nothing else.
func TestProofUnderADomainOfHandles(t *testing.T) {
	e := echo.New()
	xrpc.NewServer(e, xrpc.Options{Logger: slog.New(slog.DiscardHandler)})
	e.GET("/xrpc/com.atproto.server.describeServer", func(c echo.Context) error { return c.NoContent(http.StatusOK) })
	err := (&pages{
		settings: (&settings{
			Hostname: "example.net", PublicURL: &url.URL{Scheme: "https", Host: "example.net"}, ServiceDID: "did:web:example.net",
		}).itself,
		names:    someNames{host.Only("example.net")},
		domains:  someDomains{handle.NewDomains("example.net", handle.Open, []handle.Domain{{Name: "example.net"}})},
		accounts: someAccounts{},
		proof:    func(challenge string) []byte { return []byte(challenge) },
	}).register(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path, challenge string
		status                  int
		answer                  string
	}{
		{"GET", "/xrpc/com.atproto.server.describeServer", "abc", 200, "YWJj"},
		{"GET", "/xrpc/com.atproto.server.describeServer", "", 404, ""},
		{"GET", "/xrpc/com.atproto.server.getSession", "abc", 404, ""},
		{"POST", "/xrpc/com.atproto.server.describeServer", "abc", 404, ""},
		{"GET", "/", "abc", 404, ""},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Host = "pds.example.net"
		if tt.challenge != "" {
			r.Header.Set("Portico-Challenge", tt.challenge)
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != tt.status || w.Header().Get("Portico-Answer") != tt.answer {
			t.Errorf("%s %s with %q: %d %q, want %d %q", tt.method, tt.path, tt.challenge, w.Code, w.Header().Get("Portico-Answer"), tt.status, tt.answer)
		}
	}
}

// A server proves that it is itself, and an operator is told what a name lacks.
func TestMoveHost(t *testing.T) {
	common := []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), "PORTICO_SIGNUP_RETRY=20ms"}
	s, _ := startFor(t, common...)
	prover := func(secret string) *proof.Prover {
		return &proof.Prover{Client: http.DefaultClient, Rand: rand.Reader, MAC: (&token.Issuer{Secret: []byte(secret)}).Proof}
	}
	at := s.PublicURL.String()
	if err := prover(string(s.JWTSecret)).Prove(t.Context(), at, s.ServiceDID.String()); err != nil {
		t.Error(err)
	}
	if err := prover("another").Prove(t.Context(), at, s.ServiceDID.String()); !errors.Is(err, proof.ErrOther) {
		t.Errorf("with another secret: %v", err)
	}
	environ := append(common, "PDS_PORT="+strconv.Itoa(s.Port))
	ask := func(args ...string) (string, error) {
		t.Helper()
		out, _, err := portico(t, environ, append([]string{"move-host"}, args...)...)
		return out, err
	}
	for want, args := range map[string][]string{
		"https://pds.invalid.test does not lead to this server": {"pds.invalid.test", "--yes"},
		`"pds.local" is not the name of a host`:                 {"pds.local", "--yes"},
		"there is no move under way":                            {"--switch", "--yes"},
	} {
		if _, err := ask(args...); err == nil || exitStatus(err) != statusRefused || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{}, {"new.test"}, {"--switch", "--undo"}, {"--accept-left", "new.test"}, {"--undo"}} {
		if _, err := ask(args...); err == nil || exitStatus(err) != statusUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	out, err := ask("--status", "--json")
	var status struct{ Move any }
	if err == nil {
		err = encoding.Unmarshal([]byte(out), &status)
	}
	if err != nil || status.Move != nil {
		t.Errorf("%s %v", out, err)
	}
}
