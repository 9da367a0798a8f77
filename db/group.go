package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// SQLite writes one transaction at a time, and each costs a sync of the disk. So those who
// wait while one is committed share the next one, the group: each member runs in turn, on
// its own goroutine, in a savepoint of its own, and the last one commits for all. Nobody
// waits for a group to grow.

// The bounds of a group: what is above them is the next one's.
const (
	groupMembers = 64
	groupBytes   = 4 << 20               // in parameters
	groupTime    = 20 * time.Millisecond // since its beginning
)

// errUndone says that SQLite has rolled back the whole of a transaction by itself, as it
// does when the disk is full or fails.
var errUndone = errors.New("transaction was rolled back by the database")

// errGroupUndone says that a group could not be committed, of whatever member that was the
// fault: each is to run again, alone.
var errGroupUndone = errors.New("shared transaction was undone")

// A group is the transaction of those who write. Its fields belong to whoever has the
// turn, err to all once done is closed.
type group struct {
	alone   bool // nobody joins
	open    bool // it was begun
	began   time.Time
	members int
	good    bool // a member wants it committed
	bad     bool // it can't be
	done    chan struct{}
	err     error
}

// turns lets those who write have the writing connection one after the other, in the order
// in which they come.
type turns struct {
	mu      sync.Mutex
	taken   bool
	waiting []*waiter
	idle    chan struct{} // closed when nobody has the turn; nil until [turns.close]
}

type waiter struct {
	alone bool
	got   chan struct{}
	group *group // that is open; nil: none is
	err   error
}

// take waits for the turn. It returns the group that is open, which the caller is now of,
// also when ctx has ended meanwhile. After nil, nil the caller has the turn and no group.
func (t *turns) take(ctx context.Context, alone bool) (*group, error) {
	t.mu.Lock()
	if t.idle != nil {
		t.mu.Unlock()
		return nil, sql.ErrConnDone
	}
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil, nil
	}
	w := &waiter{alone: alone, got: make(chan struct{})}
	t.waiting = append(t.waiting, w)
	t.mu.Unlock()
	select {
	case <-w.got:
	case <-ctx.Done():
		t.mu.Lock()
		if i := slices.Index(t.waiting, w); i >= 0 {
			t.waiting = slices.Delete(t.waiting, i, i+1)
			t.mu.Unlock()
			return nil, fmt.Errorf("wait for the writing connection: %w", ctx.Err())
		}
		t.mu.Unlock()
		<-w.got // it was handed over already
	}
	return w.group, w.err
}

// next takes the one who has waited longest from the queue. The caller has the lock.
func (t *turns) next() *waiter {
	w := t.waiting[0]
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	return w
}

// joinable reports whether the next in the queue, if there is one, joins a group.
func (t *turns) joinable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiting) > 0 && !t.waiting[0].alone
}

// hand gives the turn to the next in the queue, who joins g. It reports whether there is one.
func (t *turns) hand(g *group) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 || t.waiting[0].alone {
		return false
	}
	w := t.next()
	w.group = g
	close(w.got)
	return true
}

// pass gives the turn to the next in the queue, who begins anew, or to nobody.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.idle != nil:
		close(t.idle)
	case len(t.waiting) > 0:
		close(t.next().got)
	default:
		t.taken = false
	}
}

// close takes the turn and never gives it back: who waits gets sql.ErrConnDone. It reports
// whether that was not so before.
func (t *turns) close() bool {
	t.mu.Lock()
	if t.idle != nil {
		t.mu.Unlock()
		return false
	}
	t.idle = make(chan struct{})
	for _, w := range t.waiting {
		w.err = sql.ErrConnDone
		close(w.got)
	}
	t.waiting = nil
	taken := t.taken
	t.mu.Unlock()
	if taken {
		<-t.idle
	}
	return true
}

// write runs fn in a transaction, which may be that of a group. What is undone because of
// others runs again by itself, also what failed: it may have met what never came to be.
func (e *sqliteEngine) write(ctx context.Context, alone bool, fn func(runner) error) error {
	if e.writer == nil {
		return errReadOnly
	}
	err := e.attempt(ctx, alone, fn)
	if errors.Is(err, errGroupUndone) {
		err = e.attempt(ctx, true, fn)
	}
	return err
}

func (e *sqliteEngine) attempt(ctx context.Context, alone bool, fn func(runner) error) (err error) {
	g, err := e.turns.take(ctx, alone)
	if err != nil {
		return err
	}
	if g == nil {
		g = &group{alone: alone || !e.turns.joinable(), done: make(chan struct{})}
	}
	defer func() { err = e.leave(g, err) }() // also when fn panics
	return e.join(ctx, g, fn)
}

// join runs fn as a member of g.
func (e *sqliteEngine) join(ctx context.Context, g *group, fn func(runner) error) (err error) {
	// From here to the end of fn: whoever is committed with others is not asked again.
	if err := ctx.Err(); err != nil {
		return err
	}
	if !g.open {
		if err := e.run(beginImmediate); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		g.open, g.began = true, time.Now()
		e.writer.bytes = 0
		e.writer.undone = false
	}
	g.members++
	if !g.alone {
		if err := e.run(savepoint); err != nil {
			g.bad = true
			return fmt.Errorf("begin: %w", err)
		}
	}
	released := false
	defer func() {
		if released || g.alone || e.writer.undone {
			return
		}
		back := e.run(rollbackPart)
		if back == nil {
			back = e.run(release)
		}
		if back != nil {
			g.bad = true
			err = errors.Join(err, fmt.Errorf("roll back: %w", back))
		}
	}()
	if err := fn(e.writer); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.writer.undone {
		return errUndone // though fn has made nothing of it
	}
	if !g.alone {
		if err := e.run(release); err != nil {
			g.bad = true
			return fmt.Errorf("commit: %w", err)
		}
	}
	released, g.good = true, true
	return nil
}

// leave hands g and the turn to the next who writes, or ends g, and returns what is to be
// said to the member whose own error is err. What failed is answered when all are, too.
func (e *sqliteEngine) leave(g *group, err error) error {
	g.bad = g.bad || e.writer.undone
	room := g.open && !g.alone && !g.bad && g.members < groupMembers && e.writer.bytes < groupBytes && time.Since(g.began) < e.groupTime
	if room && e.turns.hand(g) {
		<-g.done
	} else {
		if g.open {
			g.err = e.end(g)
		}
		close(g.done)
		e.turns.pass()
	}
	switch {
	case g.err == nil:
		return err
	case g.members > 1:
		return fmt.Errorf("%w: %w", errGroupUndone, g.err)
	}
	return errors.Join(err, g.err)
}

// end commits g, or rolls it back. The error says that no member is committed though one
// was to be, or that the connection is not as it should be.
func (e *sqliteEngine) end(g *group) (err error) {
	if g.good && !g.bad {
		if err = e.run(commit); err == nil {
			e.accounts.settle()
			return nil
		}
		err = fmt.Errorf("commit: %w", err)
	} else if g.good {
		err = errUndone
	}
	// After some errors SQLite has rolled back by itself.
	back := e.run(rollback)
	if back != nil && !strings.Contains(back.Error(), "no transaction is active") {
		return errors.Join(err, fmt.Errorf("roll back: %w", back))
	}
	e.accounts.settle()
	return err
}
