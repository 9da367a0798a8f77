package owner_test

import (
	"encoding/base32"
	"html"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/account/factor/passkey/passkeytest"
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

var (
	optionsPattern = regexp.MustCompile(`data-(?:get|make)="([^"]*)"`)
	removePattern  = regexp.MustCompile(`name="passkey" value="([^"]*)"`)
)

// options are what the page asks a passkey with.
func options(t *testing.T, b *browser) string {
	t.Helper()
	found := optionsPattern.FindStringSubmatch(b.page)
	if found == nil {
		t.Fatalf("no question to passkeys on\n%s", main(b.page))
	}
	return html.UnescapeString(found[1])
}

// add gives the account that b is signed in to a passkey.
func add(t *testing.T, b *browser, name string) *passkeytest.Key {
	t.Helper()
	k := passkeytest.New(t, servertest.Endpoint, "pds.test")
	b.get("/account/security").send("/account/security/passkey").sees(200, "Add a passkey")
	b.send("/account/security/passkey-add", "name", name, "made-answer", k.Make(t, options(t, b))).sees(200, "The passkey is added.", name)
	return k
}

// byPasskey sends the form of the page that signs in with a passkey.
func (b *browser) byPasskey(t *testing.T, k *passkeytest.Key) *browser {
	t.Helper()
	return b.answering(t, k.Sign(t, options(t, b)))
}

func (b *browser) answering(t *testing.T, answer string) *browser {
	t.Helper()
	state := regexp.MustCompile(`name="passkey-state" value="([^"]*)"`).FindStringSubmatch(b.page)[1]
	return b.ask(http.MethodPost, "/account/sign-in", form("token", tokenPattern.FindStringSubmatch(b.page)[1], "passkey-state", state, "passkey-answer", answer))
}

func TestAPasskeySignsInAlone(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	b := in(s, u, "198.51.100.1").get("/account/security").sees(200, "There are none.")
	k := add(t, b, "My <phone>")
	b.sees(200, "My <phone>", "not used yet").misses("My <phone>")
	if l := s.Letters("factors_changed"); len(l) != 1 || !strings.Contains(l[0].Text, "A passkey was added.") {
		t.Errorf("letters %v", l)
	}
	turnOn(t, s, b)
	c := open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(200, "Your account", u.DID.String())
	// It stands for the password where that is asked for again, and for the code.
	c.get("/account/security").sees(200, "used last")
	s.Advance(10 * time.Minute)
	c.send("/account/security/codes").sees(200, "Enter your password again")
	state := regexp.MustCompile(`name="passkey-state" value="([^"]*)"`).FindStringSubmatch(c.page)[1]
	c.ask(http.MethodPost, "/account/security/codes", form(
		"token", tokenPattern.FindStringSubmatch(c.page)[1], "passkey-state", state, "passkey-answer", k.Sign(t, options(t, c)))).sees(200, "These are your recovery codes.")
	open(s, "198.51.100.3").signIn(u, servertest.GoodPassword).sees(200, "Use a passkey").byPasskey(t, k).sees(200, "Your account")
	known := servertest.Must(s.Budgets.Known(t.Context(), u.DID, netip.MustParseAddr("198.51.100.3")))
	if !known {
		t.Error("the address of a sign-in is not known")
	}
	records := servertest.Must(s.DB.Audit(t.Context(), u.DID, 100))
	if !slices.ContainsFunc(records, func(e db.AuditEntry) bool {
		return e.Event == "signed_in" && e.Detail == "passkey My <phone>" && e.Address == "198.51.100.2" && e.Actor == u.DID.String()
	}) {
		t.Errorf("records %+v", records)
	}

	id := removePattern.FindStringSubmatch(c.get("/account/security").page)[1]
	c.send("/account/security/passkey-rename", "name", " ").sees(400, "Give it a name")
	c.get("/account/security").send("/account/security/passkey-rename", "name", "Old phone").sees(200, "Old phone")
	// That of another is not theirs to change.
	other := in(s, s.SignUp("bob"), "198.51.100.4")
	add(t, other, "Bob's")
	other.send("/account/security/passkey-remove", "passkey", id).sees(200, "Bob's")
	other.send("/account/security/passkey-rename", "passkey", id, "name", "mine").sees(200, "Bob's")
	c.get("/account/security").sees(200, "Old phone")
	c.send("/account/security/passkey-remove").sees(200, "The passkey is removed.", "There are none.")
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(403, "This passkey opens no account here.")
}

func TestPasskeysThatOpenNothing(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	k := add(t, in(s, u, "198.51.100.1"), "Key")
	for name, change := range map[string]func(k *passkeytest.Key){
		"another origin":          func(k *passkeytest.Key) { k.Origin = "https://evil.example" },
		"a handle's host":         func(k *passkeytest.Key) { k.Origin = "https://alice.test" },
		"another site":            func(k *passkeytest.Key) { k.Site = "evil.example" },
		"a user who is not known": func(k *passkeytest.Key) { k.Flags &^= passkeytest.UserVerified },
		"an unknown passkey":      func(k *passkeytest.Key) { *k = *passkeytest.New(t, k.Origin, k.Site); k.Handle = []byte("x") },
		"the handle of another":   func(k *passkeytest.Key) { k.Handle = []byte("another account") },
	} {
		wrong := *k
		change(&wrong)
		if b := open(s, "198.51.100.2").get("/account").byPasskey(t, &wrong); b.status != 403 || !strings.Contains(b.page, "This passkey opens no account here.") {
			t.Errorf("%s: %d\n%s", name, b.status, main(b.page))
		}
	}
	for _, text := range []string{"x", "{}", strings.Repeat("x", 20_000)} {
		open(s, "198.51.100.2").get("/account").answering(t, text).sees(403, "This passkey opens no account here.")
	}
	// A question is for one browser, for five minutes, and answered once.
	b := open(s, "198.51.100.2").get("/account")
	asked, answer := b.page, k.Sign(t, options(t, b))
	other := open(s, "198.51.100.3").get("/account")
	other.page = tokenPattern.ReplaceAllString(asked, tokenPattern.FindString(other.page))
	other.answering(t, answer).sees(403, "That took too long. Try again.")
	b.answering(t, answer).sees(200, "Your account")
	late := open(s, "198.51.100.2").get("/account")
	asked, answer = late.page, k.Sign(t, options(t, late))
	s.Advance(5*time.Minute - time.Second)
	cookie := late.cookies["__Host-portico-account"]
	late.answering(t, answer).sees(200, "Your account")
	again := open(s, "198.51.100.2")
	again.cookies["__Host-portico-account"], again.page = cookie, asked
	again.answering(t, answer).sees(403, "That took too long. Try again.")
	late = open(s, "198.51.100.2").get("/account")
	answer = k.Sign(t, options(t, late))
	s.Advance(5 * time.Minute)
	late.answering(t, answer).sees(403, "That took too long. Try again.")
}

// An authenticator that counts goes on counting: one that does not is a copy.
func TestACopyOfAPasskeyOpensNothing(t *testing.T) {
	s := newServer(t)
	b := in(s, s.SignUp("alice"), "198.51.100.1")
	k := passkeytest.New(t, servertest.Endpoint, "pds.test")
	k.Counter = 7
	b.get("/account/security").send("/account/security/passkey")
	b.send("/account/security/passkey-add", "name", "Key", "made-answer", k.Make(t, options(t, b))).sees(200, "The passkey is added.")
	stolen := *k
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(200, "Your account")
	open(s, "198.51.100.2").get("/account").byPasskey(t, &stolen).sees(403, "This passkey opens no account here.")
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(200, "Your account")
}

func TestPasskeysOfAccountsThatAreNotThere(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	k := add(t, in(s, u, "198.51.100.1"), "Key")
	s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"`+u.DID.String()+`"},"takedown":{"applied":true,"ref":"x"}}`, servertest.Admin))
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).get("/account/security").sees(200, "taken down").misses("Authenticator app")
	s.Accepted(s.Post("com.atproto.admin.deleteAccount", `{"did":"`+u.DID.String()+`"}`, servertest.Admin))
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(403, "This passkey opens no account here.")
}

func TestPasskeysAreAddedByTheirOwnerAlone(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/security").send("/account/security/passkey")
	k := passkeytest.New(t, servertest.Endpoint, "pds.test")
	answer := k.Make(t, options(t, b))
	asked := b.page
	other := in(s, s.SignUp("bob"), "198.51.100.2").get("/account/security").send("/account/security/passkey")
	other.page = tokenPattern.ReplaceAllString(asked, tokenPattern.FindString(other.page))
	other.send("/account/security/passkey-add", "name", "x", "made-answer", answer).sees(403, "That took too long. Try again.")
	b.send("/account/security/passkey-add", "name", " ", "made-answer", answer).sees(400, "Give it a name")
	b.page = asked
	b.send("/account/security/passkey-add", "name", "x", "made-answer", "{}").sees(400, "What the browser sent is no passkey for this server.")
	b.page = asked
	b.send("/account/security/passkey-add", "name", "x", "made-answer", answer).sees(200, "The passkey is added.")
	b.page = asked
	b.send("/account/security/passkey-add", "name", "x", "made-answer", answer).sees(403, "That took too long. Try again.")
	other.get("/account/security").send("/account/security/passkey")
	other.send("/account/security/passkey-add", "name", "x", "made-answer", k.Make(t, options(t, other))).sees(400, "This passkey is in use already.")
	// Who has not proved lately who they are adds none.
	late := passkeytest.New(t, servertest.Endpoint, "pds.test")
	b.get("/account/security").send("/account/security/passkey")
	answer = late.Make(t, options(t, b))
	s.Advance(10 * time.Minute)
	b.send("/account/security/passkey-add", "name", "x", "made-answer", answer).sees(200, "Enter your password again")
	for i := range 19 {
		c := in(s, u, "198.51.100.1")
		add(t, c, "Key "+string(rune('a'+i)))
	}
	c := in(s, u, "198.51.100.1").get("/account/security").send("/account/security/passkey")
	k = passkeytest.New(t, servertest.Endpoint, "pds.test")
	c.send("/account/security/passkey-add", "name", "x", "made-answer", k.Make(t, options(t, c))).sees(400, "You have twenty passkeys")
}

// Who adds a passkey to an account of somebody else loses it when its owner resets the password.
func TestAResetEndsPasskeys(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	k := add(t, in(s, u, "198.51.100.1"), "A thief's")
	b := open(s, "198.51.100.2").get("/account/password").send("/account/password/request", "email", u.Email)
	b.sees(200, "app passwords are revoked, and passkeys are removed.")
	b.send("/account/password/reset", "code", s.Code("reset_password"), "password", "another password").sees(200, "and passkeys are removed. Sign in with the new password.")
	if l := s.Letters("password_changed"); len(l) != 1 || !strings.Contains(l[0].Text, "The passkey of the account is removed") {
		t.Errorf("letters %v", l)
	}
	open(s, "198.51.100.1").get("/account").byPasskey(t, k).sees(403, "This passkey opens no account here.")
	open(s, "198.51.100.2").signIn(u, "another password").get("/account/security").sees(200, "There are none.")
}

// Whoever changes a lot in a session of somebody else keeps its owner from taking nothing away.
func TestWhatOpensAnAccountIsAlwaysTakenAway(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	b := in(s, u, "198.51.100.1")
	k := add(t, b, "A thief's")
	turnOn(t, s, b)
	b.get("/account/security")
	for range 28 {
		b.send("/account/security/codes").sees(200, "These are your recovery codes.")
	}
	b.send("/account/security/codes").sees(429)
	b.send("/account/security/passkey-remove").sees(200, "The passkey is removed.", "There are none.")
	b.send("/account/security/app-off").sees(200, "no longer asks for a code", "It is <strong>off</strong>")
	open(s, "198.51.100.2").get("/account").byPasskey(t, k).sees(403, "This passkey opens no account here.")
	records := servertest.Must(s.DB.Audit(t.Context(), u.DID, 2))
	if len(records) != 2 || records[0].Event != "authenticator_off" || records[1].Event != "passkey_removed" {
		t.Errorf("records %+v", records)
	}
	if n := len(s.Letters("factors_changed")); n != 30 {
		t.Errorf("%d letters", n)
	}
}
