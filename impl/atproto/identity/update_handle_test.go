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
	"portico/impl/account/token"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

func to(handle string) string { return fmt.Sprintf(`{"handle":%q}`, handle) }

func TestUpdateHandle(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.Accepted(f.Get("resolveDid?did=" + u.DID.String())) // is in the cache now
	f.PLC.Asked()
	f.Empty(f.Post("updateHandle", to("Alicia.test"), u.Access))
	if asked := f.PLC.Asked(); !slices.Equal(asked, []string{"GET log/last", "POST", "GET"}) {
		t.Errorf("asked the directory %q", asked)
	}
	data, n := f.last(u.DID)
	if !slices.Equal(data.AlsoKnownAs, []string{"at://alicia.test"}) || n != 2 {
		t.Errorf("%d operations, known as %v", n, data.AlsoKnownAs)
	}
	if a := f.Get("resolveIdentity?identifier=alicia.test"); a.Text(t, "handle") != "alicia.test" {
		t.Errorf("resolves to %s", a.Body)
	}
	f.Refused(f.Get("resolveHandle?handle=alice.test"), 400, "HandleNotFound", "Unable to resolve handle")
	f.told(u.DID, "alice.test", "alicia.test")

	// The same handle again is posted and told again. App passwords may do it too.
	f.Empty(f.Post("updateHandle", to("alicia.test"), f.Scoped(u, token.AppPass)))
	if _, n := f.last(u.DID); n != 3 {
		t.Errorf("%d operations, want 3", n)
	}
	f.told(u.DID, "alice.test", "alicia.test", "alicia.test")

	// The old one is free.
	f.Empty(f.Post("updateHandle", to("alice.test"), f.signUp("bob").Access))

	// A deactivated account may.
	f.Deactivate(u.DID)
	f.Empty(f.Post("updateHandle", to("alicja.test"), u.Access))
	f.told(u.DID, "alice.test", "alicia.test", "alicia.test", "alicja.test")
}

// Names that are no handle keep their place.
func TestUpdateHandleKeepsOtherNames(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.PLC.Last(t.Context(), u.DID)
	f.Check(err)
	op, err := plc.Update(last, func(d *plc.Data) {
		d.AlsoKnownAs = []string{"https://alice.example.com", "at://alice.test", "at://alice.example.com"}
	})
	f.Check(err)
	f.Check(op.Sign(f.Rotation))
	f.Check(f.PLC.Submit(t.Context(), u.DID, op))
	f.Empty(f.Post("updateHandle", to("alicia.test"), u.Access))
	if d, _ := f.last(u.DID); !slices.Equal(d.AlsoKnownAs, []string{"https://alice.example.com", "at://alicia.test", "at://alice.example.com"}) {
		t.Errorf("known as %v", d.AlsoKnownAs)
	}
}

func TestUpdateHandleRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	sleeper, outcast := f.signUp("sleeper"), f.signUp("outcast")
	f.Deactivate(sleeper.DID)
	f.TakeDown(outcast.DID)
	f.Internet.Point("alice.example.com", "did:plc:mallory")
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
			f.Refused(f.Post("updateHandle", to(tt.handle), u.Access), 400, tt.error, tt.message)
		})
	}
	f.Refused(f.Post("updateHandle", `{}`, u.Access), 400, "InvalidRequest", `Missing required key "handle" at $`)
	f.Refused(f.Post("updateHandle", to("new.test"), outcast.Access), 401, "AccountTakedown", "Account has been taken down")
	f.Refused(f.Post("updateHandle", to("new.test")), 401, "AuthMissing", "Authentication Required")
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked the directory %q for what is refused here", asked)
	}
	f.told(u.DID, "alice.test")
}

// A handle outside this server's domains is for whom it points to already.
func TestUpdateHandleToForeign(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.Internet.Point("alice.example.com", u.DID)
	f.Empty(f.Post("updateHandle", to("alice.example.com"), u.Access))
	if d, _ := f.last(u.DID); d.Handle() != "alice.example.com" {
		t.Errorf("known as %v", d.AlsoKnownAs)
	}
	f.told(u.DID, "alice.test", "alice.example.com")
}

// DESIGN 26: where the reference answers 500 after the directory was told, nothing has
// happened: neither for a lost race nor for a DID that has ended.
func TestDesign26UpdateHandleNever500(t *testing.T) {
	t.Run("lost race", func(t *testing.T) {
		f := newFixture(t)
		alice, bob := f.signUp("alice"), f.signUp("bob")
		done := make(chan answer)
		var second bool
		f.PLC.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
			if !second {
				// Alice's request is between here and the directory.
				second = true
				go func() { done <- f.Post("updateHandle", to("wanted.test"), bob.Access) }()
				f.Refused(<-done, 400, "HandleNotAvailable", "Handle already taken: wanted.test")
				f.Refused(f.Post("updateHandle", to("alma.test"), alice.Access), 400, "InvalidRequest",
					"Another change of the handle is under way")
				f.Refused(f.Post("updateHandle", to("alice.test"), bob.Access), 400, "HandleNotAvailable", "Handle already taken: alice.test")
			}
			return false
		})
		f.Empty(f.Post("updateHandle", to("wanted.test"), alice.Access))
		if d, n := f.last(bob.DID); d.Handle() != "bob.test" || n != 1 {
			t.Errorf("the loser's DID has %d operations and names %s", n, d.Handle())
		}
		f.told(bob.DID, "bob.test")
	})
	t.Run("tombstone", func(t *testing.T) {
		f := newFixture(t)
		u := f.signUp("alice")
		f.Tombstone(u.DID)
		f.Refused(f.Post("updateHandle", to("alicia.test"), u.Access), 400, "InvalidRequest", "Did is tombstoned")
		f.handleIs(u, "alice.test")
	})
}

