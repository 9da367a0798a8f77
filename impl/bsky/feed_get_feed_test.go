package bsky_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"portico/impl/account/token"
	"portico/impl/proxy"
	"portico/impl/servertest"
)

const (
	getFeed   = "app.bsky.feed.getFeed?feed=at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.generator/cats&limit=7"
	generator = "did:web:cats.example"
	record    = `{"uri":"at://x","cid":"y","value":{"$type":"app.bsky.feed.generator","did":"did:web:cats.example"}}`
	noFeed    = "could not resolve feed did"
)

// feeds is an app view that has the record of a feed, and the feed.
func feeds(status int, record, feed string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/xrpc/com.atproto.repo.getRecord" {
			servertest.Answers(status, record)(w, r)
			return
		}
		servertest.Answers(200, feed, "Atproto-Repo-Rev", "3kw")(w, r)
	}
}

// claims are what the service token of a request says.
func claims(t testing.TB, r servertest.Asked) (c struct{ Iss, Aud, Lxm string }) {
	t.Helper()
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), ".")
	payload, _, _ := strings.Cut(rest, ".")
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || json.Unmarshal(text, &c) != nil {
		t.Fatalf("authorization %q: %v", r.Header.Get("Authorization"), err)
	}
	return c
}

func withAppView(o *servertest.Options) { o.AppView = true }

// The app view gets the query as it came, with a token for the generator that its own
// record of the feed names, which nobody signs in to be asked for.
func TestGetFeed(t *testing.T) {
	s := servertest.New(t, withAppView)
	alice := s.SignUp("alice")
	const feed = `{"feed":[{"post":"whatever"}],"cursor":"x"}`
	s.AppView.Says(feeds(200, record, feed))
	a := s.Accepted(s.Get(getFeed, alice.Access, "Accept-Language: de"))
	if a.Body != feed || a.Header.Get("Atproto-Repo-Rev") != "3kw" {
		t.Errorf("%s, %v", a.Body, a.Header)
	}
	asked := s.AppView.Asked()
	if len(asked) != 2 {
		t.Fatalf("%d requests", len(asked))
	}
	if r := asked[0]; r.RequestURI != "/xrpc/com.atproto.repo.getRecord?collection=app.bsky.feed.generator&repo=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz&rkey=cats" ||
		r.Header.Get("Authorization") != "" {
		t.Errorf("%s with %q", r.RequestURI, r.Header.Get("Authorization"))
	}
	if r := asked[1]; r.RequestURI != "/xrpc/"+getFeed || r.Header.Get("Accept-Language") != "de" {
		t.Errorf("%s, %v", r.RequestURI, r.Header)
	}
	if c := claims(t, asked[1]); c.Iss != alice.DID.String() || c.Aud != generator || c.Lxm != "app.bsky.feed.getFeedSkeleton" {
		t.Errorf("%+v", c)
	}
}

// The token is the generator's, and so has the permission to be: that for the app view, or for a service
// of the app's own that it sends the query to, is none.
func TestAppsMayAskGeneratorsThatTheyMayCall(t *testing.T) {
	s := servertest.New(t, withAppView)
	alice := s.SignUp("alice")
	s.AppView.Says(feeds(200, record, `{}`))
	const scope = "atproto rpc:app.bsky.feed.getFeed?aud=did:web:appview.example%23bsky_appview rpc:app.bsky.feed.getFeedSkeleton?aud="
	s.Refused(s.LetIn(alice, scope+"did:web:appview.example%23bsky_appview").Call("GET", getFeed, ""), 403, "ScopeMissingError",
		`Missing required scope "rpc:app.bsky.feed.getFeedSkeleton?aud=did:web:cats.example%23bsky_fg"`)
	if n := len(s.AppView.Asked()); n != 1 {
		t.Errorf("%d requests to the app view, want that for the record", n)
	}
	s.Accepted(s.LetIn(alice, scope+"did:web:cats.example%23bsky_fg").Call("GET", getFeed, ""))
}

