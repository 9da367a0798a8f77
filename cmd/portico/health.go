package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"portico/db"
)

// How often it is tried whether the database takes writes, how long one try may take, for
// how long strangers who ask get the same answer, and how long after a try should have ended
// there is no hope.
const (
	beatEvery    = 5 * time.Second
	beatAgain    = time.Second // after a try that failed
	beatPatience = 10 * time.Second
	healthFor    = time.Second
	stuckAfter   = 2 * time.Minute
)

// health knows whether the database works. It writes in a rhythm of its own, so that
// nobody who asks causes a write, and so that a full disk is found out though nobody
// writes. It is safe for concurrent use.
type health struct {
	store interface {
		Ping(context.Context) error
		TryWrite(context.Context) error
	}
	now func() time.Time

	trying atomic.Pointer[time.Time] // when the try that is under way began, nil for none
	last   atomic.Pointer[outcome]   // at first when the server began

	mu     sync.Mutex
	asked  time.Time // when answer was found
	answer error
}

// outcome is how a try to write ended.
type outcome struct {
	ended   time.Time
	failure error
}

func newHealth(store *db.DB) *health {
	h := &health{store: store, now: time.Now}
	h.last.Store(&outcome{ended: time.Now()})
	return h
}

// run tries until ctx is done.
func (h *health) run(ctx context.Context) {
	for {
		if h.failing() {
			wait(ctx, beatAgain)
		} else {
			wait(ctx, beatEvery)
		}
		if ctx.Err() != nil {
			return
		}
		h.beat(ctx)
	}
}

func (h *health) beat(ctx context.Context) {
	h.trying.Store(new(h.now()))
	defer h.trying.Store(nil)
	ctx, cancel := context.WithTimeout(ctx, beatPatience)
	defer cancel()
	err := h.store.TryWrite(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last.Store(&outcome{h.now(), err})
	h.asked = time.Time{}
}

// check is nil while the database answers and took the last write.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if !h.asked.IsZero() && now.Sub(h.asked) < healthFor {
		return h.answer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatPatience)
	defer cancel()
	h.asked, h.answer = now, h.store.Ping(ctx)
	if h.answer == nil {
		h.answer = h.late(now)
	}
	h.answer = errors.Join(h.answer, h.last.Load().failure)
	return h.answer
}

// known is what check would say, but it asks nobody and waits for nothing: one who looks at
// many figures wants them although the database does not answer.
func (h *health) known() error {
	last := h.last.Load()
	return errors.Join(h.late(h.now()), last.failure)
}

// failing says whether the last try went wrong.
func (h *health) failing() bool {
	last := h.last.Load()
	return last != nil && last.failure != nil
}

// late is an error when no try has ended for too long.
func (h *health) late(now time.Time) error {
	if since := now.Sub(h.last.Load().ended); since > beatEvery+2*beatPatience {
		return fmt.Errorf("the database has been writing for %v", since.Round(time.Second))
	}
	return nil
}

// stuck is an error when this process should be started again. That the database is away,
// that the disk is full, and that others keep the database busy is no reason: a try to write
// ends all the same, and a start would meet what it met. One that has not ended long after
// its time waits for something in here, or for a disk that takes nothing at all.
func (h *health) stuck() error {
	began := h.trying.Load()
	if began == nil {
		return nil
	}
	if since := h.now().Sub(*began); since > beatPatience+stuckAfter {
		return fmt.Errorf("a try to write that may take %v has been under way for %v", beatPatience, since.Round(time.Second))
	}
	return nil
}
