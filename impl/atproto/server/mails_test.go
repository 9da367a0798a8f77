package server_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// at is the header of a caller at an address of the network.
func at(address string) string { return "X-Forwarded-For: " + address }

// retryAfter is how long an answer asks to wait.
func retryAfter(t *testing.T, a answer) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		t.Errorf("answer %d has Retry-After %q", a.Status, a.Header.Get("Retry-After"))
	}
	return time.Duration(n) * time.Second
}

// lettersTo counts the letters of a kind to an address.
func (f *fixture) lettersTo(kind, to string) int {
	f.Helper()
	all, err := f.Outbox.List(f.Context(), 0, 10000)
	f.Check(err)
	n := 0
	for _, m := range all {
		if m.Kind == kind && m.To == to {
			n++
		}
	}
	return n
}

const resetAlice = `{"email":"alice@example.com"}`

// resets asks for a reset of alice's password n times, each from another address.
func (f *fixture) resets(n int) {
	f.Helper()
	for i := range n {
		f.Empty(f.Post("requestPasswordReset", resetAlice, at(fmt.Sprintf("198.51.100.%d", i+1))))
	}
}

func (f *fixture) resetWith(code, header string) answer {
	f.Helper()
	return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code), header)
}

// However often strangers ask for resets, the code that the owner has in hand works, and
// so does one that a stranger asked for.
func TestStrangersVoidNoResetCode(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Empty(f.Post("requestPasswordReset", resetAlice, at("203.0.113.1")))
		hers := f.Code("reset_password")
		f.resets(40)
		if n := f.lettersTo("reset_password", "alice@example.com"); n != 3 {
			t.Errorf("%d letters, want 3", n)
		}
		f.Empty(f.resetWith(hers, at("203.0.113.1")))

		f.Advance(15 * time.Minute)
		f.resets(1)
		f.Empty(f.resetWith(f.Code("reset_password"), at("203.0.113.1")))
	})
}

// Strangers who spend the day's letters keep the owner from none: not at an address that
// is known, nor elsewhere, where one goes out as soon as no code is alive.
func TestStrangersWithholdNoResetCode(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Accepted(f.from("203.0.113.1", "alice.test", goodPassword))
		for range 10 {
			f.resets(5)
			f.Advance(15 * time.Minute)
		}
		if n := f.lettersTo("reset_password", "alice@example.com"); n != 30 {
			t.Fatalf("%d letters, want 30", n)
		}
		for i := range 4 { // a quarter of an hour each
			f.Empty(f.Post("requestPasswordReset", resetAlice, at("203.0.113.77")))
			code := f.Code("reset_password")
			f.resets(5)
			if n := f.lettersTo("reset_password", "alice@example.com"); n != 31+i {
				t.Fatalf("%d letters, want %d", n, 31+i)
			}
			if i == 3 {
				// The known address has its own, also while a code is alive.
				f.Empty(f.Post("requestPasswordReset", resetAlice, at("203.0.113.1")))
				if fresh := f.Code("reset_password"); fresh == code {
					t.Error("no letter to the owner where she is known")
				}
				f.Empty(f.resetWith(code, at("203.0.113.77")))
			}
			f.Advance(15 * time.Minute)
		}
		// The proof gave back what strangers had spent.
		f.resets(5)
		if n := f.lettersTo("reset_password", "alice@example.com"); n != 38 {
			t.Errorf("%d letters after the reset, want 38", n)
		}
	})
}

// Whoever asks for letters to many, be there such people or not, is told when that is
// enough, and what is kept of it does not grow with the names.
func TestResetsForMadeUpAddressesAreBounded(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		for i := range 200 {
			f.Empty(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":"nobody%d@example.com"}`, i), stranger))
		}
		for _, name := range []string{"alice", "nobody1", "nobody999"} {
			a := f.Post("requestPasswordReset", fmt.Sprintf(`{"email":"%s@example.com"}`, name), stranger)
			f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
			if wait := retryAfter(t, a); wait != time.Hour {
				t.Errorf("wait %v, want an hour", wait)
			}
		}
		f.Empty(f.Post("requestPasswordReset", resetAlice, neighbour))
		f.Advance(time.Hour)
		f.Empty(f.Post("requestPasswordReset", resetAlice, stranger))
	}, func(o *options) { o.TrustedProxies = 1 })
}

// One account that goes to and fro between addresses of strangers causes them nothing:
// what they had within the hour only they are not told of. One that keeps an address for
// longer tells of it once a day, and all its mails to strangers have a bound, however they
// spell the address.
func TestUpdateEmailBetweenAddressesOfStrangers(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		mallory := f.SignUp("mallory")
		update := func(to string) answer {
			return f.Post("updateEmail", fmt.Sprintf(`{"email":%q}`, to), mallory.Access, stranger)
		}
		for i := range 30 {
			f.Empty(update(fmt.Sprintf("Victim+%d@example.com", i%2)))
		}
		f.Refused(update("victim+9@example.com"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		f.Refused(update("mallory@example.com"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		if l := f.Letters("email_changed"); len(l) != 0 {
			t.Fatalf("%d letters, the first to %s", len(l), l[0].To)
		}
		// In the course of days.
		for range 3 {
			f.Advance(24 * time.Hour)
			mallory = f.SignIn(mallory, "")
			for i := range 10 {
				f.Empty(update(fmt.Sprintf("victim+%d@example.com", i)))
				f.Advance(61 * time.Minute)
				mallory = f.SignIn(mallory, "")
			}
		}
		if l := f.Letters("email_changed"); len(l) != 3 {
			t.Errorf("%d letters in three days, want 3", len(l))
		}
	})
}

// All mails that an account causes to addresses that are not confirmed as its own are
// 30 a day: codes, and announcements. Its apps have a part of them.
func TestMailsToAddressesThatAreNotConfirmed(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		mallory := f.SignUp("mallory")
		app := f.SignIn(mallory, f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, mallory.Access)).Text(t, "password"))
		refused := map[string]int{}
		for i := range 30 {
			f.SetAccount(mallory.DID, func(a *db.Account) { a.Email = fmt.Sprintf("v%d@example.com", i) })
			if a := f.Post("requestEmailConfirmation", "", mallory.Access); a.Status == 429 {
				refused["owner"]++
				retryAfter(t, a)
			}
			if a := f.Post("requestEmailConfirmation", "", app.Access); a.Status == 429 {
				refused["app"]++
			}
		}
		if n := len(f.Letters("confirm_email")); n != 30 {
			t.Errorf("%d letters, want 30", n)
		}
		if refused["owner"] != 10 || refused["app"] != 20 {
			t.Errorf("refused %v", refused)
		}
	})
}

