package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// TestBrokenConnections breaks the connection at each round trip of some transactions once,
// before Postgres learns of it and after it has done it: Write answers as if nothing had
// been, and what it did is there once.
func TestBrokenConnections(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	seed(t, d)
	n := 0
	name := func() string { return fmt.Sprint("value ", n) }
	events := 0
	for _, tt := range []struct {
		name  string
		write func(tx *db.Tx) error
		want  error
	}{
		{"a write", func(tx *db.Tx) error { return tx.PutMeta(ctx, name(), []byte("x")) }, nil},
		{"later ones with events", func(tx *db.Tx) error {
			put := "INSERT INTO meta (name, value) VALUES ('" + name() + "', 'x')"
			e := db.Event{DID: "did:plc:x", Kind: "k", Body: []byte(name())}
			return errors.Join(tx.Later(ctx, put), tx.AppendEvents(ctx, e, e))
		}, nil},
		{"a read and a write", func(tx *db.Tx) error {
			if _, err := tx.Meta(ctx, name()); !errors.Is(err, db.ErrNotFound) {
				return fmt.Errorf("read what this run has not written: %w", err)
			}
			return errors.Join(tx.PutMeta(ctx, name(), []byte("x")), tx.PutMeta(ctx, "other", []byte("y")))
		}, nil},
		{"an error of its own", func(tx *db.Tx) error {
			return errors.Join(tx.PutMeta(ctx, name(), []byte("x")), db.ErrStale)
		}, db.ErrStale},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, done := range []bool{false, true} {
				for at := 1; ; at++ {
					n++
					faults.Arm(dbtest.Fault{At: at, Done: done})
					err := d.Write(ctx, tt.write)
					broke := faults.Broke()
					faults.Arm()
					if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
						t.Fatalf("round trip %d, done %t: %v", at, done, err)
					}
					_, err = d.Meta(ctx, name())
					if there := err == nil; there != (tt.want == nil) {
						t.Errorf("round trip %d, done %t: written %t, %v", at, done, there, err)
					}
					if strings.Contains(tt.name, "events") {
						events += 2
					}
					if !broke {
						if at == 1 {
							t.Error("nothing broke")
						}
						break
					}
				}
			}
		})
	}
	all, err := d.Events(ctx, 0, 1000)
	if err != nil || len(all) != events {
		t.Fatalf("%d events, %v, want %d", len(all), err, events)
	}
	for i, e := range all {
		if e.Seq != int64(i+1) || string(e.Body) != string(all[i/2*2].Body) {
			t.Errorf("event %d: %d %s", i+1, e.Seq, e.Body)
		}
	}
	bodies := make(map[string]int)
	for _, e := range all {
		if bodies[string(e.Body)]++; bodies[string(e.Body)] > 2 {
			t.Errorf("%s is there more than once", e.Body)
		}
	}
}

// TestCommitIsNotCancelled: where a COMMIT waits for a standby, Postgres would be at its end
// with it when it was cancelled. What is found out about it waits for the standby, too.
func TestCommitIsNotCancelled(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	marks := func() (n int) {
		t.Helper()
		if err := d.Write(ctx, func(tx *db.Tx) error {
			rows, err := tx.Query(ctx, "SELECT count(*) FROM tx_mark")
			if err != nil {
				return err
			}
			defer rows.Close()
			rows.Next()
			return rows.Scan(&n)
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := marks()
	put := func(fault dbtest.Fault) {
		t.Helper()
		faults.Arm(fault)
		if err := d.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, "x", []byte("x")) }); err != nil || !faults.Broke() {
			t.Fatalf("broke %t, %v", faults.Broke(), err)
		}
	}
	put(dbtest.Fault{Text: "INSERT INTO \"tx_mark\"", At: 1, Done: true})
	if n := marks() - before; n != 2 {
		t.Errorf("%d marks, one of which is of the question", n)
	}
	put(dbtest.Fault{Text: "INSERT INTO \"tx_mark\"", At: 1})
	put(dbtest.Fault{Text: "INSERT INTO \"meta\"", At: 1})
	<-faults.Cancelled() // that of the statement
	select {
	case <-faults.Cancelled():
		t.Error("a COMMIT was cancelled")
	default:
	}
}

