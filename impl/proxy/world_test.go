package proxy_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/servertest"
)

// A method of each kind that is served by nobody here.
const (
	query     = "app.bsky.feed.getLikes"
	procedure = "app.bsky.graph.muteActor"
)

func withAppView(o *servertest.Options) { o.AppView = true }

// world is a server with an app view and somebody who is signed in.
type world struct {
	*servertest.Server
	alice servertest.User
}

func newWorld(t *testing.T, change ...func(*servertest.Options)) world {
	t.Helper()
	s := servertest.New(t, append([]func(*servertest.Options){withAppView}, change...)...)
	return world{s, s.SignUp("alice")}
}

// sub runs a subtest, which fails where something of the world does.
func (w world) sub(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	defer func(before testing.TB) { w.TB = before }(w.TB)
	t.Run(name, func(t *testing.T) {
		w.TB = t
		f(t)
	})
}

// one is the only request that has reached u since it was asked last.
func one(t *testing.T, u *servertest.Upstream) servertest.Asked {
	t.Helper()
	asked := u.Asked()
	if len(asked) != 1 {
		t.Fatalf("%d requests came to %s, want one", len(asked), u.Service)
	}
	return asked[0]
}

// nobody checks that no request has reached u.
func nobody(t *testing.T, u *servertest.Upstream) {
	t.Helper()
	for _, a := range u.Asked() {
		t.Errorf("%s %s came to %s", a.Method, a.RequestURI, u.Service)
	}
}

// A serviceToken is what a request to a service brings along.
type serviceToken struct {
	Header  string // as JSON
	Iat     int64
	Iss     syntax.DID
	Aud     string
	Exp     int64
	Lxm     string
	Jti     string
	payload string // as JSON
}

// tokenOf reads the token of a request, which did must have signed.
func (w world) tokenOf(r *http.Request, did syntax.DID) serviceToken {
	w.Helper()
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(text, ".")
	if !ok || len(parts) != 3 {
		w.Fatalf("Authorization %q", r.Header.Get("Authorization"))
	}
	decode := func(s string) []byte { return servertest.Must(base64.RawURLEncoding.DecodeString(s)) }
	t := serviceToken{Header: string(decode(parts[0])), payload: string(decode(parts[1]))}
	w.Check(json.Unmarshal([]byte(t.payload), &t))
	key := servertest.Must(atcrypto.ParsePublicDIDKey(w.SigningKey(did)))
	if err := key.HashAndVerify([]byte(parts[0]+"."+parts[1]), decode(parts[2])); err != nil {
		w.Errorf("token of %s: %v", did, err)
	}
	return t
}
