package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"portico/db"
	"portico/impl/handover"
)

// lockWait is how long a process waits for the database of the one that it takes over from.
const lockWait = 30 * time.Second

// A takeover is the start of a process that another one serves before.
type takeover struct {
	from    *handover.Predecessor // nil: there is none
	stopped time.Time             // since when nobody is accepted; zero: the other one serves
	wait    time.Duration         // for the database
	done    bool
}

// prepare does all that can go wrong while the process before still serves, and returns when
// that has let go of the database, or need not.
func (t *takeover) prepare(ctx context.Context, c configuration, s *settings, log *slog.Logger) error {
	if t.from == nil {
		return nil
	}
	tried := *s
	if err := c.fill(&tried); err != nil {
		return err
	}
	migrates, excludes, err := isBehind(ctx, s, log)
	if err != nil {
		return err
	}
	beside := s.DatabaseURL != "" && !excludes
	released, err := t.from.Prepared(ctx, handover.Prepared{Version: version(), Beside: beside, Migrates: migrates})
	if err != nil {
		return fmt.Errorf("take over from process %d: %w", t.from.PID, err)
	}
	t.stopped, t.wait = released.Stopped, lockWait
	return nil
}

// isBehind reports whether the database lacks steps that the start makes, and whether those
// may exclude the version that serves now, of which is known that it works with the database
// as it is. It is an error when the database has steps that exclude this version.
func isBehind(ctx context.Context, s *settings, log *slog.Logger) (behind, excludes bool, err error) {
	store, err := db.Open(ctx, db.Config{URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, Dir: s.DataDirectory, ReadOnly: true, Behind: true, MaxConns: 1, Logger: log})
	if errors.Is(err, db.ErrSchemaAhead) {
		return false, false, unfit(fmt.Errorf("%w: start a version that does", err))
	}
	if err != nil {
		return false, false, fmt.Errorf("look at the database: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	pending, err := store.PendingSteps(ctx)
	if err != nil || len(pending) == 0 {
		return false, false, err
	}
	now, err := store.OldestVersion(ctx)
	if err != nil {
		return false, false, err
	}
	then, err := store.OldestVersion(ctx, pending...)
	return true, then > now, err
}

// serve tells the other process that this one serves, and has h serve the connections that it
// hands over.
func (t *takeover) serve(h *http.Server, accepts *handover.Listener, log *slog.Logger) {
	if t.from == nil {
		return
	}
	t.done = true
	var pause time.Duration
	if !t.stopped.IsZero() {
		pause = time.Since(t.stopped)
	}
	if err := t.from.Serving(handover.Serving{Pause: pause}); err != nil {
		log.Warn("the process before is gone", "process", t.from.PID, "error", err)
	}
	go h.Serve(accepts.Handed(t.from))
	log.Info("took over", "from", t.from.PID, "pause_ms", pause.Milliseconds())
}

// end tells the other process, unless this one has taken over, why not.
func (t *takeover) end(err error) {
	if t.from == nil {
		return
	}
	if !t.done && err != nil {
		t.from.Failed(err)
	}
	t.from.Close()
}
