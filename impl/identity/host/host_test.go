package host_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/host"
)

// world is a server that is started again and again.
type world struct {
	*testing.T
	store *db.DB
	now   time.Time
	log   bytes.Buffer
}

func (w *world) open(name string) *host.Names {
	w.Helper()
	w.log.Reset()
	n, err := host.Open(w.Context(), w.store, host.Config{
		Name: name, Now: func() time.Time { return w.now }, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *world) write(f func(ctx context.Context, tx *db.Tx) error) error {
	return w.store.Write(w.Context(), func(tx *db.Tx) error { return f(w.Context(), tx) })
}

func (w *world) do(f func(ctx context.Context, tx *db.Tx) error) {
	w.Helper()
	if err := w.write(f); err != nil {
		w.Fatal(err)
	}
}

// account makes one.
func (w *world) account() {
	w.Helper()
	w.do(func(ctx context.Context, tx *db.Tx) error {
		const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
		err := tx.ReserveAccount(ctx, db.Reservation{
			Account: db.Account{DID: did, CreatedAt: w.now}, Holder: "test", LeaseUntil: w.now,
			Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:z", Sealed: []byte{1}},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(ctx, did, "test")
	})
}

// warned says whether the last start warned with want; "" is of none.
func (w *world) warned(want string) {
	w.Helper()
	got := w.log.String()
	if want == "" && got != "" || !strings.Contains(got, want) {
		w.Errorf("log %q, want %q", got, want)
	}
}

func names(t *testing.T, f func(w *world)) {
	dbtest.Engines(t, func(t *testing.T, store *db.DB) {
		f(&world{T: t, store: store, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	})
}

// is checks what a state says of two names and one that is nobody's.
func is(t *testing.T, s *host.State, name string, disagrees bool, serves, here string) {
	t.Helper()
	of := func(ask func(string) bool) string {
		var yes []string
		for _, n := range []string{"a.test", "b.test", "c.test"} {
			if ask("https://" + n) {
				yes = append(yes, n[:1])
			}
		}
		return strings.Join(yes, "")
	}
	got := []any{s.Name, s.Endpoint(), s.Disagrees(), of(s.Serves), of(s.Here)}
	if diff := cmp.Diff([]any{name, "https://" + name, disagrees, serves, here}, got); diff != "" {
		t.Errorf("state (-want +got)\n%s", diff)
	}
}

// A server without accounts has the name of its settings. One with accounts keeps its own.
func TestNameByMistake(t *testing.T) {
	names(t, func(w *world) {
		is(t, w.open("A.test").State(t.Context()), "a.test", false, "a", "a")
		is(t, w.open("b.test").State(t.Context()), "b.test", false, "b", "ab")
		is(t, w.open("a.test").State(t.Context()), "a.test", false, "a", "ab")
		w.account()
		is(t, w.open("a.test").State(t.Context()), "a.test", false, "a", "ab")
		w.warned("")
		n := w.open("c.test")
		is(t, n.State(t.Context()), "a.test", true, "a", "abc")
		w.warned("PDS_HOSTNAME is not the name")
		is(t, w.open("a.test").State(t.Context()), "a.test", false, "a", "ab")
		w.warned("")

		// Unless no account has the old name any more.
		n = w.open("c.test")
		if err := n.Agree(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(t, n.State(t.Context()), "c.test", false, "c", "abc")
	})
}

// A development server changes its port without more ado.
func TestLocalNames(t *testing.T) {
	names(t, func(w *world) {
		first := w.open("localhost:2583")
		w.account()
		s := w.open("localhost:2584").State(t.Context())
		if s.Disagrees() || s.Endpoint() != "http://localhost:2584" || !s.Here("http://localhost:2583") || s.Serves("http://localhost:2583") {
			t.Errorf("state %+v", s)
		}
		w.warned("")
		s, err := first.Read(t.Context()) // which shares the database with the other
		if err != nil || s.Disagrees() || s.Endpoint() != "http://localhost:2583" || !s.Here("http://localhost:2584") {
			t.Errorf("state of the first %+v, %v", s, err)
		}
		if s := w.open("a.test").State(t.Context()); !s.Disagrees() {
			t.Errorf("state %+v", s)
		}
	})
}

// A database from before names were kept has those that its starts wrote down.
func TestNamesOfBefore(t *testing.T) {
	names(t, func(w *world) {
		w.account()
		w.do(func(ctx context.Context, tx *db.Tx) error {
			return tx.PutMeta(ctx, host.PublicURLs, []byte("https://a.test\nhttps://b.test"))
		})
		is(t, w.open("c.test").State(t.Context()), "b.test", true, "b", "abc")
		is(t, w.open("b.test").State(t.Context()), "b.test", false, "b", "ab")
	})
}

func TestMove(t *testing.T) {
	names(t, func(w *world) {
		w.open("a.test")
		w.account()
		n := w.open("a.test")
		begin := func(to string) error {
			return w.write(func(ctx context.Context, tx *db.Tx) error { return n.Begin(ctx, tx, host.Move{To: to, Handles: true}) })
		}
		refused := func(err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		refused(begin("a.test"), host.ErrSame)
		refused(w.write(n.Switch), host.ErrNoMove)
		refused(w.write(n.Undo), host.ErrNoMove)
		if err := begin("b.test"); err != nil {
			t.Fatal(err)
		}
		// Another process sees it in time.
		is(t, n.State(t.Context()), "a.test", false, "a", "a")
		w.now = w.now.Add(host.MaxAge)
		s := n.State(t.Context())
		is(t, s, "a.test", false, "ab", "ab")
		if s.Wanted() != "b.test" || s.Twin("x.a.test") != "x.b.test" || s.Twin("x.b.test") != "x.a.test" || s.Twin("x.y.a.test") != "" || s.Twin("a.test") != "" {
			t.Errorf("state %+v", s)
		}
		refused(begin("c.test"), host.ErrMoving)
		end := func(ctx context.Context, tx *db.Tx) error { return n.End(ctx, tx, true) }
		refused(w.write(end), host.ErrNotSwitched)

		// Either name will do for a start, and none other.
		is(t, w.open("b.test").State(t.Context()), "a.test", false, "ab", "ab")
		w.warned("move-host --switch")
		is(t, w.open("c.test").State(t.Context()), "a.test", true, "ab", "abc")
		w.do(n.Switch)
		w.do(n.Switch)
		is(t, w.open("b.test").State(t.Context()), "b.test", false, "ab", "ab")
		w.warned("")
		is(t, w.open("a.test").State(t.Context()), "b.test", false, "ab", "ab")
		w.warned("set PDS_HOSTNAME to it")
		if diff := cmp.Diff([]string{"did:web:b.test", "did:web:a.test"}, w.open("b.test").State(t.Context()).Audiences()); diff != "" {
			t.Error(diff)
		}

		// Turned back half-way.
		w.do(n.Undo)
		refused(w.write(n.Switch), host.ErrUndoing)
		s = w.open("a.test").State(t.Context())
		is(t, s, "a.test", false, "ab", "ab")
		if s.Wanted() != "a.test" {
			t.Errorf("state %+v", s)
		}
		w.do(func(ctx context.Context, tx *db.Tx) error { return n.End(ctx, tx, false) })
		s = w.open("a.test").State(t.Context())
		is(t, s, "a.test", false, "a", "ab")
		if s.Twin("x.a.test") != "" {
			t.Errorf("state %+v", s)
		}

		// And finished, with accounts that had to stay.
		if err := begin("b.test"); err != nil {
			t.Fatal(err)
		}
		w.do(n.Switch)
		w.do(end)
		s = w.open("b.test").State(t.Context())
		is(t, s, "b.test", false, "ab", "ab")
		w.warned("")
		if s.Twin("x.a.test") != "x.b.test" || !s.Host("a.test") {
			t.Errorf("state %+v", s)
		}
		is(t, w.open("a.test").State(t.Context()), "b.test", true, "ab", "ab")
	})
}
