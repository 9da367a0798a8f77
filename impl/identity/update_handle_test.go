package identity_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/plc"
	"portico/impl/token"
)

func to(handle string) string { return fmt.Sprintf(`{"handle":%q}`, handle) }

func TestUpdateHandle(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.accepted(f.get("resolveDid?did="+u.did.String(), "")) // is in the cache now
	f.requests()
	f.empty(f.post("updateHandle", to("Alicia.test"), u.bearer))
	if asked := f.requests(); !slices.Equal(asked, []string{"GET log/last", "POST", "GET"}) {
		t.Errorf("asked the directory %q", asked)
	}
	data, n := f.last(u.did)
	if !slices.Equal(data.AlsoKnownAs, []string{"at://alicia.test"}) || n != 2 {
		t.Errorf("%d operations, known as %v", n, data.AlsoKnownAs)
	}
	if a := f.get("resolveIdentity?identifier=alicia.test", ""); a.text(t, "handle") != "alicia.test" {
		t.Errorf("resolves to %s", a.body)
	}
	f.refused(f.get("resolveHandle?handle=alice.test", ""), 400, "HandleNotFound", "Unable to resolve handle")
	f.told(u.did, "alice.test", "alicia.test")

	// The same handle again is posted and told again. App passwords may do it too.
	f.empty(f.post("updateHandle", to("alicia.test"), f.scoped(u, token.AppPass)))
	if _, n := f.last(u.did); n != 3 {
		t.Errorf("%d operations, want 3", n)
	}
	f.told(u.did, "alice.test", "alicia.test", "alicia.test")

	// The old one is free.
	f.empty(f.post("updateHandle", to("alice.test"), f.signUp("bob").bearer))

	// A deactivated account may.
	f.deactivate(u.did)
	f.empty(f.post("updateHandle", to("alicja.test"), u.bearer))
	f.told(u.did, "alice.test", "alicia.test", "alicia.test", "alicja.test")
}

// Names that are no handle keep their place.
func TestUpdateHandleKeepsOtherNames(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.directory.Last(t.Context(), u.did)
	f.check(err)
	op, err := plc.Update(last, func(d *plc.Data) {
		d.AlsoKnownAs = []string{"https://alice.example.com", "at://alice.test", "at://alice.example.com"}
	})
	f.check(err)
	f.check(op.Sign(f.rotation))
	f.check(f.directory.Submit(t.Context(), u.did, op))
	f.empty(f.post("updateHandle", to("alicia.test"), u.bearer))
	if d, _ := f.last(u.did); !slices.Equal(d.AlsoKnownAs, []string{"https://alice.example.com", "at://alicia.test", "at://alice.example.com"}) {
		t.Errorf("known as %v", d.AlsoKnownAs)
	}
}

func TestUpdateHandleRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	sleeper, outcast := f.signUp("sleeper"), f.signUp("outcast")
	f.deactivate(sleeper.did)
	f.takeDown(outcast.did)
	f.world.point("alice.example.com", "did:plc:mallory")
	for _, tt := range []struct{ name, handle, error, message string }{
		{"syntax", "foo", "InvalidRequest", `Invalid handle (got "foo") at $.handle`},
		{"TLD", "alice.local", "InvalidHandle", "Handle TLD is invalid or disallowed"},
		{"dot", "a.lice.test", "InvalidHandle", "Invalid characters in handle"},
		{"short", "al.test", "InvalidHandle", "Handle too short"},
		{"long", "alice-in-wonderland.test", "InvalidHandle", "Handle too long"},
		{"reserved", "admin.test", "HandleNotAvailable", "Reserved handle"},
		{"of a deactivated account", "Sleeper.test", "HandleNotAvailable", "Handle already taken: sleeper.test"},
		{"of a taken-down account", "outcast.test", "HandleNotAvailable", "Handle already taken: outcast.test"},
		{"elsewhere, of nobody", "nobody.example.com", "InvalidRequest", "External handle did not resolve to DID"},
		{"elsewhere, of another", "alice.example.com", "InvalidRequest", "External handle did not resolve to DID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.refused(f.post("updateHandle", to(tt.handle), u.bearer), 400, tt.error, tt.message)
		})
	}
	f.refused(f.post("updateHandle", `{}`, u.bearer), 400, "InvalidRequest", `Missing required key "handle" at $`)
	f.refused(f.post("updateHandle", to("new.test"), outcast.bearer), 401, "AccountTakedown", "Account has been taken down")
	f.refused(f.post("updateHandle", to("new.test"), ""), 401, "AuthMissing", "Authentication Required")
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("asked the directory %q for what is refused here", asked)
	}
	f.told(u.did, "alice.test")
}

// A handle outside this server's domains is for whom it points to already.
func TestUpdateHandleToForeign(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.world.point("alice.example.com", u.did)
	f.empty(f.post("updateHandle", to("alice.example.com"), u.bearer))
	if d, _ := f.last(u.did); d.Handle() != "alice.example.com" {
		t.Errorf("known as %v", d.AlsoKnownAs)
	}
	f.told(u.did, "alice.test", "alice.example.com")
}

