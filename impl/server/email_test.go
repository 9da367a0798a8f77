package server_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/mail"
)

// letters returns the letters of a kind, the newest first.
func (f *fixture) letters(kind string) []mail.Letter {
	f.Helper()
	list, err := f.outbox.List(f.Context(), 1000)
	if err != nil {
		f.Fatal(err)
	}
	var found []mail.Letter
	for _, m := range list {
		if m.Kind != kind {
			continue
		}
		_, l, err := f.outbox.Read(f.Context(), m.ID)
		if err != nil || l == nil {
			f.Fatalf("letter %d: %v", m.ID, err)
		}
		found = append(found, *l)
	}
	return found
}

var codePattern = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// code is the code in the newest letter of a kind.
func (f *fixture) code(kind string) string {
	f.Helper()
	list := f.letters(kind)
	if len(list) == 0 {
		f.Fatalf("no letter %q", kind)
	}
	code := codePattern.FindString(list[0].Text)
	if code == "" {
		f.Fatalf("letter %q has no code:\n%s", kind, list[0].Text)
	}
	return code
}

func (f *fixture) confirm(u user) {
	f.Helper()
	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	f.accepted(f.post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.email, f.code("confirm_email")), bearer(u.access)...))
}

// without makes an account that has neither email nor password.
func (f *fixture) signUpWithout(name string) string {
	f.Helper()
	return f.accepted(f.post("createAccount", `{"handle":"`+name+`.test","email":"x@example.com"}`)).text(f, "accessJwt")
}

func TestConfirmEmail(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	other := f.signUp("bob")
	if a := f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...)); a.body != "" {
		t.Errorf("answer %q", a.body)
	}
	letter := f.letters("confirm_email")[0]
	if letter.To != "alice@example.com" || letter.Subject != "Email Confirmation" {
		t.Errorf("letter %q to %s", letter.Subject, letter.To)
	}
	code := f.code("confirm_email")
	confirm := func(email, token string, u user) answer {
		return f.post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, email, token), bearer(u.access)...)
	}
	f.refused(confirm("bob@example.com", code, u), 400, "InvalidEmail", "invalid email")
	f.refused(confirm("alice@example.com", "AAAAA-AAAAA", u), 400, "InvalidToken", "Token is invalid")
	f.refused(confirm("alice@example.com", "", u), 400, "InvalidToken", "Token is invalid")
	f.refused(confirm("alice@example.com", strings.ReplaceAll(code, "-", ""), u), 400, "InvalidToken", "Token is invalid")
	f.refused(confirm("bob@example.com", code, other), 400, "InvalidToken", "Token is invalid")
	f.accepted(confirm("ALICE@example.com", " "+strings.ToLower(code)+"\n", u))
	if got := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t); got["emailConfirmed"] != true {
		t.Errorf("session %v", got)
	}
	f.refused(confirm("alice@example.com", code, u), 400, "InvalidToken", "Token is invalid")

	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	f.clock.advance(15 * time.Minute)
	f.refused(confirm("alice@example.com", f.code("confirm_email"), u), 400, "ExpiredToken", "Token is expired")
	f.refused(f.post("requestEmailConfirmation", "", bearer(f.signUpWithout("carol"))...), 400, "InvalidRequest", "account does not have an email address")
	f.refused(f.post("requestEmailConfirmation", ""), 401, "AuthMissing", "Authentication Required")
}

// A stranger cannot void the owner's code by asking for others: three are live.
func TestCodesLiveTogether(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	var codes []string
	for range 4 {
		f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
		codes = append(codes, f.code("reset_password"))
		f.clock.advance(time.Second)
	}
	reset := func(code string) answer {
		return f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code))
	}
	f.refused(reset(codes[0]), 400, "InvalidToken", "Token is invalid")
	f.accepted(reset(codes[1]))
	// One use ends all of them.
	f.refused(reset(codes[2]), 400, "InvalidToken", "Token is invalid")
	f.refused(reset(codes[3]), 400, "InvalidToken", "Token is invalid")
	_ = u
}

