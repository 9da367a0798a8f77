package server_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"portico/db"
)

// A reset code names no account, so its guesses are paid by the address of the
// caller: a household's, and no other's. The owner elsewhere is not shut out.
func TestWrongResetCodesBudget(t *testing.T) {
	f := newFixture(t, func(o *options) { o.TrustedProxies = 1 })
	f.SignUp("alice")
	reset := func(address, code string) answer {
		return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code), "X-Forwarded-For: "+address)
	}
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	code := f.Code("reset_password")
	for i := range 50 {
		f.Refused(reset(fmt.Sprintf("2001:db8::%x", i), "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
		// What cannot be a code is no guess.
		f.Refused(reset("2001:db8::1", "password"), 400, "InvalidToken", "Token is invalid")
	}
	f.Refused(reset("2001:db8::ffff", "AAAAA-AAAAA"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Refused(reset("2001:db8::ffff", code), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Accepted(reset("2001:db8:0:1::1", code))

	f.Advance(time.Hour)
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.Accepted(reset("2001:db8::ffff", f.Code("reset_password")))
}

// An expired code is none that somebody guessed.
func TestExpiredCodesCostNothing(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	old := f.deletionCode(u)
	f.Advance(15*time.Minute - time.Microsecond)
	fresh := f.deletionCode(u)
	f.Advance(time.Microsecond)
	for range 25 {
		f.Refused(f.Post("deleteAccount", deletion(u.DID, goodPassword, old)), 400, "ExpiredToken", "Token is expired")
	}
	f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, fresh)))
}

// Each purpose has a budget of its own: guessing one shuts no other.
func TestWrongCodesOfOnePurposeSpareTheOthers(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	confirm := func(code string) answer {
		return f.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.Email, code), u.Access)
	}
	for range 20 {
		f.Refused(confirm("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	}
	f.Refused(confirm("AAAAA-AAAAA"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Accepted(f.Post("deleteAccount", deletion(u.DID, goodPassword, f.deletionCode(u))))
}

// A code that went to an address is worth nothing once the account has another,
// however it came by that.
func TestCodeOfAnotherAddress(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	code := f.deletionCode(u)
	f.SetAccount(u.DID, func(a *db.Account) { a.Email = "new@example.com" })
	f.Refused(f.Post("deleteAccount", deletion(u.DID, goodPassword, code)), 400, "InvalidToken", "Token is invalid")
}

func TestCodeIsUsedOnce(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		code := f.Code("reset_password")
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				answers[i], err = f.Try(http.MethodPost, "resetPassword", fmt.Sprintf(`{"token":%q,"password":"new password %d"}`, code, i))
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := -1
		for i, a := range answers {
			if a.Status != 200 {
				f.Refused(a, 400, "InvalidToken", "Token is invalid")
				continue
			}
			if won >= 0 {
				t.Errorf("racers %d and %d both used the code", won, i)
			}
			won = i
		}
		f.Accepted(f.Post("createSession", login("alice.test", fmt.Sprintf("new password %d", won))))
	})
}