// Where the reference answers 500 after the directory was told, nothing has
// happened: neither for a lost race nor for a DID that has ended.
func TestUpdateHandleNever500(t *testing.T) {
	t.Run("lost race", func(t *testing.T) {
		f := newFixture(t)
		alice, bob := f.signUp("alice"), f.signUp("bob")
		done := make(chan answer)
		var second bool
		f.spoil(func(w http.ResponseWriter, r *http.Request) bool {
			if !second {
				// Alice's request is between here and the directory.
				second = true
				go func() { done <- f.post("updateHandle", to("wanted.test"), bob.bearer) }()
				f.refused(<-done, 400, "HandleNotAvailable", "Handle already taken: wanted.test")
				f.refused(f.post("updateHandle", to("alma.test"), alice.bearer), 400, "InvalidRequest",
					"Another change of the handle is under way")
				f.refused(f.post("updateHandle", to("alice.test"), bob.bearer), 400, "HandleNotAvailable", "Handle already taken: alice.test")
			}
			return false
		})
		f.empty(f.post("updateHandle", to("wanted.test"), alice.bearer))
		if d, n := f.last(bob.did); d.Handle() != "bob.test" || n != 1 {
			t.Errorf("the loser's DID has %d operations and names %s", n, d.Handle())
		}
		f.told(bob.did, "bob.test")
	})
	t.Run("tombstone", func(t *testing.T) {
		f := newFixture(t)
		u := f.signUp("alice")
		f.tombstone(u.did)
		f.refused(f.post("updateHandle", to("alicia.test"), u.bearer), 400, "InvalidRequest", "Did is tombstoned")
		f.handleIs(u, "alice.test")
	})
}

func (f *fixture) handleIs(u user, want string) {
	f.Helper()
	a, err := f.db.AccountByDID(f.Context(), u.did)
	f.check(err)
	if a.Handle.String() != want {
		f.Errorf("handle is %s, want %s", a.Handle, want)
	}
	if _, err := f.db.HandleChange(f.Context(), u.did); !errors.Is(err, db.ErrNotFound) {
		f.Errorf("a change is left: %v", err)
	}
}

// What the directory says reaches the client, and the account keeps its handle.
func TestUpdateHandleWithoutDirectory(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	for _, tt := range []struct {
		name    string
		fault   func(http.ResponseWriter, *http.Request) bool
		status  int
		error   string
		message string
	}{
		{"no answer", hangsUp, 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{"500", says("", 500, `{"message":"Internal Server Error"}`), 502, "UpstreamFailure", "Internal Server Error"},
		{"503 without a reason", says("", 503, `busy`), 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{"404", says("GET", 404, `{"message":"DID not registered: x"}`), 400, "InvalidRequest", "DID not registered: x"},
		{"operation refused", says("POST", 400, `{"message":"To many operations within last hour (max 10)"}`), 400, "InvalidRequest",
			"To many operations within last hour (max 10)"},
		{"operation refused without a reason", says("POST", 409, ``), 400, "InvalidRequest", "Unable to perform PLC operation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.spoil(tt.fault)
			f.refused(f.post("updateHandle", to("alicia.test"), u.bearer), tt.status, tt.error, tt.message)
			f.handleIs(u, "alice.test")
		})
	}
	f.told(u.did, "alice.test")
	f.spoil(nil)
	f.empty(f.post("updateHandle", to("alicia.test"), u.bearer))
}

// The owner of a DID that is no did:plc changes it first.
func TestUpdateHandleOfOtherDIDs(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.signUp("bob")
	did := f.host(`"alsoKnownAs":["at://alicia.test"],`)
	f.check(f.db.Write(t.Context(), func(tx *db.Tx) error {
		err := tx.ReserveAccount(t.Context(), db.Reservation{
			Account: db.Account{DID: did, Handle: "carol.test", CreatedAt: f.clock.Now()}, Holder: "test", LeaseUntil: f.clock.Now(),
			Key: db.SigningKey{DID: did, Purpose: "atproto", Public: u.key, Sealed: []byte("x")},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(t.Context(), did, "test")
	}))
	carol := user{did: did}
	f.refused(f.post("updateHandle", to("bob.test"), f.scoped(carol, token.Access)), 400, "HandleNotAvailable", "Handle already taken: bob.test")
	f.refused(f.post("updateHandle", to("caroline.test"), f.scoped(carol, token.Access)), 400, "InvalidRequest",
		"DID is not properly configured for handle")
	f.handleIs(carol, "carol.test")
	f.empty(f.post("updateHandle", to("alicia.test"), f.scoped(carol, token.Access)))
	f.handleIs(carol, "alicia.test")
	f.told(did, "alicia.test")
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("asked the PLC directory %q", asked)
	}
}

func TestUpdateHandleLimits(t *testing.T) {
	f := newFixture(t, func(o *options) { o.limiter = true })
	u, other := f.signUp("alice"), f.signUp("bob")
	for i := range 10 {
		f.refused(f.post("updateHandle", to("bob.test"), u.bearer), 400, "HandleNotAvailable", "Handle already taken: bob.test")
		if i == 0 {
			f.post("updateHandle", to("?"), u.bearer) // costs nothing
		}
	}
	a := f.post("updateHandle", to("bob.test"), u.bearer)
	f.refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.header.Get("RateLimit-Policy"); got != "10;w=300" {
		t.Errorf("policy %s", got)
	}
	f.empty(f.post("updateHandle", to("bobby.test"), other.bearer))
	for range 4 {
		f.clock.advance(5 * time.Minute)
		for range 10 {
			f.post("updateHandle", to("bobby.test"), u.bearer)
		}
	}
	f.clock.advance(5 * time.Minute)
	a = f.post("updateHandle", to("bobby.test"), u.bearer)
	f.refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.header.Get("RateLimit-Policy"); !strings.HasPrefix(got, "50;") {
		t.Errorf("policy %s", got)
	}
}