// Wrong codes are counted per account and purpose, across codes.
func TestWrongCodesBudget(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	for range 20 {
		f.refused(f.post("confirmEmail", `{"email":"alice@example.com","token":"AAAAA-AAAAA"}`, bearer(u.access)...), 400, "InvalidToken", "Token is invalid")
	}
	right := fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, f.code("confirm_email"))
	f.refused(f.post("confirmEmail", right, bearer(u.access)...), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	f.refused(f.post("confirmEmail", right, bearer(u.access)...), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.clock.advance(time.Hour)
	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	f.accepted(f.post("confirmEmail", fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, f.code("confirm_email")), bearer(u.access)...))
}

func TestMailsBudget(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	for range 30 {
		f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
	}
	f.refused(f.post("requestEmailConfirmation", "", bearer(u.access)...), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	// Where that would tell that the address is known, nothing is said.
	for range 31 {
		f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	}
	if n := len(f.letters("reset_password")); n != 30 {
		t.Errorf("%d letters, want the 30 of the budget", n)
	}
}

// Anybody can ask for password resets. That keeps no owner from signing in with
// an emailed code, nor one who holds a session from getting any other code.
func TestMailsOfStrangersShutNobodyOut(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.confirm(u)
	f.setAccount(u.did, func(a *db.Account) { a.EmailAuthFactor = true })
	for range 40 {
		f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	}
	f.refused(f.post("createSession", login("alice.test", goodPassword)), 401, "AuthFactorTokenRequired",
		"A sign in code has been sent to your email address")
	f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...))
	f.accepted(f.post("requestAccountDelete", "", bearer(u.access)...))
	f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...))
}

func TestUpdateEmail(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.signUp("bob")
	update := func(body string) answer { return f.post("updateEmail", body, bearer(u.access)...) }

	// Unconfirmed: no code is needed, and none is sent.
	if got := f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...)).body; strings.TrimSpace(got) != `{"tokenRequired":false}` {
		t.Errorf("answer %s", got)
	}
	if n := len(f.letters("update_email")); n != 0 {
		t.Errorf("%d letters", n)
	}
	f.refused(update(`{"email":"nonsense"}`), 400, "InvalidRequest", "This email address is not supported, please use a different email.")
	f.refused(update(`{"email":"bob@example.com"}`), 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	f.refused(update(`{"email":"alice2@example.com","token":"AAAAA-AAAAA"}`), 400, "InvalidToken", "Token is invalid")
	f.accepted(update(`{"email":"Alice2@Example.com","token":""}`))
	u.email = "alice2@example.com"
	if l := f.letters("email_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}

	// Confirmed: a code is needed.
	f.confirm(u)
	if got := f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...)).body; strings.TrimSpace(got) != `{"tokenRequired":true}` {
		t.Errorf("answer %s", got)
	}
	f.refused(update(`{"email":"alice3@example.com"}`), 400, "TokenRequired", "confirmation token required")
	code := f.code("update_email")
	if l := f.letters("update_email")[0]; l.To != "alice2@example.com" {
		t.Errorf("the code went to %s", l.To)
	}
	// A refused address keeps the code.
	f.refused(update(fmt.Sprintf(`{"email":"bob@example.com","token":%q}`, code)), 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	f.accepted(f.post("requestPasswordReset", `{"email":"alice2@example.com"}`))
	reset := f.code("reset_password")
	f.accepted(update(fmt.Sprintf(`{"email":"alice3@example.com","token":%q}`, code)))
	if got := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t); got["email"] != "alice3@example.com" || got["emailConfirmed"] != false {
		t.Errorf("session %v", got)
	}
	// All codes of the old address are dead.
	f.refused(f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, reset)), 400, "InvalidToken", "Token is invalid")

	u.email = "alice3@example.com"
	f.confirm(u)
	f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...))
	f.clock.advance(16 * time.Minute)
	f.refused(update(fmt.Sprintf(`{"email":"alice4@example.com","token":%q}`, f.code("update_email"))), 400, "ExpiredToken", "Token is expired")
}