// TestBrokenReads: a read whose connection breaks is done anew.
func TestBrokenReads(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	seed(t, d)
	did := create(t, d, 1)
	reads := map[string]func() error{
		"one":   func() error { _, err := d.Meta(ctx, "seed"); return err },
		"many":  func() error { _, err := d.Events(ctx, 0, 10); return err },
		"built": func() error { _, err := d.InvitesFor(ctx, did.String()); return err },
		"together": func() error {
			both, err := d.ReadTogether(ctx, did)
			if err == nil && !strings.HasPrefix(both, did.String()) {
				return fmt.Errorf("read %q", both)
			}
			return err
		},
		"snapshot": func() error {
			return d.Snapshot(ctx, func(s *db.Snapshot) error { _, err := s.Meta(ctx, "seed"); return err })
		},
	}
	for name, read := range reads {
		for _, done := range []bool{false, true} {
			faults.Arm(dbtest.Fault{Text: "SELECT", At: 1, Done: done})
			if err := read(); err != nil || !faults.Broke() {
				t.Errorf("%s, done %t: broke %t, %v", name, done, faults.Broke(), err)
			}
			faults.Arm()
		}
	}
}

// TestOpenAtOnce: several processes make the schema of an empty database at once.
func TestOpenAtOnce(t *testing.T) {
	at := dbtest.EmptyPostgresURL(t)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() {
			d, err := db.Open(context.Background(), db.Config{URL: at, MaxConns: 2})
			if err == nil {
				err = d.Close()
			}
			errs[i] = err
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestMarks: who writes leaves a mark, for an hour.
func TestMarks(t *testing.T) {
	ctx := t.Context()
	now := start
	d := dbtest.Postgres(t, func(c *db.Config) { c.Now = func() time.Time { return now } })
	marks := func() int {
		t.Helper()
		n, err := d.Marks(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := marks()
	seed(t, d)
	if n := marks(); n != before+1 {
		t.Errorf("%d marks after a write, want %d", n, before+1)
	}
	for _, write := range []func(tx *db.Tx) error{
		func(tx *db.Tx) error { return nil },
		func(tx *db.Tx) error { _, err := tx.Meta(ctx, "seed"); return err },
		func(tx *db.Tx) error { return tx.Exec(ctx, "UPDATE meta SET value = value WHERE name = 'nobody'") },
	} {
		if err := d.Write(ctx, write); err != nil {
			t.Error(err)
		}
	}
	if n := marks(); n != before+1 {
		t.Errorf("%d marks after transactions that wrote nothing, want %d", n, before+1)
	}
	if err := d.PurgeMarks(ctx, start.Add(time.Hour)); err != nil || marks() == 0 {
		t.Errorf("marks went within an hour: %v", err)
	}
	now = start.Add(time.Hour + time.Millisecond)
	if err := d.PurgeMarks(ctx, now); err != nil || marks() != before { // its own, in the place of that of [db.Open]
		t.Errorf("%d marks, %v", marks(), err)
	}
}

// TestNoAdvisoryLocks: what belongs to a connection, a pooler gives to somebody else.
func TestNoAdvisoryLocks(t *testing.T) {
	files, err := filepath.Glob("*.go")
	more, globbed := filepath.Glob("migrations/*.sql")
	if err = errors.Join(err, globbed); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, more...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && bytes.Contains(text, []byte("pg_advisory")) {
			t.Errorf("%s has an advisory lock", file)
		}
	}
}

// TestLostQuestion: whoever asks what became of a COMMIT may lose the answer in the same way.
func TestLostQuestion(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	seed(t, d)
	n := int64(0)
	for _, first := range []bool{false, true} {
		for _, second := range []bool{false, true} {
			for _, third := range []bool{false, true} {
				const commit = "COMMIT"
				faults.Arm(dbtest.Fault{Text: commit, At: 1, Done: first}, dbtest.Fault{Text: commit, At: 1, Done: second}, dbtest.Fault{Text: commit, At: 1, Done: third})
				runs, wantRuns := 0, 2
				if first {
					wantRuns = 1
				}
				err := d.Write(ctx, func(tx *db.Tx) error {
					runs++
					return tx.AppendEvents(ctx, db.Event{DID: "did:plc:x", Kind: "k", Body: []byte("body")})
				})
				n++
				if err != nil || !faults.Broke() || runs != wantRuns {
					t.Errorf("done %t, %t, %t: %d runs, %v", first, second, third, runs, err)
				}
				if last, err := d.LastEvent(ctx); err != nil || last != n {
					t.Errorf("done %t, %t, %t: %d events of %d, %v", first, second, third, last, n, err)
				}
			}
		}
	}
}

// TestCommitWithoutAnswer: a COMMIT whose answer does not come is not waited for longer than
// some time, and is found out then.
func TestCommitWithoutAnswer(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	seed(t, d)
	for _, done := range []bool{false, true} {
		d.AnswersWithin(300 * time.Millisecond)
		runs, wantRuns := 0, 2
		if done {
			wantRuns = 1
		}
		faults.Arm(dbtest.Fault{Text: "COMMIT", At: 1, Done: done, Silent: true})
		err := d.Write(ctx, func(tx *db.Tx) error {
			if runs++; runs > 1 {
				d.AnswersWithin(time.Minute)
			}
			return tx.PutMeta(ctx, fmt.Sprint("done ", done), []byte("x"))
		})
		if err != nil || !faults.Broke() || runs != wantRuns {
			t.Errorf("done %t: %d runs, %v", done, runs, err)
		}
		if _, err := d.Meta(ctx, fmt.Sprint("done ", done)); err != nil {
			t.Errorf("done %t: %v", done, err)
		}
	}
}

// TestCommitUnderWay: a COMMIT that Postgres is still at when its connection ends, and that is then found
// not to have taken place, never does.
func TestCommitUnderWay(t *testing.T) {
	ctx := t.Context()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.MaxConns = faults.URL, 2 })
	other := dbtest.Again(t, d)
	seed(t, d)
	locked, release := make(chan struct{}), make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		err := other.Write(ctx, func(tx *db.Tx) error {
			err := tx.PutMeta(ctx, "seed", []byte("y"))
			close(locked)
			<-release
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-locked
	faults.Arm(dbtest.Fault{Text: "COMMIT", At: 1, Done: true, Early: true})
	runs := 0
	err := d.Write(ctx, func(tx *db.Tx) error {
		if runs++; runs == 2 {
			close(release)
			holding.Wait()
		}
		return tx.Later(ctx, "UPDATE meta SET value = value || value WHERE name = 'seed'")
	})
	if err != nil || runs != 2 || !faults.Broke() {
		t.Errorf("broke %t, %d runs, %v", faults.Broke(), runs, err)
	}
	err = d.Write(ctx, func(tx *db.Tx) error {
		if err := tx.Exec(ctx, "LOCK TABLE meta"); err != nil { // when the first is over
			return err
		}
		value, err := tx.Meta(ctx, "seed")
		if err == nil && string(value) != "yy" {
			t.Errorf("%q", value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestReadOnlyConnection: a connection to what was the primary, and takes no writes any more, is
// replaced.
func TestReadOnlyConnection(t *testing.T) {
	ctx := t.Context()
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.Pooled, c.MaxConns = dbtest.DirectURL(t), false, 1 })
	err := d.Write(ctx, func(tx *db.Tx) error {
		return tx.Exec(ctx, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
	})
	if err != nil {
		t.Fatal(err)
	}
	runs := 0
	err = d.Write(ctx, func(tx *db.Tx) error {
		runs++
		return tx.PutMeta(ctx, "x", []byte("x"))
	})
	if err != nil || runs != 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
}

// TestNeverBetter: what fails again and again because of others is given up.
func TestNeverBetter(t *testing.T) {
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL = dbtest.SoundURL(t) })
	now := start
	pauses := d.Impatient(func() time.Time { return now })
	fails := func(tx *db.Tx) error {
		now = now.Add(time.Second)
		return tx.Exec(t.Context(), "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
	}
	if err := d.Write(t.Context(), fails); !errors.Is(err, db.ErrUnavailable) || now.Sub(start) != 30*time.Second {
		t.Errorf("after %v: %v", now.Sub(start), err)
	}
	const ms = time.Millisecond
	want := []time.Duration{ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 250 * ms, 250 * ms}
	if got := pauses(); len(got) != 29 || !slices.Equal(got[:10], want) || got[28] != 250*ms {
		t.Errorf("pauses of at most %v", got)
	}

	// Who says how long it has is given up then, and not before.
	now = start
	ctx, cancel := context.WithCancelCause(t.Context())
	runs := 0
	err := d.Write(ctx, func(tx *db.Tx) error {
		if runs++; runs == 3 {
			cancel(nil)
		}
		return fails(tx)
	})
	if runs != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d runs, %v", runs, err)
	}
	late, cancelLate := context.WithTimeout(t.Context(), time.Hour)
	defer cancelLate()
	runs = 0
	err = d.Write(late, func(tx *db.Tx) error {
		if runs++; runs == 100 {
			return db.ErrStale
		}
		return fails(tx)
	})
	if runs != 100 || !errors.Is(err, db.ErrStale) {
		t.Errorf("%d runs, %v", runs, err)
	}
}
