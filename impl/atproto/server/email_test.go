package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

func (f *fixture) confirm(u user) {
	f.Helper()
	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
	f.Accepted(f.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.Email, f.Code("confirm_email")), u.Access))
}

// without makes an account that has neither email nor password.
func (f *fixture) signUpWithout(name string) string {
	f.Helper()
	return f.Accepted(f.Post("createAccount", `{"handle":"`+name+`.test","email":"x@example.com"}`)).Text(f, "accessJwt")
}

func TestConfirmEmail(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	other := f.SignUp("bob")
	if a := f.Accepted(f.Post("requestEmailConfirmation", "", u.Access)); a.Body != "" {
		t.Errorf("answer %q", a.Body)
	}
	letter := f.Letters("confirm_email")[0]
	if letter.To != "alice@example.com" || letter.Subject != "Email Confirmation" {
		t.Errorf("letter %q to %s", letter.Subject, letter.To)
	}
	code := f.Code("confirm_email")
	confirm := func(email, token string, u user) answer {
		return f.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, email, token), u.Access)
	}
	f.Refused(confirm("bob@example.com", code, u), 400, "InvalidEmail", "invalid email")
	f.Refused(confirm("alice@example.com", "AAAAA-AAAAA", u), 400, "InvalidToken", "Token is invalid")
	f.Refused(confirm("alice@example.com", "", u), 400, "InvalidToken", "Token is invalid")
	f.Refused(confirm("bob@example.com", code, other), 400, "InvalidToken", "Token is invalid")
	f.Accepted(confirm("ALICE@example.com", " "+strings.ToLower(code)+"\n", u))
	if got := f.Accepted(f.Get("getSession", u.Access)).Fields(t); got["emailConfirmed"] != true {
		t.Errorf("session %v", got)
	}
	f.Refused(confirm("alice@example.com", code, u), 400, "InvalidToken", "Token is invalid")

	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
	f.Advance(15 * time.Minute)
	f.Refused(confirm("alice@example.com", f.Code("confirm_email"), u), 400, "ExpiredToken", "Token is expired")
	f.Refused(f.Post("requestEmailConfirmation", "", servertest.Bearer(f.signUpWithout("carol"))), 400, "InvalidRequest", "account does not have an email address")
	f.Refused(f.Post("requestEmailConfirmation", ""), 401, "AuthMissing", "Authentication Required")
}

// A stranger cannot void the owner's code by asking for others: while three are alive
// there are no others. All of them end with one use.
func TestCodesLiveTogether(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	var codes []string
	for range 4 {
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		codes = append(codes, f.Code("reset_password"))
		f.Advance(time.Second)
	}
	if codes[3] != codes[2] {
		t.Error("there is a fourth")
	}
	reset := func(code string) answer {
		return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code))
	}
	f.Accepted(reset(codes[0]))
	f.Refused(reset(codes[1]), 400, "InvalidToken", "Token is invalid")
	f.Refused(reset(codes[2]), 400, "InvalidToken", "Token is invalid")
}

// Wrong codes are counted per account and purpose, across codes.
func TestWrongCodesBudget(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
	for range 20 {
		f.Refused(f.Post("confirmEmail", `{"email":"alice@example.com","token":"AAAAA-AAAAA"}`, u.Access), 400, "InvalidToken", "Token is invalid")
	}
	right := fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, f.Code("confirm_email"))
	f.Refused(f.Post("confirmEmail", right, u.Access), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
	f.Refused(f.Post("confirmEmail", right, u.Access), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Advance(time.Hour)
	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
	f.Accepted(f.Post("confirmEmail", fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, f.Code("confirm_email")), u.Access))
}

// Anybody can ask for password resets. That keeps no owner from signing in with
// an emailed code, nor one who holds a session from getting any other code.
func TestMailsOfStrangersShutNobodyOut(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.confirm(u)
	f.SetAccount(u.DID, func(a *db.Account) { a.EmailAuthFactor = true })
	for range 40 {
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	}
	f.Refused(f.Post("createSession", login("alice.test", goodPassword)), 401, "AuthFactorTokenRequired",
		"A sign in code has been sent to your email address")
	f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
	f.Accepted(f.Post("requestAccountDelete", "", u.Access))
	f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
}

