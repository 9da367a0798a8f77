package server_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/servertest"
)

const wrongLogin = "Invalid identifier or password"

// guessed sends n wrong passwords for a name from an address. Each is answered like the
// first.
func (f *fixture) guessed(n int, address, identifier string) {
	f.Helper()
	for range n {
		f.Refused(f.from(address, identifier, "wrong"), 401, "AuthenticationRequired", wrongLogin)
	}
}

// Rule 2: 50 wrong passwords for a handle, and then its owner's private address looks as
// anybody's does: handle and address cannot be linked.
func TestBudgetIsNoOracleOfHandleAndAddress(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.SignUp("bob")
		for i := range 60 {
			f.Refused(f.from(fmt.Sprint("203.0.113.", i), "alice.test", "wrong"), 401, "AuthenticationRequired", wrongLogin)
		}
		var first answer
		for i, name := range []string{"nobody@example.com", "alice@example.com", "bob@example.com", "alice.test", "nobody.test"} {
			a := f.from("198.51.100.7", name, "wrong")
			f.Refused(a, 401, "AuthenticationRequired", wrongLogin)
			a.Header.Del("Date")
			a.Header.Del("X-Request-Id")
			for header := range a.Header {
				if strings.HasPrefix(header, "Ratelimit") {
					a.Header.Del(header) // counts the caller's own
				}
			}
			if i == 0 {
				first = a
			} else if a.Body != first.Body || fmt.Sprint(a.Header) != fmt.Sprint(first.Header) {
				t.Errorf("%s: %v, want %v", name, a, first)
			}
		}
		// The right password is as good as a wrong one.
		f.Refused(f.from("198.51.100.7", "alice.test", goodPassword), 401, "AuthenticationRequired", wrongLogin)
		f.Accepted(f.from("198.51.100.7", "bob.test", goodPassword))
	})
}

// Rule 2: a caller's address pays for wrong passwords over all names. Spent, it is told
// so, before anything is hashed, also with a right password; others are not.
func TestWrongPasswordsOfAnAddressOverAllNames(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		for i := range 300 {
			f.Refused(f.from(fmt.Sprintf("2001:db8:1:1::%x", i), fmt.Sprintf("somebody%d.test", i), "wrong"), 401, "AuthenticationRequired", wrongLogin)
		}
		for _, password := range []string{"wrong", goodPassword} {
			a := f.from("2001:db8:1:1::1", "alice.test", password)
			f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
			if got := a.Header.Get("Retry-After"); got != "3600" {
				t.Errorf("Retry-After %q", got)
			}
		}
		f.Accepted(f.from("2001:db8:1:2::1", "alice.test", goodPassword))
		f.Advance(time.Hour)
		f.Accepted(f.from("2001:db8:1:1::1", "alice.test", goodPassword))
	})
}

