package server_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// A reset code names no account, so its guesses are paid by the address of the
// caller: a household's, and no other's. The owner elsewhere is not shut out.
func TestWrongResetCodesBudget(t *testing.T) {
	f := newFixture(t, func(o *options) { o.trusted = 1 })
	f.signUp("alice")
	reset := func(address, code string) answer {
		return f.post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code), "X-Forwarded-For", address)
	}
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	code := f.code("reset_password")
	for i := range 50 {
		f.refused(reset(fmt.Sprintf("2001:db8::%x", i), "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
		// What cannot be a code is no guess.
		f.refused(reset("2001:db8::1", "password"), 400, "InvalidToken", "Token is invalid")
	}
	f.refused(reset("2001:db8::ffff", "AAAAA-AAAAA"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.refused(reset("2001:db8::ffff", code), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.accepted(reset("2001:db8:0:1::1", code))

	f.clock.advance(time.Hour)
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
	f.accepted(reset("2001:db8::ffff", f.code("reset_password")))
}

// An expired code is none that somebody guessed.
func TestExpiredCodesCostNothing(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	old := f.deletionCode(u)
	f.clock.advance(15*time.Minute - time.Microsecond)
	fresh := f.deletionCode(u)
	f.clock.advance(time.Microsecond)
	for range 25 {
		f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, old)), 400, "ExpiredToken", "Token is expired")
	}
	f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, fresh)))
}

// Each purpose has a budget of its own: guessing one shuts no other.
func TestWrongCodesOfOnePurposeSpareTheOthers(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	confirm := func(code string) answer {
		return f.post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.email, code), bearer(u.access)...)
	}
	for range 20 {
		f.refused(confirm("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	}
	f.refused(confirm("AAAAA-AAAAA"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.accepted(f.post("deleteAccount", deletion(u.did, goodPassword, f.deletionCode(u))))
}

// A code that went to an address is worth nothing once the account has another,
// however it came by that.
func TestCodeOfAnotherAddress(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	code := f.deletionCode(u)
	f.setAccount(u.did, func(a *db.Account) { a.Email = "new@example.com" })
	f.refused(f.post("deleteAccount", deletion(u.did, goodPassword, code)), 400, "InvalidToken", "Token is invalid")
}

func TestCodeIsUsedOnce(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		f.signUp("alice")
		f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.com"}`))
		code := f.code("reset_password")
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				answers[i], err = f.try(http.MethodPost, "resetPassword", fmt.Sprintf(`{"token":%q,"password":"new password %d"}`, code, i))
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := -1
		for i, a := range answers {
			if a.status != 200 {
				f.refused(a, 400, "InvalidToken", "Token is invalid")
				continue
			}
			if won >= 0 {
				t.Errorf("racers %d and %d both used the code", won, i)
			}
			won = i
		}
		f.accepted(f.post("createSession", login("alice.test", fmt.Sprintf("new password %d", won))))
	}, func(c *db.Config) { c.Now = func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) } })
}
