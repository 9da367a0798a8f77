package identity_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/servertest"
)

func TestResolveHandle(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	off, down := f.signUp("sleeper"), f.signUp("outcast")
	f.Deactivate(off.DID)
	f.TakeDown(down.DID)
	f.Internet.Point("bob.example.com", "did:plc:bob")
	// What is said elsewhere about handles of this server is not asked for.
	for _, h := range []syntax.Handle{"nobody.test", "sleeper.test", "outcast.test", "deep.nobody.test", "at.pds.test", "alice.test"} {
		f.Internet.Point(h, "did:plc:mallory")
	}
	for h, did := range map[string]syntax.DID{"alice.test": u.DID, "ALICE.Test": u.DID, "bob.example.com": "did:plc:bob", "Bob.Example.com": "did:plc:bob"} {
		a := f.Accepted(f.Get("resolveHandle?handle=" + h))
		if want := `{"did":"` + did.String() + `"}`; strings.TrimSpace(a.Body) != want {
			t.Errorf("%s: %s, want %s", h, a.Body, want)
		}
	}
	for _, h := range []string{"nobody.test", "sleeper.test", "outcast.test", "deep.nobody.test", "at.pds.test", "x.at.pds.test"} {
		f.Refused(f.Get("resolveHandle?handle="+h), 400, "HandleNotFound", "Unable to resolve handle")
	}
	f.Refused(f.Get("resolveHandle?handle=nobody.example.com"), 400, "InvalidRequest", "Unable to resolve handle")
	f.Refused(f.Get("resolveHandle?handle=foo"), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveHandle params: Invalid handle (got "foo")`)
	f.Refused(f.Get("resolveHandle"), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveHandle params: Missing required key "handle"`)
	for _, h := range f.Internet.Asked() {
		if !strings.HasSuffix(h.String(), ".example.com") {
			t.Errorf("asked the world for %s", h)
		}
	}
}

// An account that lives here may have a handle of elsewhere: no question is asked
// for it either.
func TestResolveForeignHandleOfAccount(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.setHandle(u.DID, "alice.example.com")
	a := f.Accepted(f.Get("resolveHandle?handle=alice.example.com"))
	if a.Text(t, "did") != u.DID.String() || len(f.Internet.Asked()) > 0 {
		t.Errorf("answer %s after asking %v", a.Body, f.Internet.Asked())
	}
}

