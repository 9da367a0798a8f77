package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// A crowd are those who wait while somebody else writes, in the order of their coming.
type crowd struct {
	*testing.T
	db      *db.DB
	release chan struct{}
	wait    sync.WaitGroup
	mu      sync.Mutex
	trace   []string // COMMIT, SAVEPOINT member and the like, and the names of those who were answered
}

func gather(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{T: t}
	c.db = dbtest.Open(t, func(config *db.Config) {
		config.Trace = func(statement string) {
			switch verb, _, _ := strings.Cut(statement, " "); verb {
			case "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE":
				c.note(statement)
			}
		}
	})
	c.db.GroupsTakeTime()
	c.trace = nil
	c.hold()
	return c
}

// hold begins to write, so that others wait.
func (c *crowd) hold() {
	c.release = make(chan struct{})
	began := make(chan struct{})
	c.wait.Go(func() {
		err := c.db.Write(c.Context(), func(*db.Tx) error {
			close(began)
			<-c.release
			return nil
		})
		if err != nil {
			c.Error(err)
		}
	})
	<-began
}

func (c *crowd) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trace = append(c.trace, what)
}

// count is how often something happened.
func (c *crowd) count(what string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.trace {
		if t == what {
			n++
		}
	}
	return n
}

// join lets one more wait, who does what f does.
func (c *crowd) join(f func()) {
	before := c.db.Waiting()
	c.wait.Go(f)
	for c.db.Waiting() == before {
		runtime.Gosched()
	}
}

// write joins a write, and wants its error.
func (c *crowd) write(name string, want error, fn func(tx *db.Tx) error) {
	c.join(func() {
		err := c.db.Write(c.Context(), fn)
		c.note(name)
		if !errors.Is(err, want) {
			c.Errorf("%s: got %v, want %v", name, err, want)
		}
	})
}

// let lets all write, and waits for them.
func (c *crowd) let() {
	close(c.release)
	c.wait.Wait()
}

func (c *crowd) put(name string, size int) func(tx *db.Tx) error {
	return func(tx *db.Tx) error { return tx.PutMeta(c.Context(), name, make([]byte, size)) }
}

// has wants to find what was put, and no more.
func (c *crowd) has(names ...string) {
	c.Helper()
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "big"} {
		_, err := c.db.Meta(c.Context(), name)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			c.Fatal(err)
		}
		if got, want := err == nil, slices.Contains(names, name); got != want {
			c.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
}

var errFails = errors.New("fails")

func TestWritersShareATransaction(t *testing.T) {
	c := gather(t)
	c.write("a", nil, c.put("a", 1))
	c.write("fails", errFails, func(tx *db.Tx) error { return errors.Join(c.put("b", 1)(tx), errFails) })
	// It reads what its predecessors wrote, which is not committed yet.
	c.write("reads", nil, func(tx *db.Tx) error {
		if _, err := tx.Meta(t.Context(), "b"); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("what failed is there: %v", err)
		}
		_, err := tx.Meta(t.Context(), "a")
		return err
	})
	c.join(func() {
		defer c.note("panics")
		defer func() {
			if p := recover(); p != "panic" {
				t.Errorf("recovered %v", p)
			}
		}()
		t.Error(c.db.Write(t.Context(), func(tx *db.Tx) error { _ = c.put("c", 1)(tx); panic("panic") }))
	})
	c.join(func() {
		defer c.note("exits")
		t.Error(c.db.Write(t.Context(), func(tx *db.Tx) error { _ = c.put("d", 1)(tx); runtime.Goexit(); return nil }))
	})
	gone, leave := context.WithCancel(t.Context())
	c.join(func() {
		err := c.db.Write(gone, func(tx *db.Tx) error { leave(); return c.put("e", 1)(tx) })
		c.note("leaves")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("leaves: %v", err)
		}
	})
	c.write("f", nil, c.put("f", 1))
	c.let()
	c.has("a", "f")
	var want []string
	for _, good := range []bool{true, false, true, false, false, false, true} {
		want = append(want, "SAVEPOINT member")
		if !good {
			want = append(want, "ROLLBACK TO member")
		}
		want = append(want, "RELEASE member")
	}
	want = append(append([]string{"BEGIN IMMEDIATE", "COMMIT", "BEGIN IMMEDIATE"}, want...), "COMMIT")
	if got := c.trace[:len(want)]; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// All are answered after COMMIT, who failed too.
	got := slices.Sorted(slices.Values(c.trace[len(want):]))
	if want := []string{"a", "exits", "f", "fails", "leaves", "panics", "reads"}; !slices.Equal(got, want) {
		t.Errorf("answered: %q, want %q", got, want)
	}
}

