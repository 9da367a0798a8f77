package xrpc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The limit of all calls of one address together.
const (
	globalPoints = 3000
	globalPer    = 5 * time.Minute
)

// Counter is one limit as it applies to one request: Key names limit and caller.
type Counter struct {
	Key    string
	Points int
	Per    time.Duration
	More   int // points that the request takes beside the first
}

// Window is the state of a [Counter] after a request was counted.
type Window struct {
	Used  int       // points taken, this request included; may exceed the limit
	Reset time.Time // when it ends
}

// Limiter counts requests in fixed windows, each beginning with the first request
// after the one before has ended. Take adds one and what is more to every counter and returns
// their windows in the same order. A request that is over one of its limits begins
// no window of another, though: who was told to wait could otherwise fill the store
// with names that they make up. Take must be safe for concurrent use.
type Limiter interface {
	Take(ctx context.Context, counters []Counter) ([]Window, error)
}

// MemoryLimiter keeps windows in memory: at most half a million, some 100 MB. Beyond
// it one is forgotten for each that is added. Make one with [NewMemoryLimiter].
type MemoryLimiter struct {
	now func() time.Time

	mu      sync.Mutex
	windows map[string]*Window
	sweepAt int // size at which windows that have ended are looked for
}

const (
	minSweep   = 1024
	maxWindows = 1 << 19
)

// NewMemoryLimiter returns an empty limiter; a nil now is time.Now.
func NewMemoryLimiter(now func() time.Time) *MemoryLimiter {
	if now == nil {
		now = time.Now
	}
	return &MemoryLimiter{now: now, windows: make(map[string]*Window), sweepAt: minSweep}
}

// Take implements [Limiter]; it never fails.
func (l *MemoryLimiter) Take(_ context.Context, counters []Counter) ([]Window, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	out := make([]Window, len(counters))
	exceeded := false
	for i, c := range counters {
		w := l.windows[c.Key]
		if w == nil {
			continue
		}
		if !now.Before(w.Reset) {
			*w = Window{Reset: now.Add(c.Per)}
		}
		w.Used += 1 + c.More
		out[i] = *w
		exceeded = exceeded || w.Used > c.Points
	}
	for i, c := range counters {
		if !out[i].Reset.IsZero() {
			continue
		}
		w := l.windows[c.Key] // of the same counter a moment ago
		if w == nil {
			w = &Window{Reset: now.Add(c.Per)}
			if !exceeded {
				l.add(c.Key, w, now)
			}
		}
		w.Used += 1 + c.More
		out[i] = *w
	}
	return out, nil
}

// add begins a window.
func (l *MemoryLimiter) add(key string, w *Window, now time.Time) {
	l.sweep(now)
	if len(l.windows) >= maxWindows {
		for any := range l.windows {
			delete(l.windows, any)
			break
		}
	}
	l.windows[key] = w
}

// sweep drops windows that have ended, once the map has doubled since the last
// time, so that the cost of a Take stays constant on average.
func (l *MemoryLimiter) sweep(now time.Time) {
	if len(l.windows) < l.sweepAt {
		return
	}
	for key, w := range l.windows {
		if !now.Before(w.Reset) {
			delete(l.windows, key)
		}
	}
	l.sweepAt = max(minSweep, 2*len(l.windows))
}

// counterKey keeps what a client chose from filling the store.
func counterKey(limit, who string) string {
	if len(who) > 64 {
		sum := sha256.Sum256([]byte(who))
		who = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return limit + "|" + who
}

// bypassed reports whether limits don't apply to c at all.
func (s *Server) bypassed(c *Call) bool {
	now := c.callers
	if now.Limiter == nil {
		return true
	}
	if now.BypassKey != "" && sameSecret(c.Request.Header.Get("X-Ratelimit-Bypass"), now.BypassKey) {
		return true
	}
	return isListed(c.IP, now.BypassIPs)
}

func (s *Server) globalCounter(c *Call) Counter {
	var b [80]byte
	return Counter{string(c.appendIPKey(append(b[:0], "global|"...))), globalPoints, globalPer, 0}
}

// take counts the request. routes are the counters of the method, made for this call, global
// whether the global one is taken too.
func (s *Server) take(ctx context.Context, c *Call, routes []Counter, global bool) error {
	counters := routes
	if global {
		counters = append(routes, s.globalCounter(c))
	}
	if len(counters) == 0 {
		return nil
	}
	windows, err := c.callers.Limiter.Take(ctx, counters)
	if err != nil {
		if len(routes) > 0 {
			return fmt.Errorf("count request: %w", err)
		}
		// Better unlimited than down.
		s.o.Logger.WarnContext(ctx, "global rate limit not counted", "err", err)
		return nil
	}
	tightest, exceeded := 0, false
	for i, w := range windows {
		if w.Used > counters[i].Points {
			tightest, exceeded = i, true
			break
		}
		if counters[i].Points-w.Used < counters[tightest].Points-windows[tightest].Used {
			tightest = i
		}
	}
	limit, w := counters[tightest], windows[tightest]
	h := c.header
	values := limitValues(limit, w)
	for i, name := range [...]string{"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "Ratelimit-Policy"} {
		h[name] = values[i : i+1 : i+1]
	}
	if !exceeded {
		return nil
	}
	wait := w.Reset.Sub(s.o.Now())
	h.Set("Retry-After", strconv.FormatInt(max(0, int64((wait+time.Second-1)/time.Second)), 10))
	return &Error{Status: http.StatusTooManyRequests}
}

// limitValues are the limit, what is left of it, when that changes, and the policy, as the
// header says them. Their text is one, which saves allocations.
func limitValues(limit Counter, w Window) *[4]string {
	var b [96]byte
	text := strconv.AppendInt(b[:0], int64(limit.Points), 10)
	points := len(text)
	text = strconv.AppendInt(text, int64(max(0, limit.Points-w.Used)), 10)
	left := len(text)
	text = strconv.AppendInt(text, w.Reset.Unix(), 10)
	reset := len(text)
	text = append(append(text, text[:points]...), ";w="...)
	all := string(strconv.AppendInt(text, int64(limit.Per/time.Second), 10))
	return &[4]string{all[:points], all[points:left], all[left:reset], all[reset:]}
}
