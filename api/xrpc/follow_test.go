package xrpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// follower follows url, by a clock that only notes how long it should sleep.
func follower(url string, waits *[]string) *Follower[WatchMessage] {
	return &Follower[WatchMessage]{
		Subscribe: func(ctx context.Context, cursor *int64, out *Stream[WatchMessage]) error {
			return Subscribe(ctx, &Client{Host: url}, &toyWatch, &WatchParams{Cursor: cursor}, out)
		},
		Clock: Clock{Sleep: func(ctx context.Context, d time.Duration) error {
			*waits = append(*waits, d.String())
			return ctx.Err()
		}},
		Rand: func() float64 { return 0 },
	}
}

var errEnough = errors.New("enough")

// The subscription goes on behind what was handled, not behind what was sent.
func TestFollow(t *testing.T) {
	var cursors []string
	url, _, _ := serveWatch(t, Options{}, func(ctx context.Context, p *WatchParams, out *Stream[WatchMessage]) error {
		from := ValueOf(p.Cursor)
		cursors = append(cursors, fmt.Sprint(from))
		for seq := from + 1; seq <= from+3 && seq <= 7; seq++ {
			if err := out.Send(ctx, said(seq)); err != nil {
				return err
			}
		}
		// Of a kind that comes with a later lexicon, and one without a number.
		if from < 7 {
			number := fmt.Sprint(min(from+4, 7))
			return errors.Join(
				out.Send(ctx, WatchMessage{&UnknownVariant{"com.example.toy.watch#new", []byte(`{"$type":"com.example.toy.watch#new","seq":` + number + `}`)}}),
				out.Send(ctx, WatchMessage{&UnknownVariant{"com.example.toy.watch#none", []byte(`{"$type":"com.example.toy.watch#none"}`)}}),
			)
		}
		return out.Send(ctx, said(8))
	})
	var waits, got, lost []string
	f := follower(url, &waits)
	f.Lost = func(err error, wait time.Duration) { lost = append(lost, fmt.Sprint(err)) }
	err := f.Follow(t.Context(), func(_ context.Context, m WatchMessage) error {
		seq, ok := seqOf(m)
		if got = append(got, fmt.Sprint(seq)); seq == 8 {
			return errEnough
		}
		if ok && *f.cursor() != seq-1 && seq != 7 {
			t.Errorf("cursor %d while %d is handled", *f.cursor(), seq)
		}
		return nil
	})
	if err != errEnough || *f.Cursor != 7 {
		t.Error(err, *f.Cursor)
	}
	if s := strings.Join(got, " "); s != "1 2 3 4 0 5 6 7 7 0 8" {
		t.Errorf("messages %s", s)
	}
	if s := strings.Join(cursors, " "); s != "0 4 7" {
		t.Errorf("cursors %s", s)
	}
	// Every message was a success, so that the wait is the shortest.
	if s := strings.Join(waits, " "); s != "1s 1s" || strings.Join(lost, " ") != "<nil> <nil>" {
		t.Errorf("waits %s, lost %s", s, lost)
	}
}

// cursor is 0 where there is none.
func (f *Follower[M]) cursor() *int64 {
	if f.Cursor == nil {
		return new(int64)
	}
	return f.Cursor
}

// The waits double, up to the longest, and begin anew with a message.
func TestFollowWaits(t *testing.T) {
	calls := 0
	var err error
	var waits []string
	f := follower("", &waits)
	f.Subscribe = func(ctx context.Context, _ *int64, out *Stream[WatchMessage]) error {
		calls++
		switch {
		case calls == 10:
			return errors.Join(out.Send(ctx, said(1)), err)
		case calls > 12:
			return out.Send(ctx, said(2))
		}
		return err
	}
	handle := func(_ context.Context, m WatchMessage) error {
		if seq, _ := seqOf(m); seq == 2 {
			return errEnough
		}
		return nil
	}
	follow := func() string {
		calls, waits, f.Cursor = 0, nil, nil
		if err := f.Follow(t.Context(), handle); err != errEnough {
			t.Error(err)
		}
		return strings.Join(waits, " ")
	}
	err = errors.New("no network")
	if got, want := follow(), "1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s 1s 2s 4s"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	f.Rand, f.MinWait, f.MaxWait = func() float64 { return 0.5 }, 100*time.Millisecond, time.Second
	if got, want := follow(), "75ms 150ms 300ms 600ms 750ms 750ms 750ms 750ms 750ms 75ms 150ms 300ms"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	f.Rand = func() float64 { return 0 }
	for asked, want := range map[string]string{"1800": "30m0s", "99999999": "1h0m0s", "": "100ms"} {
		err = &Error{Status: 503, Header: http.Header{"Retry-After": {asked}}}
		if got := follow(); !strings.HasPrefix(got, want+" ") {
			t.Errorf("asked for %s: waits %s", asked, got)
		}
	}
}