func (f *fixture) handleIs(u user, want string) {
	f.Helper()
	a, err := f.DB.AccountByDID(f.Context(), u.DID)
	f.Check(err)
	if a.Handle.String() != want {
		f.Errorf("handle is %s, want %s", a.Handle, want)
	}
	if _, err := f.DB.HandleChange(f.Context(), u.DID); !errors.Is(err, db.ErrNotFound) {
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
		{"no answer", servertest.HangsUp, 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{"500", servertest.Says("", 500, `{"message":"Internal Server Error"}`), 502, "UpstreamFailure", "Internal Server Error"},
		{"503 without a reason", servertest.Says("", 503, `busy`), 502, "UpstreamFailure", "Unable to perform PLC operation"},
		{"404", servertest.Says("GET", 404, `{"message":"DID not registered: x"}`), 400, "InvalidRequest", "DID not registered: x"},
		{"operation refused", servertest.Says("POST", 400, `{"message":"To many operations within last hour (max 10)"}`), 400, "InvalidRequest",
			"To many operations within last hour (max 10)"},
		{"operation refused without a reason", servertest.Says("POST", 409, ``), 400, "InvalidRequest", "Unable to perform PLC operation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.PLC.Spoil(tt.fault)
			f.Refused(f.Post("updateHandle", to("alicia.test"), u.Access), tt.status, tt.error, tt.message)
			f.handleIs(u, "alice.test")
		})
	}
	f.told(u.DID, "alice.test")
	f.PLC.Spoil(nil)
	f.Empty(f.Post("updateHandle", to("alicia.test"), u.Access))
}

// The owner of a DID that is no did:plc changes it first.
func TestUpdateHandleOfOtherDIDs(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.signUp("bob")
	did := f.host(`"alsoKnownAs":["at://alicia.test"],`)
	f.Check(f.DB.Write(t.Context(), func(tx *db.Tx) error {
		err := tx.ReserveAccount(t.Context(), db.Reservation{
			Account: db.Account{DID: did, Handle: "carol.test", CreatedAt: f.Now()}, Holder: "test", LeaseUntil: f.Now(),
			Key: db.SigningKey{DID: did, Purpose: "atproto", Public: f.SigningKey(u.DID), Sealed: []byte("x")},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(t.Context(), did, "test")
	}))
	carol := user{DID: did}
	f.Refused(f.Post("updateHandle", to("bob.test"), f.Scoped(carol, token.Access)), 400, "HandleNotAvailable", "Handle already taken: bob.test")
	f.Refused(f.Post("updateHandle", to("caroline.test"), f.Scoped(carol, token.Access)), 400, "InvalidRequest",
		"DID is not properly configured for handle")
	f.handleIs(carol, "carol.test")
	f.Empty(f.Post("updateHandle", to("alicia.test"), f.Scoped(carol, token.Access)))
	f.handleIs(carol, "alicia.test")
	f.told(did, "alicia.test")
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked the PLC directory %q", asked)
	}
}

func TestUpdateHandleLimits(t *testing.T) {
	f := newFixture(t, func(o *servertest.Options) { o.Limiter = true })
	u, other := f.signUp("alice"), f.signUp("bob")
	for i := range 10 {
		f.Refused(f.Post("updateHandle", to("bob.test"), u.Access), 400, "HandleNotAvailable", "Handle already taken: bob.test")
		if i == 0 {
			f.Post("updateHandle", to("?"), u.Access) // costs nothing
		}
	}
	a := f.Post("updateHandle", to("bob.test"), u.Access)
	f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.Header.Get("RateLimit-Policy"); got != "10;w=300" {
		t.Errorf("policy %s", got)
	}
	f.Empty(f.Post("updateHandle", to("bobby.test"), other.Access))
	for range 4 {
		f.Advance(5 * time.Minute)
		for range 10 {
			f.Post("updateHandle", to("bobby.test"), u.Access)
		}
	}
	f.Advance(5 * time.Minute)
	a = f.Post("updateHandle", to("bobby.test"), u.Access)
	f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if got := a.Header.Get("RateLimit-Policy"); !strings.HasPrefix(got, "50;") {
		t.Errorf("policy %s", got)
	}
}
