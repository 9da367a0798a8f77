package db_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

// isolated returns a database whose transactions have an isolation if they ask for none.
func isolated(t *testing.T, level string) *db.DB {
	t.Helper()
	return dbtest.Postgres(t, func(c *db.Config) {
		c.URL, c.Pooled = dbtest.DirectURL(t)+"&default_transaction_isolation="+level, false
	})
}

// TestTakenMeanwhile: whoever reads that there is no row, and then writes it, is not told that there is
// one where it may be another's that came between: that is a serialization failure. What is
// there already is said at once, or where that is not known, the second time.
func TestTakenMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		level    string
		isolated bool
	}{
		{"read%20committed", false}, {"repeatable%20read", true}, {"serializable", true},
	} {
		t.Run(tt.level, func(t *testing.T) {
			ctx := t.Context()
			d := isolated(t, tt.level)
			other := dbtest.Again(t, d)
			app := db.AppPassword{DID: create(t, d, 1), Name: "app", CreatedAt: start}
			runs := 0
			err := d.Write(ctx, func(tx *db.Tx) error {
				runs++
				if _, err := tx.AppPasswordByName(ctx, app.DID, app.Name); err == nil {
					return db.ErrStale
				} else if !errors.Is(err, db.ErrNotFound) {
					return err
				}
				if runs == 1 {
					if err := other.Write(ctx, func(tx *db.Tx) error { return tx.InsertAppPassword(ctx, app) }); err != nil {
						return err
					}
				}
				return tx.InsertAppPassword(ctx, app)
			})
			wantRuns, want := 1, db.ErrNameTaken
			if tt.isolated {
				wantRuns, want = 2, db.ErrStale
			}
			if runs != wantRuns || !errors.Is(err, want) {
				t.Errorf("%d runs, %v", runs, err)
			}
			for _, late := range []bool{false, true} {
				runs := 0
				err := d.Write(ctx, func(tx *db.Tx) error {
					runs++
					if late {
						return tx.Later(ctx, "INSERT INTO meta (name, value) VALUES ('x', ''), ('x', '')")
					}
					return tx.InsertAppPassword(ctx, app)
				})
				if err == nil || runs != wantRuns || !late && !errors.Is(err, db.ErrNameTaken) {
					t.Errorf("late %t: %d runs, %v", late, runs, err)
				}
			}
		})
	}
}

// TestContention: many write to few rows where only one of them can be right, and to the order of all
// events. Each is done in the end, and none was lost.
func TestContention(t *testing.T) {
	const writers, each, rows = 16, 4, 3
	ctx := t.Context()
	d := isolated(t, "serializable")
	seed(t, d)
	for i := range rows {
		if err := d.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, fmt.Sprint("count ", i), []byte("0")) }); err != nil {
			t.Fatal(err)
		}
	}
	add := func(name string) error {
		return d.Write(ctx, func(tx *db.Tx) error {
			text, err := tx.Meta(ctx, name)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(text))
			if err != nil {
				return err
			}
			e := db.Event{DID: "did:plc:x", Kind: "k", Body: []byte(name)}
			return errors.Join(tx.PutMeta(ctx, name, []byte(strconv.Itoa(n+1))), tx.AppendEvents(ctx, e, e))
		})
	}
	var all sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		all.Go(func() {
			for n := range each {
				errs[i] = errors.Join(errs[i], add(fmt.Sprint("count ", (i+n)%rows)))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for i := range rows {
		text, err := d.Meta(ctx, fmt.Sprint("count ", i))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(string(text))
		sum += n
	}
	if sum != writers*each {
		t.Errorf("%d writes are left of %d", sum, writers*each)
	}
	events, err := d.Events(context.Background(), 0, 1000)
	if err != nil || len(events) != 2*writers*each {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, e := range events {
		if e.Seq != int64(i+1) || string(e.Body) != string(events[i/2*2].Body) {
			t.Errorf("event %d: %d %s", i+1, e.Seq, e.Body)
		}
	}
}
