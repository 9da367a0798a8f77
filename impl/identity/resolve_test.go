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
)

func TestResolveHandle(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	off, down := f.signUp("sleeper"), f.signUp("outcast")
	f.deactivate(off.did)
	f.takeDown(down.did)
	f.world.point("bob.example.com", "did:plc:bob")
	// What is said elsewhere about handles of this server is not asked for.
	for _, h := range []syntax.Handle{"nobody.test", "sleeper.test", "outcast.test", "deep.nobody.test", "at.pds.test", "alice.test"} {
		f.world.point(h, "did:plc:mallory")
	}
	for h, did := range map[string]syntax.DID{"alice.test": u.did, "ALICE.Test": u.did, "bob.example.com": "did:plc:bob", "Bob.Example.com": "did:plc:bob"} {
		a := f.accepted(f.get("resolveHandle?handle="+h, ""))
		if want := `{"did":"` + did.String() + `"}`; strings.TrimSpace(a.body) != want {
			t.Errorf("%s: %s, want %s", h, a.body, want)
		}
	}
	for _, h := range []string{"nobody.test", "sleeper.test", "outcast.test", "deep.nobody.test", "at.pds.test", "x.at.pds.test"} {
		f.refused(f.get("resolveHandle?handle="+h, ""), 400, "HandleNotFound", "Unable to resolve handle")
	}
	f.refused(f.get("resolveHandle?handle=nobody.example.com", ""), 400, "InvalidRequest", "Unable to resolve handle")
	f.refused(f.get("resolveHandle?handle=foo", ""), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveHandle params: Invalid handle (got "foo")`)
	f.refused(f.get("resolveHandle", ""), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveHandle params: Missing required key "handle"`)
	for _, h := range f.world.asked {
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
	f.setHandle(u.did, "alice.example.com")
	a := f.accepted(f.get("resolveHandle?handle=alice.example.com", ""))
	if a.text(t, "did") != u.did.String() || len(f.world.asked) > 0 {
		t.Errorf("answer %s after asking %v", a.body, f.world.asked)
	}
}

func TestResolveDID(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	ended := f.signUp("ended")
	f.tombstone(ended.did)
	doc, _ := f.accepted(f.get("resolveDid?did="+u.did.String(), "")).fields(t)["didDoc"].(map[string]any)
	if doc["id"] != u.did.String() {
		t.Errorf("document %v", doc)
	}
	f.refused(f.get("resolveDid?did="+ended.did.String(), ""), 400, "DidDeactivated", "DID is deactivated")
	f.refused(f.get("resolveDid?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", ""), 400, "DidNotFound", "DID not found")
	f.refused(f.get("resolveDid?did=did:key:zQ3sh", ""), 400, "InvalidRequest", "Unsupported DID")
	f.refused(f.get("resolveDid?did=alice.test", ""), 400, "InvalidRequest",
		`Invalid com.atproto.identity.resolveDid params: Invalid DID (got "alice.test")`)
	f.spoil(says("", 500, ""))
	f.refused(f.get("resolveDid?did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", ""), 502, "UpstreamFailure", "Unable to resolve DID")
	f.spoil(says("", 200, `{"id":"did:plc:other"}`))
	f.refused(f.get("resolveDid?did=did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", ""), 400, "InvalidRequest", "Poorly formatted DID Document")
	f.requests()
	f.accepted(f.get("resolveDid?did="+u.did.String(), ""))
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("a document in the cache was asked for: %q", asked)
	}
}

func TestResolveIdentity(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	web := f.host(`"alsoKnownAs":["https://bob.example.com","at://Bob.example.com"],`)
	plain := f.host("")
	thief := f.host(`"alsoKnownAs":["at://alice.test"],`)
	f.world.point("bob.example.com", web)
	f.world.point("other.example.com", web)
	for _, tt := range []struct{ name, id, did, handle string }{
		{"handle here", "alice.test", u.did.String(), "alice.test"},
		{"DID here", u.did.String(), u.did.String(), "alice.test"},
		{"handle elsewhere", "BOB.example.com", web.String(), "bob.example.com"},
		{"DID elsewhere", web.String(), web.String(), "bob.example.com"},
		{"handle that the DID does not name", "other.example.com", web.String(), "handle.invalid"},
		{"DID without a handle", plain.String(), plain.String(), "handle.invalid"},
		{"DID that names another's handle", thief.String(), thief.String(), "handle.invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.accepted(f.get("resolveIdentity?identifier="+url.QueryEscape(tt.id), ""))
			doc, _ := a.fields(t)["didDoc"].(map[string]any)
			if a.text(t, "did") != tt.did || a.text(t, "handle") != tt.handle || doc["id"] != tt.did {
				t.Errorf("answer %s", a.body)
			}
		})
	}
	f.refused(f.get("resolveIdentity?identifier=nobody.test", ""), 400, "HandleNotFound", "Unable to resolve handle")
	f.refused(f.get("resolveIdentity?identifier=nobody.example.com", ""), 400, "HandleNotFound", "Unable to resolve handle")
	f.refused(f.get("resolveIdentity?identifier=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", ""), 400, "DidNotFound", "DID not found")
	f.tombstone(u.did)
	f.refused(f.post("refreshIdentity", `{"identifier":"alice.test"}`, u.bearer), 400, "DidDeactivated", "DID is deactivated")
	f.refused(f.get("resolveIdentity?identifier=alice.test", ""), 400, "DidDeactivated", "DID is deactivated")
}

func TestRefreshIdentity(t *testing.T) {
	f := newFixture(t, func(o *options) { o.limiter = true })
	u := f.signUp("alice")
	f.accepted(f.get("resolveIdentity?identifier=alice.test", ""))
	f.requests()
	for range 10 {
		a := f.accepted(f.post("refreshIdentity", `{"identifier":"alice.test"}`, u.bearer))
		if a.text(t, "handle") != "alice.test" || a.text(t, "did") != u.did.String() {
			t.Errorf("answer %s", a.body)
		}
	}
	if n := len(f.requests()); n != 10 {
		t.Errorf("asked the directory %d times, want 10", n)
	}
	f.refused(f.post("refreshIdentity", `{"identifier":"alice.test"}`, u.bearer), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.refused(f.post("refreshIdentity", `{"identifier":"?"}`, u.bearer), 400, "InvalidRequest", `Invalid AT identifier (got "?") at $.identifier`)
	f.refused(f.post("refreshIdentity", `{"identifier":"alice.test"}`, ""), 401, "AuthMissing", "Authentication Required")
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
	f.check(err)
	did = syntax.DID("did:web:localhost%3A" + u.Port())
	return did
}

// setHandle gives an account a handle behind the server's back.
func (f *fixture) setHandle(did syntax.DID, h syntax.Handle) {
	f.Helper()
	f.setAccount(did, func(a *db.Account) { a.Handle = h })
}