// Who has written is not asked whether it is still there: it is committed with the others.
func TestContextEndsBeforeTheOthersAreDone(t *testing.T) {
	c := gather(t)
	gone, leave := context.WithCancel(t.Context())
	c.join(func() {
		if err := c.db.Write(gone, c.put("a", 1)); err != nil {
			t.Error(err)
		}
	})
	c.write("b", errFails, func(*db.Tx) error { leave(); return errFails })
	// And who is gone before its turn came leaves the group as it is.
	late, end := context.WithCancel(t.Context())
	c.write("c", nil, func(tx *db.Tx) error { end(); return c.put("c", 1)(tx) })
	c.join(func() {
		if err := c.db.Write(late, c.put("d", 1)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	c.let()
	c.has("a", "c")
}

// TestGroupsAreBounded: in members, and in bytes.
func TestGroupsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		members, size, groups int
	}{
		{"members", 150, 1, 3}, // of 64
		{"bytes", 12, 1 << 20, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := gather(t)
			for i := range tt.members {
				c.write("x", nil, c.put(fmt.Sprint("x", i), tt.size))
			}
			c.let()
			if got := c.count("COMMIT") - 1; got != tt.groups {
				t.Errorf("%d groups, want %d", got, tt.groups)
			}
		})
	}
}

// TestAloneIsAlone: nobody waits for what takes long to be acknowledged.
func TestAloneIsAlone(t *testing.T) {
	c := gather(t)
	c.write("a", nil, c.put("a", 1))
	c.write("b", nil, c.put("b", 1))
	c.join(func() {
		err := c.db.WriteAlone(t.Context(), func(tx *db.Tx) error {
			if n := c.count("COMMIT"); n != 2 {
				t.Errorf("after %d COMMITs, want 2", n)
			}
			return c.put("c", 1)(tx)
		})
		if err != nil {
			t.Error(err)
		}
	})
	c.write("d", nil, c.put("d", 1))
	c.write("e", nil, func(tx *db.Tx) error {
		if n := c.count("COMMIT"); n != 3 {
			t.Errorf("after %d COMMITs, want 3", n)
		}
		return c.put("e", 1)(tx)
	})
	c.let()
	c.has("a", "b", "c", "d", "e")
	if n := c.count("COMMIT"); n != 4 {
		t.Errorf("%d COMMITs, want 4", n)
	}
}

// TestDiskIsFull: SQLite rolls back all that shares a transaction, and only what does not
// fit is not written in the end.
func TestDiskIsFull(t *testing.T) {
	for _, tt := range []struct {
		name string
		fn   func(c *crowd, tx *db.Tx) error
	}{
		{"told", func(c *crowd, tx *db.Tx) error { return c.put("big", 4<<20)(tx) }},
		// What it goes on to write would be a transaction by itself.
		{"kept quiet", func(c *crowd, tx *db.Tx) error {
			_ = c.put("big", 4<<20)(tx)
			_ = tx.DisableInvites(c.Context(), []string{"x"}, nil)
			_ = c.put("d", 1)(tx)
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := gather(t)
			pages, err := strconv.Atoi(c.db.WriterPragma(t.Context(), "page_count"))
			if err != nil {
				t.Fatal(err)
			}
			c.db.SetWriterPragma(t.Context(), "max_page_count", strconv.Itoa(pages+20))
			var runs [2]atomic.Int64
			c.write("a", nil, func(tx *db.Tx) error { runs[0].Add(1); return c.put("a", 1)(tx) })
			c.write("fails", errFails, func(*db.Tx) error { return errFails })
			c.join(func() {
				err := c.db.Write(t.Context(), func(tx *db.Tx) error { runs[1].Add(1); return tt.fn(c, tx) })
				if err == nil {
					t.Error("written to a full disk")
				}
			})
			c.write("b", nil, c.put("b", 1))
			c.let()
			c.has("a", "b")
			if runs[0].Load() != 2 || runs[1].Load() != 2 {
				t.Errorf("ran %d and %d times, want 2: together and alone", runs[0].Load(), runs[1].Load())
			}
			c.db.SetWriterPragma(t.Context(), "max_page_count", "1000000")
			if err := c.db.Write(t.Context(), c.put("big", 4<<20)); err != nil {
				t.Error(err)
			}
			c.has("a", "b", "big")
		})
	}
}