func TestResolveDID(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	ended := f.signUp("ended")
	f.Tombstone(ended.DID)
	doc, _ := f.Accepted(f.Get("resolveDid?did=" + u.DID.String())).Fields(t)["didDoc"].(map[string]any)
	if doc["id"] != u.DID.String() {
		t.Errorf("document %v", doc)
	}
	f.Refused(f.Get("resolveDid?did="+ended.DID.String()), 400, "DidDeactivated", "DID is deactivated")
	f.Refused(f.Get("resolveDid?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), 400, "DidNotFound", "DID not found")
	f.Refused(f.Get("resolveDid?did=did:key:zQ3sh"), 400, "InvalidRequest", "Unsupported DID")
	f.Refused(f.Get("resolveDid?did=alice.test"), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveDid params: Invalid DID (got "alice.test")`)
	f.PLC.Spoil(servertest.Says("", 500, ""))
	f.Refused(f.Get("resolveDid?did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"), 502, "UpstreamFailure", "Unable to resolve DID")
	f.PLC.Spoil(servertest.Says("", 200, `{"id":"did:plc:other"}`))
	f.Refused(f.Get("resolveDid?did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"), 400, "InvalidRequest", "Poorly formatted DID Document")
	f.PLC.Asked()
	f.Accepted(f.Get("resolveDid?did=" + u.DID.String()))
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("a document in the cache was asked for: %q", asked)
	}
}

// A host that does not answer is that of whoever named it: no error of this server, as is
// a directory that does not.
func TestHostsOfStrangersWriteNoErrors(t *testing.T) {
	f := newFixture(t)
	const nobody = "did:web:localhost%253A1"
	for _, ask := range []string{"resolveDid?did=" + nobody, "resolveIdentity?identifier=" + nobody} {
		f.Refused(f.Get(ask), 502, "UpstreamFailure", "Unable to resolve DID")
	}
	f.Refused(f.Post("refreshIdentity", `{"identifier":"did:web:localhost%3A1"}`, f.signUp("alice").Access), 502, "UpstreamFailure", "Unable to resolve DID")
	f.Refused(f.Get("resolveHandle?handle=localhost.example"), 400, "InvalidRequest", "Unable to resolve handle")
	if log := f.Logged.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("log: %s", log)
	}
	f.PLC.Spoil(servertest.Says("", 500, ""))
	f.Refused(f.Get("resolveDid?did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"), 502, "UpstreamFailure", "Unable to resolve DID")
	if log := f.Logged.String(); !strings.Contains(log, "level=ERROR") {
		t.Errorf("log of a directory that fails: %s", log)
	}
}

func TestResolveIdentity(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	web := f.host(`"alsoKnownAs":["https://bob.example.com","at://Bob.example.com"],`)
	plain := f.host("")
	thief := f.host(`"alsoKnownAs":["at://alice.test"],`)
	f.Internet.Point("bob.example.com", web)
	f.Internet.Point("other.example.com", web)
	for _, tt := range []struct{ name, id, did, handle string }{
		{"handle here", "alice.test", u.DID.String(), "alice.test"},
		{"DID here", u.DID.String(), u.DID.String(), "alice.test"},
		{"handle elsewhere", "BOB.example.com", web.String(), "bob.example.com"},
		{"DID elsewhere", web.String(), web.String(), "bob.example.com"},
		{"handle that the DID does not name", "other.example.com", web.String(), "handle.invalid"},
		{"DID without a handle", plain.String(), plain.String(), "handle.invalid"},
		{"DID that names another's handle", thief.String(), thief.String(), "handle.invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.Accepted(f.Get("resolveIdentity?identifier=" + url.QueryEscape(tt.id)))
			doc, _ := a.Fields(t)["didDoc"].(map[string]any)
			if a.Text(t, "did") != tt.did || a.Text(t, "handle") != tt.handle || doc["id"] != tt.did {
				t.Errorf("answer %s", a.Body)
			}
		})
	}
	f.Refused(f.Get("resolveIdentity?identifier=nobody.test"), 400, "HandleNotFound", "Unable to resolve handle")
	f.Refused(f.Get("resolveIdentity?identifier=nobody.example.com"), 400, "HandleNotFound", "Unable to resolve handle")
	f.Refused(f.Get("resolveIdentity?identifier=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), 400, "DidNotFound", "DID not found")
	f.Tombstone(u.DID)
	f.Refused(f.Post("refreshIdentity", `{"identifier":"alice.test"}`, u.Access), 400, "DidDeactivated", "DID is deactivated")
	f.Refused(f.Get("resolveIdentity?identifier=alice.test"), 400, "DidDeactivated", "DID is deactivated")
}

func TestRefreshIdentity(t *testing.T) {
	f := newFixture(t, func(o *servertest.Options) { o.Limiter = true })
	u := f.signUp("alice")
	f.Accepted(f.Get("resolveIdentity?identifier=alice.test"))
	f.PLC.Asked()
	for range 10 {
		a := f.Accepted(f.Post("refreshIdentity", `{"identifier":"alice.test"}`, u.Access))
		if a.Text(t, "handle") != "alice.test" || a.Text(t, "did") != u.DID.String() {
			t.Errorf("answer %s", a.Body)
		}
	}
	if n := len(f.PLC.Asked()); n != 10 {
		t.Errorf("asked the directory %d times, want 10", n)
	}
	f.Refused(f.Post("refreshIdentity", `{"identifier":"alice.test"}`, u.Access), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Refused(f.Post("refreshIdentity", `{"identifier":"?"}`, u.Access), 400, "InvalidRequest", `Invalid AT identifier (got "?") at $.identifier`)
	f.Refused(f.Post("refreshIdentity", `{"identifier":"alice.test"}`), 401, "AuthMissing", "Authentication Required")
}

// host serves the document of a did:web, with the fields given.
func (f *fixture) host(fields string) syntax.DID {
	f.Helper()
	var did syntax.DID
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{%s"id":%q}`, fields, did)
	}))
	f.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	f.Check(err)
	did = syntax.DID("did:web:localhost%3A" + u.Port())
	return did
}

// setHandle gives an account a handle behind the server's back.
func (f *fixture) setHandle(did syntax.DID, h syntax.Handle) {
	f.Helper()
	f.SetAccount(did, func(a *db.Account) { a.Handle = h })
}
