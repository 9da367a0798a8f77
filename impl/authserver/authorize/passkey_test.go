package authorize_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"portico/db"
	"portico/impl/account/factor/passkey/passkeytest"
	"portico/impl/account/factor/totp"
	"portico/impl/mail"
	"portico/impl/servertest"
)

// passkeyOf gives an account a passkey.
func passkeyOf(s *servertest.Server, u servertest.User) *passkeytest.Key {
	s.Helper()
	key := passkeytest.New(s, servertest.Endpoint, "pds.test")
	asked := servertest.Must(s.Factors.AskToAdd(s.Context(), u.DID, "phone", "a browser"))
	s.Check(s.Factors.Add(s.Context(), u.DID, "phone", "a browser", asked.State, key.Make(s, asked.Options)))
	return key
}

var (
	passkeyForm = regexp.MustCompile(`(?s)<form[^>]*id="sign-in-passkey"[^>]*data-get="([^"]*)".*?</form>`)
	statePart   = regexp.MustCompile(`name="passkey-state" value="([^"]*)"`)
	rememberOn  = regexp.MustCompile(`name="remember" value="yes"`)
)

// passkey is the page's form for passkeys with the answer of key, and other fields with name and
// value in turn.
func (b *browser) passkey(key *passkeytest.Key, fields ...string) url.Values {
	b.Helper()
	form := passkeyForm.FindStringSubmatch(b.page)
	if form == nil {
		b.Fatalf("%s asks for no passkey:\n%s", b.path, content(b.page))
	}
	filled := b.filled("/oauth/authorize/deny", fields...)
	filled.Set("passkey-state", html.UnescapeString(statePart.FindStringSubmatch(form[0])[1]))
	filled.Set("passkey-answer", key.Sign(b, html.UnescapeString(form[1])))
	return filled
}

// byPasskey sends what passkey returns.
func (b *browser) byPasskey(key *passkeytest.Key, fields ...string) *browser {
	b.Helper()
	return b.ask(http.MethodPost, "/oauth/authorize/sign-in", b.passkey(key, fields...))
}

func TestAPasskeyIsEnough(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	key := passkeyOf(s, u)
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).sees(200, "Sign in with a passkey")
	before := b.cookies[cookie]
	b.byPasskey(key).sees(200, "Let this app in?", "@alice.test")
	// Who had the cookie before is not signed in now.
	if after := b.cookies[cookie]; after == before || after == "" {
		t.Errorf("cookie %q after %q", after, before)
	}
	s.Accepted(app.Redeem(b.send("allow").code(app)))
	if app.DID != u.DID {
		t.Errorf("let in to %s", app.DID)
	}
	b.arrive(app).sees(200, "Sign in").misses("@alice.test") // nobody wanted it to be remembered
	b.byPasskey(key, "remember", "yes").sees(200, "Let this app in?")
	b.arrive(app).sees(200, "Let this app in?", "@alice.test")
	// The owner hears of a place that was not known.
	if letters := s.Letters(mail.KindNewPlace); len(letters) != 1 || !strings.Contains(letters[0].Text, "198.51.100.1") {
		t.Errorf("letters %v", letters)
	}
}

func TestAPasskeyInThePlaceOfTheCode(t *testing.T) {
	s := newServer(t)
	alice, bob := s.SignUp("alice"), s.SignUp("bob")
	key := passkeyOf(s, alice)
	secret := servertest.Must(totp.Read([]byte("12345678901234567890")))
	servertest.Must(s.Factors.Enable(t.Context(), alice.DID, secret, secret.Code(totp.StepAt(s.Now())-1)))
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(alice, "remember", "yes")
	b.sees(200, "Enter the code", "Your authenticator app shows the code.", "Use a passkey").misses("mailed", servertest.GoodPassword)
	b.send("code", "code", "000000").sees(400, "This code is wrong, or not good any more.", "Your authenticator app shows the code.").misses("mailed", "Token is invalid")
	if !rememberOn.MatchString(passkeyForm.FindString(b.page)) {
		t.Error("what was ticked before is forgotten")
	}
	b.byPasskey(key, "remember", "yes").sees(200, "Let this app in?", "@alice.test").send("allow").code(app)
	b.arrive(app).sees(200, "Let this app in?", "@alice.test")
	// That of one account opens no other, whoever was named before.
	o := open(s, "198.51.100.2").arrive(app, "login_hint", "bob.test").sees(200, `value="bob.test"`).byPasskey(key)
	o.sees(200, "@alice.test").misses("@bob.test")
	// With the code, and with the password alone where there is none.
	open(s, "198.51.100.3").arrive(app).signIn(alice).send("code", "code", secret.Code(totp.StepAt(s.Now()))).sees(200, "@alice.test")
	open(s, "198.51.100.4").arrive(app).signIn(bob).sees(200, "@bob.test")
	g := open(s, "198.51.100.5")
	g.language = "de"
	g.arrive(app).sees(200, "Mit einem Passkey anmelden", "Es wurde kein Passkey verwendet.")
	g.signIn(alice).sees(200, "Passkey verwenden", "Ihre Authenticator-App zeigt den Code.").misses("mailed", "authenticator app")
	g.send("code", "code", "000000").sees(400, "Dieser Code ist falsch, oder er gilt nicht mehr.").misses("Token")
}