// TestCommitFails: whoever's fault that is, the others are written.
func TestCommitFails(t *testing.T) {
	c := gather(t)
	c.write("a", nil, c.put("a", 1))
	c.join(func() {
		err := c.db.Write(t.Context(), func(tx *db.Tx) error {
			// Found out by COMMIT.
			if err := tx.Exec(t.Context(), "PRAGMA defer_foreign_keys = 1"); err != nil {
				return err
			}
			if err := c.put("b", 1)(tx); err != nil {
				return err
			}
			return tx.InsertSession(t.Context(), db.Session{ID: []byte("x"), DID: "did:plc:nobody", CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
		})
		if err == nil || !strings.Contains(err.Error(), "FOREIGN KEY") {
			t.Errorf("got %v", err)
		}
	})
	c.write("c", nil, c.put("c", 1))
	c.let()
	c.has("a", "c")
}

// TestCloseWhileOthersWait: who has begun is committed, who waits is told.
func TestCloseWhileOthersWait(t *testing.T) {
	c := gather(t)
	c.write("a", sql.ErrConnDone, c.put("a", 1))
	closed := make(chan error)
	go func() { closed <- c.db.Close() }()
	for c.db.Waiting() > 0 {
		runtime.Gosched()
	}
	c.let()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestGroupsUnderPressure: many writers, of whom some fail, give up or panic, and events
// without gaps in the order of the writes of each.
func TestGroupsUnderPressure(t *testing.T) {
	d := dbtest.Open(t)
	const writers, each = 16, 30
	var wait sync.WaitGroup
	var good atomic.Int64
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(t.Context())
				kind := (w + n) % 7
				err := func() (err error) {
					defer func() {
						if recover() != nil {
							err = errFails
						}
					}()
					return d.Write(ctx, func(tx *db.Tx) error {
						name := fmt.Sprintf("%d of %d", n, w)
						err := errors.Join(tx.PutMeta(ctx, name, []byte("x")),
							tx.AppendEvents(ctx, db.Event{DID: "did:plc:x", Kind: name, Body: []byte("x")}))
						switch kind {
						case 0:
							return errors.Join(err, errFails)
						case 1:
							panic("panic")
						case 2:
							cancel()
						}
						return err
					})
				}()
				cancel()
				if (err == nil) != (kind > 2) {
					t.Errorf("writer %d, write %d: %v", w, n, err)
				}
				if err == nil {
					good.Add(1)
				}
			}
		})
	}
	wait.Wait()
	events, err := d.Events(t.Context(), 0, 10000)
	if err != nil || int64(len(events)) != good.Load() {
		t.Errorf("%d events, %v, of %d writes", len(events), err, good.Load())
	}
	last := map[int]int{}
	for i, e := range events {
		var n, w int
		if _, err := fmt.Sscanf(e.Kind, "%d of %d", &n, &w); err != nil || e.Seq != int64(i+1) || n < last[w] {
			t.Errorf("event %d is %d: %q, after %d, %v", i+1, e.Seq, e.Kind, last[w], err)
		}
		last[w] = n
		if _, err := d.Meta(t.Context(), e.Kind); err != nil {
			t.Errorf("%s: %v", e.Kind, err)
		}
	}
}
