package db_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"portico/db"
)

// A directory that is in use is waited for, as long as was said, and its user is known.
func TestWaitForDirectory(t *testing.T) {
	dir := t.TempDir()
	open := func(ctx context.Context, wait time.Duration) (*db.DB, error) {
		return db.Open(ctx, db.Config{Dir: dir, LockWait: wait, Logger: slog.New(slog.DiscardHandler)})
	}
	holder := func(want int) {
		t.Helper()
		if pid, err := db.Holder(dir); pid != want || err != nil {
			t.Errorf("held by %d, %v; want %d", pid, err, want)
		}
	}
	holder(0)
	first, err := open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	holder(os.Getpid())
	began := time.Now()
	if _, err := open(t.Context(), 50*time.Millisecond); !errors.Is(err, db.ErrLocked) || time.Since(began) < 50*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(gone, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
	opened := make(chan error, 1)
	go func() {
		second, err := open(t.Context(), time.Minute)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("after the other let go: %v", err)
	}
	holder(0)
}
