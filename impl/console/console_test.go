package console_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/console"
	"portico/impl/mail"
	"portico/impl/page"
	"portico/impl/servertest"
)

// everyPage is one of each kind, of an account.
func everyPage(did syntax.DID) []string {
	account := "/console/accounts/" + url.PathEscape(did.String())
	return []string{
		"/console", "/console/accounts", "/console/accounts?q=x", account, account + "/log", account + "/blobs",
		account + "/takedown", account + "/restore", account + "/deactivate", account + "/activate", account + "/handle", account + "/email",
		account + "/reset-password", account + "/disable-2fa", account + "/disable-invites", account + "/enable-invites", account + "/repair", account + "/delete",
		"/console/invites", "/console/invites/disable?code=x", "/console/domains", "/console/domains/remove?domain=test",
		"/console/quarantine", "/console/quarantine/approve?did=" + did.String(), "/console/quarantine/delete?domain=x.example",
		"/console/mails", "/console/mails/1/delete", "/console/log", "/console/budgets", "/console/budgets?who=192.0.2.1",
	}
}

func pathOf(u servertest.User) string { return "/console/accounts/" + url.PathEscape(u.DID.String()) }

// Who is not signed in sees nothing and does nothing, and is led to the page that they
// wanted once they are.
func TestSignedOut(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.browser()
	for _, path := range everyPage(alice.DID) {
		want := "/console/sign-in"
		if path != "/console" {
			want += "?next=" + url.QueryEscape(path)
		}
		b.get(path).to(want)
	}
	b.get("/console/sign-in")
	for _, path := range []string{pathOf(alice) + "/delete", "/console/invites", "/console/domains", "/console/mails/1/delete", "/console/budgets"} {
		b.post(path, "typed", "alice.test", "count", "1", "uses", "1", "domain", "evil.example", "who", "192.0.2.1").to("/console/sign-in")
	}
	if w.Account(alice.DID) == nil || strings.Contains(w.Accepted(w.Get("listDomains", servertest.Admin)).Body, "evil") {
		t.Error("something was done")
	}
	b.get("/console/sign-in?next=" + url.QueryEscape("/console/accounts?q=alice")).says("Admin password")
	b.post("/console/sign-in", "password", servertest.AdminPassword, "next", "/console/accounts?q=alice").to("/console/accounts?q=alice")
	b.open("/console/accounts?q=alice").says("alice.test")
	b.get("/console/sign-in").to("/console")
}

// Nobody is led elsewhere by a link to the sign-in.
func TestNextIsWithinTheConsole(t *testing.T) {
	w := newWorld(t)
	for _, next := range []string{
		"https://evil.example/console/", "//evil.example/console/x", "/xrpc/x", "/console/../xrpc/x", "/consolex", `/console/\evil.example`,
		"javascript:alert(1)", "/console//evil.example", "/console/%2e%2e/xrpc",
	} {
		b := w.browser()
		b.get("/console/sign-in?next=" + url.QueryEscape(next))
		a := b.post("/console/sign-in", "password", servertest.AdminPassword, "next", next)
		if got := a.header.Get("Location"); got != "/console" && got != next || strings.Contains(got, "evil") || strings.Contains(got, "xrpc") {
			t.Errorf("%s leads to %d %q", next, a.status, got)
		}
	}
}

