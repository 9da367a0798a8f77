package owner_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

func TestSignInWithThePasswordOfTheAccount(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := open(s, "198.51.100.1").get("/account").sees(200, "Sign in to your account")
	b.send("/account/sign-in", "identifier", u.Email, "password", "wrong password").sees(403, "Invalid identifier or password")
	b.send("/account/sign-in", "identifier", u.Email, "password", servertest.GoodPassword).sees(200, "Your account", "@alice.test", u.Email, "not confirmed")
	// The session by which it was proved does not stay.
	if apps := servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now())); len(apps) != 1 {
		t.Errorf("%d sessions of apps, want that of the sign-up", len(apps))
	}
	b.send("/account/sign-out").sees(200, "You are signed out", "Sign in to your account")
}

func TestAppPasswordsOpenNoPages(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.Accepted(s.Post("createAppPassword", `{"name":"phone","privileged":true}`, u.Access)).Text(t, "password")
	b := open(s, "198.51.100.1").signIn(u, app).sees(403, "This is an app password. Sign in with the password of the account itself.")
	b.get("/account").sees(200, "Sign in to your account")
	if apps := servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now())); len(apps) != 1 {
		t.Errorf("%d sessions of apps, want that of the sign-up", len(apps))
	}
	// Nor do they prove anything.
	b = in(s, u, "198.51.100.1").get("/account/app-passwords")
	s.Advance(10 * time.Minute)
	b.send("/account/app-passwords/create", "name", "x").sees(200, "Enter your password again")
	b.send("/account/app-passwords/create", "proof-password", app).sees(403, "This is an app password.")
}

func TestChangesAskForThePasswordAgainAfterTenMinutes(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/app-passwords")
	s.Advance(10*time.Minute - time.Second)
	b.send("/account/app-passwords/create", "name", "first").sees(200, "it is not shown again")
	s.Advance(time.Second)
	cookie := b.cookies["__Host-portico-account"]
	b.send("/account/app-passwords/create", "name", `<b>"second"</b>`).sees(200, "Enter your password again").misses(`"second"`)
	if n := len(servertest.Must(s.DB.AppPasswords(t.Context(), u.DID))); n != 1 {
		t.Fatalf("%d app passwords", n)
	}
	b.send("/account/app-passwords/create", "proof-password", "wrong password").sees(403, "Invalid identifier or password")
	b.send("/account/app-passwords/create", "proof-password", servertest.GoodPassword).sees(200, "it is not shown again", `<b>"second"</b>`).misses(`<b>"`)
	if b.cookies["__Host-portico-account"] == cookie {
		t.Error("the cookie is the one from before the proof")
	}
	s.Advance(9 * time.Minute)
	b.send("/account/app-passwords/create", "name", "third").sees(200, "it is not shown again")
	// Whatever changes something asks.
	s.Advance(10 * time.Minute)
	for path, at := range map[string]string{
		"/account/app-passwords/revoke": "/account/app-passwords", "/account/sessions/end": "/account/sessions", "/account/sessions/end-others": "/account/sessions",
		"/account/email/confirm-request": "/account/email", "/account/email/update-request": "/account/email", "/account/handle": "/account/handle",
		"/account/data/repo": "/account/data", "/account/deactivate": "/account/close", "/account/delete-request": "/account/close",
	} {
		b.get(at).send(path).sees(200, "Enter your password again")
	}
}

func TestAClockThatIsSetBackProlongsNoProof(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.Advance(24 * time.Hour)
	b := in(s, u, "198.51.100.1").get("/account/app-passwords")
	s.Advance(-10 * time.Minute)
	b.send("/account/app-passwords/create", "name", "late").sees(200, "Enter your password again")
}

