package server_test

import (
	"strings"
	"testing"

	"portico/impl/audit"
	"portico/impl/servertest"
)

// Apps read of the address of an account what they were given.
func TestSessionOfApp(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	for scope, told := range map[string]bool{
		"atproto": false, "atproto transition:generic": false, "atproto account:email": true,
		"atproto account:email?action=manage": true, "atproto transition:email": true, "atproto account:status?action=manage": false,
	} {
		got := f.Accepted(f.LetIn(alice, scope).Get("getSession")).Fields(t)
		if got["did"] != alice.DID.String() || got["handle"] != "alice.test" || got["active"] != true {
			t.Errorf("%s: %v", scope, got)
		}
		_, confirmed := got["emailConfirmed"]
		if address, has := got["email"]; has != told || confirmed != told || told && address != "alice@example.com" {
			t.Errorf("%s: %v", scope, got)
		}
	}
}

// Which app did it is in the record.
func TestAppInTheRecord(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	app := f.LetIn(alice, "atproto identity:handle")
	f.Empty(app.Procedure("com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`))
	for _, e := range servertest.Must(f.DB.Audit(t.Context(), alice.DID, 10)) {
		if e.Event == audit.HandleChanged {
			if e.Actor != alice.DID.String() || !strings.HasSuffix(e.Detail, "app https://app.example/client.json") {
				t.Errorf("%s by %s: %q", e.Event, e.Actor, e.Detail)
			}
			return
		}
	}
	t.Error("nothing is recorded")
}

// An account that its owner deactivates has no apps any more; what an app deactivates has
// none with an app password, either.
func TestDeactivationEndsApps(t *testing.T) {
	f := newFixture(t)
	const status = "atproto account:status?action=manage"
	make := func(name string) (u user, app *servertest.App, password string) {
		u = f.SignUp(name)
		password = f.Accepted(f.Post("createAppPassword", `{"name":"phone"}`, u.Access)).Text(t, "password")
		return u, f.LetIn(u, status), password
	}

	alice, app, password := make("alice")
	f.Accepted(app.Get("getSession"))
	f.Empty(f.Post("deactivateAccount", `{}`, alice.Access))
	f.Refused(app.Get("getSession"), 401, "invalid_token", "Invalid token")
	f.Accepted(f.Get("getSession", alice.Access))
	f.Accepted(f.TrySignIn("alice.test", password))

	bob, app, password := make("bob")
	f.Refused(app.Procedure("deactivateAccount", `{"deleteAfter":"2030-01-01T00:00:00Z"}`), 403, "Forbidden",
		"Account deletion is not available with OAuth credentials")
	f.Accepted(app.Get("getSession"))
	phone := f.SignIn(bob, password)
	f.Empty(app.Procedure("deactivateAccount", `{}`))
	f.Refused(f.Post("refreshSession", "", phone.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Refused(app.Get("getSession"), 401, "invalid_token", "Invalid token")
	f.Accepted(f.Get("getSession", bob.Access))
	f.Refused(f.TrySignIn("bob.test", password), 401, "AuthenticationRequired", "Invalid identifier or password")
	if all := servertest.Must(f.Grants.Sessions(t.Context(), bob.DID)); len(all) > 0 {
		t.Errorf("%d sessions", len(all))
	}
}
