package db_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/dbtest"
)

// watcher keeps what an observer is told.
type watcher struct {
	mu       sync.Mutex
	errs     []error
	commits  int
	keys     []any
	negative bool
}

type watchedKey struct{}

func (w *watcher) Wrote(ctx context.Context, began time.Time, took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs, w.keys = append(w.errs, err), append(w.keys, ctx.Value(watchedKey{}))
	w.negative = w.negative || took < 0 || began.IsZero()
}

func (w *watcher) Committed(took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits++
	w.negative = w.negative || took < 0
}

// An observer is told of each write once, with the caller's context and what the caller gets.
func TestObserver(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		w := new(watcher)
		d.Observe(w)
		ctx := context.WithValue(t.Context(), watchedKey{}, "mine")
		for _, fails := range []error{nil, errors.New("no")} {
			err := d.Write(ctx, func(tx *db.Tx) error { return errors.Join(tx.PutMeta(ctx, "a", []byte("b")), fails) })
			w.mu.Lock()
			last := len(w.errs) - 1
			if (err == nil) != (fails == nil) || w.errs[last] != err || w.keys[last] != "mine" || w.negative {
				t.Errorf("the caller gets %v, the observer %v with %v", err, w.errs[last], w.keys[last])
			}
			w.mu.Unlock()
		}
		if len(w.errs) != 2 || w.commits != 1 {
			t.Errorf("%d writes and %d commits were told, want 2 and 1", len(w.errs), w.commits)
		}
	})
}

func TestFiguresOfUse(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		before := d.Figures()
		create(t, d, 1)
		f := d.Figures()
		if f.Statements <= before.Statements || f.Pool.MaxOpenConnections == 0 || f.Waiting != 0 || f.Slow != 0 {
			t.Errorf("%+v", f)
		}
		if lite := d.Engine() == "sqlite"; (f.File > 0) != lite || (f.Log > 0) != lite {
			t.Errorf("the files have %d and %d bytes", f.File, f.Log)
		}
	})
}

// An account counts once, whatever is true of it.
func TestBacklog(t *testing.T) {
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		ctx := t.Context()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		expect := func(want db.Backlog) {
			t.Helper()
			got, err := d.Backlog(ctx)
			check(err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		expect(db.Backlog{Accounts: map[string]int{}})
		create(t, d, 1)
		did, held, gone := create(t, d, 2), create(t, d, 3), create(t, d, 4)
		now := time.Date(2026, 5, 1, 2, 3, 4, 0, time.UTC)
		check(d.Write(ctx, func(tx *db.Tx) error {
			for did, change := range map[syntax.DID]func(*db.Account){
				did:  func(a *db.Account) { a.DeactivatedAt, a.HeldAt = &now, &now },
				held: func(a *db.Account) { a.HeldAt = &now },
				gone: func(a *db.Account) { a.TakedownRef, a.DeactivatedAt, a.HeldAt = new("because"), &now, &now },
			} {
				h := db.Quarantined{DID: did, Rule: db.HeldUntilConfirmed, State: db.Held, Since: now, NextAt: now}
				if err := tx.Quarantine(ctx, h); err != nil {
					return err
				}
				a, err := tx.LockAccount(ctx, did)
				if err != nil {
					return err
				}
				change(a)
				if err := tx.UpdateAccount(ctx, a); err != nil {
					return err
				}
			}
			return errors.Join(
				tx.ReserveAccount(ctx, account(5)),
				tx.PutHandleChange(ctx, db.HandleChange{DID: did, Holder: "me", LeaseUntil: now}),
				tx.QueueMail(ctx, &db.Mail{To: "a@mail.test", Kind: "x", CreatedAt: now.Add(time.Minute), ExpiresAt: now.Add(time.Hour), Sealed: []byte("x")}),
				tx.QueueMail(ctx, &db.Mail{To: "b@mail.test", Kind: "x", CreatedAt: now, ExpiresAt: now.Add(time.Hour), Sealed: []byte("x")}),
			)
		}))
		expect(db.Backlog{
			Accounts:    map[string]int{db.CountedActive: 1, db.CountedCreating: 1, db.CountedDeactivated: 1, db.CountedHeld: 1, db.CountedTakenDown: 1},
			Quarantined: 3, Creations: 1, HandleChanges: 1, Mails: 2, Oldest: now,
		})
	})
}

// Nothing that is counted reads all that are active: on SQLite that is a row each, and not
// the index alone.
func TestBacklogReadsNoActiveAccounts(t *testing.T) {
	d, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	watched := d.WatchPlans()
	if _, err := d.Backlog(t.Context()); err != nil {
		t.Fatal(err)
	}
	plans, err := watched(t.Context())
	if err != nil || len(plans) != 3 {
		t.Fatalf("%d statements, %v", len(plans), err)
	}
	for text, plan := range plans {
		for _, step := range plan {
			byStatus := strings.Contains(step, "account_status") && !strings.Contains(step, "did=?")
			if byStatus && strings.Contains(text, "'active'") || strings.HasPrefix(step, "SCAN") && strings.Contains(step, "account_status") {
				t.Errorf("%s\n%s", text, step)
			}
		}
	}
}
