package server_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/impl/account/factor/totp"
	"portico/impl/servertest"
)

// withApp signs up somebody who has an authenticator app and recovery codes.
func (f *fixture) withApp(name string) (user, totp.Secret, []string) {
	f.Helper()
	u := f.SignUp(name)
	f.confirm(u)
	secret := servertest.Must(totp.Read([]byte("12345678901234567890")))
	codes := servertest.Must(f.Factors.Enable(f.Context(), u.DID, secret, secret.Code(totp.StepAt(f.Now())-1)))
	return u, secret, codes
}

// signInWith tries to sign in from an address with what is asked for beside the password.
func (f *fixture) signInWith(u user, password, code, address string) answer {
	f.Helper()
	return f.Post("createSession", fmt.Sprintf(`{"identifier":%q,"password":%q,"authFactorToken":%q}`, u.Handle, password, code), "X-Forwarded-For: "+address)
}

// DESIGN §10, the emailed code and authFactorToken: where there is an authenticator app its
// code is asked for, and nothing is mailed.
func TestDesignAuthenticatorAppInTheSignIn(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u, secret, codes := f.withApp("alice")
		f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":%q,"emailAuthFactor":true}`, u.Email), u.Access))
		step := totp.StepAt(f.Now())
		in := func(code string) answer { return f.signInWith(u, goodPassword, code, "198.51.100.1") }
		f.Refused(in(""), 401, "AuthFactorTokenRequired", "Enter the code of your authenticator app, or a recovery code")
		f.Refused(f.signInWith(u, "wrong password", secret.Code(step), "198.51.100.1"), 401, "AuthenticationRequired", "Invalid identifier or password")
		for _, wrong := range []string{"x", "000000", secret.Code(step + 2), secret.Code(step - 2), secret.Code(step - 1), "AAAAA-AAAAA", "passkey"} {
			f.Refused(in(wrong), 400, "InvalidToken", "Token is invalid")
		}
		a := f.Accepted(in(" " + secret.Code(step)[:3] + "-" + secret.Code(step)[3:] + ".")).Fields(t)
		if a["emailAuthFactor"] != true || a["did"] != u.DID.String() {
			t.Errorf("answer %v", a)
		}
		f.Refused(in(secret.Code(step)), 400, "InvalidToken", "Token is invalid")
		f.Accepted(in(strings.ToLower(codes[0])))
		f.Refused(in(codes[0]), 400, "InvalidToken", "Token is invalid")
		if n := len(f.Letters("sign_in")); n != 0 {
			t.Errorf("%d codes were mailed", n)
		}
		letters := f.Letters("factors_changed")
		if len(letters) != 2 || !strings.Contains(letters[0].Text+letters[1].Text, "Recovery codes left: 9.") {
			t.Errorf("letters %v", letters)
		}
		// App passwords are for apps that could not ask.
		app := f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access)).Text(t, "password")
		f.Accepted(f.signInWith(u, app, "", "198.51.100.1"))
		// Off again, it is as before.
		f.Check(f.Factors.Disable(t.Context(), u.DID))
		f.Refused(in(codes[1]), 400, "InvalidToken", "Token is invalid")
		f.Refused(in(""), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		f.Accepted(in(f.Code("sign_in")))
	})
}

func TestCodesOfAnAppAreGoodOnce(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u, secret, codes := f.withApp("alice")
		for _, code := range []string{secret.Code(totp.StepAt(f.Now())), codes[3]} {
			var wait sync.WaitGroup
			answers := make(chan int, 6)
			for range cap(answers) {
				wait.Go(func() { answers <- f.signInWith(u, goodPassword, code, "198.51.100.1").Status })
			}
			wait.Wait()
			close(answers)
			in := 0
			for status := range answers {
				if status == 200 {
					in++
				} else if status != 400 {
					t.Errorf("status %d", status)
				}
			}
			if in != 1 {
				t.Errorf("%d sign-ins with a code", in)
			}
		}
	})
}

