package server_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// limitsOffAndOn runs a test on both engines, without and with request limits, behind a
// proxy that tells the address of the caller.
func limitsOffAndOn(t *testing.T, test func(t *testing.T, f *fixture), change ...func(*options)) {
	t.Helper()
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprint("limits ", on), func(t *testing.T) {
			engines(t, test, append(change, func(o *options) { o.Limiter, o.TrustedProxies = on, 1 })...)
		})
	}
}

const (
	stranger  = "X-Forwarded-For: 198.51.100.7"
	neighbour = "X-Forwarded-For: 203.0.113.5"
)

// Every answer that tells of an address, handle or number is paid by the caller's address,
// invite or not; an invite exempts only the account that is made, and what is refused for
// its form costs nothing.
func TestDesignCreateAccountOrderEveryQuestionIsPaid(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.Invite("code", 9, "admin")
		f.Accepted(f.Post("createAccount", `{"handle":"taken.test","email":"taken@example.com","password":"12345678","inviteCode":"code"}`, neighbour))
		const form = `{"handle":"alice.test","email":"a@example.com","password":"1234567","inviteCode":"code"}`
		const question = `{"handle":"alice.test","email":"taken@example.com","password":"12345678","inviteCode":"code"}`
		const invited = `{"handle":"invited%d.test","email":"i%[1]d@example.com","password":"12345678","inviteCode":"code"}`
		for i := range 4 {
			for range 30 {
				f.Refused(f.Post("createAccount", form, stranger), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
			}
			for range 50 {
				f.Refused(f.Post("createAccount", question, stranger), 400, "InvalidRequest", "Email already taken: taken@example.com")
			}
			if i < 3 { // none of these counts
				f.Accepted(f.Post("createAccount", fmt.Sprintf(invited, i), stranger))
			}
			f.Advance(5 * time.Minute) // for the request limits
		}
		for _, body := range []string{
			question, fmt.Sprintf(invited, 9),
			`{"handle":"taken.test","email":"a@example.com","password":"12345678"}`,
			`{"handle":"untaken.test","email":"untaken@example.com","password":"12345678"}`,
		} {
			f.Refused(f.Post("createAccount", body, stranger), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		}
		f.Refused(f.Post("createAccount", form, stranger), 400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
		f.Accepted(f.Post("createAccount", fmt.Sprintf(invited, 9), neighbour))
		f.Advance(24 * time.Hour)
		f.Accepted(f.Post("createAccount", fmt.Sprintf(invited, 10), stranger))
	})
}

// Who may not bring a DID is told nothing else, nor makes the server ask anybody.
func TestDesignCreateAccountOrderProofOfTheDIDComesFirst(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.SignUp("taken")
		const did = syntax.DID("did:web:alice.example")
		key := f.NewIdentity(did)
		const missing = "Missing auth to create account with did: did:web:alice.example"
		for _, body := range []string{
			`{"handle":"taken.test","email":"a@example.com","did":"did:web:alice.example"}`,
			`{"handle":"alice.test","email":"taken@example.com","did":"did:web:alice.example"}`,
			`{"handle":"alice.test","email":"a@example.com","did":"did:web:alice.example","inviteCode":"no"}`,
			`{"handle":"alice.example.com","email":"a@example.com","did":"did:web:alice.example"}`,
		} {
			for range 15 {
				f.Refused(f.Post("createAccount", body, stranger), 401, "AuthenticationRequired", missing)
			}
		}
		if asked := f.Internet.Asked(); len(asked) > 0 {
			t.Errorf("strangers made the server ask for %q", asked)
		}
		// What is wrong by itself is said before, as the reference does.
		f.Refused(f.Post("createAccount", `{"handle":"admin.test","email":"a@example.com","did":"did:web:alice.example"}`, stranger),
			400, "HandleNotAvailable", "Reserved handle")
		// With the proof there are answers, and they are paid.
		token := f.ServiceToken(did, key, move, time.Minute)
		question := `{"handle":"taken.test","email":"a@example.com","did":"did:web:alice.example"}`
		for range 15 {
			f.Refused(f.Post("createAccount", question, token, stranger), 400, "HandleNotAvailable", "Handle already taken: taken.test")
		}
	})
}

// PORTICO_SIGNUPS_PER_DAY is for all callers together; people who are invited do not count.
func TestSignUpsPerDay(t *testing.T) {
	limitsOffAndOn(t, func(t *testing.T, f *fixture) {
		f.Invite("code", 9, "admin")
		create := func(name, code string, from int) answer {
			return f.Post("createAccount", fmt.Sprintf(`{"handle":"%s.test","email":"%[1]s@example.com","password":"12345678","inviteCode":%q}`, name, code),
				fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", from))
		}
		for i := range 3 {
			f.Accepted(create(fmt.Sprint("user", i), "", i))
		}
		for i := range 3 {
			a := create("alice", "", 10+i)
			f.Refused(a, 503, "NotEnoughResources", "Not Enough Resources")
			if wait := retryAfter(t, a); wait != 24*time.Hour {
				t.Errorf("wait %v", wait)
			}
		}
		f.Accepted(create("invited", "code", 20))
		f.Advance(24 * time.Hour)
		f.Accepted(create("alice", "", 10))
	}, func(o *options) { o.Config.SignUpsPerDay = 3 })
}
