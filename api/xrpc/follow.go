package xrpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"reflect"
	"time"
)

// A Follower reads a subscription on and on: when the connection breaks off, or the host
// ends it, it connects again, and goes on behind the last message that was handled. It is for
// subscriptions whose messages are numbered by a property "seq", and that begin behind the
// number that a parameter, "cursor" as a rule, says.
//
//	f := xrpc.Follower[sync.SubscribeReposMessage]{
//		Subscribe: func(ctx context.Context, cursor *int64, out *xrpc.Stream[sync.SubscribeReposMessage]) error {
//			return relay.SubscribeRepos(ctx, &sync.SubscribeReposParams{Cursor: cursor}, out)
//		},
//		Cursor: lastTime,
//	}
//	err := f.Follow(ctx, handle)
type Follower[M any] struct {
	// Subscribe calls the subscription from behind cursor on, with a generated client.
	Subscribe func(ctx context.Context, cursor *int64, out *Stream[M]) error
	// Cursor is the number of the last message that was handled; nil: none was, and the host
	// begins where it likes, with what is new as a rule. Follow moves it on. Only the
	// functions below, and who called Follow when it is over, may look at it.
	Cursor *int64
	// Seq reads the number of a message; ok is false for one that has none. nil: it is the
	// property "seq".
	Seq func(m M) (seq int64, ok bool)
	// Outdated is told that the host has no longer all that came after Cursor, so that
	// messages are missing, in the host's words. An error ends Follow. nil: whoever handles
	// messages is given that one, too.
	Outdated func(ctx context.Context, message string) error
	// Unreadable is told of a message that does not fit the lexicon. With nil it is passed
	// over, an error ends Follow. nil: it ends Follow, since it would come again.
	Unreadable func(ctx context.Context, err error) error
	// Lost is told that the subscription ended, with err or regularly, and that it is tried
	// again after wait. nil: nobody is.
	Lost func(err error, wait time.Duration)
	// Final says that it is no use to try again after err; nil: see [IsFinal].
	Final func(err error) bool
	// MinWait and MaxWait are the shortest and the longest time between two attempts. It
	// doubles with each until a message is handled, and is then by chance up to a half less.
	// A host that says by Retry-After how long it wants to be left alone is, up to an hour.
	// 0: a second, and a minute.
	MinWait, MaxWait time.Duration
	// Clock is what is waited by.
	Clock Clock
	// Rand returns a number in [0, 1). nil: that of math/rand/v2.
	Rand func() float64
}

// longestAsked is for how long a Follower leaves a host alone that says so.
const longestAsked = time.Hour

// Follow handles one message after the other until handle fails, which its error says, until
// ctx is done, or the host says that it is no use to try again. A message counts as handled when
// handle returned nil. One that was handled may come again if the host sends it again.
func (f *Follower[M]) Follow(ctx context.Context, handle func(context.Context, M) error) error {
	failures := 0
	var own error // of a function here
	out := Receive(func(ctx context.Context, m M) error {
		if own = f.handle(ctx, m, handle); own == nil {
			failures = 0
		}
		return own
	})
	out.unreadable = func(ctx context.Context, err error) error {
		if own = err; f.Unreadable != nil {
			own = f.Unreadable(ctx, err)
		}
		return own
	}
	final := f.Final
	if final == nil {
		final = IsFinal
	}
	for {
		var cursor *int64
		if f.Cursor != nil {
			cursor = new(*f.Cursor)
		}
		err := f.Subscribe(ctx, cursor, out)
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && final(err):
			return err
		}
		wait := f.wait(failures, err)
		failures++
		if f.Lost != nil {
			f.Lost(err, wait)
		}
		if err := f.Clock.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (f *Follower[M]) handle(ctx context.Context, m M, handle func(context.Context, M) error) error {
	if message, ok := outdated(m); ok && f.Outdated != nil {
		return f.Outdated(ctx, message)
	}
	if err := handle(ctx, m); err != nil {
		return err
	}
	read := f.Seq
	if read == nil {
		read = seqOf
	}
	if seq, ok := read(m); ok {
		f.Cursor = &seq
	}
	return nil
}

// wait is the time before the next attempt.
func (f *Follower[M]) wait(failures int, err error) time.Duration {
	wait, most := cmp.Or(f.MinWait, time.Second), cmp.Or(f.MaxWait, time.Minute)
	for ; failures > 0 && wait < most; failures-- {
		wait *= 2
	}
	chance := rand.Float64
	if f.Rand != nil {
		chance = f.Rand
	}
	wait = min(wait, most)
	wait -= time.Duration(chance() * float64(wait/2))
	if x, ok := errors.AsType[*Error](err); ok {
		asked, _ := x.retryAfter(f.Clock.now())
		wait = max(wait, min(asked, longestAsked))
	}
	return wait
}

// IsFinal reports whether an error of a subscription is one that another attempt will meet
// again: the host says that the request is wrong, as with a cursor that it has not reached
// (FutureCursor), or with any other status of 4xx but those that pass; it does not have the
// method; or the session is over. A host that throws out who is too slow (ConsumerTooSlow), or
// is itself in trouble, is worth another attempt.
func IsFinal(err error) bool {
	if errors.Is(err, ErrSignIn) || errors.Is(err, errOption) || errors.Is(err, errRedirect) {
		return true
	}
	x, ok := errors.AsType[*Error](err)
	if !ok || x.Name == "ConsumerTooSlow" {
		return false
	}
	switch x.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return x.Status/100 == 4
}

// held is what the message m holds, a struct that was generated or an [UnknownVariant].
func held(m any) reflect.Value {
	if u, ok := m.(interface{ Value() any }); ok {
		m = u.Value()
	}
	v := reflect.Indirect(reflect.ValueOf(m))
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v
}

// seqOf reads the property "seq" of a message, also of a kind that the lexicon does not know.
func seqOf[M any](m M) (int64, bool) {
	v := held(m)
	if !v.IsValid() {
		return 0, false
	}
	if u, ok := v.Interface().(UnknownVariant); ok {
		var numbered struct {
			Seq *int64 `json:"seq"`
		}
		if json.Unmarshal(u.JSON, &numbered) != nil || numbered.Seq == nil {
			return 0, false
		}
		return *numbered.Seq, true
	}
	seq := v.FieldByName("Seq")
	if !seq.IsValid() || !seq.CanInt() {
		return 0, false
	}
	return seq.Int(), true
}

// outdated returns the message of the info that messages are missing.
func outdated[M any](m M) (string, bool) {
	v := held(m)
	if !v.IsValid() {
		return "", false
	}
	name := v.FieldByName("Name")
	if !name.IsValid() || name.Kind() != reflect.String || name.String() != "OutdatedCursor" || v.FieldByName("Seq").IsValid() {
		return "", false
	}
	if message := reflect.Indirect(v.FieldByName("Message")); message.IsValid() && message.Kind() == reflect.String {
		return message.String(), true
	}
	return "", true
}
