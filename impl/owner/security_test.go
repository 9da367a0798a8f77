package owner_test

import (
	"encoding/base32"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/account/factor/totp"
	"portico/impl/servertest"
)

var (
	keyPattern  = regexp.MustCompile(`<code>([A-Z2-7]{32})</code>`)
	codePattern = regexp.MustCompile(`<li><code>([A-Z2-7]{5}-[A-Z2-7]{5})</code></li>`)
)

// app is the secret of the authenticator app that b is shown.
func app(t *testing.T, b *browser) totp.Secret {
	t.Helper()
	found := keyPattern.FindStringSubmatch(b.page)
	if found == nil {
		t.Fatalf("no key on the page:\n%s", b.page)
	}
	return servertest.Must(totp.Read(servertest.Must(base32.StdEncoding.DecodeString(found[1]))))
}

// turnOn gives u an authenticator app, and returns it with the recovery codes.
func turnOn(t *testing.T, s *servertest.Server, b *browser) (totp.Secret, []string) {
	t.Helper()
	b.get("/account/security").send("/account/security/app").sees(200, "Set up an authenticator app", "<svg class=\"qr\"")
	secret := app(t, b)
	b.send("/account/security/app-on", "code", secret.Code(totp.StepAt(s.Now()))).sees(200, "The authenticator app is on.")
	var codes []string
	for _, found := range codePattern.FindAllStringSubmatch(b.page, -1) {
		codes = append(codes, found[1])
	}
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes", len(codes))
	}
	return secret, codes
}

func TestAnAuthenticatorAppIsTurnedOnByItsCode(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	b := in(s, u, "198.51.100.1").get("/account/security").sees(200, "It is <strong>off</strong>")
	b.send("/account/security/app").sees(200, "Set up an authenticator app")
	secret := app(t, b)
	step := totp.StepAt(s.Now())
	b.send("/account/security/app-on", "code", secret.Code(step-2)).sees(400, "This is not the code that the app shows now.")
	if app(t, b) != secret {
		t.Error("the page asks for another app")
	}
	b.send("/account/security/app-on", "code", " "+secret.Code(step)[:3]+" "+secret.Code(step)[3:]).sees(200, "The authenticator app is on.", "Recovery codes left: <strong>10</strong>")
	shown := codePattern.FindAllStringSubmatch(b.page, -1)
	b.get("/account/security").sees(200, "It is <strong>on</strong>").misses(shown[0][1])
	if l := s.Letters("factors_changed"); len(l) != 1 || l[0].To != "alice@example.com" || !strings.Contains(l[0].Text, "now also asks for a code of your authenticator app") {
		t.Errorf("letters %v", l)
	}

	// The code that turned it on does not sign in.
	c := open(s, "198.51.100.2").signIn(u, servertest.GoodPassword).sees(200, "Your authenticator app shows the code").misses("mailed")
	c.send("/account/sign-in", "code", secret.Code(step)).sees(400, "Token is invalid", "Your authenticator app shows the code")
	c.send("/account/sign-in", "code", secret.Code(step+1)).sees(200, "Your account")
	s.Advance(30 * time.Second)
	c = open(s, "198.51.100.2").signIn(u, servertest.GoodPassword)
	c.send("/account/sign-in", "code", secret.Code(step+1)).sees(400, "Token is invalid")
	c.send("/account/sign-in", "code", strings.ToLower(strings.ReplaceAll(shown[3][1], "-", " "))).sees(200, "Your account")
	c.get("/account/security").sees(200, "Recovery codes left: <strong>9</strong>")
	c = open(s, "198.51.100.2").signIn(u, servertest.GoodPassword)
	c.send("/account/sign-in", "code", shown[3][1]).sees(400, "Token is invalid")
	if n := len(s.Letters("sign_in")); n != 0 {
		t.Errorf("%d codes were mailed", n)
	}

	// A proof asks for it, too, and to turn it off takes one.
	s.Advance(10 * time.Minute)
	b.get("/account/security").send("/account/security/app-off").sees(200, "Enter your password again")
	b.send("/account/security/app-off", "proof-password", servertest.GoodPassword).sees(200, "The authenticator app of @alice.test shows the code")
	b.send("/account/security/app-off", "proof-code", "000000").sees(400, "Token is invalid")
	b.send("/account/security/app-off", "proof-code", secret.Code(totp.StepAt(s.Now()))).sees(200, "no longer asks for a code", "It is <strong>off</strong>")
	open(s, "198.51.100.2").signIn(u, servertest.GoodPassword).sees(200, "Your account")
	b.send("/account/security/app").sees(200, "Set up")
}

// A secret waits in the page for its first code: for this browser and account alone, and not for
// long.
func TestASecretThatWaitsIsBound(t *testing.T) {
	s := newServer(t)
	u, other := s.SignUp("alice"), s.SignUp("bob")
	b := in(s, u, "198.51.100.1").get("/account/security").send("/account/security/app")
	sealed := html.UnescapeString(regexp.MustCompile(`name="secret" value="([^"]*)"`).FindStringSubmatch(b.page)[1])
	secret := app(t, b)
	code := func() string { return secret.Code(totp.StepAt(s.Now())) }
	for name, c := range map[string]*browser{"of another": in(s, other, "198.51.100.2"), "in another browser": in(s, u, "198.51.100.3")} {
		c.get("/account/security").send("/account/security/app")
		c.send("/account/security/app-on", "secret", sealed, "code", code()).sees(403, "That took too long. Begin anew.")
		if _, err := s.DB.TOTP(t.Context(), other.DID); err == nil {
			t.Errorf("%s: it is on", name)
		}
	}
	b.send("/account/security/app-on", "secret", "x", "code", code()).sees(403, "That took too long. Begin anew.")
	b.get("/account/security").send("/account/security/app")
	secret = app(t, b)
	s.Advance(15 * time.Minute)
	b.send("/account/security/app-on", "code", code()).sees(200, "Enter your password again")
	b.send("/account/security/app-on", "proof-password", servertest.GoodPassword).sees(403, "That took too long. Begin anew.")
}

func TestNewRecoveryCodesReplaceTheOld(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/security")
	b.ask(http.MethodPost, "/account/security/codes", form("token", tokenPattern.FindStringSubmatch(b.page)[1]))
	b.sees(400, "There is no authenticator app any more.")
	_, before := turnOn(t, s, b)
	b.get("/account/security").send("/account/security/codes").sees(200, "These are your recovery codes.")
	after := codePattern.FindAllStringSubmatch(b.page, -1)
	c := open(s, "198.51.100.2").signIn(u, servertest.GoodPassword)
	c.send("/account/sign-in", "code", before[0]).sees(400, "Token is invalid")
	c.send("/account/sign-in", "code", after[0][1]).sees(200, "Your account")
}
