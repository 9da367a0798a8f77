package domain_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/audit"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/servertest"
)

func open(t testing.TB, d *db.DB, c *servertest.Clock, configured ...string) *domain.Domains {
	t.Helper()
	domains, err := domain.Open(t.Context(), d, domain.Config{Configured: always(true, configured...), Hostname: "pds.test", Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return domains
}

// list shows the domains, those of the settings with an asterisk.
func list(t testing.TB, d *domain.Domains) string {
	t.Helper()
	var all []string
	for _, d := range d.Current(t.Context()).All() {
		text := d.Name + " " + string(d.Policy)
		if d.Configured {
			text += "*"
		}
		if !d.DecidedAt.IsZero() {
			text += " " + d.DecidedAt.Format("05")
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// What the settings name comes first and in their order, what operators added after
// it, and all of that the same after a restart.
func TestOverlay(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		c := servertest.NewClock()
		ctx := audit.With(t.Context(), audit.Who{Actor: audit.Admin, Address: "192.0.2.1"})
		domains := open(t, store, c, ".B.test", ".a.test", "b.test")
		is := func(want string) {
			t.Helper()
			if got := list(t, domains); got != want {
				t.Errorf("domains %s\nwant    %s", got, want)
			}
		}
		put := func(name string, policy handle.Policy, want handle.Domain) {
			t.Helper()
			c.Advance(time.Second)
			got, err := domains.Put(ctx, name, policy)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("put %s: %v (-want +got):\n%s", name, err, diff)
			}
		}
		remove := func(name string) {
			t.Helper()
			c.Advance(time.Second)
			if err := domains.Remove(ctx, name, false); err != nil {
				t.Error(err)
			}
		}
		at := func(seconds int) time.Time { return servertest.Start.Add(time.Duration(seconds) * time.Second) }
		is("b.test invite*, a.test invite*")
		put("z.example.com", "", handle.Domain{Name: "z.example.com", Policy: handle.Invite, DecidedAt: at(1)})
		put(".Y.Example.com", handle.Open, handle.Domain{Name: "y.example.com", Policy: handle.Open, DecidedAt: at(2)})
		put("a.test", "", handle.Domain{Name: "a.test", Policy: handle.Invite, Configured: true})
		is("b.test invite*, a.test invite*, z.example.com invite 01, y.example.com open 02")
		put("z.example.com", handle.Closed, handle.Domain{Name: "z.example.com", Policy: handle.Closed, DecidedAt: at(1)})
		put("z.example.com", "", handle.Domain{Name: "z.example.com", Policy: handle.Closed, DecidedAt: at(1)})
		put("a.test", handle.Invite, handle.Domain{Name: "a.test", Policy: handle.Invite, Configured: true, DecidedAt: at(6)})
		put("a.test", handle.Open, handle.Domain{Name: "a.test", Policy: handle.Open, Configured: true, DecidedAt: at(6)})
		remove(".B.test")
		remove("y.example.com")
		is("a.test open* 06, z.example.com closed 01")
		domains = open(t, store, c, "b.test", "a.test")
		is("a.test open* 06, z.example.com closed 01")
		// A decision outlives the setting that it was about.
		domains = open(t, store, c, "b.test", "c.test")
		is("c.test invite*, z.example.com closed 01, a.test open 06")
		put("b.test", "", handle.Domain{Name: "b.test", Policy: handle.Invite, Configured: true, DecidedAt: at(10)})
		put("y.example.com", "", handle.Domain{Name: "y.example.com", Policy: handle.Invite, DecidedAt: at(11)})
		is("b.test invite* 10, c.test invite*, z.example.com closed 01, a.test open 06, y.example.com invite 11")

		entries, err := store.Audit(ctx, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		var events []string
		for _, e := range slices.Backward(entries) {
			if e.Actor != "admin" || e.Address != "192.0.2.1" {
				t.Errorf("entry %+v", e)
			}
			events = append(events, e.Event+": "+e.Detail)
		}
		if diff := cmp.Diff([]string{
			"domain_added: z.example.com, invite", "domain_added: y.example.com, open", "domain_changed: z.example.com, closed",
			"domain_changed: a.test, invite", "domain_changed: a.test, open", "domain_removed: b.test", "domain_removed: y.example.com",
			"domain_added: b.test, invite", "domain_added: y.example.com, invite",
		}, events); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	})
}

func TestPutRefused(t *testing.T) {
	store := dbtest.Open(t)
	domains := open(t, store, servertest.NewClock(), ".test", ".corp.internal")
	for text, want := range map[string]error{
		"": domain.ErrInvalid, ".": domain.ErrInvalid, "a..b": domain.ErrInvalid, "..example.com": domain.ErrInvalid,
		"example.com.": domain.ErrInvalid, "exa_mple.com": domain.ErrInvalid, "-example.com": domain.ErrInvalid,
		"example.com\n": domain.ErrInvalid, "exämple.com": domain.ErrInvalid, "192.0.2.1": domain.ErrInvalid, "example.4com": domain.ErrInvalid,
		"example.local": domain.ErrInvalid, "a.example": domain.ErrInvalid, "localhost": domain.ErrInvalid, "a.onion": domain.ErrInvalid,
		strings.Repeat("a", 64) + ".com": domain.ErrInvalid, strings.Repeat("a.", 125) + "b": domain.ErrInvalid,
		"com": domain.ErrTopLevel, ".org": domain.ErrTopLevel,
		"other.internal": domain.ErrInvalid,
	} {
		if _, err := domains.Put(t.Context(), text, handle.Open); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
	// What the settings insist on has a policy all the same, and can go.
	for _, name := range []string{"test", ".corp.internal"} {
		if _, err := domains.Put(t.Context(), name, handle.Closed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := domains.Remove(t.Context(), "corp.internal", false); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"corp.internal", "example.com", "", "\x00"} {
		if err := domains.Remove(t.Context(), name, true); !errors.Is(err, domain.ErrUnknown) {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if err := domains.Remove(t.Context(), "test", true); !errors.Is(err, domain.ErrLast) {
		t.Errorf("remove the last: %v", err)
	}
}

// This process sees what it decides at once, another one some time later, and
// neither asks the database without need.
func TestCurrent(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		c := servertest.NewClock()
		one, two := open(t, store, c, "test"), open(t, store, c, "test")
		if _, err := one.Put(t.Context(), "example.com", handle.Open); err != nil {
			t.Fatal(err)
		}
		const both = "test invite*, example.com open 00"
		if got := list(t, one); got != both {
			t.Errorf("here: %s", got)
		}
		if got := list(t, two); got != "test invite*" {
			t.Errorf("elsewhere, at once: %s", got)
		}
		c.Advance(domain.MaxAge - time.Nanosecond)
		if got := list(t, two); got != "test invite*" {
			t.Errorf("elsewhere, before its time: %s", got)
		}
		c.Advance(time.Nanosecond)
		if got := list(t, two); got != both {
			t.Errorf("elsewhere, in time: %s", got)
		}
		if first := two.Current(t.Context()); first != two.Current(t.Context()) {
			t.Error("read once more without need")
		}
		// A caller who hangs up is no reason not to know.
		if _, err := one.Put(t.Context(), "example.org", handle.Open); err != nil {
			t.Fatal(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if got := len(one.Current(gone).All()); got != 3 {
			t.Errorf("%d domains", got)
		}
	})
}

// Without the database, what was known before holds.
func TestWithoutDatabase(t *testing.T) {
	c := servertest.NewClock()
	store, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	domains := open(t, store, c, "test")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	if got := list(t, domains); got != "test invite*" {
		t.Error(got)
	}
	if _, err := domains.Put(t.Context(), "example.com", ""); err == nil {
		t.Error("put without a database")
	}
	if _, err := domain.Open(t.Context(), store, domain.Config{Configured: always(false, "test"), Now: c.Now}); err == nil {
		t.Error("opened without a database")
	}
}

// A database that takes long to fail is asked by one caller, not by all that wait one
// after another.
func TestSlowFailure(t *testing.T) {
	c := servertest.NewClock()
	store, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	failures := 0
	domains, err := domain.Open(t.Context(), store, domain.Config{
		Configured: always(false, "test"), Hostname: "pds.test", Now: c.Now, Log: slog.New(failing(func() {
			failures++
			c.Advance(5 * time.Second)
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	c.Advance(time.Hour)
	for range 3 {
		domains.Current(t.Context())
	}
	if failures != 1 {
		t.Errorf("failed %d times, want once", failures)
	}
	c.Advance(domain.MaxAge)
	domains.Current(t.Context())
	if failures != 2 {
		t.Errorf("failed %d times, want twice", failures)
	}
}

// failing is a log whose entries take their time.
type failing func()

func (f failing) Enabled(context.Context, slog.Level) bool  { return true }
func (f failing) Handle(context.Context, slog.Record) error { f(); return nil }
func (f failing) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f failing) WithGroup(string) slog.Handler             { return f }

// The settings may come to name nothing but what was removed.
func TestNothingLeft(t *testing.T) {
	store := dbtest.Open(t)
	c := servertest.NewClock()
	if err := open(t, store, c, "a.test", "b.test").Remove(t.Context(), "a.test", false); err != nil {
		t.Fatal(err)
	}
	domains := open(t, store, c, "a.test")
	if got := list(t, domains); got != "" {
		t.Error(got)
	}
	if _, err := domains.Put(t.Context(), "a.test", ""); err != nil {
		t.Error(err)
	}
	if got := list(t, domains); got != "a.test invite* 00" {
		t.Error(got)
	}
}

// Of all that remove at once, one finds the last domain.
func TestRaceForTheLast(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		c := servertest.NewClock()
		names := []string{"a.test", "b.test", "c.test", "d.test"}
		var nodes []*domain.Domains
		for range names {
			nodes = append(nodes, open(t, store, c, names...))
		}
		for round := range 5 {
			errs := make([]error, len(names))
			var all sync.WaitGroup
			for i, name := range names {
				all.Go(func() { errs[i] = nodes[i].Remove(t.Context(), name, false) })
			}
			all.Wait()
			var left []string
			for i, err := range errs {
				if errors.Is(err, domain.ErrLast) {
					left = append(left, names[i])
				} else if err != nil {
					t.Error(err)
				}
			}
			c.Advance(domain.MaxAge)
			for _, node := range nodes {
				if got := node.Current(t.Context()).All(); len(left) != 1 || len(got) != 1 || got[0].Name != left[0] {
					t.Fatalf("round %d: refused %v, left %v", round, left, got)
				}
			}
			for _, name := range names {
				if _, err := nodes[0].Put(t.Context(), name, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// Whoever takes a handle under a domain finds it there until all is done, or not at
// all.
func TestRaceForHandles(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		c := servertest.NewClock()
		here, there := open(t, store, c, "test", "a.test"), open(t, store, c, "test", "a.test")
		for round := range 20 {
			take := func() error {
				did := fmt.Sprintf("did:plc:%024d", round)
				return store.Write(t.Context(), func(tx *db.Tx) error {
					if _, err := here.Hold(t.Context(), tx, "a.test", "alice.a.test", ""); err != nil {
						return err
					}
					r := db.Reservation{Holder: "me", LeaseUntil: servertest.Start, Account: db.Account{CreatedAt: servertest.Start}}
					r.Account.DID, r.Key.DID = syntax.DID(did), syntax.DID(did)
					r.Account.Handle = syntax.Handle(fmt.Sprintf("user%d.a.test", round))
					r.Key.Purpose, r.Key.Public, r.Key.Sealed = "atproto", did, []byte("x")
					return tx.ReserveAccount(t.Context(), r)
				})
			}
			var taken, removed error
			var both sync.WaitGroup
			both.Go(func() { taken = take() })
			both.Go(func() { removed = there.Remove(t.Context(), "a.test", false) })
			both.Wait()
			_, used := errors.AsType[*domain.InUseError](removed)
			switch {
			case taken == nil && used:
				if err := there.Remove(t.Context(), "a.test", true); err != nil {
					t.Fatal(err)
				}
			case removed == nil && errors.Is(taken, handle.ErrUnsupportedDomain):
			default:
				t.Fatalf("round %d: taken: %v, removed: %v", round, taken, removed)
			}
			if taken == nil {
				err := store.Write(t.Context(), func(tx *db.Tx) error {
					return tx.AbortAccount(t.Context(), syntax.DID(fmt.Sprintf("did:plc:%024d", round)), "me", time.Time{})
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if _, err := there.Put(t.Context(), "a.test", ""); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzPut(f *testing.F) {
	store := dbtest.Open(f)
	domains := open(f, store, servertest.NewClock(), "test")
	for _, text := range []string{"example.com", ".EXAMPLE.com", "com", "..", "\x00", "a.local", "xn--bcher-kva.example"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := domains.Put(t.Context(), text, handle.Open)
		if errors.Is(err, domain.ErrInvalid) || errors.Is(err, domain.ErrTopLevel) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		// There can be a handle under it, and it can be removed by the same text.
		c, err := (&handle.Rules{}).Check(domains.Current(t.Context()), "alice."+d.Name, true)
		if err != nil || c.Domain != d.Name {
			t.Errorf("%q: %v, %v", text, c, err)
		}
		if err := domains.Remove(t.Context(), text, false); err != nil && !errors.Is(err, domain.ErrLast) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// always are domains that stay configured.
func always(inviteRequired bool, domains ...string) func() domain.Configured {
	return func() domain.Configured { return domain.Configured{Domains: domains, InviteRequired: inviteRequired} }
}