// A /48 has eight times what a /64 of it has: who has many addresses has not many times
// as many guesses.
func TestWrongPasswordsOfANetwork(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	for i := range 8 {
		for j := range 300 {
			f.Refused(f.from(fmt.Sprintf("2001:db8:1:%x::1", i), fmt.Sprintf("somebody%d.test", j), "wrong"), 401, "AuthenticationRequired", wrongLogin)
		}
		// What is refused does not count against the network.
		f.Refused(f.from(fmt.Sprintf("2001:db8:1:%x::1", i), "alice.test", "wrong"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	f.Refused(f.from("2001:db8:1:ffff::1", "alice.test", goodPassword), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Accepted(f.from("2001:db8:2::1", "alice.test", goodPassword))
}

// Rule 2: a wrong password takes as many statements for a known account as for none, with
// anything left or not, and so does a right one where strangers have spent all.
func TestWrongPasswordTakesTheSameStatements(t *testing.T) {
	for _, limits := range []bool{false, true} {
		t.Run(fmt.Sprint("limits ", limits), func(t *testing.T) { testSameStatements(t, limits) })
	}
}

func testSameStatements(t *testing.T, limits bool) {
	var mu sync.Mutex
	var ran []string
	clock := servertest.NewClock()
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		s := servertest.New(t, func(o *options) { o.DB, o.Clock, o.Limiter = d, clock, limits })
		f := &fixture{s, s.Server}
		f.SignUp("alice")
		f.SignUp("bob")
		f.Accepted(f.from("192.0.2.1", "bob.test", goodPassword)) // a known place
		f.Advance(time.Hour)
		statements := func(address, name, password string) string {
			t.Helper()
			mu.Lock()
			ran = nil
			mu.Unlock()
			f.Refused(f.from(address, name, password), 401, "AuthenticationRequired", wrongLogin)
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(ran, "\n")
		}
		n := 0
		somewhere := func() string { n++; return fmt.Sprintf("198.51.100.%d", n) }
		for _, kind := range []struct{ unknown, known, guessed string }{
			{"nobody.test", "bob.test", "alice.test"},
			{"nobody@example.com", "bob@example.com", "alice@example.com"},
			{"did:plc:nobody", f.did("bob.test").String(), f.did("alice.test").String()},
		} {
			want := statements(somewhere(), kind.unknown, "wrong")
			if len(want) == 0 {
				t.Fatal("nothing was counted")
			}
			for range 60 {
				f.from(somewhere(), kind.guessed, "wrong")
			}
			for what, got := range map[string]string{
				"known account":                     statements(somewhere(), kind.known, "wrong"),
				"known account, known address":      statements("192.0.2.1", kind.known, "wrong"),
				"guessed account":                   statements(somewhere(), kind.guessed, "wrong"),
				"guessed account, right password":   statements(somewhere(), kind.guessed, goodPassword),
				"unknown account once more":         statements(somewhere(), kind.unknown, "wrong"),
				"unknown account, from known place": statements("192.0.2.1", kind.unknown, "wrong"),
			} {
				if got != want {
					t.Errorf("%s: %s runs\n%s\nwant\n%s", what, kind.known, got, want)
				}
			}
			app := statements(somewhere(), kind.unknown, "abcd-efgh-ijkl-mnop")
			for _, name := range []string{kind.known, kind.guessed} {
				if got := statements(somewhere(), name, "abcd-efgh-ijkl-mnop"); got != app {
					t.Errorf("app password of %s runs\n%s\nwant\n%s", name, got, app)
				}
			}
		}
	}, func(c *db.Config) {
		clock = servertest.NewClock()
		c.Now = clock.Now
		c.Trace = func(statement string) {
			mu.Lock()
			defer mu.Unlock()
			ran = append(ran, statement)
		}
	})
}

// Rule 2: once a day the owner of an account that strangers guess at is told, at a
// confirmed address, and not by the request that spends what there is.
func TestOwnerIsToldOfGuesses(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		guesses := &account.Guesses{DB: f.DB, Outbox: f.Outbox, Brand: f.service.Brand, Now: f.Now}
		told := func(want int) {
			t.Helper()
			f.Check(guesses.Run(t.Context()))
			if l := f.Letters("guessed"); len(l) != want {
				t.Fatalf("%d letters, want %d", len(l), want)
			}
		}
		alice := f.SignUp("alice")
		f.SignUp("bob") // unconfirmed
		f.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt = new(f.Now()) })
		spend := func(from int) {
			t.Helper()
			for i := range 51 {
				f.guessed(1, fmt.Sprintf("203.0.%d.%d", from, i), "alice@example.com")
				f.guessed(1, fmt.Sprintf("203.0.%d.%d", from, i), "bob.test")
			}
		}
		f.guessed(1, "203.0.113.1", "alice.test")
		told(0)
		spend(1)
		if l := f.Letters("guessed"); len(l) != 0 {
			t.Error("the request itself wrote a letter")
		}
		told(1)
		l := f.Letters("guessed")[0]
		if l.To != "alice@example.com" || !strings.Contains(l.Text, "Until 1 March 2026 at 13:00 UTC") || !strings.Contains(l.Text, "@alice.test") {
			t.Errorf("letter to %s:\n%s", l.To, l.Text)
		}
		f.Advance(2 * time.Hour)
		spend(2)
		told(1)
		f.Advance(22 * time.Hour)
		spend(3)
		told(2)
	})
}

// A known place has a share of its own, which strangers can't spend; the owner's own
// mistakes there don't make a letter.
func TestNoLetterOfTheOwnersOwnMistakes(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.SetAccount(alice.DID, func(a *db.Account) { a.EmailConfirmedAt = new(f.Now()) })
	f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))
	f.guessed(60, "192.0.2.1", "alice.test")
	f.Check((&account.Guesses{DB: f.DB, Outbox: f.Outbox, Brand: f.service.Brand, Now: f.Now}).Run(t.Context()))
	if l := f.Letters("guessed"); len(l) != 0 {
		t.Errorf("letters %v", l)
	}
}

// Behind a proxy that hides its clients everybody comes from one address, which is
// nobody's: it is never known, and what strangers spend there is whole again in a minute,
// because the owner is among them.
func TestHiddenClientsShutNobodyOutForLong(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		for _, hidden := range []string{"127.0.0.1", "10.1.2.3", "fd00::1"} {
			f.Accepted(f.from(hidden, "alice.test", goodPassword))
			f.guessed(20, hidden, "alice.test")
			f.Refused(f.from(hidden, "alice.test", goodPassword), 401, "AuthenticationRequired", wrongLogin)
			// Others have what is theirs.
			f.Accepted(f.from("198.51.100.7", "alice.test", goodPassword))
			f.Advance(time.Minute)
			f.Accepted(f.from(hidden, "alice.test", goodPassword))
			f.Advance(4 * time.Minute)
		}
	})
}