func TestTheEmailedCodeIsAskedForWhereItIsOn(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/email").sees(200, "not confirmed", "Confirm your address to switch it on")
	b.send("/account/email/confirm-request").send("/account/email/confirm", "code", "AAAAA-AAAAA").sees(400, "Token is invalid")
	b.send("/account/email/confirm", "code", s.Code("confirm_email")).sees(200, "Your email address is confirmed.")
	b.send("/account/email/factor-on").sees(200, "It is <strong>on</strong>")
	b = open(s, "198.51.100.2").signIn(u, servertest.GoodPassword).sees(200, "A sign-in code was mailed")
	b.misses(servertest.GoodPassword, "New password")
	b.send("/account/sign-in", "code", "AAAAA-AAAAA").sees(400, "Token is invalid", "Code")
	sealed := b.page
	b.send("/account/sign-in", "code", s.Code("sign_in")).sees(200, "Your account")
	// The password that waits opens for no other browser, and not for long.
	other := open(s, "198.51.100.2").get("/account")
	other.page = tokenPattern.ReplaceAllString(sealed, tokenPattern.FindString(other.page))
	other.send("/account/sign-in", "code", s.Code("sign_in")).sees(403, "That took too long. Sign in again.")
	late := open(s, "198.51.100.2").signIn(u, servertest.GoodPassword)
	s.Advance(15 * time.Minute)
	late.send("/account/sign-in", "code", s.Code("sign_in")).sees(403, "That took too long. Sign in again.")
	// A proof asks for it, too.
	b.get("/account/email").send("/account/email/factor-request").sees(200, "Enter your password again")
	b.send("/account/email/factor-request", "proof-password", servertest.GoodPassword).sees(200, "A sign-in code was mailed")
	b.send("/account/email/factor-request", "proof-code", "AAAAA-AAAAA").sees(400, "Token is invalid")
	b.send("/account/email/factor-request", "proof-code", s.Code("sign_in")).sees(200, "Switch it off")
	b.send("/account/email/factor-off", "code", s.Code("update_email")).sees(200, "It is <strong>off</strong>")
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.Accepted(s.Post("createAppPassword", `{"name":"my phone"}`, u.Access)).Text(t, "password")
	phone := s.Accepted(s.Post("createSession", `{"identifier":"alice.test","password":"`+app+`"}`, "User-Agent: Phone/1.0 <script>", "X-Forwarded-For: 203.0.113.5"))
	second := in(s, u, "203.0.113.9")
	b := in(s, u, "198.51.100.1").get("/account/sessions").sees(200,
		"An app, with the app password “my phone”", "Phone/1.0 <script>", "from 203.0.113.5", "from 203.0.113.9", "An app, with the password of the account", "this one").misses("<script> ", "1.0 <script>")
	for range 3 { // the successor of a refreshed session is the same to its owner
		phone = s.Accepted(s.Post("refreshSession", "", servertest.Bearer(phone.Text(t, "refreshJwt"))))
		s.Advance(time.Second)
	}
	apps := servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now()))
	if len(apps) != 2 || apps[0].Agent != "Phone/1.0 <script>" || apps[0].Address != "203.0.113.5" || !apps[0].OpenedAt.Equal(servertest.Start) || !apps[0].UsedAt.Equal(servertest.Start.Add(2*time.Second)) {
		t.Errorf("sessions %+v", apps)
	}
	b.send("/account/sessions/end", "session", "app "+encode(apps[0].Family)).sees(200, "The session is ended.").misses("my phone")
	s.Refused(s.Post("refreshSession", "", servertest.Bearer(phone.Text(t, "refreshJwt"))), 400, "ExpiredToken", "Token has been revoked")
	browsers := servertest.Must(s.DB.BrowserSessions(t.Context(), db.BrowserOfAccount, u.DID))
	for _, row := range browsers {
		if row.Address == "203.0.113.9" {
			b.send("/account/sessions/end", "session", "browser "+encode(row.ID)).misses("203.0.113.9")
		}
	}
	second.get("/account").sees(200, "Sign in to your account")
	// Those of others cannot be ended.
	mallory := in(s, s.SignUp("mallory"), "192.0.2.66").get("/account/sessions")
	for _, row := range servertest.Must(s.DB.BrowserSessions(t.Context(), db.BrowserOfAccount, u.DID)) {
		mallory.send("/account/sessions/end", "session", "browser "+encode(row.ID))
	}
	for _, row := range servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now())) {
		mallory.send("/account/sessions/end", "session", "app "+encode(row.Family))
	}
	s.Accepted(s.Get("getSession", u.Access))
	second = in(s, u, "203.0.113.9")
	b.get("/account/sessions").send("/account/sessions/end-others").sees(200, "All other sessions are ended.", "this one").misses("An app,", "203.0.113.9")
	second.get("/account").sees(200, "Sign in to your account")
	s.Refused(s.Get("getSession", u.Access), 400, "ExpiredToken", "Token has expired")
	s.Refused(s.Post("refreshSession", "", u.Refresh), 400, "ExpiredToken", "Token has been revoked")
	// The one that is left goes on.
	b.get("/account/app-passwords").send("/account/app-passwords/create", "name", "new").sees(200, "it is not shown again")
	b.get("/account/sessions").send("/account/sessions/end", "session", "browser "+encode(servertest.Must(s.DB.BrowserSessions(t.Context(), db.BrowserOfAccount, u.DID))[0].ID)).sees(200, "Sign in to your account")
}