// With atproto-proxy the query goes elsewhere; the record is the app view's all the same.
func TestGetFeedElsewhere(t *testing.T) {
	s := servertest.New(t, withAppView)
	alice := s.SignUp("alice")
	s.AppView.Says(feeds(200, record, `{}`))
	other := s.NewUpstream("did:web:other.example", proxy.AppViewID)
	other.Says(servertest.Answers(200, `{"feed":[]}`))
	if a := s.Accepted(s.Get(getFeed, alice.Access, "Atproto-Proxy: did:web:other.example#bsky_appview")); a.Body != `{"feed":[]}` {
		t.Error(a.Body)
	}
	there, here := other.Asked(), s.AppView.Asked()
	if len(there) != 1 || len(here) != 1 {
		t.Fatalf("%d requests there, %d to the app view", len(there), len(here))
	}
	if c := claims(t, there[0]); c.Iss != alice.DID.String() || c.Aud != generator || c.Lxm != "app.bsky.feed.getFeedSkeleton" {
		t.Errorf("%+v", c)
	}
	s.Refused(s.Get(getFeed, alice.Access, "Atproto-Proxy: did:web:other.example"), 400, "InvalidRequest", "no service id specified in proxy header")
	if n := len(s.AppView.Asked()); n != 0 {
		t.Errorf("%d requests for a header that is wrong", n)
	}
}

// A record that names no generator is an unknown feed; other failures are the app view's.
func TestGetFeedOfNobody(t *testing.T) {
	s := servertest.New(t, withAppView)
	alice := s.SignUp("alice")
	for _, tt := range []struct {
		name, query    string
		status         int
		record         string
		want           int
		error, message string
	}{
		{"no DID", getFeed, 200, `{"value":{}}`, 400, "UnknownFeed", noFeed},
		{"a number", getFeed, 200, `{"value":{"did":5}}`, 400, "UnknownFeed", noFeed},
		{"a handle", getFeed, 200, `{"value":{"did":"cats.example"}}`, 400, "UnknownFeed", noFeed},
		{"no value", getFeed, 200, `{}`, 400, "UnknownFeed", noFeed},
		{"a list", getFeed, 200, `[]`, 400, "UnknownFeed", noFeed},
		{"no record", getFeed, 400, `{"error":"RecordNotFound","message":"Could not locate record"}`, 400, "RecordNotFound", "Could not locate record"},
		{"500", getFeed, 500, `{"error":"InternalServerError","message":"Oh"}`, 502, "InternalServerError", "Oh"},
		{"a repository", "app.bsky.feed.getFeed?feed=at://alice.test", 200, record, 400, "UnknownFeed", noFeed},
		{"a collection", "app.bsky.feed.getFeed?feed=at://alice.test/app.bsky.feed.generator", 200, record, 400, "UnknownFeed", noFeed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			s.AppView.Says(feeds(tt.status, tt.record, `{"feed":[]}`))
			s.Refused(s.Get(tt.query, alice.Access), tt.want, tt.error, tt.message)
			for _, r := range s.AppView.Asked() {
				if strings.Contains(r.URL.Path, "getFeed") {
					t.Errorf("asked for %s", r.URL)
				}
			}
		})
	}
}

// A stranger makes nobody be asked, nor does who was taken down; a deactivated account may read.
func TestGetFeedIsForAccounts(t *testing.T) {
	s := servertest.New(t, withAppView)
	s.AppView.Says(feeds(200, record, `{"feed":[]}`))
	alice := s.SignUp("alice")
	s.Refused(s.Get("app.bsky.feed.getFeed?feed=x", alice.Access), 400, "InvalidRequest", "Invalid app.bsky.feed.getFeed params: Invalid at-uri (got \"x\")")
	s.Refused(s.Get(getFeed), 401, "AuthMissing", "Authentication Required")
	s.Refused(s.Get(getFeed, s.Scoped(alice, token.Takendown)), 400, "InvalidToken", "Bad token scope")
	s.Accepted(s.Get(getFeed, s.Scoped(alice, token.AppPass)))
	s.Deactivate(alice.DID)
	s.Accepted(s.Get(getFeed, alice.Access))
	s.AppView.Asked()
	s.TakeDown(alice.DID)
	s.Refused(s.Get(getFeed, alice.Access), 401, "AccountTakedown", "Account has been taken down")
	if n := len(s.AppView.Asked()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Without an app view there are no feeds, but where a client knows of one.
func TestGetFeedWithoutAppView(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	s.Refused(s.Get(getFeed, alice.Access), 400, "InvalidRequest", "No service configured for app.bsky.feed.getFeed")
	other := s.NewUpstream("did:web:other.example", proxy.AppViewID)
	s.Accepted(s.Get(getFeed, alice.Access, "Atproto-Proxy: did:web:other.example#bsky_appview"))
	if asked := other.Asked(); len(asked) != 1 || claims(t, asked[0]).Aud != "did:web:other.example" {
		t.Errorf("%d requests", len(asked))
	}
}
