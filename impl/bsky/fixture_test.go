package bsky_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// newServer is a server with an app view.
func newServer(t *testing.T, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	return servertest.New(t, append([]func(*servertest.Options){inActor}, change...)...)
}

// inActor lets a server have an app view, and completes names by app.bsky.actor.
func inActor(o *servertest.Options) { o.AppView, o.Namespace = true, "app.bsky.actor" }

// A said is what a service token says of who calls what.
type said struct{ Iss, Aud, Lxm string }

// tokenOf is what the service token of a request says.
func tokenOf(t *testing.T, a servertest.Asked) said {
	t.Helper()
	part := strings.Split(strings.TrimPrefix(a.Header.Get("Authorization"), "Bearer "), ".")
	if len(part) != 3 {
		t.Fatalf("authorization %q", a.Header.Get("Authorization"))
	}
	raw, err := base64.RawURLEncoding.DecodeString(part[1])
	var claims said
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
