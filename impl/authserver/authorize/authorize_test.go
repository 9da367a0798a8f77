package authorize_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/authserver/authorize"
	"portico/impl/page"
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

// A browser that remembers an account is not enough for what cannot be undone.
func TestWhatIsGraveWantsAProof(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := open(s, "198.51.100.1").arrive(s.NewApp("atproto")).signIn(u, "remember", "yes")
	s.Advance(10 * time.Minute)
	b.arrive(s.NewApp("atproto transition:generic")).sees(200, "Let this app in?")
	app := s.NewConfidentialApp("app.example.com", "atproto identity:* account:repo?action=manage")
	for _, wants := range []string{"identity:*", "account:repo?action=manage"} {
		b.arrive(app, "scope", "atproto "+wants).sees(403, "Sign in again first.", `value="alice.test"`).misses("Let this app in?")
		b.signIn(u).sees(200, "Let this app in?").send("allow").code(app)
	}
}

func TestPrompts(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewConfidentialApp("app.example.com", "atproto transition:generic")
	public := s.NewApp("atproto")
	b := open(s, "198.51.100.1")
	b.arrive(app, "prompt", "create").sees(200, "Create an account", ".test")
	b.arrive(app, "prompt", "none", "login_hint", "alice.test").refused(app, "login_required", "Login is required")
	b.arrive(app, "login_hint", u.DID.String()).sees(200, `value="alice.test"`)
	// Whom strangers do not see has no handle here either.
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = new(s.Now()) })
	b.arrive(app, "login_hint", u.DID.String()).sees(200, "Sign in", `value="`+u.DID.String()+`"`).misses("alice.test")
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt, a.DeactivatedAt = nil, new(s.Now()) })
	b.arrive(app, "login_hint", u.DID.String()).sees(200, "Sign in").misses("alice.test")
	s.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = nil })
	b.signIn(u, "remember", "yes").sees(200, "Let this app in?")
	b.arrive(app, "prompt", "none", "login_hint", "alice.test").refused(app, "consent_required", "Consent is required")
	b.arrive(app, "prompt", "none").refused(app, "login_required", "Login is required")
	b.arrive(app, "login_hint", "alice.test").sees(200, "Let this app in?")
	s.Accepted(app.Redeem(b.send("allow").code(app)))
	// What was allowed is not asked for again, where the app proves who it is and names the account.
	b.arrive(app, "prompt", "none", "login_hint", "alice.test").code(app)
	b.arrive(app, "login_hint", u.DID.String()).code(app)
	b.arrive(app).sees(200, "Let this app in?")
	b.arrive(app, "prompt", "consent", "login_hint", "alice.test").sees(200, "Let this app in?")
	b.arrive(app, "prompt", "login", "login_hint", "alice.test").sees(200, "Sign in", `value="alice.test"`)
	b.arrive(app, "prompt", "select_account", "login_hint", "alice.test").sees(200, "Choose an account")
	b.arrive(app, "login_hint", "nobody.test").sees(200, "Sign in", `value="nobody.test"`)
	b.arrive(app, "max_age", "0", "login_hint", "alice.test").sees(200, "Sign in")
	open(s, "198.51.100.9").arrive(app, "login_hint", "alice.test").sees(200, "Sign in")
	// Anybody can say to be an app that proves nothing: it is always asked for.
	for range 2 {
		b.arrive(public, "login_hint", "alice.test").sees(200, "Let this app in?").send("allow").code(public)
	}
}

func TestResponseModes(t *testing.T) {
	s := newServer(t)
	app := s.NewConfidentialApp("app.example.com", "atproto")
	b := open(s, "198.51.100.1").arrive(app, "response_mode", "fragment", "state", `s&"<>#`).send("deny")
	if want := "https://app.example.com/callback#error=access_denied&error_description=The+user+rejected+the+request&iss=https%3A%2F%2Fpds.test&state=s%26%22%3C%3E%23"; b.sent != want {
		t.Errorf("sent to %s", b.sent)
	}
	b.arrive(app, "response_mode", "form_post", "state", `"><script>`).send("deny")
	b.sees(200, "You are being sent back to the app.", `action="https://app.example.com/callback"`, `name="iss" value="https://pds.test"`, `name="error" value="access_denied"`).misses(`"><script>`)
	if policy := b.header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action 'self' https://app.example.com https: http://127.0.0.1:* http://localhost:*;") {
		t.Errorf("policy %q", policy)
	}
	if f := b.filled("https://app.example.com/callback"); f.Get("state") != `"><script>` || f.Get("token") != "" || len(f) != 4 {
		t.Errorf("form %v", f)
	}
}