func TestPasskeysThatLetNobodyIn(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	key := passkeyOf(s, u)
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app)
	fields := b.passkey(key)
	// What was asked of one browser is no answer of another.
	m := open(s, "192.0.2.66").arrive(app)
	stolen := m.filled("/oauth/authorize/deny", "passkey-answer", fields.Get("passkey-answer"), "passkey-state", fields.Get("passkey-state"))
	m.ask(http.MethodPost, "/oauth/authorize/sign-in", stolen).sees(403, "That took too long. Try again.", "Sign in").misses("@alice.test")
	// Nor with the browser's own question.
	stolen.Set("passkey-state", html.UnescapeString(statePart.FindStringSubmatch(m.page)[1]))
	m.ask(http.MethodPost, "/oauth/authorize/sign-in", stolen).sees(403, "This passkey opens no account here. Sign in with the password.").misses("@alice.test")
	// One answer signs in once, also in the browser that was asked.
	b.ask(http.MethodPost, "/oauth/authorize/sign-in", fields).sees(200, "Let this app in?")
	b.arrive(app)
	for name, value := range b.filled("/oauth/authorize/deny") {
		fields[name] = value
	}
	b.ask(http.MethodPost, "/oauth/authorize/sign-in", fields).sees(403, "That took too long. Try again.").misses("@alice.test")
	// Made for other places, by other authenticators, or by nobody who was there.
	for what, change := range map[string]func(k *passkeytest.Key){
		"another origin":     func(k *passkeytest.Key) { k.Origin = "https://evil.example" },
		"a handle's host":    func(k *passkeytest.Key) { k.Origin = "https://alice.test" },
		"an unknown passkey": func(k *passkeytest.Key) { *k = *passkeytest.New(t, k.Origin, k.Site); k.Handle = key.Handle },
		"nobody was there":   func(k *passkeytest.Key) { k.Flags &^= passkeytest.UserVerified },
		"in a frame":         func(k *passkeytest.Key) { k.CrossSite = true },
	} {
		wrong := *key
		change(&wrong)
		if b.arrive(app).byPasskey(&wrong); b.status != 403 || !strings.Contains(b.page, "This passkey opens no account here.") || strings.Contains(b.page, "alice") {
			t.Errorf("%s: %d\n%s", what, b.status, content(b.page))
		}
	}
	g := open(s, "198.51.100.5")
	g.language = "de"
	g.arrive(app).byPasskey(passkeytest.New(t, servertest.Endpoint, "pds.test")).sees(403, "Dieser Passkey öffnet hier kein Konto.")
}

func TestPasskeysOfAccountsThatAreNotOpen(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Quarantine = db.HeldUntilConfirmed })
	u := s.SignUp("alice")
	key := passkeyOf(s, u)
	app := s.NewApp("atproto")
	arrive := func() *browser { return open(s, "198.51.100.1").arrive(app) }
	b := arrive().byPasskey(key).sees(200, "Confirm your email address").misses("Let this app in?")
	b.ask(http.MethodPost, "/oauth/authorize/allow", b.filled("/oauth/authorize/confirm")).sees(403, "Confirm your email address")
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt, a.TakedownRef = nil, new("a reason") })
	t1 := arrive()
	before := t1.cookies[cookie]
	t1.byPasskey(key, "remember", "yes").sees(403, "This account has been taken down.").misses("@alice.test", "Let this app in?")
	if t1.cookies[cookie] != before {
		t.Error("a browser that is not let in got another cookie")
	}
	s.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = nil, new(s.Now()) })
	arrive().byPasskey(key).sees(200, "Let this app in?").send("allow").refused(app, "access_denied", "This account has been deactivated")
	s.Remove(u.DID)
	arrive().byPasskey(key).sees(403, "This passkey opens no account here.").misses("alice")
}