func TestEndingWhatIsOverLeavesNoTrace(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	b.get("/account/sessions").send("/account/sessions/end-others").sees(200, "All other sessions are ended.")
	before, valid := len(servertest.Must(s.DB.Audit(t.Context(), u.DID, 100))), s.Account(u.DID).TokensValidFrom
	for range 3 {
		b.send("/account/sessions/end", "session", "app AAAA").sees(200, "The session is ended.")
		b.send("/account/sessions/end", "session", "browser AAAA").sees(200, "The session is ended.")
		token := tokenPattern.FindStringSubmatch(b.page)[1] // the page has no form for this
		b.ask(http.MethodPost, "/account/sessions/end-others", url.Values{"token": {token}}).sees(200, "There are no other sessions.")
	}
	if after := servertest.Must(s.DB.Audit(t.Context(), u.DID, 100)); len(after) != before {
		t.Errorf("entries %+v", after)
	}
	if now := s.Account(u.DID).TokensValidFrom; !now.Equal(valid) {
		t.Errorf("tokens are valid from %s, then from %s", valid, now)
	}
}

func TestBrowsersAreSignedOutBy(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *servertest.Server, u servertest.User)
	}{
		{"a reset", func(s *servertest.Server, u servertest.User) {
			s.Empty(s.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
			s.Empty(s.Post("resetPassword", `{"token":"`+s.Code("reset_password")+`","password":"another password"}`))
		}},
		{"a new password by the operator", func(s *servertest.Server, u servertest.User) {
			s.Empty(s.Post("com.atproto.admin.updateAccountPassword", `{"did":"`+u.DID.String()+`","password":"another password"}`, servertest.Admin))
		}},
		{"a takedown", func(s *servertest.Server, u servertest.User) {
			s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus",
				`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"`+u.DID.String()+`"},"takedown":{"applied":true,"ref":"x"}}`, servertest.Admin))
		}},
		{"deletion", func(s *servertest.Server, u servertest.User) {
			s.Empty(s.Post("com.atproto.admin.deleteAccount", `{"did":"`+u.DID.String()+`"}`, servertest.Admin))
		}},
		{"a month", func(s *servertest.Server, _ servertest.User) { s.Advance(30 * 24 * time.Hour) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			u := s.SignUp("alice")
			b := in(s, u, "198.51.100.1")
			b.get("/account/sessions")
			tt.do(s, u)
			stale := *b
			b.get("/account/app-passwords").sees(200, "Sign in to your account")
			stale.page = b.page
			if rows := servertest.Must(s.DB.BrowserSessions(t.Context(), db.BrowserOfAccount, u.DID)); len(rows) != 0 && tt.name != "a month" {
				t.Errorf("rows %+v", rows)
			}
		})
	}
}

func TestTheOwnerChangesWhatBelongsToTheAccount(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1")
	b.get("/account/email").send("/account/email/update-request").sees(200, "New email address")
	b.send("/account/email/update", "email", "new@example.com").sees(200, "Your email address is changed.", "new@example.com")
	b.send("/account/email/confirm-request").send("/account/email/confirm", "code", s.Code("confirm_email")).sees(200, "Your email address is confirmed.")
	b.send("/account/email/update-request").sees(200, "Code from the letter")
	b.send("/account/email/update", "email", "third@example.com", "code", s.Code("update_email")).sees(200, "third@example.com")
	b.get("/account/handle").sees(200, "@alice.test", ".test", "did="+u.DID.String())
	b.send("/account/handle", "handle", "@bob.test").sees(200, "Your handle is changed.", "@bob.test")
	b.send("/account/handle", "handle", "no handle").sees(400, "handle")
	b.get("/account/app-passwords").send("/account/app-passwords/create", "name", "phone", "privileged", "yes").sees(200, "phone", "also direct messages")
	b.send("/account/app-passwords/create", "name", "phone").sees(400, "An app password with this name already exists")
	b.send("/account/app-passwords/revoke", "name", "phone").sees(200, "The app password is revoked", "There are none.")
	b.get("/account/close").send("/account/deactivate").sees(200, "Your account is deactivated.", "Activate it again")
	if !s.Account(u.DID).Deactivated() {
		t.Error("not deactivated")
	}
	b.get("/account").sees(200, "This account is deactivated.")
	b.get("/account/close").send("/account/activate").sees(200, "Your account is active.")
	b.send("/account/delete-request").sees(200, "Delete the account for good")
	b.send("/account/delete", "code", "AAAAA-AAAAA", "password", servertest.GoodPassword).sees(400, "Token is invalid")
	b.send("/account/delete", "code", s.Code("delete_account"), "password", servertest.GoodPassword).sees(200, "Your account is deleted.", "Sign in to your account")
	if _, err := s.DB.AccountByDID(t.Context(), u.DID); err == nil {
		t.Error("not deleted")
	}
}