// An account without a password has no address, and does not come by one.
func TestUpdateEmailOfAnAccountWithoutOne(t *testing.T) {
	f := newFixture(t)
	token := f.signUpWithout("bare")
	f.accepted(f.post("updateEmail", `{"email":"bare@example.com"}`, bearer(token)...))
	if email, ok := f.accepted(f.get("getSession", bearer(token)...)).fields(t)["email"]; ok {
		t.Errorf("email %v", email)
	}
	f.refused(f.post("requestAccountDelete", "", bearer(token)...), 400, "InvalidRequest", "account does not have an email address")
}

// DESIGN 7: whether an address is known is not told.
func TestDesign7RequestPasswordResetTellsNothing(t *testing.T) {
	f := newFixture(t)
	f.signUp("alice")
	known := f.accepted(f.post("requestPasswordReset", `{"email":"Alice@example.com"}`))
	unknown := f.accepted(f.post("requestPasswordReset", `{"email":"nobody@example.com"}`))
	if known.body != "" || unknown.body != "" {
		t.Errorf("answers %q, %q", known.body, unknown.body)
	}
	l := f.letters("reset_password")
	if len(l) != 1 || l[0].To != "alice@example.com" || !strings.Contains(l[0].Text, "@alice.test") {
		t.Errorf("letters %v", l)
	}
	f.refused(f.post("requestPasswordReset", `{}`), 400, "InvalidRequest", `Missing required key "email" at $`)
}

