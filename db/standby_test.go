package db_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

func openReplicated(t *testing.T, r *dbtest.Replicated) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: r.URL, ReadURL: r.ReadURL, MaxConns: 4, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

const noted = "what is noted"

func note(t *testing.T, d *db.DB, value string) {
	t.Helper()
	err := d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), noted, []byte(value)) })
	if err != nil {
		t.Fatal(err)
	}
}

func readNote(ctx context.Context, d *db.DB) (string, error) {
	return db.Read(ctx, d, func(r *db.Reader) (string, error) {
		value, err := r.Meta(ctx, noted)
		return string(value), err
	})
}

func expectNote(t *testing.T, d *db.DB, want string) {
	t.Helper()
	if got, err := readNote(t.Context(), d); err != nil || got != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

// expectOnStandby writes and reads until the standby answers, and fails where it never does.
func expectOnStandby(t *testing.T, d *db.DB, want string) {
	t.Helper()
	before := d.Figures().OnStandby
	for deadline := time.Now().Add(time.Minute); d.Figures().OnStandby == before; {
		note(t, d, want)
		expectNote(t, d, want)
		if time.Now().After(deadline) {
			t.Fatal("the standby is never read")
		}
	}
}

func TestStandby(t *testing.T) {
	r := dbtest.Replicate(t)
	d := openReplicated(t, r)

	t.Run("answers", func(t *testing.T) {
		note(t, d, "one")
		expectOnStandby(t, d, "one")
	})
	t.Run("is behind", func(t *testing.T) {
		r.Pause()
		defer r.Resume()
		before := d.Figures()
		note(t, d, "two")
		expectNote(t, d, "two")
		if now := d.Figures(); now.OnStandby != before.OnStandby || now.NotOnStandby != before.NotOnStandby+1 {
			t.Errorf("the standby was read: %d and %d before, %d and %d now", before.OnStandby, before.NotOnStandby, now.OnStandby, now.NotOnStandby)
		}
		r.Resume()
		expectOnStandby(t, d, "two")
	})
	t.Run("cancels a statement", func(t *testing.T) {
		expectOnStandby(t, d, "two")
		calls := 0
		value, err := db.Read(t.Context(), d, func(r *db.Reader) (int, error) {
			calls++
			if calls > 1 {
				return calls, nil
			}
			rows, err := r.Query(t.Context(), `DO $$ BEGIN RAISE EXCEPTION 'canceling statement due to conflict with recovery' USING ERRCODE = '40001'; END $$`)
			if err == nil {
				rows.Next()
				err = rows.Err()
				rows.Close()
			}
			return 0, err
		})
		if value != 2 || err != nil {
			t.Errorf("read %d, %v, want 2 of the primary", value, err)
		}
		before := d.Figures().OnStandby
		expectNote(t, d, "two")
		if d.Figures().OnStandby != before+1 {
			t.Error("the standby is not read after it cancelled a statement")
		}
	})
	t.Run("is killed", func(t *testing.T) {
		r.KillStandby()
		for range 20 {
			expectNote(t, d, "two")
		}
		r.Start()
		expectOnStandby(t, d, "two")
	})
	t.Run("is all there is", func(t *testing.T) {
		expectOnStandby(t, d, "two")
		r.CatchUp()
		r.KillPrimary()
		defer r.Start()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for range 20 {
			value, err := db.ReadPublic(ctx, d, func(r *db.Reader) ([]byte, error) { return r.Meta(ctx, noted) })
			if string(value) != "two" || err != nil {
				t.Fatalf("read %q, %v without the primary", value, err)
			}
			err = d.PublicSnapshot(ctx, func(s *db.Snapshot) (err error) {
				value, err = s.Meta(ctx, noted)
				return err
			})
			if string(value) != "two" || err != nil {
				t.Fatalf("read %q, %v of a snapshot without the primary", value, err)
			}
		}
		short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if value, err := readNote(short, d); err == nil {
			t.Errorf("read %q of a standby of which nobody knows whether it is behind", value)
		}
	})
	t.Run("answers again", func(t *testing.T) {
		note(t, d, "three")
		expectOnStandby(t, d, "three")
	})
}

// What one process has committed another one finds.
func TestStandbyOfTwo(t *testing.T) {
	r := dbtest.Replicate(t)
	writes, reads := openReplicated(t, r), openReplicated(t, r)
	expectOnStandby(t, reads, "none yet")
	for i := range 500 {
		value := fmt.Sprint(i)
		note(t, writes, value)
		expectNote(t, reads, value)
	}
	if f := reads.Figures(); f.OnStandby == 0 {
		t.Errorf("the standby answered none of %d", f.NotOnStandby)
	}
}

// A snapshot on the standby has what was committed before, by whoever.
func TestStandbySnapshot(t *testing.T) {
	r := dbtest.Replicate(t)
	d := openReplicated(t, r)
	expectOnStandby(t, d, "000")
	var last atomic.Int64
	var all sync.WaitGroup
	done := make(chan struct{})
	all.Go(func() {
		defer close(done)
		for i := range 200 {
			note(t, d, fmt.Sprintf("%03d", i))
			last.Store(int64(i))
		}
	})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := fmt.Sprintf("%03d", last.Load())
				err := d.PublicSnapshot(t.Context(), func(s *db.Snapshot) error {
					value, err := s.Meta(t.Context(), noted)
					if err == nil && string(value) < least {
						t.Errorf("read %s when %s was committed", value, least)
					}
					return err
				})
				if err != nil && last.Load() > 0 {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if f := d.Figures(); f.OnStandby == 0 {
		t.Errorf("the standby answered none of %d", f.NotOnStandby)
	}
}

// A standby of something else has not the mark.
func TestStandbyOfAnother(t *testing.T) {
	r, other := dbtest.Replicate(t), dbtest.Replicate(t)
	d := openReplicated(t, other)
	note(t, d, "of the other")
	expectOnStandby(t, d, "of the other")

	r.ReadURL = other.ReadURL
	d = openReplicated(t, r)
	note(t, d, "ours")
	other.CatchUp()
	expectNote(t, d, "ours")
	if n := d.Figures().OnStandby; n != 0 {
		t.Errorf("the standby of another database was read %d times", n)
	}
}

// Another time line gets another mark, and the standby is read when it has that.
func TestTimelineMark(t *testing.T) {
	r := dbtest.Replicate(t)
	d := openReplicated(t, r)
	note(t, d, "one")
	expectOnStandby(t, d, "one")
	const name = "time line"
	before, err := d.Meta(t.Context(), name)
	if err != nil || !strings.HasPrefix(string(before), "00000001 ") {
		t.Fatalf("mark %q, %v", before, err)
	}
	r.Pause()
	defer r.Resume()
	err = d.Write(t.Context(), func(tx *db.Tx) error { return tx.PutMeta(t.Context(), name, []byte("00000000 0123456789abcdef")) })
	if err != nil {
		t.Fatal(err)
	}
	expectNote(t, d, "one")
	after, err := d.Meta(t.Context(), name)
	if err != nil || !strings.HasPrefix(string(after), "00000001 ") || string(after) == string(before) {
		t.Errorf("mark %q, %v after %q", after, err, before)
	}
	r.Resume()
	expectOnStandby(t, d, "one")
}

// Without a standby Read costs what read costs.
func TestReadWithoutStandby(t *testing.T) {
	d := dbtest.Open(t)
	note(t, d, "one")
	ctx := t.Context()
	name := noted
	alone := testing.AllocsPerRun(100, func() {
		if _, err := d.Meta(ctx, name); err != nil {
			t.Error(err)
		}
	})
	through := testing.AllocsPerRun(100, func() {
		_, err := db.ReadPublic(ctx, d, func(r *db.Reader) ([]byte, error) { return r.Meta(ctx, name) })
		if err != nil {
			t.Error(err)
		}
	})
	if through != alone {
		t.Errorf("%v allocations, %v without ReadPublic", through, alone)
	}
}

func TestLookAtStandby(t *testing.T) {
	r, other := dbtest.Replicate(t), dbtest.Replicate(t)
	look := func(url, readURL string) db.StandbyState {
		t.Helper()
		s, err := db.LookAtStandby(t.Context(), db.Config{URL: url, ReadURL: readURL})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	r.CatchUp()
	if s := look(r.URL, r.ReadURL); !s.Unknown || s.Other || s.Primary || s.Behind != 0 {
		t.Errorf("before anybody has read: %+v", s)
	}
	d := openReplicated(t, r)
	note(t, d, "one")
	expectOnStandby(t, d, "one")
	if s := look(r.URL, r.ReadURL); s.Unknown || s.Other || s.Primary {
		t.Errorf("a standby: %+v", s)
	}
	if s := look(r.URL, other.ReadURL); !s.Other {
		t.Errorf("a standby of another: %+v", s)
	}
	if s := look(r.URL, r.URL); !s.Primary || s.Other {
		t.Errorf("the primary: %+v", s)
	}
	r.Pause()
	defer r.Resume()
	note(t, d, "two")
	if s := look(r.URL, r.ReadURL); s.Behind == 0 || s.Other {
		t.Errorf("a standby that is behind: %+v", s)
	}
}
