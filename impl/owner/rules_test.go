package owner_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

var everyPage = []string{
	"/account", "/account/sessions", "/account/apps", "/account/app-passwords", "/account/email", "/account/password", "/account/security", "/account/handle", "/account/data", "/account/close",
	"/account/nothing", "/invite/x",
}

func TestPagesAnswerForTheHostOfTheServerAlone(t *testing.T) {
	s := newServer(t)
	b := in(s, s.SignUp("alice"), "198.51.100.1")
	for _, path := range everyPage {
		for _, header := range [][]string{
			{"Host: alice.test"}, {"Host: evil.example"}, {"Host: 127.0.0.1"}, {"Host: pds.test:8443"},
			// Pages of a name that leads here can have any header sent but this one.
			{"Host: evil.example", "X-Forwarded-Host: pds.test"}, {"Host: pds.test", "X-Forwarded-Host: evil.example"},
		} {
			if b.get(path, header...); b.status != 404 || b.page != "Not found\n" || b.header.Get("Set-Cookie") != "" {
				t.Errorf("%s of %q: %d %q", path, header, b.status, b.page)
			}
		}
	}
	b.get("/account", "X-Forwarded-Host: pds.test").sees(200, "Your account")
}

func TestNoOtherOriginReadsPages(t *testing.T) {
	s := newServer(t)
	b := in(s, s.SignUp("alice"), "198.51.100.1")
	for _, path := range everyPage {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodPost} {
			b.ask(method, path, nil, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Access-Control-Request-Method: POST")
			for name := range b.header {
				if strings.HasPrefix(name, "Access-Control-") || name == "Www-Authenticate" {
					t.Errorf("%s %s: %s", method, path, name)
				}
			}
			if method != http.MethodPost && method != http.MethodPut && b.header.Get("X-Frame-Options") != "DENY" {
				t.Errorf("%s %s: may be framed", method, path)
			}
		}
	}
}

func TestNoMethodReadsACookieAndNoPageAnAuthorization(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	for _, method := range []string{"com.atproto.server.getSession", "com.atproto.server.listAppPasswords", "com.atproto.admin.getAccountInfo?did=" + u.DID.String()} {
		if b.get("/xrpc/" + method); b.status != 401 {
			t.Errorf("%s with a cookie: %d", method, b.status)
		}
	}
	for _, header := range []string{"Authorization: " + u.Access, "Authorization: " + servertest.Admin, "Authorization: " + servertest.Basic(u.Handle, servertest.GoodPassword)} {
		open(s, "198.51.100.2").get("/account", header).sees(200, "Sign in to your account")
	}
}