// A production server warns its operator, once, when all who come are hidden.
func TestHiddenClientsAreNoticed(t *testing.T) {
	f := newFixture(t)
	warned := 0
	f.Budgets.Hidden = func() { warned++ }
	for _, tt := range []struct{ more, want int }{{99, 0}, {1, 1}, {50, 1}} {
		f.guessed(tt.more, "10.0.0.1", "nobody.test")
		if warned != tt.want {
			t.Errorf("warned %d times after %d more, want %d", warned, tt.more, tt.want)
		}
	}
	f = newFixture(t)
	f.Budgets.Hidden = func() { t.Error("warned, though somebody was seen") }
	f.guessed(99, "10.0.0.1", "nobody.test")
	f.guessed(1, "192.0.2.1", "nobody.test")
	f.guessed(99, "10.0.0.1", "nobody.test")
}

// Rule 3: the thief of a password who spends the mails and the tries of sign-in codes
// does not keep the owner out, once she has reset it.
func TestResetGivesBackWhatAThiefSpent(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(f.Now()), true })
		try := func(address, password, code string) answer {
			return f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, password, code), "X-Forwarded-For: "+address)
		}
		for i := range 40 {
			f.from(fmt.Sprintf("203.0.113.%d", i), "alice.test", goodPassword)
		}
		for i := range 20 {
			f.Refused(try(fmt.Sprintf("203.0.113.%d", i), goodPassword, "AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
		}
		// Who has the password is told.
		a := try("203.0.113.99", goodPassword, "AAAAA-AAAAA")
		f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
		if got := a.Header.Get("Retry-After"); got != "3600" {
			t.Errorf("Retry-After %q", got)
		}
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`, "X-Forwarded-For: 192.0.2.1"))
		f.Accepted(f.Post("resetPassword", `{"token":"`+f.Code("reset_password")+`","password":"another password"}`, "X-Forwarded-For: 192.0.2.1"))
		f.Refused(f.from("192.0.2.1", "alice.test", "another password"), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		f.Accepted(try("192.0.2.1", "another password", f.Code("sign_in")))
	})
}

// An address becomes known by a sign-in that is completed, not by a right password alone:
// where a second factor is asked for, its code makes it known.
func TestRightPasswordAloneMakesNoAddressKnown(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt, a.EmailAuthFactor = new(f.Now()), true })
		f.Refused(f.from("192.0.2.1", "alice.test", goodPassword), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		f.guessed(50, "203.0.113.9", "alice.test")
		f.Refused(f.from("192.0.2.1", "alice.test", goodPassword), 401, "AuthenticationRequired", wrongLogin)
		f.Advance(time.Hour)
		f.Refused(f.from("192.0.2.1", "alice.test", goodPassword), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		f.Accepted(f.Post("createSession", fmt.Sprintf(`{"identifier":"alice.test","password":%q,"authFactorToken":%q}`, goodPassword, f.Code("sign_in")), "X-Forwarded-For: 192.0.2.1"))
		f.guessed(50, "203.0.113.9", "alice.test")
		f.Refused(f.from("192.0.2.1", "alice.test", goodPassword), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
	})
}

// Rule 3: signing in gives back to the address what was typed wrongly there.
func TestSignInGivesBackToItsAddress(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))
		for range 3 {
			f.guessed(49, "192.0.2.1", "alice.test")
			f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))
		}
		f.guessed(50, "192.0.2.1", "alice.test")
		f.Refused(f.from("192.0.2.1", "alice.test", goodPassword), 401, "AuthenticationRequired", wrongLogin)
	})
}

// An app password's session makes no address known, nor does a refresh of it; nor does
// the operator's reset, which makes all unknown.
func TestWhatMakesNoAddressKnown(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		app := f.Accepted(f.Post("createAppPassword", `{"name":"x"}`, u.Access)).Text(t, "password")
		refresh := f.Accepted(f.from("192.0.2.3", "alice.test", app)).Text(t, "refreshJwt")
		f.Accepted(f.Post("refreshSession", "", servertest.Bearer(refresh), "X-Forwarded-For: 192.0.2.3"))
		f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))
		f.guessed(50, "203.0.113.9", "alice.test")
		f.Refused(f.from("192.0.2.3", "alice.test", goodPassword), 401, "AuthenticationRequired", wrongLogin)
		f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))

		f.Accepted(f.Post("com.atproto.admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"another password"}`, u.DID),
			servertest.Admin, "X-Forwarded-For: 192.0.2.1"))
		f.guessed(50, "203.0.113.9", "alice.test")
		f.Refused(f.from("192.0.2.1", "alice.test", "another password"), 401, "AuthenticationRequired", wrongLogin)
	})
}

// Plain addresses are where accounts are, and 90 days later nowhere.
func TestPlainAddressesStayNinetyDays(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.Accepted(f.from("192.0.2.1", "alice.test", goodPassword))
		purge := func() {
			f.Write(func(tx *db.Tx) error { return tx.Purge(t.Context(), f.Now()) })
		}
		f.Advance(90*24*time.Hour - time.Second)
		purge()
		if got := f.Recorded(u.DID); !strings.Contains(got, "192.0.2.1") {
			t.Errorf("recorded:\n%s", got)
		}
		f.Advance(time.Second)
		purge()
		if got := f.Recorded(u.DID); strings.Contains(got, "192.0.2.1") || !strings.Contains(got, "signed_in") {
			t.Errorf("recorded:\n%s", got)
		}
	})
}