// Whoever has the password gets twenty codes of a million a day, over all unknown addresses;
// that keeps the owner out of neither the addresses where she was, nor of recovery codes.
func TestGuessingTheCodeOfAnApp(t *testing.T) {
	f := newFixture(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	u, secret, codes := f.withApp("alice")
	f.Accepted(f.signInWith(u, goodPassword, secret.Code(totp.StepAt(f.Now())), "203.0.113.1"))
	f.Advance(time.Minute)
	for i := range 20 {
		f.Refused(f.signInWith(u, goodPassword, "000000", fmt.Sprint("198.51.100.", i)), 400, "InvalidToken", "Token is invalid")
	}
	right := func() string { return secret.Code(totp.StepAt(f.Now())) }
	if a := f.signInWith(u, goodPassword, right(), "198.51.100.99"); a.Status != 429 || a.Header.Get("Retry-After") == "" {
		t.Errorf("after twenty wrong codes: %d %s", a.Status, a.Body)
	}
	f.Advance(time.Hour)
	if a := f.signInWith(u, goodPassword, right(), "198.51.100.99"); a.Status != 429 {
		t.Errorf("an hour later: %d", a.Status)
	}
	f.Accepted(f.signInWith(u, goodPassword, right(), "203.0.113.1"))
	f.Accepted(f.signInWith(u, goodPassword, codes[0], "198.51.100.99"))
	f.Advance(23 * time.Hour)
	f.Accepted(f.signInWith(u, goodPassword, right(), "198.51.100.100"))
}

// Whoever reads the owner's mail has new passwords as often as she likes, and not one guess
// more of the authenticator app: it is there against her. A recovery code still lets in.
func TestAResetGivesNoGuessesOfAnAppBack(t *testing.T) {
	f := newFixture(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	u, secret, codes := f.withApp("alice")
	f.Accepted(f.signInWith(u, goodPassword, secret.Code(totp.StepAt(f.Now())), "203.0.113.1"))
	f.Advance(time.Minute)
	guess := func(password, address string) answer { return f.signInWith(u, password, "000000", address) }
	reset := func(password string) {
		f.Accepted(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":%q}`, u.Email)))
		f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, f.Code("reset_password"), password), "X-Forwarded-For: 198.51.100.1"))
	}
	for i := range 10 {
		f.Refused(guess(goodPassword, fmt.Sprint("198.51.100.", i)), 400, "InvalidToken", "Token is invalid")
	}
	reset("another password")
	for i := range 10 {
		f.Refused(guess("another password", fmt.Sprint("198.51.100.", i)), 400, "InvalidToken", "Token is invalid")
	}
	reset("a third password")
	right := func() string { return secret.Code(totp.StepAt(f.Now())) }
	for _, address := range []string{"198.51.100.1", "198.51.100.99", "203.0.113.1"} {
		if a := f.signInWith(u, "a third password", right(), address); a.Status != 429 {
			t.Errorf("twenty wrong codes and two resets later, from %s: %d %s", address, a.Status, a.Body)
		}
	}
	f.Accepted(f.signInWith(u, "a third password", codes[0], "203.0.113.1"))
	f.Accepted(f.signInWith(u, "a third password", right(), "203.0.113.1"))
}

// DESIGN §10, resetPassword by mailed code: the authenticator app stays, but where the address
// had never been confirmed before; passkeys never do.
func TestDesignResetAndSecondFactors(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		for _, confirmed := range []bool{true, false} {
			u, secret, _ := f.withApp(fmt.Sprintf("alice%t", confirmed))
			for _, name := range []string{"hers", "a thief's"} {
				f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
					return tx.InsertPasskey(t.Context(), db.Passkey{ID: []byte(u.Handle + name), DID: u.DID, Name: name, Public: []byte("x"), CreatedAt: f.Now()}, 20)
				}))
			}
			if !confirmed {
				f.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = nil })
			}
			f.Accepted(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":%q}`, u.Email)))
			f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"another password"}`, f.Code("reset_password"))))
			a := f.signInWith(u, "another password", "", "198.51.100.1")
			if confirmed {
				f.Refused(a, 401, "AuthFactorTokenRequired", "Enter the code of your authenticator app, or a recovery code")
				f.Accepted(f.signInWith(u, "another password", secret.Code(totp.StepAt(f.Now())), "198.51.100.1"))
			} else {
				f.Accepted(a)
			}
			if keys := servertest.Must(f.DB.Passkeys(t.Context(), u.DID)); len(keys) != 0 {
				t.Errorf("confirmed %t: %d passkeys", confirmed, len(keys))
			}
			letters := f.Letters("password_changed")
			if l := letters[len(letters)-1]; !strings.Contains(l.Text, "The 2 passkeys of the account are removed") {
				t.Errorf("letter %s", l.Text)
			}
			records := servertest.Must(f.DB.Audit(t.Context(), u.DID, 20))
			if !slices.ContainsFunc(records, func(e db.AuditEntry) bool {
				return e.Event == "password_changed" && strings.HasSuffix(e.Detail, "passkeys removed: 2")
			}) {
				t.Errorf("records %+v", records)
			}
		}
	})
}

// A session alone changes no address where a reset by mail would then get past the second
// factors of the account, confirmed or not.
func TestAddressOfAnAccountWithFactors(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u, _, _ := f.withApp("alice")
		f.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = nil })
		bob := f.SignUp("bob")
		if err := f.DB.Write(t.Context(), func(tx *db.Tx) error {
			return tx.InsertPasskey(t.Context(), db.Passkey{ID: []byte("key"), DID: bob.DID, Name: "Key", Public: []byte("public"), CreatedAt: f.Now()}, 1)
		}); err != nil {
			t.Fatal(err)
		}
		for _, u := range []user{u, bob} {
			f.Refused(f.Post("updateEmail", `{"email":"thief@example.org"}`, u.Access), 400, "TokenRequired", "confirmation token required")
			if got := f.Accepted(f.Post("requestEmailUpdate", "", u.Access)).Fields(t)["tokenRequired"]; got != true {
				t.Errorf("tokenRequired %v", got)
			}
			next := "new-" + u.Email
			f.Accepted(f.Post("updateEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, next, f.Code("update_email")), u.Access))
			if a := f.Account(u.DID); a.Email != next {
				t.Errorf("address %s", a.Email)
			}
		}
		carol := f.SignUp("carol")
		f.Accepted(f.Post("updateEmail", `{"email":"carol@example.org"}`, carol.Access))
	})
}
