package server_test

import (
	"crypto/rand"
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
	"portico/db/dbtest"
	"portico/impl/serviceauth"
)

// from is the header by which a request comes from an address.
func from(ip string) []string { return []string{"X-Forwarded-For", ip} }

func TestReserveSigningKey(t *testing.T) {
	f := newFixture(t)
	reserve := func(body string) string {
		t.Helper()
		a := f.accepted(f.post("reserveSigningKey", body))
		key := a.text(t, "signingKey")
		public, err := atcrypto.ParsePublicDIDKey(key)
		if _, ok := public.(*atcrypto.PublicKeyK256); !ok || err != nil || len(a.fields(t)) != 1 {
			t.Errorf("answer %s: %v", a.body, err)
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
		row, err := f.db.ReservedKey(t.Context(), id)
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
	f.accepted(f.post("reserveSigningKey", `{}`, "Authorization", "nonsense"))
	f.refused(f.post("reserveSigningKey", ""), 400, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
	f.refused(f.post("reserveSigningKey", `{"did":"alice"}`), 400, "InvalidRequest", `Invalid DID (got "alice") at $.did`)
	f.refused(f.post("reserveSigningKey", `{"did":null}`), 400, "InvalidRequest", `Expected string value type (got null) at $.did`)
}

// One DID has one key, however many ask at the same time.
func TestReserveSigningKeyRaces(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f := newFixture(t, func(o *options) { o.engine = d })
		answers := make([]answer, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				var err error
				if answers[i], err = f.try(http.MethodPost, "reserveSigningKey", `{"did":"did:web:alice.example"}`, from("203.0.113.7")...); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, a := range answers {
			if got, want := f.accepted(a).text(t, "signingKey"), answers[0].text(t, "signingKey"); got != want {
				t.Errorf("keys %s and %s", got, want)
			}
		}
	})
}

// DESIGN 18: an address may reserve so many keys a day, unless the operator
// excepted it. Asking for one that is there costs nothing.
func TestDesign18ReservedKeysPerAddress(t *testing.T) {
	f := newFixture(t, func(o *options) { o.config.Exempt = []netip.Addr{netip.MustParseAddr("203.0.113.99")} })
	for i := range 100 {
		f.accepted(f.post("reserveSigningKey", fmt.Sprintf(`{"did":"did:web:%d.example"}`, i), from("2001:db8:1:2::1")...))
	}
	refused := func(body, ip string) {
		t.Helper()
		f.refused(f.post("reserveSigningKey", body, from(ip)...), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	}
	refused(`{}`, "2001:db8:1:2::1")
	refused(`{}`, "2001:db8:1:2:3:4:5:6") // of the same network
	refused(`{"did":"did:web:new.example"}`, "2001:db8:1:2::1")
	if _, err := f.db.ReservedKey(t.Context(), "did:web:new.example"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("the refused reservation: %v", err)
	}
	f.accepted(f.post("reserveSigningKey", `{"did":"did:web:7.example"}`, from("2001:db8:1:2::1")...))
	f.accepted(f.post("reserveSigningKey", `{}`, from("2001:db8:1:3::1")...))
	for range 101 {
		f.accepted(f.post("reserveSigningKey", `{}`, from("203.0.113.99")...))
	}
	f.clock.advance(24 * time.Hour)
	f.accepted(f.post("reserveSigningKey", `{}`, from("2001:db8:1:2::1")...))
}

// DESIGN 18: a reservation that nobody uses is over after a week.
func TestDesign18ReservedKeysExpire(t *testing.T) {
	f := newFixture(t)
	reserve := func() string {
		return f.accepted(f.post("reserveSigningKey", `{"did":"did:web:alice.example"}`)).text(t, "signingKey")
	}
	first := reserve()
	f.clock.advance(7*24*time.Hour - time.Second)
	if again := reserve(); again != first {
		t.Error("the reservation ended early")
	}
	f.clock.advance(time.Second)
	second := reserve()
	if second == first {
		t.Error("the reservation does not end")
	}
	f.clock.advance(7 * 24 * time.Hour)
	if err := f.db.Write(t.Context(), func(tx *db.Tx) error { return tx.Purge(t.Context(), f.clock.Now()) }); err != nil {
		t.Fatal(err)
	}
	if keys, err := f.db.ReservedKeys(t.Context(), "", 10); err != nil || len(keys) != 0 {
		t.Errorf("left: %v, %v", keys, err)
	}
}

// A sign-up for the DID does not use the key, and ends its reservation.
func TestReservedKeyOfNewAccount(t *testing.T) {
	f := newFixture(t)
	reserved := f.accepted(f.post("reserveSigningKey", `{"did":"did:web:alice.example"}`)).text(t, "signingKey")
	token, err := serviceauth.Issue(serviceauth.Request{
		Issuer: "did:web:alice.example", Audience: "did:web:pds.test", Method: "com.atproto.server.createAccount",
		IssuedAt: f.clock.Now(), Expires: f.clock.Now().Add(time.Minute).Unix(),
	}, f.internet.identity(t, "did:web:alice.example"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.accepted(f.post("createAccount", `{"handle":"alice.test","email":"alice@example.com","did":"did:web:alice.example"}`, bearer(token)...))
	key, err := f.db.SigningKey(t.Context(), "did:web:alice.example", "atproto")
	if err != nil || key.Public == reserved {
		t.Errorf("signing key %+v, %v", key, err)
	}
	if _, err := f.db.ReservedKey(t.Context(), "did:web:alice.example"); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("reservation: %v", err)
	}
}