func TestConsentSaysWhatTheAppMayDo(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewConfidentialApp("app.example.com", "atproto account:email identity:* blob:image/* rpc:com.example.do?aud=did:web:x.example%23svc nonsense:here repo:com.example.note?action=create")
	b := open(s, "198.51.100.1").arrive(app).signIn(u).sees(200,
		"app.example.com", app.ID, "This can cost you your account.", "Change everything by which the network knows you", "Upload files of these kinds:", "image/*", "com.example.do",
		"did:web:x.example#svc", "com.example.note", "This server does not know what these mean, and they permit nothing:", "nonsense:here", "Let it read my email address")
	s.Accepted(app.Redeem(b.send("allow", "email", "-").code(app)))
	if strings.Contains(app.Granted, "account:email") || strings.Contains(app.Granted, "nonsense") || !strings.Contains(app.Granted, "blob:image/*") {
		t.Errorf("granted %q", app.Granted)
	}
	only := s.NewApp("atproto")
	b.arrive(only).signIn(u).sees(200, "It wants to know that this account is yours, and nothing else:").misses("What it may do")
}

// A permission set that says more than what was read is read again.
func TestASetThatGrewIsAskedForAgain(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	set := func(collections string) string {
		return `{"lexicon":1,"id":"com.example.set","defs":{"main":{"type":"permission-set","title":"<b>Notes</b>","title:lang":{"de":"Notizen"},"detail":"All about notes",` +
			`"permissions":[{"type":"permission","resource":"repo","collection":[` + collections + `]}]}}}`
	}
	s.PublishSet("com.example.set", set(`"com.example.note"`))
	app := s.NewConfidentialApp("app.example.com", "atproto include:com.example.set")
	b := open(s, "198.51.100.1").arrive(app).signIn(u, "remember", "yes")
	b.sees(200, "<b>Notes</b>", "All about notes", "com.example.set", "com.example.note").misses("<b>Notes")
	s.PublishSet("com.example.set", set(`"com.example.note","com.example.secret"`))
	b.send("allow").sees(409, "What the app asks for has changed since you read it. Look again.", "com.example.secret")
	b.send("allow").code(app)
	b.arrive(app, "login_hint", "alice.test").code(app)
	s.PublishSet("com.example.set", set(`"com.example.note","com.example.secret","com.example.more"`))
	b.arrive(app, "login_hint", "alice.test").sees(200, "Let this app in?", "com.example.more")
}

// Others who have many permission sets looked for do not end the request.
func TestASetThatCannotBeLookedForNow(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.PublishSet("com.example.set", `{"lexicon":1,"id":"com.example.set","defs":{"main":{"type":"permission-set","title":"Notes","permissions":[]}}}`)
	app := s.NewApp("atproto include:com.example.set")
	b := open(s, "198.51.100.1").arrive(app)
	s.SetsBusy(true)
	there := b.path
	b.signIn(u).sees(503, "The server is too busy just now. Try again")
	s.OAuthRefused(app.Push(nil), 503, "temporarily_unavailable", "The server is too busy just now")
	s.SetsBusy(false)
	b.get(there).signIn(u)
	s.SetsBusy(true)
	shown := *b
	b.send("allow").sees(503, "The server is too busy just now. Try again")
	s.SetsBusy(false)
	shown.send("allow").code(app)
}

func TestSignUp(t *testing.T) {
	s := newServer(t)
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).follow("to-sign-up").sees(200, "Create an account", "Invite code, if you have one")
	b.send("sign-up", "handle", "a b", "domain", ".test", "email", "carol@example.com", "password", servertest.GoodPassword).sees(400, "That cannot be a handle")
	b.send("sign-up", "handle", "carol", "domain", ".test", "email", "carol@example.com", "password", "5hort!").sees(400, "Password too short.").misses("5hort!")
	b.send("sign-up", "handle", "carol", "domain", ".test", "email", "carol@example.com", "password", servertest.GoodPassword).sees(200, "Let this app in?", "@carol.test")
	s.Accepted(app.Redeem(b.send("allow").code(app)))
	if apps := servertest.Must(s.DB.OpenSessions(t.Context(), app.DID, s.Now())); len(apps) != 0 {
		t.Errorf("%d sessions by password", len(apps))
	}
}

