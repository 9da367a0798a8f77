package server_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/db"
)

// from is the header by which a request comes from an address.
func TestReserveSigningKey(t *testing.T) {
	f := newFixture(t)
	reserve := func(body string) string {
		t.Helper()
		a := f.Accepted(f.Post("reserveSigningKey", body))
		key := a.Text(t, "signingKey")
		public, err := atcrypto.ParsePublicDIDKey(key)
		if _, ok := public.(*atcrypto.PublicKeyK256); !ok || err != nil || len(a.Fields(t)) != 1 {
			t.Errorf("answer %s: %v", a.Body, err)
		}
		return key
	}
	one, two := reserve(`{}`), reserve(`{}`)
	if one == two {
		t.Error("two calls without DID got the same key")
	}
	first := reserve(`{"did":"did:web:alice.example"}`)
	if again := reserve(`{"did":"did:web:alice.example"}`); again != first {
		t.Errorf("the DID's key was %s and is %s", first, again)
	}
	if other := reserve(`{"did":"did:web:bob.example"}`); other == first {
		t.Error("two DIDs got the same key")
	}
	// A DID that no file could be named after is one like any other.
	reserve(`{"did":"did:web:..%2F..%2Fetc"}`)
	// The private keys are kept, and not in clear.
	for id, public := range map[string]string{"did:web:alice.example": first, one: one} {
		row, err := f.DB.ReservedKey(t.Context(), id)
		if err != nil || row.Public != public {
			t.Fatalf("row %+v, %v", row, err)
		}
		secret, err := f.service.Accounts.Keys.Open("reserved", id, row.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		key, err := atcrypto.ParsePrivateBytesK256(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.PublicKey(); err != nil || got.DIDKey() != public || strings.Contains(string(row.Sealed), string(secret)) {
			t.Errorf("private key of %s, %v", got.DIDKey(), err)
		}
	}
	// The Authorization header is not looked at.
	f.Accepted(f.Post("reserveSigningKey", `{}`, "nonsense"))
	f.Refused(f.Post("reserveSigningKey", ""), 400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
	f.Refused(f.Post("reserveSigningKey", `{"did":"alice"}`), 400, "InvalidRequest", `Invalid DID (got "alice") at $.did`)
	f.Refused(f.Post("reserveSigningKey", `{"did":null}`), 400, "InvalidRequest", `Expected string value type (got null) at $.did`)
}

// One DID has one key, however many ask at the same time.
func TestReserveSigningKeyRaces(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.Try(http.MethodPost, "reserveSigningKey", `{"did":"did:web:alice.example"}`, "X-Forwarded-For: 203.0.113.7"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if got, want := f.Accepted(a).Text(t, "signingKey"), answers[0].Text(t, "signingKey"); got != want {
				t.Errorf("keys %s and %s", got, want)
			}
		}
	})
}

// DESIGN 18: an address may reserve so many keys a day, unless the operator
// excepted it. Asking for one that is there costs nothing.
func TestDesign18ReservedKeysPerAddress(t *testing.T) {
	f := newFixture(t, func(o *options) { o.Exempt = []netip.Addr{netip.MustParseAddr("203.0.113.99")} })
	for i := range 100 {
		f.Accepted(f.Post("reserveSigningKey", fmt.Sprintf(`{"did":"did:web:%d.example"}`, i), "X-Forwarded-For: 2001:db8:1:2::1"))
	}
	refused := func(body, ip string) {
		t.Helper()
		f.Refused(f.Post("reserveSigningKey", body, "X-Forwarded-For: "+ip), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	refused(`{}`, "2001:db8:1:2::1")
	refused(`{}`, "2001:db8:1:2:3:4:5:6") // of the same network
	refused(`{"did":"did:web:new.example"}`, "2001:db8:1:2::1")
	if _, err := f.DB.ReservedKey(t.Context(), "did:web:new.example"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("the refused reservation: %v", err)
	}
	f.Accepted(f.Post("reserveSigningKey", `{"did":"did:web:7.example"}`, "X-Forwarded-For: 2001:db8:1:2::1"))
	f.Accepted(f.Post("reserveSigningKey", `{}`, "X-Forwarded-For: 2001:db8:1:3::1"))
	for range 101 {
		f.Accepted(f.Post("reserveSigningKey", `{}`, "X-Forwarded-For: 203.0.113.99"))
	}
	f.Advance(24 * time.Hour)
	f.Accepted(f.Post("reserveSigningKey", `{}`, "X-Forwarded-For: 2001:db8:1:2::1"))
}

// DESIGN 18: a reservation that nobody uses is over after a week.
func TestDesign18ReservedKeysExpire(t *testing.T) {
	f := newFixture(t)
	reserve := func() string {
		return f.Accepted(f.Post("reserveSigningKey", `{"did":"did:web:alice.example"}`)).Text(t, "signingKey")
	}
	first := reserve()
	f.Advance(7*24*time.Hour - time.Second)
	if again := reserve(); again != first {
		t.Error("the reservation ended early")
	}
	f.Advance(time.Second)
	second := reserve()
	if second == first {
		t.Error("the reservation does not end")
	}
	f.Advance(7 * 24 * time.Hour)
	if err := f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.Purge(t.Context(), f.Now()) }); err != nil {
		t.Fatal(err)
	}
	if keys, err := f.DB.ReservedKeys(t.Context(), "", 10); err != nil || len(keys) != 0 {
		t.Errorf("left: %v, %v", keys, err)
	}
}

// A sign-up for the DID does not use the key, and ends its reservation.
func TestReservedKeyOfNewAccount(t *testing.T) {
	f := newFixture(t)
	reserved := f.Accepted(f.Post("reserveSigningKey", `{"did":"did:web:alice.example"}`)).Text(t, "signingKey")
	const did = "did:web:alice.example"
	credentials := f.ServiceToken(did, f.NewIdentity(did), move, time.Minute)
	f.Accepted(f.Post("createAccount", `{"handle":"alice.test","email":"alice@example.com","did":"did:web:alice.example"}`, credentials))
	key, err := f.DB.SigningKey(t.Context(), "did:web:alice.example", "atproto")
	if err != nil || key.Public == reserved {
		t.Errorf("signing key %+v, %v", key, err)
	}
	if _, err := f.DB.ReservedKey(t.Context(), "did:web:alice.example"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("reservation: %v", err)
	}
}