func TestThePasswordIsChangedByMail(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	b := in(s, u, "198.51.100.1").get("/account/password").sees(200, u.Email)
	b.send("/account/password/request").sees(200, "a code was mailed to it")
	b.send("/account/password/reset", "code", s.Code("reset_password"), "password", "short").sees(400, "Password")
	b.send("/account/password/reset", "code", s.Code("reset_password"), "password", "another password").sees(200, "Your password is changed", "Sign in to your account")
	b.signIn(u, servertest.GoodPassword).sees(403, "Invalid identifier or password")
	b.signIn(u, "another password").sees(200, "Your account")
	// Strangers learn nothing.
	known, unknown := open(s, "198.51.100.2").get("/account/password"), open(s, "198.51.100.2").get("/account/password")
	known.send("/account/password/request", "email", u.Email)
	unknown.send("/account/password/request", "email", "nobody@example.com")
	if one, other := without(known.page), without(unknown.page); one != other {
		t.Errorf("pages differ:\n%s\n%s", one, other)
	}
}

func TestDataIsTakenAlong(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	blob := s.Call("POST", "com.atproto.repo.uploadBlob", "<script>alert(1)</script>", u.Access, "Content-Type: image/svg+xml")
	cid := blob.Fields(t)["blob"].(map[string]any)["ref"].(map[string]any)["$link"].(string)
	s.Accepted(s.Post("com.atproto.repo.createRecord", `{"repo":"alice.test","collection":"com.example.x","record":{"blob":`+string(servertest.Must(jsonOf(blob.Fields(t)["blob"])))+`}}`, u.Access))
	b := in(s, u, "198.51.100.1").get("/account/data").sees(200, cid)
	token := tokenPattern.FindStringSubmatch(b.page)[1]
	check := func(what string) {
		t.Helper()
		b.ask("POST", "/account/data/repo", form("token", token))
		public := s.Get("com.atproto.sync.getRepo?did=" + u.DID.String())
		if b.status != 200 || b.header.Get("Content-Type") != "application/octet-stream" || b.header.Get("Content-Disposition") != "attachment; filename=repository.car" || len(b.page) < 100 {
			t.Errorf("%s: %d %v", what, b.status, b.header)
		}
		if public.Status == 200 && public.Body != b.page {
			t.Errorf("%s: not what getRepo answers", what)
		}
		b.ask("POST", "/account/data/blob", form("token", token, "cid", cid))
		if b.status != 200 || b.page != "<script>alert(1)</script>" || b.header.Get("Content-Type") != "application/octet-stream" ||
			b.header.Get("Content-Security-Policy") != "default-src 'none'; sandbox; frame-ancestors 'none'" {
			t.Errorf("%s: blob %d %v", what, b.status, b.header)
		}
	}
	check("active")
	s.Deactivate(u.DID)
	check("deactivated")
	b.ask("POST", "/account/data/blob", form("token", token, "cid", "no cid")).sees(400, "cid")
}

func TestWhoIsTakenDownCanReadAndLeave(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	s.TakeDown(u.DID)
	b := open(s, "198.51.100.1").signIn(u, servertest.GoodPassword).sees(200, "This account is taken down.", "contact@pds.test")
	for _, path := range []string{"/account/sessions", "/account/app-passwords", "/account/email", "/account/handle"} {
		b.get(path).sees(200, "This account is taken down.")
	}
	token := tokenPattern.FindStringSubmatch(b.page)[1]
	b.ask("POST", "/account/app-passwords/create", form("token", token, "name", "x")).sees(200, "This account is taken down.")
	b.get("/account/close").misses("/account/delete-request").send("/account/deactivate").sees(200, "Your account is deactivated.")
	if n := len(servertest.Must(s.DB.AppPasswords(t.Context(), u.DID))); n != 0 {
		t.Errorf("%d app passwords", n)
	}
}