func TestReset(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).follow("to-reset").send("reset-request", "email", u.Email).sees(200, "If this address belongs to an account here")
	b.send("reset", "code", "AAAAA-AAAAA", "password", "another good password").sees(400, "This code is wrong, or not good any more.")
	b.send("reset", "code", s.Code("reset_password"), "password", "another good password").sees(200, "Your password is changed", "Sign in")
	b.signIn(u, "password", "another good password").sees(200, "Let this app in?").send("allow").code(app)
}

func TestTheEmailedCode(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(s.Now()), true })
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(u, "remember", "yes").sees(200, "A sign-in code was mailed").misses(servertest.GoodPassword)
	b.send("code", "code", "AAAAA-AAAAA").sees(400, "This code is wrong, or not good any more.", "Enter the code")
	b.send("code", "code", s.Code("sign_in")).sees(200, "Let this app in?").send("allow").code(app)
	b.arrive(app).sees(200, "Let this app in?") // it is remembered
}

func TestInQuarantineTheCodeComesFirst(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Quarantine = db.HeldUntilConfirmed })
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(u).sees(200, "Confirm your email address", u.Email).misses("Let this app in?")
	b.send("confirm", "code", "AAAAA-AAAAA").sees(400, "This code is wrong, or not good any more.")
	// Nor by a form that was made up.
	b.ask("POST", "/oauth/authorize/allow", b.filled("/oauth/authorize/confirm")).sees(403, "Confirm your email address")
	b.send("confirm", "code", s.Code("confirm_email")).sees(200, "Your account is not visible yet", "It is being announced")
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = nil })
	b.send("confirm").sees(200, "Let this app in?").send("allow").code(app)
}

func TestLanguages(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto transition:generic")
	b := open(s, "198.51.100.1")
	b.language = "de-AT,en;q=0.5"
	b.arrive(app).sees(200, `<html lang="de">`, "Anmelden", "Eine App auf diesem Gerät", "Zum Inhalt").misses("Sign in", "Password")
	b.signIn(u, "password", "wrong password").sees(403, "Name oder Passwort ist falsch.")
	b.signIn(u).sees(200, "Diese App hereinlassen?", "In Ihrem Namen handeln, bei jedem Dienst.")
	b.get("/oauth/authorize").sees(400, "Diese Adresse ist nicht vollständig.")
	b.language = "fr"
	b.get("/oauth/authorize").sees(400, `<html lang="en">`, "This address is not complete.")
}

func TestBranding(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) {
		o.Branding = page.Branding{LogoURL: "https://cdn.example/logo.png", TermsURL: "https://example.com/terms", Primary: &page.Color{R: 0xff, G: 0xee}}
	})
	b := open(s, "198.51.100.1").arrive(s.NewApp("atproto")).sees(200, `<img src="https://cdn.example/logo.png"`, "Terms of service", "https://example.com/terms")
	if policy := b.header.Get("Content-Security-Policy"); !strings.Contains(policy, "img-src data: https://cdn.example;") {
		t.Errorf("policy %q", policy)
	}
}

func TestACaptchaIsAskedForAtSignUpAlone(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) {
		o.Captcha = &authorize.Captcha{SiteKey: "a-site-key", Verify: func(_ context.Context, answer string, caller netip.Addr) (bool, error) {
			return answer == "good" && caller == netip.MustParseAddr("198.51.100.1"), nil
		}}
	})
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).misses("hcaptcha")
	if policy := b.header.Get("Content-Security-Policy"); strings.Contains(policy, "hcaptcha") {
		t.Errorf("policy %q", policy)
	}
	b.follow("to-sign-up").sees(200, `data-sitekey="a-site-key"`)
	if policy := b.header.Get("Content-Security-Policy"); !strings.Contains(policy, "frame-src https://hcaptcha.com https://*.hcaptcha.com") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	fields := []string{"handle", "carol", "domain", ".test", "email", "carol@example.com", "password", servertest.GoodPassword}
	b.send("sign-up", fields...).sees(403, "Show that you are no machine, and try again.")
	b.send("sign-up", append(fields, "h-captcha-response", "bad")...).sees(403, "Show that you are no machine, and try again.")
	b.send("sign-up", append(fields, "h-captcha-response", "good")...).sees(200, "@carol.test")
}