func TestFollowEnds(t *testing.T) {
	other := errors.New("what the network says")
	for _, tt := range []struct {
		name  string
		err   error
		final bool
	}{
		{"regular end", nil, false},
		{"network", other, false},
		{"a cursor that is not reached", errFutureCursor.New(400, "Cursor in the future."), true},
		{"too slow", &Error{Status: 400, Name: "ConsumerTooSlow"}, false},
		{"wrong parameters", InvalidRequest("x"), true},
		{"no credentials", AuthenticationRequired("x"), true},
		{"no such method", MethodNotImplemented(), true},
		{"no such host", &Error{Status: 404}, true},
		{"busy", RateLimitExceeded(time.Second), false},
		{"in trouble", &Error{Status: 500}, false},
		{"time out", &Error{Status: 408}, false},
		{"session", fmt.Errorf("call: %w", ErrSignIn), true},
		{"option", fmt.Errorf("call: %w", errOption), true},
		{"redirect", fmt.Errorf("call: %w", errPlain), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var waits []string
			calls := 0
			f := follower("", &waits)
			f.Subscribe = func(ctx context.Context, _ *int64, out *Stream[WatchMessage]) error {
				if calls++; calls == 2 {
					return out.Send(ctx, said(1))
				}
				return tt.err
			}
			err := f.Follow(t.Context(), func(context.Context, WatchMessage) error { return errEnough })
			if tt.final && err != tt.err || !tt.final && err != errEnough {
				t.Error(err)
			}
			calls, f.Final = 0, func(err error) bool { return err == other }
			if err := f.Follow(t.Context(), func(context.Context, WatchMessage) error { return errEnough }); (err == other) != (tt.err == other) {
				t.Errorf("with Final: %v", err)
			}
		})
	}
}

// The names of error frames say what a status says elsewhere.
func TestFramesOfErrors(t *testing.T) {
	for _, tt := range []struct {
		answer error
		name   string
		status int
		final  bool
	}{
		{errFutureCursor.New(400, "x"), "FutureCursor", 400, true},
		{errors.New("secret"), "InternalServerError", 500, false},
		{NotEnoughResources(time.Second), "NotEnoughResources", 503, false},
		{RateLimitExceeded(time.Second), "RateLimitExceeded", 429, false},
		{AuthenticationRequired("x"), "AuthenticationRequired", 401, true},
	} {
		url, _, _ := serveWatch(t, Options{}, func(context.Context, *WatchParams, *Stream[WatchMessage]) error { return tt.answer })
		err := watch(t.Context(), url, WatchParams{}, func(context.Context, WatchMessage) error { return nil })
		if x, ok := err.(*Error); !ok || x.Name != tt.name || x.Status != tt.status || IsFinal(err) != tt.final {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestFollowEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reason := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(reason) })
		f := Follower[WatchMessage]{Subscribe: func(context.Context, *int64, *Stream[WatchMessage]) error { return errLine }, Rand: func() float64 { return 0 }}
		start := time.Now()
		if err := f.Follow(ctx, nil); err != reason || time.Since(start) != 3*time.Second {
			t.Error(err, time.Since(start))
		}
		f.Subscribe = func(ctx context.Context, _ *int64, _ *Stream[WatchMessage]) error { <-ctx.Done(); return ctx.Err() }
		if err := f.Follow(ctx, nil); err != reason {
			t.Error(err)
		}
	})
}

// WatchInfo is as the generator writes the info of a stream.
type WatchInfo struct {
	Name    string  `json:"name"`
	Message *string `json:"message,omitzero"`
}