// A wrong password is refused, recorded and paid for by the caller's address, out of the
// same budget as elsewhere.
func TestWrongPasswordsShareTheBudget(t *testing.T) {
	w := newWorld(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	b := w.browser()
	from := func(ip string) string { return "X-Forwarded-For: " + ip }
	b.get("/console/sign-in", from("198.51.100.1"))
	try := func(password, ip string) shown {
		t.Helper()
		form := url.Values{"token": {b.token}, "password": {password}}
		return b.ask("POST", "/console/sign-in", form.Encode(), from(ip))
	}
	for n := range 50 {
		if n%2 == 0 {
			w.Get("getHealth", "Basic YWRtaW46d3Jvbmc=", from("198.51.100.1"))
			continue
		}
		try("wrong", "198.51.100.1").is(403).says("That is not the admin password.")
	}
	if a := try("wrong", "198.51.100.1").is(429).says("That was too often."); a.header.Get("Retry-After") == "" && !strings.Contains(a.body, "Try again in") {
		t.Error("nobody says until when")
	}
	try(servertest.AdminPassword, "198.51.100.1").is(429)
	w.Refused(w.Get("getHealth", servertest.Admin, from("198.51.100.1")), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	try(servertest.AdminPassword, "198.51.100.2").to("/console")
	if log := w.Accepted(w.Get("getLog", servertest.Admin, from("198.51.100.2"))).Body; !strings.Contains(log, `"address":"198.51.100.1","event":"admin_sign_in_failed","detail":"50 times"`) {
		t.Errorf("log %s", log)
	}
}

// Requests from other sites, without the token or for another host do nothing.
func TestForgedRequests(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.operator()
	b.open(pathOf(alice) + "/delete")
	good := url.Values{"token": {b.token}, "typed": {"alice.test"}}.Encode()
	for _, tt := range []struct {
		name   string
		body   string
		header []string
		status int
	}{
		{"another site", good, []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, 403},
		{"a handle's host", good, []string{"Sec-Fetch-Site: same-site", "Origin: https://alice.test"}, 403},
		{"an old browser from elsewhere", good, []string{"Sec-Fetch-Site: ", "Origin: https://alice.test"}, 403},
		{"an opaque origin", good, []string{"Sec-Fetch-Site: ", "Origin: null"}, 403},
		{"nothing said", good, []string{"Sec-Fetch-Site: ", "Origin: "}, 403},
		{"no token", "typed=alice.test", nil, 403},
		{"another token", "typed=alice.test&token=" + strings.Repeat("A", 43), nil, 403},
		{"not a form", good, []string{"Content-Type: text/plain"}, 415},
		{"a name that leads here", good, []string{"Host: evil.example"}, 404},
		{"a handle", good, []string{"Host: alice.test"}, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := b.ask("POST", pathOf(alice)+"/delete", tt.body, tt.header...); a.status != tt.status {
				t.Errorf("%d, want %d", a.status, tt.status)
			}
		})
	}
	for _, path := range everyPage(alice.DID) {
		b.get(path, "Host: alice.test").is(404)
		b.get(path, "Host: evil.example").is(404)
	}
	if w.Account(alice.DID) == nil {
		t.Fatal("deleted")
	}
	b.ask("POST", pathOf(alice)+"/delete", good).to("/console/accounts")
	if _, err := w.DB.AccountByDID(t.Context(), alice.DID); err == nil {
		t.Error("not deleted by its own page")
	}
}

// Every page lets nothing run that is not its own, is in no frame and in no cache, and is
// for nobody's script.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.operator()
	for _, path := range everyPage(alice.DID) {
		a := b.get(path)
		policy := a.header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %s", path, policy)
			}
		}
		if strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe") || a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("X-Frame-Options") != "DENY" || a.header.Get("Cross-Origin-Resource-Policy") != "same-origin" ||
			a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
		if strings.Contains(a.main(), " style=") || strings.Contains(a.main(), " on") && strings.Contains(a.main(), "onclick") {
			t.Errorf("%s has what the policy forbids", path)
		}
	}
}

// A session ends when it is not used, after half a day, when it is ended, and with the
// password; and it is nothing that a method takes.
func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	b := w.operator()
	for range 20 {
		w.Advance(20 * time.Minute)
		b.open("/console/domains")
	}
	idle := w.operator()
	w.Advance(31 * time.Minute)
	idle.get("/console").to("/console/sign-in")

	b = w.operator()
	for range 36 {
		b.open("/console/domains")
		w.Advance(20 * time.Minute)
	}
	b.get("/console/domains").to("/console/sign-in?next=%2Fconsole%2Fdomains")

	b = w.operator()
	old := b.cookies["__Host-portico-console"]
	b.open("/console")
	b.post("/console/sign-out").to("/console/sign-in")
	b.cookies["__Host-portico-console"] = old
	b.get("/console").to("/console/sign-in")

	b = w.operator()
	w.Refused(w.Get("getHealth", "Cookie: __Host-portico-console="+b.cookies["__Host-portico-console"]), 401, "AuthenticationRequired", "Authentication Required")
	w.pages = w.console("another good password")
	b.get("/console").to("/console/sign-in")
	w.pages = w.console(servertest.AdminPassword)
	b.open("/console")

	// Whoever put a cookie into the browser before has not its session.
	victim := w.browser()
	victim.get("/console/sign-in")
	fixed := victim.cookies["__Host-portico-console"]
	victim.post("/console/sign-in", "password", servertest.AdminPassword).to("/console")
	attacker := w.browser()
	attacker.cookies["__Host-portico-console"] = fixed
	attacker.get("/console").to("/console/sign-in")
}