// Many accounts that say a mailbox is theirs fill it no more than one could.
func TestAccountsWithOneMailbox(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		var users []user
		for i := range 20 {
			u := f.SignUp(fmt.Sprint("mallory", i))
			f.SetAccount(u.DID, func(a *db.Account) { a.Email = fmt.Sprintf("victim+%d@example.com", i) })
			users = append(users, u)
		}
		for range 5 {
			for _, u := range users {
				f.Empty(f.Post("requestEmailConfirmation", "", u.Access))
			}
		}
		// 30 of the mailbox, and for each account that had none alive one.
		if n := len(f.Letters("confirm_email")); n > 30+len(users) {
			t.Errorf("%d letters", n)
		}
		// Its owner, whose account has no code alive, is mailed one all the same.
		victim := f.SignUp("victim")
		f.Empty(f.Post("requestEmailConfirmation", "", victim.Access))
		if n := f.lettersTo("confirm_email", "victim@example.com"); n != 1 {
			t.Errorf("%d letters to the owner", n)
		}
	})
}

// A session with the account password has its own letters, apart from those that apps and
// strangers ask for, and is told when they are spent.
func TestMailsOfSessions(t *testing.T) {
	for method, kind := range map[string]string{
		"requestEmailConfirmation": "confirm_email", "requestEmailUpdate": "update_email", "requestAccountDelete": "delete_account",
		"com.atproto.identity.requestPlcOperationSignature": "plc_operation",
	} {
		t.Run(kind, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				u := f.SignUp("alice")
				f.confirm(u)
				f.resets(40)
				app := f.SignIn(u, f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access)).Text(t, "password"))
				before := f.lettersTo(kind, u.Email)
				if kind == "confirm_email" {
					for range 30 {
						f.Accepted(f.Post(method, "", app.Access))
					}
					f.Refused(f.Post(method, "", app.Access), 429, "RateLimitExceeded", "Rate Limit Exceeded")
					before += 30
				}
				spent := 0
				for range 31 {
					if a := f.Post(method, "", u.Access); a.Status != 200 {
						f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
						if wait := retryAfter(t, a); wait != 24*time.Hour {
							t.Errorf("wait %v", wait)
						}
						spent++
					}
				}
				want := 30
				if kind == "confirm_email" {
					want = 29 // one confirmed the address
				}
				if n := f.lettersTo(kind, u.Email) - before; n != want || spent != 31-want {
					t.Errorf("%d letters, %d refused", n, spent)
				}
				f.Advance(24 * time.Hour)
				f.Accepted(f.Post(method, "", f.SignIn(u, "").Access))
			})
		})
	}
}

// A thief of the password cannot keep the owner from a sign-in code, nor void one.
func TestThiefOfAPasswordAndSignInCodes(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.Empty(f.Post("requestEmailConfirmation", "", u.Access))
		f.Empty(f.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.Email, f.Code("confirm_email")), u.Access))
		f.SetAccount(u.DID, func(a *db.Account) { a.EmailAuthFactor = true })
		ask := func(address string) {
			t.Helper()
			f.Refused(f.from(address, "alice.test", goodPassword), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		}
		ask("203.0.113.1")
		hers := f.Code("sign_in")
		for i := range 40 {
			ask(fmt.Sprintf("198.51.100.%d", i+1))
		}
		with := func(code, address string) answer {
			return f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, goodPassword, code), at(address))
		}
		f.Accepted(with(hers, "203.0.113.1"))
		// The day's letters are spent, and she is somewhere else.
		for range 11 {
			for i := range 4 {
				ask(fmt.Sprintf("198.51.100.%d", i+1))
			}
			f.Advance(15 * time.Minute)
		}
		ask("203.0.113.99")
		f.Accepted(with(f.Code("sign_in"), "203.0.113.99"))
	})
}

// What is kept of requests that name nobody does not grow with the names.
func TestMadeUpAddressesLeaveNoRows(t *testing.T) {
	var dir string
	d := dbtest.Open(t, func(c *db.Config) { dir = c.Dir })
	f := newFixture(t, func(o *options) { o.DB, o.TrustedProxies = d, 1 })
	for i := range 300 {
		f.Empty(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":"nobody%d@example.com"}`, i), at(fmt.Sprintf("198.51.100.%d", i%2))))
	}
	raw, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "portico.sqlite")+"?mode=ro")
	f.Check(err)
	defer raw.Close()
	var rows, mails int
	f.Check(raw.QueryRow(`SELECT (SELECT count(*) FROM budget), (SELECT count(*) FROM mail)`).Scan(&rows, &mails))
	if rows > 4 || mails != 0 {
		t.Errorf("%d rows in budget, %d in mail", rows, mails)
	}
}
