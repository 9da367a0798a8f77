package server_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/server"
	"portico/db"
	"portico/impl/account/password"
	"portico/impl/budget"
	"portico/impl/servertest"
)

// The key of a DID's labeler is not the DID's own, and neither is any other service
// of it: what they sign proves nothing about the account.
func TestServiceOfADIDIsNotTheDID(t *testing.T) {
	f := newFixture(t)
	for _, tt := range []struct{ did, key, fragment string }{
		{"did:web:label.example", "atproto_label", "atproto_labeler"},
		{"did:web:other.example", "atproto", "other"},
	} {
		did := syntax.DID(tt.did)
		key := f.NewIdentity(did)
		f.PublishJSON(did, fmt.Appendf(nil, `{"id":%q,"verificationMethod":[
			{"id":"#%s","type":"Multikey","publicKeyMultibase":%q}]}`, did, tt.key, strings.TrimPrefix(servertest.DIDKey(key), "did:key:")))
		credentials := f.ServiceToken(syntax.DID(tt.did+"#"+tt.fragment), key, move, time.Minute)
		f.Refused(f.Post("createAccount", fmt.Sprintf(`{"handle":"alice.test","email":"a@example.com","did":%q}`, did), credentials),
			401, "AuthenticationRequired", "Missing auth to create account with did: "+tt.did)
	}
}

// Whoever hangs up while a password is being checked has guessed all the same.
func TestGuessOfACallerWhoHangsUpIsCounted(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	wrong := func() (n int) {
		all, err := f.Budgets.Spendings(t.Context(), budget.Account(u.DID))
		f.Check(err)
		for _, s := range all {
			n += s.Spent
		}
		return n
	}
	for _, tt := range []struct {
		counts int // looks at the clock up to the one that counts the guess, after the hash
		try    func(context.Context) error
	}{
		{2, func(ctx context.Context) error {
			_, err := f.service.CreateSession(ctx, &api.CreateSessionInput{Identifier: "alice.test", Password: "wrong"})
			return err
		}},
		{1, func(ctx context.Context) error {
			return f.service.DeleteAccount(ctx, &api.DeleteAccountInput{DID: u.DID, Password: "wrong", Token: "AAAAA-AAAAA"})
		}},
	} {
		before := wrong()
		ctx, hangUp := context.WithCancel(t.Context())
		looks := 0
		f.service.Now = func() time.Time {
			if looks++; looks == tt.counts {
				hangUp()
			}
			return f.Now()
		}
		if err := tt.try(ctx); err == nil {
			t.Error("no error")
		}
		after := wrong()
		if after != before+1 {
			t.Errorf("%d counted, %d before", after, before)
		}
	}
}

// A right password stays right when another sign-in replaces its hash of an old
// kind in the meantime.
func TestSessionOfRehashedPassword(t *testing.T) {
	for _, moment := range []int{1, 2} { // the clock is looked at on both sides of the hash
		f := newFixture(t)
		u := f.SignUp("alice")
		dear := password.NewHasher(password.Config{Rand: rand.Reader, Params: password.Params{Memory: 128, Time: 1, Threads: 1}})
		imported, err := dear.Hash(t.Context(), password.Caller{}, goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := f.service.Passwords.Hash(t.Context(), password.Caller{}, goodPassword)
		if err != nil {
			t.Fatal(err)
		}
		f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = imported })
		looks := 0
		f.service.Now = func() time.Time {
			if looks++; looks == moment {
				f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = fresh })
			}
			return f.Now()
		}
		f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
	}
}

// What no database would store or find is answered like anything else unknown,
// and is not kept at full length.
func TestUnstorableTexts(t *testing.T) {
	long := make([]byte, 30_000)
	rand.Read(long) // so that no engine can make it shorter
	engines(t, func(t *testing.T, f *fixture) {
		for _, name := range []string{`a\u0000b@example.com`, `did:plc:abc\u0000`, `a\u0000`, hex.EncodeToString(long), hex.EncodeToString(long) + "@example.com"} {
			f.Refused(f.Post("createSession", `{"identifier":"`+name+`","password":"wrong"}`), 401, "AuthenticationRequired", "Invalid identifier or password")
			f.Accepted(f.Post("requestPasswordReset", `{"email":"`+name+`"}`))
		}
		f.Refused(f.Post("createAccount", `{"handle":"bob.test","email":"b@example.com","password":"12345678","inviteCode":"a\u0000b"}`),
			400, "InvalidInviteCode", "Provided invite code not available")
	})
}

// A DID of one's own is free to make: it buys no more sign-ups than others have.
func TestSignUpsWithOwnDIDsAreCounted(t *testing.T) {
	f := newFixture(t, func(o *options) { o.TrustedProxies = 1 })
	for range 200 {
		f.Check(f.Budgets.Spend(t.Context(), budget.SignUps, f.Budgets.Caller(netip.MustParseAddr("192.0.2.1"))))
	}
	const did = syntax.DID("did:web:alice.example")
	credentials := f.ServiceToken(did, f.NewIdentity(did), move, time.Minute)
	body := `{"handle":"alice.test","email":"a@example.com","did":"did:web:alice.example"}`
	f.Refused(f.Post("createAccount", body, credentials, "X-Forwarded-For: 192.0.2.1"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	f.Accepted(f.Post("createAccount", body, credentials, "X-Forwarded-For: 192.0.2.2"))
}

// An address that is known takes no other time than one that is not.
func TestDesign7RequestPasswordResetTakesItsTime(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	var waited []time.Duration
	f.service.Wait = func(_ context.Context, d time.Duration) { waited = append(waited, d) }
	for range 31 { // the last is beyond the budget
		for _, name := range []string{"alice", "nobody"} {
			f.Accepted(f.Post("requestPasswordReset", `{"email":"`+name+`@example.com"}`))
		}
	}
	if len(waited) != 62 {
		t.Errorf("waited %d times, want 62", len(waited))
	}
	for _, d := range waited {
		if d != 200*time.Millisecond {
			t.Errorf("waited %v, want 200ms", d)
		}
	}
}
