package identity_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/atproto/identity"
)

// An appView remembers what it was asked.
type appView struct {
	*httptest.Server
	mu      sync.Mutex
	asked   []string
	answers http.HandlerFunc
}

func newAppView(t *testing.T) *appView {
	a := &appView{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		asked := r.Method + " " + r.URL.RequestURI()
		if h := r.Header.Get("Authorization"); h != "" {
			asked += " with " + h
		}
		a.asked = append(a.asked, asked)
		answers := a.answers
		a.mu.Unlock()
		answers(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *appView) says(answers http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = answers
}

// questions are those asked since the last call.
func (a *appView) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// With an app view, handles of elsewhere are what it says, and nothing else is.
func TestResolveHandleByAppView(t *testing.T) {
	view := newAppView(t)
	f := newFixture(t)
	f.Identity.AppView = identity.NewAppView(view.URL, 0)
	u, off := f.signUp("alice"), f.signUp("sleeper")
	f.Deactivate(off.DID)
	view.says(text(200, `{"did":"did:plc:bob"}`))
	f.Internet.Point("bob.example.com", "did:plc:other")

	a := f.Accepted(f.Get("resolveHandle?handle=Bob.example.com", u.Access))
	if got := a.Text(t, "did"); got != "did:plc:bob" {
		t.Errorf("resolved to %s", got)
	}
	if got, want := view.questions(), "GET /xrpc/com.atproto.identity.resolveHandle?handle=bob.example.com"; len(got) != 1 || got[0] != want {
		t.Errorf("asked %q, want %q", got, want)
	}
	// Who is here, and who could be, is not asked for.
	f.Accepted(f.Get("resolveHandle?handle=alice.test", ""))
	for _, h := range []string{"nobody.test", "sleeper.test", "at.pds.test", "x.at.pds.test"} {
		f.Refused(f.Get("resolveHandle?handle="+h, ""), 400, "HandleNotFound", "Unable to resolve handle")
	}
	// Nor is what must hold both ways, or decides what an account gets.
	f.Get("resolveIdentity?identifier=bob.example.com", "")
	f.Internet.Point("alice.example.com", u.DID)
	f.Empty(f.Post("updateHandle", `{"handle":"alice.example.com"}`, u.Access))
	f.Refused(f.Post("updateHandle", `{"handle":"bob.example.com"}`, u.Access), 400, "InvalidRequest", "External handle did not resolve to DID")
	if got := view.questions(); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// Whatever the app view does, the answer is the same, and DNS is not asked instead.
func TestResolveHandleByAppViewThatFails(t *testing.T) {
	view := newAppView(t)
	f := newFixture(t)
	f.Identity.AppView = identity.NewAppView(view.URL, 200*time.Millisecond)
	f.Internet.Point("bob.example.com", "did:plc:bob")
	inside := httptest.NewServer(text(200, `{"did":"did:plc:inside"}`))
	t.Cleanup(inside.Close)
	for _, tt := range []struct {
		name    string
		answers http.HandlerFunc
	}{
		{"does not know", text(400, `{"error":"InvalidRequest","message":"Unable to resolve handle"}`)},
		{"is broken", text(500, "<html>")},
		{"is asleep", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"does not come to an end", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"did":"did:plc:bob"`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL, http.StatusFound) }},
		{"no JSON", text(200, "did:plc:bob")},
		{"no object", text(200, `"did:plc:bob"`)},
		{"no DID", text(200, `{}`)},
		{"null", text(200, `{"did":null}`)},
		{"empty", text(200, `{"did":""}`)},
		{"another kind of name", text(200, `{"did":"bob.example.com"}`)},
		{"nothing", text(200, "")},
		{"huge", text(200, `{"did":"did:plc:bob","more":"`+strings.Repeat("x", 5000)+`"}`)},
		{"huge header", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-More", strings.Repeat("x", 64<<10))
			text(200, `{"did":"did:plc:bob"}`)(w, r)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			view.says(tt.answers)
			f.Refused(f.Get("resolveHandle?handle=bob.example.com", ""), 400, "InvalidRequest", "Unable to resolve handle")
		})
	}
	view.Close()
	f.Refused(f.Get("resolveHandle?handle=bob.example.com", ""), 400, "InvalidRequest", "Unable to resolve handle")
	if asked := f.Internet.Asked(); len(asked) > 0 {
		t.Errorf("asked the world for %v", asked)
	}
}

// The longest DID that there is fits into what is read.
func TestResolveHandleByAppViewOfLongestDID(t *testing.T) {
	view := newAppView(t)
	did := syntax.DID("did:web:" + strings.Repeat("a", 2040))
	view.says(text(200, `{"did":"`+did.String()+`"}`))
	f := newFixture(t)
	f.Identity.AppView = identity.NewAppView(view.URL+"/", 0)
	if got := f.Accepted(f.Get("resolveHandle?handle=bob.example.com", "")).Text(t, "did"); got != did.String() {
		t.Errorf("resolved to %d bytes", len(got))
	}
}