func TestUpdateEmail(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SignUp("bob")
	update := func(body string) answer { return f.Post("updateEmail", body, u.Access) }

	// Unconfirmed: no code is needed, and none is sent.
	if got := f.Accepted(f.Post("requestEmailUpdate", "", u.Access)).Body; strings.TrimSpace(got) != `{"tokenRequired":false}` {
		t.Errorf("answer %s", got)
	}
	if n := len(f.Letters("update_email")); n != 0 {
		t.Errorf("%d letters", n)
	}
	f.Refused(update(`{"email":"nonsense"}`), 400, "InvalidRequest", "This email address is not supported, please use a different email.")
	f.Refused(update(`{"email":"bob@example.com"}`), 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	f.Refused(update(`{"email":"alice2@example.com","token":"AAAAA-AAAAA"}`), 400, "InvalidToken", "Token is invalid")
	f.Advance(2 * time.Hour) // or there would be nobody to tell
	u = f.SignIn(u, "")
	f.Accepted(update(`{"email":"Alice2@Example.com","token":""}`))
	u.Email = "alice2@example.com"
	if l := f.Letters("email_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}

	// Confirmed: a code is needed.
	f.confirm(u)
	if got := f.Accepted(f.Post("requestEmailUpdate", "", u.Access)).Body; strings.TrimSpace(got) != `{"tokenRequired":true}` {
		t.Errorf("answer %s", got)
	}
	f.Refused(update(`{"email":"alice3@example.com"}`), 400, "TokenRequired", "confirmation token required")
	code := f.Code("update_email")
	if l := f.Letters("update_email")[0]; l.To != "alice2@example.com" {
		t.Errorf("the code went to %s", l.To)
	}
	// A refused address keeps the code.
	f.Refused(update(fmt.Sprintf(`{"email":"bob@example.com","token":%q}`, code)), 400, "InvalidRequest", "This email address is already in use, please use a different email.")
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice2@example.com"}`))
	reset := f.Code("reset_password")
	f.Accepted(update(fmt.Sprintf(`{"email":"alice3@example.com","token":%q}`, code)))
	if got := f.Accepted(f.Get("getSession", u.Access)).Fields(t); got["email"] != "alice3@example.com" || got["emailConfirmed"] != false {
		t.Errorf("session %v", got)
	}
	// All codes of the old address are dead.
	f.Refused(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, reset)), 400, "InvalidToken", "Token is invalid")

	u.Email = "alice3@example.com"
	f.confirm(u)
	f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
	f.Advance(16 * time.Minute)
	f.Refused(update(fmt.Sprintf(`{"email":"alice4@example.com","token":%q}`, f.Code("update_email"))), 400, "ExpiredToken", "Token is expired")
}

// An account without a password has no address, and does not come by one.
func TestUpdateEmailOfAnAccountWithoutOne(t *testing.T) {
	f := newFixture(t)
	token := f.signUpWithout("bare")
	f.Accepted(f.Post("updateEmail", `{"email":"bare@example.com"}`, servertest.Bearer(token)))
	if email, ok := f.Accepted(f.Get("getSession", servertest.Bearer(token))).Fields(t)["email"]; ok {
		t.Errorf("email %v", email)
	}
	f.Refused(f.Post("requestAccountDelete", "", servertest.Bearer(token)), 400, "InvalidRequest", "account does not have an email address")
}

