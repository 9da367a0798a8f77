package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// Behind a pooler statements of all kinds work, also those of many who share a few
// connections of Postgres, and a transaction sees its own.
func TestPooler(t *testing.T) {
	at := dbtest.PoolerURL(t, dbtest.PostgresURL(t))
	var all [2]*db.DB
	for i := range all {
		var err error
		all[i], err = db.Open(t.Context(), db.Config{URL: at, Pooled: true, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer all[i].Close()
	}
	ctx := t.Context()
	did := create(t, all[0], 1)
	var wait sync.WaitGroup
	for n := range 60 { // more than the pooler has connections
		wait.Go(func() {
			d := all[n%len(all)]
			for i := range 10 {
				if err := exercise(ctx, d, n*10+i); err != nil {
					t.Errorf("%d of %d: %v", i, n, err)
					return
				}
			}
		})
	}
	wait.Wait()
	last, err := all[0].LastEvent(ctx)
	if err != nil || last != 600 {
		t.Errorf("%d events, %v", last, err)
	}
	if got, err := all[1].ReadTogether(ctx, did); err != nil || got == "" {
		t.Errorf("read together: %q, %v", got, err)
	}
}

// A pooler is asked to cancel nothing, as others are over a connection that is lost: that of
// Debian 12 may end over it.
func TestPoolerIsNotAskedToCancel(t *testing.T) {
	faults := dbtest.BreakConnections(t, dbtest.PoolerURL(t, dbtest.DirectURL(t)))
	d := openURL(t, db.Config{URL: faults.URL, Pooled: true})
	for n := range 20 {
		faults.Arm(dbtest.Fault{Text: "INSERT INTO \"meta\"", At: 1, Done: n%2 == 1})
		err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "x", []byte("x")) })
		if err != nil || !faults.Broke() {
			t.Fatalf("broke %t, %v", faults.Broke(), err)
		}
	}
	select {
	case <-faults.Cancelled():
		t.Error("something was cancelled")
	default:
	}
}

// What a pooler says when it has lost Postgres, or cannot have it back yet, is tried again, in the
// midst of a transaction, at its COMMIT and at a read.
func TestPoolerHasLostPostgres(t *testing.T) {
	faults := dbtest.BreakConnections(t, dbtest.PoolerURL(t, dbtest.DirectURL(t)))
	d := openURL(t, db.Config{URL: faults.URL, Pooled: true})
	did := create(t, d, 1)
	for _, says := range []string{
		"server conn crashed?", "query_wait_timeout", "server login has been failing, try again later (server_login_retry)",
	} {
		for _, fault := range []dbtest.Fault{
			{Text: "INSERT INTO \"meta\"", At: 1}, {Text: "COMMIT", At: 1}, {Text: "COMMIT", At: 1, Done: true}, {Text: "SELECT", At: 1},
		} {
			fault.Says = says
			faults.Arm(fault)
			err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), "x", []byte("x")) })
			if err == nil {
				_, err = d.AccountByDID(t.Context(), did)
			}
			if err != nil || !faults.Broke() {
				t.Errorf("%+v: broke %t, %v", fault, faults.Broke(), err)
			}
		}
	}
}

// exercise runs statements that are prepared elsewhere, in a batch, built, and in a snapshot.
func exercise(ctx context.Context, d *db.DB, n int) error {
	did := account(1).Account.DID
	err := d.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.AccountByDID(ctx, did); err != nil {
			return err
		}
		if err := tx.Build(ctx, "SELECT 1"); err != nil {
			return err
		}
		if err := tx.InsertSession(ctx, db.Session{ID: id(n), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, db.Event{DID: did, Kind: "commit", Body: make([]byte, 100)})
	})
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	err = d.Snapshot(ctx, func(s *db.Snapshot) error {
		_, err := s.Events(ctx, 0, 10)
		return err
	})
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if _, err := d.ReadTogether(ctx, did); err != nil {
		return fmt.Errorf("read together: %w", err)
	}
	_, err = d.Events(ctx, 0, 10)
	return err
}

// A pooler that nobody has named is found out at the start: by a statement that is prepared
// already, if it has not refused what is said to Postgres when a connection begins.
func TestPoolerUnnamed(t *testing.T) {
	at := dbtest.PoolerURL(t, dbtest.PostgresURL(t))
	for _, more := range []string{"", "&statement_timeout=0"} {
		d, err := db.Open(t.Context(), db.Config{URL: at + more, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, db.ErrPooler) {
			t.Errorf("%q: %v", more, err)
		}
	}
}