// value is a field that has what was typed, as it was.
var value = regexp.MustCompile(` value="[^"<>]*"`)

// What strangers have written is text on every page, whatever it looks like.
func TestHostileTexts(t *testing.T) {
	const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'` + "\u202e\x1b[2j"
	w := newWorld(t)
	alice := w.SignUp("alice")
	w.Write(func(tx *db.Tx) error {
		for _, did := range []syntax.DID{alice.DID, ""} {
			ctx := audit.With(t.Context(), audit.Who{Actor: hostile, Address: hostile})
			if err := audit.Record(ctx, tx, w.Now(), did, audit.EmailSent, hostile); err != nil {
				return err
			}
			l := mail.Letter{To: hostile, Subject: hostile, Text: hostile}
			if err := w.Outbox.Post(ctx, tx, did, mail.KindReset, l, w.Now().Add(time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
	w.Write(func(tx *db.Tx) error {
		claimed, err := tx.ClaimMails(t.Context(), db.MailClaim{Holder: "x", Now: w.Now(), Until: w.Now().Add(time.Hour), Limit: 5, Others: 5, PerCause: 5})
		if err != nil || len(claimed) == 0 {
			return fmt.Errorf("%d claimed, %w", len(claimed), err)
		}
		return tx.MailFailed(t.Context(), claimed[0].ID, hostile, w.Now().Add(time.Minute))
	})
	w.Invite(hostile, 5, hostile)
	w.SetAccount(alice.DID, func(a *db.Account) { a.Email, a.TakedownRef, a.EmailAuthFactor = hostile, new(hostile), true })
	w.Accepted(w.Post("com.atproto.repo.uploadBlob", "some bytes", w.SignUp("bob").Access, "Content-Type: image/svg+xml"))
	w.Server.Server.Log.Warn(hostile, "error", hostile)
	w.Unwell = fmt.Errorf("%s", hostile)

	b := w.operator()
	query := url.QueryEscape(hostile)
	for _, path := range append(everyPage(alice.DID),
		"/console/accounts?q="+query, "/console/accounts?domain="+query, "/console/budgets?who="+query, "/console/invites/disable?code="+query,
		"/console/domains/remove?domain="+query, "/console/sign-in?next="+query, "/console/mails?state=queued", "/console/invites?sort="+query,
		"/console/accounts/"+url.PathEscape(hostile), "/console/"+url.PathEscape(hostile), "/console/accounts?since="+query, "/console/mails/"+url.PathEscape(hostile)+"/delete",
		"/console/quarantine?domain="+query, "/console/quarantine?range="+query, "/console/quarantine/delete?domain="+query, "/console/quarantine/approve?did="+query,
	) {
		a := b.get(path)
		for _, bad := range []string{"<script>alert", "<img src=x", "\u202e", "\x1b"} {
			if strings.Contains(value.ReplaceAllString(a.body, ""), bad) {
				t.Errorf("%s has %q:\n%s", path, bad, a.main())
			}
		}
		if a.status >= 500 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	for _, post := range [][]string{
		{"/console/invites", "count", hostile, "uses", hostile, "for", hostile}, {"/console/invites", "count", "1", "uses", "1", "for", hostile},
		{"/console/invites/disable", "code", hostile}, {"/console/domains", "domain", hostile}, {"/console/domains", "domain", "x.example", "policy", hostile},
		{"/console/domains/remove", "domain", hostile}, {"/console/budgets", "who", hostile}, {pathOf(alice) + "/email", "email", hostile},
		{pathOf(alice) + "/delete", "typed", hostile}, {pathOf(alice) + "/restore"}, {pathOf(alice) + "/takedown", "ref", hostile}, {pathOf(alice) + "/handle", "handle", hostile},
	} {
		for a := b.post(post[0], post[1:]...); ; a = b.get(a.header.Get("Location")) {
			if strings.Contains(a.body, "<script>alert") || strings.Contains(value.ReplaceAllString(a.body, ""), "\u202e") || a.status >= 500 {
				t.Errorf("%q: %d\n%s", post, a.status, a.main())
			}
			if a.status != 303 {
				break
			}
		}
	}
	b.open("/console").says(`The server does not work as it should: "><script>alert(1)</script>`)
	b.open("/console/mails").says("reset password", `"><script>alert(1)</script><img src=x onerror=alert(2)>'`).hides("ABCDE")
}

// What is done is recorded as done by the admin from the address of the browser.
func TestActionsAreRecorded(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.operator()
	at := pathOf(alice)
	w.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(w.Now()), true })
	for _, step := range []struct {
		action string
		form   []string
		event  string
	}{
		{"takedown", []string{"ref", "case 17"}, "taken_down by admin from 192.0.2.7: case 17"},
		{"restore", nil, "takedown_lifted by admin from 192.0.2.7: "},
		{"deactivate", nil, "deactivated by admin from 192.0.2.7: "},
		{"activate", nil, "activated by admin from 192.0.2.7: "},
		{"handle", []string{"handle", "@anna.test"}, "handle_changed by admin from 192.0.2.7: from alice.test to anna.test"},
		{"disable-2fa", nil, "sign_in_code_off by admin from 192.0.2.7: "},
		{"email", []string{"email", "anna@example.com"}, "email_changed by admin from 192.0.2.7: "},
		{"disable-invites", nil, "invites_disabled by admin from 192.0.2.7: "},
		{"enable-invites", nil, "invites_enabled by admin from 192.0.2.7: "},
	} {
		b.open(at).says("…")
		b.open(at + "/" + step.action)
		b.post(at+"/"+step.action, step.form...).to(at)
		last := servertest.Must(w.DB.Audit(t.Context(), alice.DID, 1))[0]
		if got := fmt.Sprintf("%s by %s from %s: %s", last.Event, last.Actor, last.Address, last.Detail); got != step.event {
			t.Errorf("%s: recorded %q, want %q", step.action, got, step.event)
		}
	}
	b.open(at).says("anna.test", "anna@example.com")

	// What is not to be done to an account as it is, is not.
	b.get(at + "/restore").is(409).says("anna.test is active by now")
	b.post(at + "/restore").is(409)
	b.get(at + "/nothing").is(404)

	// A deletion takes the handle.
	b.open(at + "/delete").says("Type anna.test to delete it")
	b.post(at+"/delete", "typed", "alice.test").is(400).says("That is not anna.test: nothing was deleted.")
	b.post(at+"/delete", "typed", " @Anna.test ").to("/console/accounts")
	b.open("/console/accounts").says("anna.test is deleted.", "There are no such accounts.")
	b.get(at).is(404).says("There is no account with this DID.")
}

// A new password is shown once, and works.
func TestResetPassword(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.operator()
	b.open(pathOf(alice) + "/reset-password").says("shown once")
	body := b.post(pathOf(alice) + "/reset-password").is(200).main()
	_, rest, _ := strings.Cut(body, "<code>")
	password, _, _ := strings.Cut(rest, "</code>")
	if len(password) != 23 {
		t.Fatalf("password %q", password)
	}
	w.SignIn(alice, password)
	w.Refused(w.TrySignIn("alice.test", servertest.GoodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	for _, path := range everyPage(alice.DID) {
		b.get(path).hides(password)
	}
	if strings.Contains(w.Logged.String(), password) {
		t.Error("it is in the log")
	}
}

// Accounts are found by what people have in hand, and listed in pages.
func TestAccounts(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	for n := range 60 {
		w.SignUp(fmt.Sprintf("user%d", n))
	}
	w.TakeDown(w.SignUp("bob").DID)
	b := w.operator()
	for _, q := range []string{"alice", "@alice", "alice.test", "@Alice.test", alice.DID.String(), "alice@example.com", "alice@", "alice@EX"} {
		b.open("/console/accounts?q="+url.QueryEscape(q)).says("alice.test", "alice@example.com", "1 on this page").hides("user1.test", "bob.test")
	}
	b.open("/console/accounts?q=nobody").says("There are no such accounts.")
	b.open("/console/accounts?status=takendown").says("bob.test", "taken down").hides("alice.test")
	b.open("/console/accounts?since=2026-03-02").says("There are no such accounts.")
	b.open("/console/accounts?unconfirmed=yes&domain=test").says("50 on this page")
	b.get("/console/accounts?since=yesterday").is(400).says("written as 2026-01-31")
	b.get("/console/accounts?cursor=x").is(400).says("Malformed cursor")

	seen, next := 0, "/console/accounts?domain=test"
	for next != "" {
		a := b.open(next)
		seen += strings.Count(a.main(), `data-label="Handle"`)
		_, rest, found := strings.Cut(a.main(), `<a class="button plain" href="`)
		next, _, _ = strings.Cut(rest, `"`)
		next = strings.ReplaceAll(next, "&amp;", "&")
		if !found {
			next = ""
		}
	}
	if seen != 62 {
		t.Errorf("%d accounts in all pages, want 62", seen)
	}
}

// Codes are made with a link that lets people in, and disabled after a question.
func TestInvites(t *testing.T) {
	w := newWorld(t, func(o *servertest.Options) { o.InviteRequired = true })
	b := w.operator()
	b.open("/console/invites").says("There are no invite codes.")
	b.post("/console/invites", "count", "0", "uses", "1").is(400).says("There can be from 1 to 100 codes at a time.")
	b.post("/console/invites", "count", "1", "uses", "0").is(400).says("A code lets in at least one.")
	b.post("/console/invites", "count", "1", "uses", "1", "for", "nobody").is(400).says("There is no account of that name.")
	b.post("/console/invites", "count", "1", "uses", "2").to("/console/invites")
	body := b.open("/console/invites").says("A code was made: it is the first of the list.", "0 of 2", "https://pds.test/invite/pds-test-").main()
	_, rest, _ := strings.Cut(body, "https://pds.test/invite/")
	code, _, _ := strings.Cut(rest, "<")
	w.SignUpWith("alice", code)
	b.open("/console/invites").says("1 of 2")
	b.open("/console/invites?sort=usage").says("1 of 2").hides("Next page")
	b.open("/console/invites/disable?code=" + code).says(code)
	b.post("/console/invites/disable", "code", code).to("/console/invites")
	b.open("/console/invites").says(code + " is disabled.").hides("/invite/" + code)

	alice := servertest.Must(w.DB.AccountByHandle(t.Context(), "alice.test"))
	b.post("/console/invites", "count", "2", "uses", "1", "for", "alice").to("/console/invites")
	b.open("/console/invites").says("2 codes were made", alice.DID.String())
	b.open("/console/accounts/"+url.PathEscape(alice.DID.String())).says("Its invite codes", "0 of 1")
}

// Domains are added, opened and closed, and removed after a question, also where that
// costs somebody the handle.
func TestDomains(t *testing.T) {
	w := newWorld(t)
	w.SignUp("alice")
	b := w.operator()
	b.open("/console/domains").says("test", "settings")
	b.post("/console/domains", "domain", "club.example.com", "policy", "invite").to("/console/domains")
	b.open("/console/domains").says("club.example.com: with a code only.", "the operator")
	b.post("/console/domains", "domain", "club.example.com", "policy", "closed").to("/console/domains")
	b.post("/console/domains", "domain", "com").is(400).says("is a top-level domain")
	b.open("/console/domains/remove?domain=test").says("1", "Remove it even if accounts lose their handles")
	b.post("/console/domains/remove", "domain", "test").is(400).says("1 account has a handle under it, which would no longer resolve")
	b.post("/console/domains/remove", "domain", "club.example.com").to("/console/domains")
	b.post("/console/domains/remove", "domain", "test", "force", "yes").is(400).says("It is the last domain, and the server needs one")
	b.post("/console/domains", "domain", "example.com").to("/console/domains")
	b.post("/console/domains/remove", "domain", "test", "force", "yes").to("/console/domains")
	b.open("/console/domains").says("test is removed.", "example.com").hides("club.example.com")
}

// Accounts in quarantine are shown by where they came from, and approved or deleted one by
// one or by what they have in common, after they were counted.
func TestQuarantine(t *testing.T) {
	w := newWorld(t)
	b := w.operator()
	b.open("/console/quarantine").says("There are no such accounts in quarantine.")
	dids := map[string]syntax.DID{}
	hold := func(name, address, domain string) {
		t.Helper()
		dids[name] = w.SignUp(name).DID
		w.Write(func(tx *db.Tx) error {
			return tx.Quarantine(t.Context(), db.Quarantined{
				DID: dids[name], Rule: db.HeldUntilApproved, State: db.Held, Since: w.Now(), NextAt: w.Now(), Address: address, MailDomain: domain, Genesis: []byte("{}"),
			})
		})
	}
	for n := range 60 {
		hold(fmt.Sprintf("bot%d", n), "192.0.2.0/24", "bots.example")
	}
	hold("alice", "198.51.100.0/24", "example.com")
	hold("bob", "198.51.100.0/24", "example.org")
	b.open("/console/quarantine").says("192.0.2.0/24", "approval", "Next page", "Delete all of these…")
	b.open("/console/quarantine?range=198.51.100.7").says("alice.test", "bob.test").hides("bot1.test", "Next page")
	b.open("/console/quarantine?domain=example.org").says("bob.test").hides("alice.test")
	b.open("/console/quarantine?unconfirmed=yes&waiting=yes&rule=approved&since=2026-03-01").says("192.0.2.0/24")
	b.open("/console/quarantine?rule=confirmed").says("There are no such accounts in quarantine.")
	b.get("/console/quarantine?range=x").is(400).says("addressRange must be an address")
	b.get("/console/quarantine?since=x").is(400)
	b.open("/console/accounts/"+url.PathEscape(dids["alice"].String())).says("Quarantine", "waits for approval", "Approve…")

	b.open("/console/quarantine/approve?did=" + dids["alice"].String()).says("Approve 1 account?")
	b.post("/console/quarantine/approve", "did", dids["alice"].String(), "count", "1").to("/console/quarantine")
	b.open("/console/quarantine").says("1 account approved.")
	if h := servertest.Must(w.DB.Quarantined(t.Context(), dids["alice"])); h.ApprovedAt == nil {
		t.Error("not approved")
	}
	if last := servertest.Must(w.DB.Audit(t.Context(), dids["alice"], 1))[0]; last.Event != "quarantine_approved" || last.Actor != "admin" || last.Address != "192.0.2.7" {
		t.Errorf("recorded %+v", last)
	}

	// Those that came after they were counted are not deleted with the others.
	b.open("/console/quarantine/delete?domain=bots.example").says("Delete 60 accounts for good?", "bots.example")
	hold("bot60", "192.0.2.0/24", "bots.example")
	b.post("/console/quarantine/delete", "domain", "bots.example", "count", "60").is(409).says("There are more of them by now. Nothing was done.", "Delete 61 accounts for good?")
	b.post("/console/quarantine/delete", "domain", "bots.example").is(409)
	b.post("/console/quarantine/delete", "domain", "bots.example", "count", "61").to("/console/quarantine?domain=bots.example")
	b.open("/console/quarantine?domain=bots.example").says("61 accounts deleted.", "There are no such accounts in quarantine.")
	b.open("/console/quarantine").says("alice.test", "bob.test").hides("bot1.test")
	b.open("/console/quarantine").says(`href="/console/quarantine/delete?all=yes"`)
	b.open("/console/quarantine?rule=approved&waiting=yes").says(`href="/console/quarantine/delete?rule=approved&waiting=yes"`)
	b.open("/console/quarantine/delete?all=yes").says("Delete 1 account for good?", "all in quarantine that were not approved")
	b.get("/console/quarantine/delete").is(400)
	b.get("/console/quarantine/delete?all=yes&domain=bots.example").is(400)
	b.post("/console/quarantine/delete", "count", "100").is(400)
	b.open("/console/quarantine/delete?did=did:web:nobody.example").says("There is no such account in quarantine").hides("<button>Delete")
	b.get("/console/quarantine/delete?did=x").is(404)
	b.post("/console/quarantine/delete", "did", dids["bob"].String(), "count", "1").to("/console/quarantine")
	if _, err := w.DB.AccountByDID(t.Context(), dids["bob"]); err == nil {
		t.Error("not deleted")
	}
}

// Mails are told of without what is in them, tried again, and deleted after a question.
func TestMails(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	w.Write(func(tx *db.Tx) error {
		l := mail.Letter{To: "alice@example.com", Subject: "A subject", Text: "ABCDE-FGHIJ"}
		return w.Outbox.Post(t.Context(), tx, alice.DID, mail.KindReset, l, w.Now().Add(time.Hour))
	})
	id := servertest.Must(w.DB.Mails(t.Context(), 0, 1))[0].ID
	b := w.operator()
	b.open("/console").says("Mails that wait")
	b.open("/console/mails").says("alice@example.com", "reset password", "queued").hides("ABCDE", "A subject")
	b.open("/console/mails?state=failed").says("There are no such mails.")
	b.get("/console/mails?state=x").is(400)
	at := fmt.Sprintf("/console/mails/%d", id)
	b.open("/console/mails")
	b.post(at + "/retry").to("/console/mails")
	b.open("/console/mails").says(fmt.Sprintf("Mail %d is tried again now.", id))
	b.open(at + "/delete").says("If it still waits, it is not sent.")
	b.post(at + "/delete").to("/console/mails")
	b.open("/console/mails").says("is deleted.", "There are no such mails.")
	b.post(at + "/retry").is(400).says("Mail not found")
	b.get("/console/mails/x/delete").is(404)
}

// Charts say in tables what they show.
func TestOverview(t *testing.T) {
	w := newWorld(t)
	b := w.operator()
	b.open("/console").says("The server works.", "Of nothing since it was started.", "0 accounts were made", "Nobody follows them now")
	w.SignUp("alice")
	bob := w.SignUp("bob")
	w.Remove(bob.DID)
	carol := w.SignUp("carol")
	w.Write(func(tx *db.Tx) error {
		return tx.Quarantine(t.Context(), db.Quarantined{DID: carol.DID, Rule: db.HeldUntilApproved, State: db.Held, Since: w.Now(), NextAt: w.Now()})
	})
	for n := range 3 {
		w.Sync.Firehose.Look(w.Now().Add(time.Duration(n-3) * time.Minute))
	}
	w.Server.Server.Log.Warn("nobody has an address", "hint", "proxy")
	w.Server.Server.Log.Warn("nobody has an address", "hint", "proxy")
	b.open("/console").says(
		"2 accounts were made in 30 days and are there still, 1 of them are held", "nobody has an address", "2 times", "hint=proxy",
		`<th scope="row">2026-03-01</th><td class="number">2</td><td class="number">1</td>`, `<rect class="free"`, `<rect class="held"`, "<polyline",
		`<th scope="row">1 Mar, 11:00</th><td class="number">0</td><td class="number">0</td>`,
	)
	w.Unwell = fmt.Errorf("disk full")
	b.open("/console").says("The server does not work as it should: disk full")
}

// Budgets are told of who is named, and forgotten.
func TestBudgets(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	w.TrySignIn("alice.test", "wrong")
	b := w.operator()
	b.get("/console/budgets?who=x").is(400).says("Not a DID")
	b.open("/console/budgets?who=192.0.2.99").says("Nothing was spent.")
	b.open("/console/budgets?who="+url.QueryEscape(alice.DID.String())).says("What "+alice.DID.String()+" has spent", "Forget what was spent")
	b.post("/console/budgets", "who", alice.DID.String()).to("/console/budgets?who=" + url.QueryEscape(alice.DID.String()))
	b.open("/console/budgets?who=" + url.QueryEscape(alice.DID.String())).says("is forgotten.")
}

// What is wrong with an account is said before it is mended.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	alice := w.SignUp("alice")
	b := w.operator()
	b.open(pathOf(alice) + "/repair").says("Nothing is wrong with alice.test").hides("<button>Repair")
	w.Tombstone(alice.DID)
	b.open(pathOf(alice)+"/repair").says("What is wrong with alice.test", "did tombstoned, can't be mended here")
}

// At an address of this machine the console is for browsers that ask for that address.
func TestLoopback(t *testing.T) {
	w := newWorld(t)
	at := netip.MustParseAddrPort("127.0.0.1:9101")
	w.pages = w.console(servertest.AdminPassword, func(c *console.Config) { c.Origins, c.Direct = page.Loopback(at), true })
	b := w.browser()
	for host, status := range map[string]int{
		"127.0.0.1:9101": 200, "localhost:9101": 200, "pds.test": 404, "evil.example": 404, "evil.example:9101": 404, "127.0.0.1:80": 404,
	} {
		if a := b.get("/console/sign-in", "Host: "+host); a.status != status {
			t.Errorf("%s: %d, want %d", host, a.status, status)
		}
	}
	b.get("/", "Host: 127.0.0.1:9101").to("/console")
	// Who says that somebody else asked is not believed.
	form := url.Values{"token": {b.token}, "password": {"wrong"}}.Encode()
	b.ask("POST", "/console/sign-in", form, "Host: 127.0.0.1:9101", "Origin: http://127.0.0.1:9101", "X-Forwarded-For: 203.0.113.5").is(403)
	if log := w.Accepted(w.Get("getLog", servertest.Admin)).Body; strings.Contains(log, "203.0.113.5") {
		t.Errorf("log %s", log)
	}
}