func TestPagesTakeNothingFromElsewhere(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/app-passwords")
	token := tokenPattern.FindStringSubmatch(b.page)[1]
	refused := func(name string, path string, fields url.Values, header ...string) {
		t.Helper()
		if b.ask(http.MethodPost, path, fields, header...); b.status != 403 {
			t.Errorf("%s: %d", name, b.status)
		}
		if b.get("/account"); !strings.Contains(b.page, "Your account") {
			t.Fatalf("%s signed out", name)
		}
	}
	for _, path := range []string{"/account/app-passwords/create", "/account/sign-in", "/account/sign-out", "/account/password/request", "/account/deactivate", "/account/delete"} {
		refused(path+" from another site", path, form("token", token, "name", "x"), "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
		refused(path+" from a handle's host", path, form("token", token, "name", "x"), "Origin: https://alice.test", "Sec-Fetch-Site: same-site")
		refused(path+" without a token", path, form("name", "x"))
		refused(path+" with the token of another", path, form("token", tokenPattern.FindStringSubmatch(open(s, "192.0.2.66").get("/account").page)[1], "name", "x"))
	}
	if n := len(servertest.Must(s.DB.AppPasswords(t.Context(), u.DID))); n != 0 || s.Account(u.DID).Deactivated() {
		t.Errorf("%d app passwords", n)
	}
	// What comes without the cookie, as the forms of other sites do, leaves it alone.
	b.cookies = map[string]string{}
	if b.ask(http.MethodPost, "/account/sign-out", nil, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"); b.status != 403 || b.header.Get("Set-Cookie") != "" {
		t.Errorf("%d, sets %q", b.status, b.header.Get("Set-Cookie"))
	}
}

func TestACookieFromBeforeTheSignInOpensNothing(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := open(s, "198.51.100.1").get("/account")
	planted := b.cookies["__Host-portico-account"]
	b.send("/account/sign-in", "identifier", u.Handle, "password", servertest.GoodPassword).sees(200, "Your account")
	mallory := open(s, "192.0.2.66")
	mallory.cookies["__Host-portico-account"] = planted
	mallory.get("/account").sees(200, "Sign in to your account")
	if line := open(s, "192.0.2.66").get("/account").header.Get("Set-Cookie"); !strings.HasSuffix(line, "; Path=/; HttpOnly; Secure; SameSite=Lax") {
		t.Errorf("cookie %q", line)
	}
}

// Wrong passwords are paid as those of createSession, whichever way they come.
func TestPagesAndMethodsShareBudgets(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := open(s, "198.51.100.1").get("/account")
	for i := range 300 {
		if i%2 == 0 {
			s.Post("createSession", `{"identifier":"nobody.test","password":"wrong password"}`, "X-Forwarded-For: 198.51.100.1")
		} else {
			b.send("/account/sign-in", "identifier", fmt.Sprint("nobody", i, ".test"), "password", "wrong password").sees(403, "Invalid identifier or password")
		}
	}
	b.send("/account/sign-in", "identifier", u.Handle, "password", servertest.GoodPassword).sees(429, "That was too often. Try again in 60 minutes.")
	if a := s.Post("createSession", `{"identifier":"alice.test","password":"`+servertest.GoodPassword+`"}`, "X-Forwarded-For: 198.51.100.1"); a.Status != 429 {
		t.Errorf("createSession: %d", a.Status)
	}
	in(s, u, "198.51.100.2") // others pay nothing
}

func TestProofsArePaidAsSignIns(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/close")
	s.Advance(10 * time.Minute)
	b.send("/account/deactivate")
	for range 50 {
		b.send("/account/deactivate", "proof-password", "wrong password").sees(403, "Invalid identifier or password")
	}
	b.send("/account/deactivate", "proof-password", servertest.GoodPassword).sees(403, "Invalid identifier or password")
	if s.Account(u.DID).Deactivated() {
		t.Error("the account's share of wrong passwords is spent, and one more was tried")
	}
}

func TestWhatOthersChoseIsShownAsText(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>` + "\u202e"
	s.SetAccount(u.DID, func(a *db.Account) { a.Email = `<script>alert(1)</script>@example.com` })
	app := s.Accepted(s.Post("createAppPassword", string(servertest.Must(jsonOf(map[string]string{"name": evil}))), u.Access)).Text(t, "password")
	s.Accepted(s.Post("createSession", `{"identifier":"alice.test","password":"`+app+`"}`, "User-Agent: "+`"><script>alert(1)</script>`, "X-Forwarded-For: 203.0.113.5"))
	b := open(s, "198.51.100.1")
	b.agent = `Browser "><script>alert(1)</script>`
	b.signIn(u, servertest.GoodPassword).sees(200, "Your account")
	for _, path := range everyPage {
		b.get(path).misses("<script>alert", "<img src=x")
	}
	b.get("/account/sessions").sees(200, `Browser "><script>alert(1)</script>`).misses("\u202e")
	b.get("/invite/"+url.PathEscape(`"><script>alert(1)</script>`)).sees(404, "cannot be used").misses("<script>alert")
	b.get("/account/handle").send("/account/handle", "handle", evil).misses("<script>alert")
	b.send("/account/sign-out")
	b.send("/account/sign-in", "identifier", evil, "password", evil).misses("<script>alert", "<img src=x")
}

func TestInvitePagesSayWhetherACodeCanBeUsed(t *testing.T) {
	s := newServer(t)
	owner := s.SignUp("bob")
	s.Invite("good-code", 2, "admin")
	s.Invite("used-up", 1, owner.DID.String())
	s.Invite("disabled", 5, "admin")
	s.SignUpWith("carol", "used-up")
	s.Write(func(tx *db.Tx) error { return tx.DisableInvites(t.Context(), []string{"disabled"}, nil) })
	b := open(s, "198.51.100.1").get("/invite/good-code").sees(200, "You are invited", "Test PDS", "pds.test", "good-code").misses("admin", "bob", "https://pds.test")
	if b.header.Get("X-Robots-Tag") != "noindex" {
		t.Error("may be indexed")
	}
	unknown := without(b.get("/invite/unknown").sees(404, "This invite cannot be used, or cannot be used any more.").page)
	for _, code := range []string{"used-up", "disabled", strings.Repeat("x", 301), "%00", "a%2Fb"} {
		if page := without(b.get("/invite/" + code).page); page != unknown || b.status != 404 {
			t.Errorf("%s: %d\n%s", code, b.status, main(page))
		}
	}
	for range 300 {
		b.get("/invite/guess")
	}
	b.get("/invite/good-code").sees(429, "That was too often.")
	open(s, "198.51.100.2").get("/invite/good-code").sees(200, "You are invited")
}

func TestInviteCodesAreNotLogged(t *testing.T) {
	s := newServer(t)
	s.Invite("good-code", 2, "admin")
	b := open(s, "198.51.100.1").get("/invite/good-code").sees(200, "good-code")
	for _, path := range []string{"/invite/good-code/", "/invite//good-code", "/Invite/good-code", "/invite/%67ood-code"} {
		b.get(path)
	}
	if log := s.Logged.String(); strings.Contains(log, "good-code") || !strings.Contains(log, "path=/invite/…") {
		t.Errorf("logged:\n%s", log)
	}
}

func TestWhoIsInQuarantineCanDeleteTheAccount(t *testing.T) {
	s := newServer(t, func(o *servertest.Options) { o.Quarantine = db.HeldUntilConfirmed })
	b := in(s, s.SignUp("alice"), "198.51.100.1").get("/account/close").send("/account/delete-request").sees(200, "Delete the account for good")
	b.send("/account/delete", "code", "AAAAA-AAAAA", "password", servertest.GoodPassword).sees(400, "Token is invalid")
	b.send("/account/delete", "code", s.Code("delete_account"), "password", servertest.GoodPassword).sees(200, "Your account is deleted.")
}

func TestWhoWaitsInQuarantineReadsWhatFor(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	for rule, want := range map[string]string{
		db.HeldUntilConfirmed: "New accounts of this server wait until their email address is confirmed.",
		db.HeldUntilApproved:  "New accounts of this server wait until the operator approves them.",
	} {
		s.Write(func(tx *db.Tx) error {
			return tx.Quarantine(t.Context(), db.Quarantined{DID: u.DID, Rule: rule, State: db.HeldBrought, Since: s.Now(), NextAt: s.Now()})
		})
		b.get("/account").sees(200, "This account is not visible yet.", want)
		s.Write(func(tx *db.Tx) error { return tx.EndQuarantine(t.Context(), u.DID) })
	}
	b.get("/account").misses("not visible yet")
}