func TestResetPassword(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	ask := func() string {
		f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
		return f.code("reset_password")
	}
	reset := func(code, password string) answer {
		return f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, code, password))
	}
	code := ask()
	f.refused(reset(code, strings.Repeat("x", 257)), 400, "InvalidRequest", "Invalid password length.")
	// DESIGN 13: a reset to nothing, or nearly, is refused.
	f.refused(reset(code, ""), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.refused(reset(code, "1234567"), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.refused(reset("AAAAA-AAAAA", "a new password"), 400, "InvalidToken", "Token is invalid")
	f.accepted(reset(code, "a new password"))
	f.refused(reset(code, "a new password"), 400, "InvalidToken", "Token is invalid")

	f.refused(f.post("createSession", login("alice.test", goodPassword)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.refused(f.post("refreshSession", "", bearer(u.refresh)...), 400, "ExpiredToken", "Token has been revoked")
	f.refused(f.get("getSession", bearer(u.access)...), 400, "ExpiredToken", "Token has expired")
	again := f.accepted(f.post("createSession", login("alice.test", "a new password")))
	f.accepted(f.get("getSession", bearer(again.text(t, "accessJwt"))...))
	if l := f.letters("password_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}
	code = ask()
	f.clock.advance(15 * time.Minute)
	f.refused(reset(code, "a new password"), 400, "ExpiredToken", "Token is expired")
}

// Whoever has spent the budget of wrong passwords gets in with a reset.
func TestResetPasswordForgetsWrongOnes(t *testing.T) {
	f := newFixture(t)
	f.signUp("alice")
	for range 50 {
		f.post("createSession", login("alice.test", "wrong"))
	}
	f.refused(f.post("createSession", login("alice.test", goodPassword)), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.accepted(f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, f.code("reset_password"))))
	f.accepted(f.post("createSession", login("alice.test", "a new password")))
}

// No code works for what it was not issued for.
func TestCodeKindsNeverMix(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.confirm(u)
	f.setAccount(u.did, func(a *db.Account) { a.EmailAuthFactor = true })
	issue := map[string]func(){
		"confirm_email":  func() { f.accepted(f.post("requestEmailConfirmation", "", bearer(u.access)...)) },
		"update_email":   func() { f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...)) },
		"reset_password": func() { f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`)) },
		"delete_account": func() { f.accepted(f.post("requestAccountDelete", "", bearer(u.access)...)) },
		"sign_in":        func() { f.post("createSession", login("alice.test", goodPassword)) },
	}
	use := map[string]func(code string) answer{
		"confirm_email": func(code string) answer {
			return f.post("confirmEmail", fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, code), bearer(u.access)...)
		},
		"update_email": func(code string) answer {
			return f.post("updateEmail", fmt.Sprintf(`{"email":"alice2@example.com","token":%q}`, code), bearer(u.access)...)
		},
		"reset_password": func(code string) answer {
			return f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code))
		},
		"delete_account": func(code string) answer {
			return f.post("deleteAccount", fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, u.did, goodPassword, code))
		},
		"sign_in": func(code string) answer {
			return f.post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, goodPassword, code))
		},
	}
	for kind, ask := range issue {
		ask()
		code := f.code(kind)
		for method, try := range use {
			if method != kind {
				t.Run(kind+" as "+method, func(t *testing.T) {
					f.refused(try(code), 400, "InvalidToken", "Token is invalid")
				})
			}
		}
	}
}

// DESIGN 32: sign-in by emailed code.
func TestDesign32EmailAuthFactor(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	update := func(body string) answer { return f.post("updateEmail", body, bearer(u.access)...) }
	factor := func(want bool) {
		t.Helper()
		got := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t)
		if got["emailAuthFactor"] != want || got["emailConfirmed"] != true {
			t.Errorf("session %v, want emailAuthFactor %v and a confirmed address", got, want)
		}
	}
	on := `{"email":"alice@example.com","emailAuthFactor":true}`
	f.refused(update(on), 400, "InvalidRequest", "Confirm your email address before you turn on sign-in by emailed code")
	f.confirm(u)
	f.refused(update(`{"email":"alice2@example.com","emailAuthFactor":true}`), 400, "TokenRequired", "confirmation token required")
	f.accepted(update(on))
	factor(true)
	f.accepted(update(on))
	if l := f.letters("sign_in_code_on"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}

	signIn := func(code string) answer {
		return f.post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q,"allowTakendown":true}`, goodPassword, code))
	}
	f.refused(f.post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	if n := len(f.letters("sign_in")); n != 0 {
		t.Errorf("%d codes were sent for a wrong password", n)
	}
	f.refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.refused(signIn("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	code := f.code("sign_in")
	f.refused(f.post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":"wrong","authFactorToken":%q}`, code)),
		401, "AuthenticationRequired", "Invalid identifier or password")
	if got := f.accepted(signIn(" " + strings.ToLower(code) + " ")).fields(t); got["emailAuthFactor"] != true {
		t.Errorf("session %v", got)
	}
	f.refused(signIn(code), 400, "InvalidToken", "Token is invalid")
	f.refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.clock.advance(15 * time.Minute)
	f.refused(signIn(f.code("sign_in")), 400, "ExpiredToken", "Token is expired")

	// A taken-down login is asked too.
	f.takeDown(u.did)
	f.refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.accepted(signIn(f.code("sign_in")))
	f.setAccount(u.did, func(a *db.Account) { a.TakedownRef = nil })

	// A reset leaves it on.
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.accepted(f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, f.code("reset_password"), goodPassword)))
	f.refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	u.access = f.accepted(signIn(f.code("sign_in"))).text(t, "accessJwt")

	// Off needs a code, and keeps the confirmation.
	off := func(code string) answer {
		return update(fmt.Sprintf(`{"email":"alice@example.com","emailAuthFactor":false,"token":%q}`, code))
	}
	f.refused(off(""), 400, "TokenRequired", "confirmation token required")
	f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...))
	f.accepted(off(f.code("update_email")))
	factor(false)
	if l := f.letters("sign_in_code_off"); len(l) != 1 {
		t.Errorf("announcements %v", l)
	}
	f.accepted(signIn(""))

	// A new address switches it off, and the old one hears of it.
	f.accepted(update(on))
	f.accepted(f.post("requestEmailUpdate", "", bearer(u.access)...))
	f.accepted(update(fmt.Sprintf(`{"email":"alice2@example.com","token":%q}`, f.code("update_email"))))
	got := f.accepted(f.get("getSession", bearer(u.access)...)).fields(t)
	if got["emailAuthFactor"] != false || got["emailConfirmed"] != false || got["email"] != "alice2@example.com" {
		t.Errorf("session %v", got)
	}
	if l := f.letters("email_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}
}

// DESIGN 32: without a mailer nobody may depend on its codes.
func TestDesign32NoMailer(t *testing.T) {
	f := newFixture(t, func(o *options) { o.config.SendsMail = false })
	u := f.signUp("alice")
	f.confirm(u)
	f.refused(f.post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`, bearer(u.access)...),
		400, "InvalidRequest", "This server sends no mail, so it cannot send sign-in codes")
}
