package server_test

import (
	"fmt"
	"strings"
	"testing"

	"portico/db"
)

// DESIGN §10, sign-in: identifiers are first as typed; only what names no account so is
// cleaned at both ends, and nowhere else. Passwords never are.
func TestDesignSignInIdentifiersAsPasted(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice, bob := f.SignUp("alice"), f.SignUp("bob")
		f.SetAccount(bob.DID, func(a *db.Account) { a.Email = "\u200balice@example.com" }) // by the operator, perhaps
		for _, tt := range []struct {
			identifier string
			want       user
		}{
			{"alice.test", alice},
			{"@alice.test", alice},
			{" @Alice.Test\r\n", alice},
			{"\u202a@\u2068alice.test\u2069\u202c", alice},
			{"\u200b\u200e\u200falice.test\u2060\ufeff\u3000", alice},
			{"\u00a0Alice@Example.COM\u00a0", alice},
			{"@alice@example.com", alice},
			{"\t" + alice.DID.String() + " ", alice},
			{"alice@example.com", alice},
			{"\u200balice@example.com", bob},
			{" \u200balice@example.com", alice},
			{"@@alice.test", user{}},
			{"alice.test@", user{}},
			{"ali\u200bce.test", user{}},
			{"ali ce.test", user{}},
			{"\"alice.test\"", user{}},
			{"\u2070alice.test", user{}},
			{"@", user{}},
			{" ", user{}},
			{"", user{}},
		} {
			a := f.Post("createSession", login(tt.identifier, goodPassword))
			if tt.want.DID == "" {
				f.Refused(a, 401, "AuthenticationRequired", "Invalid identifier or password")
			} else if got := f.Accepted(a).Text(t, "did"); got != tt.want.DID.String() {
				t.Errorf("%+q is %s, want %s", tt.identifier, got, tt.want.Handle)
			}
		}
		for _, password := range []string{" " + goodPassword, goodPassword + "\n", "\u200b" + goodPassword} {
			f.Refused(f.Post("createSession", login("alice.test", password)), 401, "AuthenticationRequired", "Invalid identifier or password")
		}
		// The letter goes where the account's mail goes.
		carol := f.withFactor("carol")
		f.Refused(f.Post("createSession", login("\u202a@"+carol.Handle, goodPassword)), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		if l := f.Letters("sign_in"); len(l) != 1 || l[0].To != "carol@example.com" {
			t.Errorf("letters %v", l)
		}
	})
}

// DESIGN §10, sign-in: of emailed codes everything but letters and digits is dropped.
func TestDesignEmailedCodesAsPasted(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.withFactor("alice")
		for _, paste := range []func(code string) string{
			func(code string) string { return strings.Replace(code, "-", "", 1) },
			func(code string) string { return strings.Replace(code, "-", "\u2013", 1) + "." },
			func(code string) string { return " " + strings.ToLower(strings.Replace(code, "-", " ", 1)) + "\r\n" },
			func(code string) string { return "\u202a" + code + "\u202c" },
			func(code string) string { return `"` + code + `"` },
		} {
			f.Post("createSession", login("alice.test", goodPassword))
			code := paste(f.Code("sign_in"))
			f.Accepted(f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, goodPassword, code)))
		}
		f.Accepted(f.Post("requestEmailUpdate", "", u.Access))
		code := strings.Replace(f.Code("update_email"), "-", "", 1)
		f.Refused(f.Post("updateEmail", fmt.Sprintf(`{"email":"alice@example.org","token":%q}`, code+"A"), u.Access), 400, "InvalidToken", "Token is invalid")
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":"alice@example.org","token":%q}`, code), u.Access))
		u.Email = "alice@example.org"
		f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
		f.Accepted(f.Post("confirmEmail", fmt.Sprintf(`{"email":"alice@example.org","token":%q}`, f.Code("confirm_email")+"."), u.Access))
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.org"}`))
		f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, strings.Replace(f.Code("reset_password"), "-", "\u2014", 1), goodPassword)))
		u = f.SignIn(u, "")
		f.Accepted(f.Post("requestAccountDelete", "", u.Access))
		f.Accepted(f.Post("deleteAccount", fmt.Sprintf(`{"did":%q,"password":%q,"token":%q}`, u.DID, goodPassword, " "+f.Code("delete_account"))))
	})
}

// DESIGN §10, case: an address is stored and found in JavaScript's lower case, so that one
// which somebody brought from the reference is found.
func TestDesignAddressesInLowerCaseOfJavaScript(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("istanbul") // istanbul@example.com is another's
		in := fmt.Sprintf(`{"handle":"ist.test","email":"\u0130stanbul@example.com","password":%q}`, goodPassword)
		did := f.Accepted(f.Post("createAccount", in)).Text(t, "did")
		for _, typed := range []string{"\u0130stanbul@example.com", "i\u0307STANBUL@example.com", " \u0130stanbul@EXAMPLE.com"} {
			a := f.Accepted(f.Post("createSession", login(typed, goodPassword)))
			if a.Text(t, "did") != did || a.Text(t, "email") != "i\u0307stanbul@example.com" {
				t.Errorf("%+q is %s", typed, a.Body)
			}
		}
		// A handle has no such letter, and is not mistaken for one without the dot.
		f.Refused(f.Post("createSession", login("\u0130stanbul.test", goodPassword)), 401, "AuthenticationRequired", "Invalid identifier or password")
		f.Accepted(f.Post("requestPasswordReset", `{"email":"\u0130stanbul@example.com"}`))
		if l := f.Letters("reset_password"); len(l) != 1 || l[0].To != "i\u0307stanbul@example.com" {
			t.Errorf("letters %v", l)
		}
	})
}
