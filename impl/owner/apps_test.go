package owner_test

import (
	"testing"
	"time"

	"portico/impl/servertest"
)

func TestAppsAreListedAndSignedOut(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/apps").sees(200, "There are none.")
	local := s.NewApp("atproto identity:* repo:com.example.post?action=create")
	local.SignIn(u)
	s.Advance(time.Minute)
	other := s.NewConfidentialApp("app.example.com", "atproto transition:generic")
	other.SignIn(u)
	mallory := s.SignUp("mallory")
	s.NewApp("atproto").SignIn(mallory)

	b.get("/account/apps").sees(200, "http://localhost?redirect_uri=", "on a device, under development", "Your whole identity", "com.example.post",
		"https://app.example.com/oauth-client-metadata.json", "Act in your name towards any service.", "from 192.0.2.1 with a browser")
	sessions := servertest.Must(s.Grants.Sessions(t.Context(), u.DID))
	if len(sessions) != 2 {
		t.Fatalf("%d sessions", len(sessions))
	}
	// Nobody else can end them.
	m := in(s, mallory, "192.0.2.66").get("/account/apps")
	for _, session := range sessions {
		m.send("/account/apps/end", "session", encode(session.ID))
		m = in(s, mallory, "192.0.2.66")
		s.NewApp("atproto").SignIn(mallory)
		m.get("/account/apps")
	}
	s.Accepted(other.Get("com.atproto.server.getSession"))
	b.send("/account/apps/end", "session", encode(sessions[0].ID)).sees(200, "The app is signed out.").misses("app.example.com")
	s.Refused(other.Get("com.atproto.server.getSession"), 401, "invalid_token", "Invalid token")
	s.OAuthRefused(other.Renew(), 400, "invalid_grant", "Invalid refresh token")
	s.Accepted(local.Get("com.atproto.server.getSession"))
	// Once more, or what was never there, leaves no trace.
	before := len(servertest.Must(s.DB.Audit(t.Context(), u.DID, 100)))
	for _, id := range []string{encode(sessions[0].ID), "", "!", "AAAA"} {
		b.send("/account/apps/end", "session", id).sees(200, "The app is signed out.")
	}
	if after := servertest.Must(s.DB.Audit(t.Context(), u.DID, 100)); len(after) != before {
		t.Errorf("entries %+v", after)
	}
	// Ending all others ends them too.
	b.get("/account/sessions").sees(200, "This also signs out all apps").send("/account/sessions/end-others").sees(200, "All other sessions are ended.")
	s.Refused(local.Get("com.atproto.server.getSession"), 401, "invalid_token", "Invalid token")
	b.get("/account/apps").sees(200, "There are none.")
}

func TestEndOthersIsOfferedForAppsAlone(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	b.get("/account/sessions").send("/account/sessions/end-others").sees(200, "All other sessions are ended.").misses("end-others")
	s.Advance(time.Minute)
	s.NewApp("atproto").SignIn(u)
	b.get("/account/sessions").send("/account/sessions/end-others").sees(200, "All other sessions are ended.").misses("end-others")
	if left := servertest.Must(s.Grants.Sessions(t.Context(), u.DID)); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
}

func TestTheNameOfAnAppIsItsAddressUnlessItIsTrusted(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	s.NewConfidentialApp("app.example.com", "atproto").SignInAs(u, "")
	s.NewConfidentialApp("known.example.com", "atproto").SignInAs(u, "<script>Bluesky")
	b.get("/account/apps").sees(200, "<strong><bdi>https://app.example.com/oauth-client-metadata.json</bdi></strong>",
		"<strong><bdi><script>Bluesky</bdi></strong>", `<p class="hint"><bdi>https://known.example.com/oauth-client-metadata.json</bdi></p>`).misses("<script>Bluesky", "An App")
}

func TestBrowsersThatRememberAreListedAndForget(t *testing.T) {
	s := newServer(t)
	u, mallory := s.SignUp("alice"), s.SignUp("mallory")
	remember := func(browser string, u servertest.User) {
		t.Helper()
		s.Check(s.Grants.Remember(t.Context(), []byte(browser), u.DID, s.Now(), "203.0.113.7", "Browser <"+browser+">"))
	}
	remember("one", u)
	remember("two", u)
	remember("one", mallory)
	b := in(s, u, "198.51.100.1").get("/account/apps").sees(200, "Browser <one>", "Browser <two>", "from 203.0.113.7").misses("<one>")
	browsers := servertest.Must(s.Grants.Browsers(t.Context(), u.DID))
	first := browsers[0]
	m := in(s, mallory, "192.0.2.66").get("/account/apps")
	for _, other := range browsers {
		if other.Agent == "Browser <two>" {
			m.send("/account/apps/forget", "browser", encode(other.ID))
		}
	}
	if left := servertest.Must(s.Grants.Browsers(t.Context(), u.DID)); len(left) != 2 {
		t.Errorf("others let browsers forget: %+v", left)
	}
	b.send("/account/apps/forget", "browser", encode(first.ID)).sees(200, "The browser has forgotten your account.")
	if left := servertest.Must(s.Grants.Browsers(t.Context(), u.DID)); len(left) != 1 || left[0].Agent == first.Agent {
		t.Errorf("left are %+v", left)
	}
	if left := servertest.Must(s.Grants.Browsers(t.Context(), mallory.DID)); len(left) != 1 {
		t.Errorf("of another account: %+v", left)
	}
	before := len(servertest.Must(s.DB.Audit(t.Context(), u.DID, 100)))
	for _, id := range []string{encode(first.ID), "", "!"} {
		b.send("/account/apps/forget", "browser", id)
	}
	if after := servertest.Must(s.DB.Audit(t.Context(), u.DID, 100)); len(after) != before {
		t.Errorf("entries %+v", after)
	}
	// It does not outlast a new password.
	s.Empty(s.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	s.Empty(s.Post("resetPassword", `{"token":"`+s.Code("reset_password")+`","password":"another password"}`))
	b.signIn(u, "another password").get("/account/apps").sees(200, "There are none.").misses("Browser &lt;")
}

func TestAppsAskForThePassword(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.NewApp("atproto").SignIn(u)
	s.Check(s.Grants.Remember(t.Context(), []byte("one"), u.DID, s.Now(), "203.0.113.7", "x"))
	b := in(s, u, "198.51.100.1")
	s.Advance(10 * time.Minute)
	for _, path := range []string{"/account/apps/end", "/account/apps/forget"} {
		b.get("/account/apps").send(path).sees(200, "Enter your password again")
	}
}
