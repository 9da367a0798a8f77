package xrpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Retry is how patient a client is with a host that is busy: one that answers 429 and
// says by Retry-After or RateLimit-Reset when to come back, or 503 and says so by
// Retry-After. Such a call was not carried out, so that procedures are sent again, too;
// but not one whose body is a stream that cannot be rewound, see [NewBody].
//
// A query that got no answer, because the connection broke, is besides sent again once, at
// once. A procedure is not: nobody knows whether it was carried out. Nor is a query whose
// answer broke off, whose time was over, or that was answered with any other error.
type Retry struct {
	// Most is how often a call is sent again; 0: never.
	Most int
	// MaxWait is the longest that one waits at a time. A host that wants more gets no wait:
	// its answer is returned at once, and so it is when the context would end meanwhile.
	// 0: a minute.
	MaxWait time.Duration
}

// Clock is the time of a client, a parameter for tests. The zero value is the machine's.
type Clock struct {
	Now func() time.Time
	// Sleep returns after d, or when ctx is done, with its error.
	Sleep func(ctx context.Context, d time.Duration) error
}

func (c Clock) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c Clock) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A calling is one call, which may be sent several times.
type calling struct {
	c      *Client
	m      *Method
	repeat bool // the body can be sent again
	// What was tried.
	waits     int
	refreshed bool
	again     bool
}

// run calls once with a header until it succeeds, or until it is no use to try again. What
// once returns is an *[Error] if it was answered.
func (k *calling) run(ctx context.Context, once func(http.Header) (*http.Response, error)) error {
	if err := k.c.options.err; err != nil {
		return err
	}
	for {
		h, token, err := k.c.header(ctx, k.m)
		if err != nil {
			return err
		}
		answer, err := once(h)
		k.c.options.note(answer)
		if err == nil {
			return nil
		}
		if x, ok := err.(*Error); ok {
			x.hide(h.Get("Authorization"))
		}
		if again, err := k.mend(ctx, token, err); !again {
			return err
		}
	}
}

// hide takes the credentials of a call out of e, of a host that repeats them: errors are
// logged. None that protects anything has fewer than 8 letters.
func (e *Error) hide(authorization string) {
	if _, secret, _ := strings.Cut(authorization, " "); len(secret) >= 8 {
		e.Name, e.Message = strings.ReplaceAll(e.Name, secret, "REDACTED"), strings.ReplaceAll(e.Message, secret, "REDACTED")
	}
}

// mend looks whether err of a call with the access token is one that passes, does what it
// takes, and says whether to call again; if not, it returns what to tell.
func (k *calling) mend(ctx context.Context, token string, err error) (again bool, _ error) {
	x, answered := err.(*Error)
	switch {
	case !answered:
		again = k.c.Retry.Most > 0 && k.m.Kind == Query && !k.again && k.repeat && ctx.Err() == nil && isBroken(err)
		k.again = true
		return again, err
	case k.c.session != nil && !k.refreshed && x.isExpired(k.m):
		k.refreshed = true
		again, failed := k.c.session.refused(ctx, token)
		if failed != nil {
			return false, failed
		}
		return again && k.repeat, err
	case k.waits < k.c.Retry.Most && k.repeat:
		wait, ok := k.c.Retry.wait(ctx, x, k.c.Clock.now())
		if !ok {
			return false, err
		}
		k.waits++
		if ended := k.c.Clock.sleep(ctx, wait); ended != nil {
			return false, fmt.Errorf("wait to try again: %w, after %w", ended, err)
		}
		return true, nil
	}
	return false, err
}

// isBroken says of an error without an answer that it may be another one the next time.
func isBroken(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return !errors.Is(err, errRedirect) && !(ok && timeout.Timeout())
}

// wait is how long to wait after x, if at all.
func (r Retry) wait(ctx context.Context, x *Error, now time.Time) (time.Duration, bool) {
	wait, ok := x.retryAfter(now)
	most := r.MaxWait
	if most <= 0 {
		most = time.Minute
	}
	if !ok || wait > most {
		return 0, false
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
		return 0, false
	}
	return wait, true
}

// retryAfter is how long a host that is busy wants to be left alone.
func (e *Error) retryAfter(now time.Time) (time.Duration, bool) {
	if e.Status != http.StatusTooManyRequests && e.Status != http.StatusServiceUnavailable {
		return 0, false
	}
	if text := e.Header.Get("Retry-After"); text != "" {
		if wait, ok := seconds(text); ok {
			return wait, true
		}
		if at, err := http.ParseTime(text); err == nil {
			return max(0, at.Sub(now)), true
		}
	}
	if e.Status != http.StatusTooManyRequests {
		return 0, false
	}
	wait, ok := seconds(e.Header.Get("RateLimit-Reset"))
	if ok && wait > anEpoch*time.Second {
		// A time: rounded down, so that who comes then would be early.
		return max(0, time.Unix(int64(wait/time.Second)+1, 0).Sub(now)), true
	}
	return wait, ok
}

// anEpoch is when a number of seconds is one since 1970, as a PDS writes it, and not one from
// now on, as a draft of the IETF has it.
const anEpoch = 1e9

func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > int64(1<<63-1)/int64(time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}