// DESIGN 7: whether an address is known is not told.
func TestDesign7RequestPasswordResetTellsNothing(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	known := f.Accepted(f.Post("requestPasswordReset", `{"email":"Alice@example.com"}`))
	unknown := f.Accepted(f.Post("requestPasswordReset", `{"email":"nobody@example.com"}`))
	if known.Body != "" || unknown.Body != "" {
		t.Errorf("answers %q, %q", known.Body, unknown.Body)
	}
	l := f.Letters("reset_password")
	if len(l) != 1 || l[0].To != "alice@example.com" || !strings.Contains(l[0].Text, "@alice.test") {
		t.Errorf("letters %v", l)
	}
	f.Refused(f.Post("requestPasswordReset", `{}`), 400, "InvalidRequest", `Missing required key "email" at $`)
}

func TestResetPassword(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	ask := func() string {
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		return f.Code("reset_password")
	}
	reset := func(code, password string) answer {
		return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, code, password))
	}
	code := ask()
	f.Refused(reset(code, strings.Repeat("x", 257)), 400, "InvalidRequest", "Invalid password length.")
	// DESIGN 13: a reset to nothing, or nearly, is refused.
	f.Refused(reset(code, ""), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.Refused(reset(code, "1234567"), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
	f.Refused(reset("AAAAA-AAAAA", "a new password"), 400, "InvalidToken", "Token is invalid")
	f.Accepted(reset(code, "a new password"))
	f.Refused(reset(code, "a new password"), 400, "InvalidToken", "Token is invalid")

	f.Refused(f.Post("createSession", login("alice.test", goodPassword)), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Refused(f.Post("refreshSession", "", u.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Refused(f.Get("getSession", u.Access), 400, "ExpiredToken", "Token has expired")
	again := f.Accepted(f.Post("createSession", login("alice.test", "a new password")))
	f.Accepted(f.Get("getSession", servertest.Bearer(again.Text(t, "accessJwt"))))
	if l := f.Letters("password_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}
	code = ask()
	f.Advance(15 * time.Minute)
	f.Refused(reset(code, "a new password"), 400, "ExpiredToken", "Token is expired")
}

// Whoever has spent the budget of wrong passwords gets in with a reset.
func TestResetPasswordForgetsWrongOnes(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	for range 50 {
		f.from("203.0.113.9", "alice.test", "wrong")
	}
	f.Refused(f.from("203.0.113.9", "alice.test", goodPassword), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, f.Code("reset_password"))))
	f.Accepted(f.from("203.0.113.9", "alice.test", "a new password"))
}

// No code works for what it was not issued for.
func TestCodeKindsNeverMix(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.confirm(u)
	f.SetAccount(u.DID, func(a *db.Account) { a.EmailAuthFactor = true })
	issue := map[string]func(){
		"confirm_email":  func() { f.Accepted(f.Post("requestEmailConfirmation", "", u.Access)) },
		"update_email":   func() { f.Accepted(f.Post("requestEmailUpdate", "", u.Access)) },
		"reset_password": func() { f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`)) },
		"delete_account": func() { f.Accepted(f.Post("requestAccountDelete", "", u.Access)) },
		"sign_in":        func() { f.Post("createSession", login("alice.test", goodPassword)) },
	}
	use := map[string]func(code string) answer{
		"confirm_email": func(code string) answer {
			return f.Post("confirmEmail", fmt.Sprintf(`{"email":"alice@example.com","token":%q}`, code), u.Access)
		},
		"update_email": func(code string) answer {
			return f.Post("updateEmail", fmt.Sprintf(`{"email":"alice2@example.com","token":%q}`, code), u.Access)
		},
		"reset_password": func(code string) answer {
			return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code))
		},
		"delete_account": func(code string) answer {
			return f.Post("deleteAccount", fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, u.DID, goodPassword, code))
		},
		"sign_in": func(code string) answer {
			return f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, goodPassword, code))
		},
	}
	for kind, ask := range issue {
		ask()
		code := f.Code(kind)
		for method, try := range use {
			if method != kind {
				t.Run(kind+" as "+method, func(t *testing.T) {
					f.Refused(try(code), 400, "InvalidToken", "Token is invalid")
				})
			}
		}
	}
}

// DESIGN 32: sign-in by emailed code.
func TestDesign32EmailAuthFactor(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	update := func(body string) answer { return f.Post("updateEmail", body, u.Access) }
	factor := func(want any) {
		t.Helper()
		got := f.Accepted(f.Get("getSession", u.Access)).Fields(t)
		if got["emailAuthFactor"] != want || got["emailConfirmed"] != true {
			t.Errorf("session %v, want emailAuthFactor %v and a confirmed address", got, want)
		}
	}
	on := `{"email":"alice@example.com","emailAuthFactor":true}`
	f.Refused(update(on), 400, "InvalidRequest", "Confirm your email address before you turn on sign-in by emailed code")
	f.confirm(u)
	f.Refused(update(`{"email":"alice2@example.com","emailAuthFactor":true}`), 400, "TokenRequired", "confirmation token required")
	f.Accepted(update(on))
	factor(true)
	f.Accepted(update(on))
	if l := f.Letters("sign_in_code_on"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}

	signIn := func(code string) answer {
		return f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q,"allowTakendown":true}`, goodPassword, code))
	}
	f.Refused(f.Post("createSession", login("alice.test", "wrong")), 401, "AuthenticationRequired", "Invalid identifier or password")
	if n := len(f.Letters("sign_in")); n != 0 {
		t.Errorf("%d codes were sent for a wrong password", n)
	}
	f.Refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.Refused(signIn("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	code := f.Code("sign_in")
	f.Refused(f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":"wrong","authFactorToken":%q}`, code)),
		401, "AuthenticationRequired", "Invalid identifier or password")
	if got := f.Accepted(signIn(" " + strings.ToLower(code) + " ")).Fields(t); got["emailAuthFactor"] != true {
		t.Errorf("session %v", got)
	}
	f.Refused(signIn(code), 400, "InvalidToken", "Token is invalid")
	f.Refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.Advance(15 * time.Minute)
	f.Refused(signIn(f.Code("sign_in")), 400, "ExpiredToken", "Token is expired")

	// A taken-down login is asked too.
	f.TakeDown(u.DID)
	f.Refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	f.Accepted(signIn(f.Code("sign_in")))
	f.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef = nil })

	// A reset leaves it on.
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, f.Code("reset_password"), goodPassword)))
	f.Refused(signIn(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	u.Access = servertest.Bearer(f.Accepted(signIn(f.Code("sign_in"))).Text(t, "accessJwt"))

	// Off needs a code, and keeps the confirmation.
	off := func(code string) answer {
		return update(fmt.Sprintf(`{"email":"alice@example.com","emailAuthFactor":false,"token":%q}`, code))
	}
	f.Refused(off(""), 400, "TokenRequired", "confirmation token required")
	f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
	f.Accepted(off(f.Code("update_email")))
	factor(nil)
	if l := f.Letters("sign_in_code_off"); len(l) != 1 {
		t.Errorf("announcements %v", l)
	}
	f.Accepted(signIn(""))

	// A new address switches it off, and the old one hears of it.
	f.Accepted(update(on))
	f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
	f.Accepted(update(fmt.Sprintf(`{"email":"alice2@example.com","token":%q}`, f.Code("update_email"))))
	got := f.Accepted(f.Get("getSession", u.Access)).Fields(t)
	if got["emailAuthFactor"] != nil || got["emailConfirmed"] != false || got["email"] != "alice2@example.com" {
		t.Errorf("session %v", got)
	}
	if l := f.Letters("email_changed"); len(l) != 1 || l[0].To != "alice@example.com" {
		t.Errorf("announcements %v", l)
	}
}

// DESIGN 32: without a mailer nobody may depend on its codes.
func TestDesign32NoMailer(t *testing.T) {
	f := newFixture(t, func(o *options) { o.Config.SendsMail = false })
	u := f.SignUp("alice")
	f.confirm(u)
	f.Refused(f.Post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`, u.Access),
		400, "InvalidRequest", "This server sends no mail, so it cannot send sign-in codes")
}