func TestFollowTellsOfWhatIsMissing(t *testing.T) {
	var waits, got []string
	messages := []WatchMessage{
		{&WatchInfo{"OutdatedCursor", new("Possibly missing events")}}, {&WatchInfo{Name: "OutdatedCursor"}},
		{&WatchInfo{Name: "Hello"}}, said(5), {nil},
	}
	f := follower("", &waits)
	f.Subscribe = func(ctx context.Context, _ *int64, out *Stream[WatchMessage]) error {
		for _, m := range messages {
			if err := out.Send(ctx, m); err != nil {
				return err
			}
		}
		return errFutureCursor.New(400, "")
	}
	handle := func(_ context.Context, m WatchMessage) error {
		got = append(got, fmt.Sprintf("%T", m.value))
		return nil
	}
	if err := f.Follow(t.Context(), handle); !errors.Is(err, errFutureCursor) {
		t.Error(err)
	}
	if want := []string{"*xrpc.WatchInfo", "*xrpc.WatchInfo", "*xrpc.WatchInfo", "*xrpc.WatchSaid", "<nil>"}; !slices.Equal(got, want) {
		t.Error(got)
	}
	got = nil
	f.Outdated = func(_ context.Context, message string) error { got = append(got, "missing: "+message); return nil }
	if err := f.Follow(t.Context(), handle); !errors.Is(err, errFutureCursor) || *f.Cursor != 5 {
		t.Error(err)
	}
	if want := []string{"missing: Possibly missing events", "missing: ", "*xrpc.WatchInfo", "*xrpc.WatchSaid", "<nil>"}; !slices.Equal(got, want) {
		t.Error(got)
	}
	f.Outdated = func(context.Context, string) error { return errEnough }
	if err := f.Follow(t.Context(), handle); err != errEnough {
		t.Error(err)
	}
}

// A message that nobody can read comes again as often as one asks.
func TestFollowUnreadable(t *testing.T) {
	var waits []string
	url, _, _ := serveWatch(t, Options{}, func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
		frame, _, err := encodeFrame("com.example.toy.watch", map[string]any{"$type": "com.example.toy.watch#said", "seq": "x"})
		return errors.Join(err, out.Send(ctx, said(1)), out.SendFrame(ctx, frame), out.SendFrame(ctx, []byte("nonsense")), out.Send(ctx, said(2)))
	})
	f := follower(url, &waits)
	last := int64(0)
	handle := func(_ context.Context, m WatchMessage) error {
		if last, _ = seqOf(m); last == 2 {
			return errEnough
		}
		return nil
	}
	err := f.Follow(t.Context(), handle)
	if want := `subscription com.example.toy.watch: message com.example.toy.watch#said: Expected integer value type (got "x") at $.seq`; last != 1 || errorText(err) != want {
		t.Errorf("after %d: %v", last, err)
	}
	var told []error
	f.Unreadable = func(_ context.Context, err error) error { told = append(told, err); return nil }
	if err := f.Follow(t.Context(), handle); err != errEnough || len(told) != 2 || !strings.Contains(told[1].Error(), "malformed DAG-CBOR") {
		t.Error(err, told)
	}
	f.Unreadable = func(context.Context, error) error { return errEnough }
	if err := f.Follow(t.Context(), handle); err != errEnough || len(waits) != 0 {
		t.Error(err, waits)
	}
}

// A session is refreshed for a subscription as for any call.
func TestSubscriptionOfASession(t *testing.T) {
	h, s := signedIn(t, "old", nil)
	sent := ""
	c := s.Client()
	c.HTTP = &http.Client{Transport: inside(func(w http.ResponseWriter, r *http.Request) {
		if sent += r.Header.Get("Authorization") + " "; r.Header.Get("Authorization") == "Bearer old" {
			refuse(w, 400, "ExpiredToken")
			return
		}
		refuse(w, 400, "FutureCursor")
	})}
	err := Subscribe(t.Context(), &c, &toyWatch, &WatchParams{}, Receive(func(context.Context, WatchMessage) error { return nil }))
	if !errors.Is(err, errFutureCursor) || sent != "Bearer old Bearer A' " {
		t.Error(err, sent)
	}
	h.expect("refreshSession")
}
