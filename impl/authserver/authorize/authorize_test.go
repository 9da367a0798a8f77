package authorize_test

import (
	"strings"
	"testing"
	"time"

	"portico/impl/servertest"
)

func TestSignInAllowAndGetTokens(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto transition:generic")
	b := open(s, "198.51.100.1").arrive(app).sees(200, "Sign in", "An app on this device", app.ID, "pds.test")
	b.signIn(u, "password", "wrong password").sees(403, "Invalid identifier or password")
	b.signIn(u).sees(200, "Let this app in?", "@alice.test", u.DID.String(), "Act in your name towards any service.")
	s.Accepted(app.Redeem(b.send("allow").code(app)))
	if app.DID != u.DID || app.Granted != "atproto transition:generic" {
		t.Errorf("%s got %q", app.DID, app.Granted)
	}
	// The session by which it was proved does not stay.
	if apps := servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now())); len(apps) != 1 {
		t.Errorf("%d sessions by password, want that of the sign-up", len(apps))
	}
}

func TestDenyTellsTheApp(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1")
	for name, deny := range map[string]func(){
		"before the sign-in": func() { b.arrive(app).send("deny") },
		"after it":           func() { b.arrive(app).signIn(u).sees(200, "Deny").send("deny") },
	} {
		t.Run(name, func(*testing.T) {
			deny()
			b.refused(app, "access_denied", "The user rejected the request")
		})
	}
}

// Without being remembered a sign-in is good for one request, in one browser, for 15 minutes.
func TestASignInIsForOneRequest(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(u).sees(200, "Let this app in?")
	allow := b.filled("/oauth/authorize/allow")
	// Another request of the same browser.
	other := b.arrive(app).sees(200, "Sign in").filled("/oauth/authorize/sign-in")
	other.Set("ticket", allow.Get("ticket"))
	b.ask("POST", "/oauth/authorize/allow", other).sees(403, "That took too long. Sign in again.")
	// The request goes on where it was.
	b.ask("POST", "/oauth/authorize/allow", allow).code(app)
	// Too late; the request lasts less long than that by itself.
	b.arrive(app).signIn(u)
	s.Advance(15 * time.Minute)
	b.send("allow").refused(app, "access_denied", "This request has expired")
}

func TestARememberedAccount(t *testing.T) {
	s := newServer(t)
	alice, bob := s.SignUp("alice"), s.SignUp("bob")
	app := s.NewApp("atproto transition:generic")
	b := open(s, "198.51.100.1").arrive(app).signIn(alice, "remember", "yes").sees(200, "Let this app in?")
	if line := b.header.Get("Set-Cookie"); !strings.Contains(line, "; Max-Age=34560000; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("cookie %q", line)
	}
	s.Accepted(app.Redeem(b.send("allow").code(app)))
	// The next time no password is asked for, but the owner is.
	b.arrive(app).sees(200, "Let this app in?", "@alice.test").send("allow").code(app)
	// Another one, and a choice from then on.
	b.arrive(app).follow("to-sign-in").signIn(bob, "remember", "yes").sees(200, "@bob.test").send("allow").code(app)
	b.arrive(app).sees(200, "Choose an account", "@alice.test", "@bob.test")
	b.send("choose", "did", alice.DID.String()).sees(200, "Let this app in?", "@alice.test")
	b.arrive(app).send("forget", "did", bob.DID.String()).sees(200, "The account is not remembered here any more.", "Let this app in?", "@alice.test")
	// Nobody else's browser can name them.
	m := open(s, "192.0.2.66").arrive(app).sees(200, "Sign in").misses("alice.test")
	form := m.filled("/oauth/authorize/deny", "did", alice.DID.String())
	m.ask("POST", "/oauth/authorize/choose", form).sees(403, "This account is not remembered here. Sign in.")
	// After a week they prove again who they are.
	s.Advance(7*24*time.Hour - time.Second)
	b.arrive(app).sees(200, "Let this app in?")
	s.Advance(time.Second)
	b.arrive(app).misses("Let this app in?")
}
