//go:build interop

package interop

import (
	"context"
	"errors"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atclient"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// session is what the Go client looks at of the answers.
type session struct {
	DID    syntax.DID    `json:"did"`
	Handle syntax.Handle `json:"handle"`
	Email  string        `json:"email"`
	Active bool          `json:"active"`

	AccessJWT  string `json:"accessJwt"`
	RefreshJWT string `json:"refreshJwt"`
}

// clientInGo walks the same way as client.mjs with indigo's client.
func clientInGo(t *testing.T, server string) account {
	t.Helper()
	const create, get = syntax.NSID("com.atproto.server.createAccount"), syntax.NSID("com.atproto.server.getSession")
	ctx := t.Context()
	a := account{Handle: "go-client.test", Email: "go-client@example.com", Password: "battery horse correct"}

	var created session
	err := atclient.NewAPIClient(server).Post(ctx, create, map[string]string{"handle": a.Handle, "email": a.Email, "password": a.Password}, &created)
	if err != nil {
		t.Fatal(err)
	}
	a.DID = created.DID
	if created.Handle.String() != a.Handle {
		t.Errorf("created %s, want %s", created.Handle, a.Handle)
	}

	kept := 0
	client := atclient.ResumePasswordSession(atclient.PasswordSessionData{
		AccessToken: created.AccessJWT, RefreshToken: created.RefreshJWT, AccountDID: created.DID, Host: server,
	}, func(context.Context, atclient.PasswordSessionData) { kept++ })
	getSession := func(step string) {
		t.Helper()
		var s session
		if err := client.Get(ctx, get, nil, &s); err != nil {
			t.Fatalf("%s: getSession: %v", step, err)
		}
		if s.DID != a.DID || s.Handle.String() != a.Handle || s.Email != a.Email || !s.Active {
			t.Errorf("%s: getSession: %+v", step, s)
		}
	}
	getSession("resumed")

	auth := client.Auth.(*atclient.PasswordAuth)
	_, before := auth.GetTokens()
	if err := auth.Refresh(ctx, client.Client, before); err != nil {
		t.Fatal(err)
	}
	if _, after := auth.GetTokens(); after == before || kept != 1 {
		t.Errorf("refreshed %d times, refresh token the same: %v", kept, after == before)
	}
	getSession("refreshed")

	_, over := auth.GetTokens()
	if err := auth.Logout(ctx, client.Client); err != nil {
		t.Fatal(err)
	}
	var refused *atclient.APIError
	if err := auth.Refresh(ctx, client.Client, over); !errors.As(err, &refused) || refused.StatusCode != 400 || refused.Name != "ExpiredToken" {
		t.Errorf("refresh after logout: %v", err)
	}

	client, err = atclient.LoginWithPasswordHost(ctx, server, a.Handle, a.Password, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	getSession("logged in")
	_, err = atclient.LoginWithPasswordHost(ctx, server, a.Handle, "wrong "+a.Password, "", nil)
	if !errors.As(err, &refused) || refused.StatusCode != 401 || refused.Name != "AuthenticationRequired" {
		t.Errorf("login with a wrong password: %v", err)
	}
	return a
}
