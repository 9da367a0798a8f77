package firehose

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/repo/event"
)

const (
	alice = syntax.DID("did:plc:tfoc4jg4ai6vr2nbwlmwdzq2")
	bob   = syntax.DID("did:plc:44ybard66vv44zksje25o7dz")
)

// memoryLog is a log as the database keeps it.
type memoryLog struct {
	mu       sync.Mutex
	events   []Event
	last     int64
	outdated int64
	fail     func() error // before every read

	reads   int // of pages
	reading int
	most    int // pages read at a time
	largest int // page asked for, in bytes
	takes   time.Duration
}

// add appends an event of did with a body of more than size bytes, and returns its number.
func (l *memoryLog) add(did syntax.DID, size int) int64 {
	return l.append(did, event.Sync(did, "3jzfcijpj2z2a", make([]byte, size)))
}

func (l *memoryLog) append(did syntax.DID, e event.Event) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.events = append(l.events, Event{Seq: l.last, Time: time.UnixMilli(1e12 + l.last), DID: did, Event: e})
	return l.last
}

// erase removes the events of did, and with outdate those up to a number.
func (l *memoryLog) erase(did syntax.DID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(l.events, func(e Event) bool { return e.DID == did })
}

func (l *memoryLog) outdate(through int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(l.events, func(e Event) bool { return e.Seq <= through })
	l.outdated = through
}

func (l *memoryLog) end() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// skip leaves n numbers out.
func (l *memoryLog) skip(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last += int64(n)
}

func (l *memoryLog) failing(fail func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

// slow is how long it takes to read a page.
func (l *memoryLog) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takes = d
}

func (l *memoryLog) failed() error {
	if l.fail == nil {
		return nil
	}
	return l.fail()
}

func (l *memoryLog) Events(ctx context.Context, after int64, limit, size int) ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	l.reading++
	defer func() { l.reading-- }()
	l.most, l.largest = max(l.most, l.reading), max(l.largest, size)
	if err := l.failed(); err != nil {
		return nil, err
	}
	i, _ := slices.BinarySearchFunc(l.events, after+1, func(e Event, seq int64) int { return int(e.Seq - seq) })
	page := l.events[i:]
	for n, e := range page {
		if size -= len(e.Body); n+1 == limit || size <= 0 {
			page = page[:n+1]
			break
		}
	}
	page = slices.Clone(page)
	if l.takes > 0 {
		l.mu.Unlock()
		time.Sleep(l.takes) // of the bubble's time
		l.mu.Lock()
	}
	return page, nil
}

func (l *memoryLog) LastEvent(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.failed()
}

func (l *memoryLog) Past(ctx context.Context, after int64, limit, size int) ([]Event, int64, error) {
	page, err := l.Events(ctx, after, limit, size)
	if err != nil {
		return nil, 0, err
	}
	through, err := l.LastOutdated(ctx)
	return page, through, err
}

func (l *memoryLog) LastOutdated(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.outdated, l.failed()
}

// frames are what consumers are sent of all that the log has.
func (l *memoryLog) frames(t testing.TB) (frames []string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		frame, err := event.Frame(e.Event, e.Seq, e.Time)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, string(frame))
	}
	return frames
}

// number is that of the event in a frame that [memoryLog.add] led to.
func number(frame []byte) int64 {
	_, after, _ := bytes.Cut(frame, []byte("\x63seq"))
	switch after[0] {
	case 0x18:
		return int64(after[1])
	case 0x19:
		return int64(after[1])<<8 | int64(after[2])
	}
	return int64(after[0])
}

// numbers are those of the events in frames, 0 for #info.
func numbers(frames []string) (numbers []int64) {
	for _, frame := range frames {
		if strings.Contains(frame, "#info") {
			numbers = append(numbers, 0)
		} else {
			numbers = append(numbers, number([]byte(frame)))
		}
	}
	return numbers
}

// fixture is a firehose that runs in a bubble.
type fixture struct {
	testing.TB
	*Firehose
	log   *memoryLog
	lines bytes.Buffer // that were logged
	stop  func()       // Run, and waits until it has ended
}

func start(t *testing.T, log *memoryLog, o Options) *fixture {
	f := &fixture{TB: t, log: log}
	f.Firehose = New(log, slog.New(slog.NewTextHandler(&f.lines, nil)), o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	f.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(f.stop)
	synctest.Wait()
	return f
}

// follower is a consumer that a test looks at.
type follower struct {
	mu     sync.Mutex
	frames []string
	arrays []*byte // that the frames were in
	stop   func()  // and waits
	ended  chan struct{}
	err    error
}

func (f *fixture) follow(cursor *int64, delay func(context.Context)) *follower {
	ctx, cancel := context.WithCancel(f.Context())
	c := &follower{ended: make(chan struct{})}
	c.stop = func() {
		cancel()
		<-c.ended
	}
	f.Cleanup(c.stop)
	go func() {
		defer close(c.ended)
		c.err = f.Follow(ctx, cursor, func(ctx context.Context, frame []byte) error {
			c.mu.Lock()
			c.frames, c.arrays = append(c.frames, string(frame)), append(c.arrays, &frame[0])
			c.mu.Unlock()
			if delay != nil {
				delay(ctx)
			}
			return ctx.Err()
		})
	}()
	synctest.Wait()
	return c
}

func (c *follower) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}

func (c *follower) want(t *testing.T, frames ...string) {
	t.Helper()
	synctest.Wait()
	if got := c.got(); !slices.Equal(got, frames) {
		t.Errorf("frames (-want +got):\n%s", cmp.Diff(numbers(frames), numbers(got)))
	}
}

func (c *follower) wantEnd(t *testing.T, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case <-c.ended:
		if c.err != err {
			t.Errorf("ended with %v, want %v", c.err, err)
		}
	default:
		t.Errorf("has not ended, want %v", err)
	}
}

var outdatedFrame = func() string {
	b, err := hex.DecodeString("a2" + "6174" + "6523696e666f" + "626f70" + "01" + "a2" + "646e616d65" + "6e")
	if err != nil {
		panic(err)
	}
	return string(b) + "OutdatedCursor" + "\x67message\x78\x38Requested cursor exceeded limit. Possibly missing events"
}()

func TestCursors(t *testing.T) {
	for _, tt := range []struct {
		name     string
		cursor   *int64
		outdated int64
		info     bool
		first    int64 // of the events 3 to 9, of which 6 is erased; 10 is the highest number given
		err      error
	}{
		{name: "absent", first: 10},
		{name: "absent with outdated events", outdated: 8, first: 10},
		{name: "absent, and all events outdated", outdated: 10, first: 10},
		{name: "0", cursor: new(int64(0)), first: 3},
		{name: "negative", cursor: new(int64(-7)), first: 3},
		{name: "in the middle", cursor: new(int64(4)), first: 5},
		{name: "of an erased event", cursor: new(int64(6)), first: 7},
		{name: "last event", cursor: new(int64(9)), first: 10},
		{name: "last number, whose event is gone", cursor: new(int64(10)), first: 10},
		{name: "future", cursor: new(int64(11)), err: ErrFutureCursor},
		{name: "0, with outdated events", cursor: new(int64(0)), outdated: 4, info: true, first: 5},
		{name: "negative, with outdated events", cursor: new(int64(-1)), outdated: 4, info: true, first: 5},
		{name: "last outdated but one", cursor: new(int64(3)), outdated: 4, info: true, first: 5},
		{name: "last outdated", cursor: new(int64(4)), outdated: 4, first: 5},
		{name: "outdated as all events", cursor: new(int64(4)), outdated: 10, info: true, first: 10},
		{name: "last of outdated ones", cursor: new(int64(10)), outdated: 10, first: 10},
		{name: "future of outdated ones", cursor: new(int64(11)), outdated: 10, err: ErrFutureCursor},
	} {
		for _, where := range []string{"log", "ring"} {
			t.Run(tt.name+" in the "+where, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &memoryLog{last: 2}
					var f *fixture
					look := func() {
						if f != nil {
							f.Wake()
							synctest.Wait()
						}
					}
					if where == "ring" {
						f = start(t, log, Options{Poll: time.Hour})
					}
					for range 3 {
						log.add(alice, 10)
					}
					log.add(bob, 10)
					look()
					log.erase(bob)
					log.append(bob, event.Account(bob, "deleted"))
					log.add(alice, 10)
					log.add(alice, 10)
					log.last = 10
					look()
					if tt.outdated > 0 {
						log.outdate(tt.outdated)
					}
					if where == "log" {
						f = start(t, log, Options{Poll: time.Hour})
					}
					reads := log.reads
					c := f.follow(tt.cursor, nil)
					inRing := where == "ring" && (tt.cursor == nil || max(*tt.cursor, tt.outdated) >= 2)
					if inRing && log.reads != reads {
						t.Error("the log was read, though the ring has all")
					}
					log.add(alice, 10)
					f.Wake()
					if tt.err != nil {
						c.wantEnd(t, tt.err)
						c.want(t)
						return
					}
					var want []string
					if tt.info {
						want = append(want, outdatedFrame)
					}
					for i, frame := range log.frames(t) {
						if log.events[i].Seq >= tt.first {
							want = append(want, frame)
						}
					}
					c.want(t, want...)
				})
			})
		}
	}
}

// Other nodes wake nobody.
func TestEventsOfOtherNodesAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{})
		c := f.follow(nil, nil)
		log.add(alice, 10)
		c.want(t)
		time.Sleep(100 * time.Millisecond)
		c.want(t, log.frames(t)...)
	})
}

func TestConsumersShareFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{Poll: time.Hour})
		consumers := []*follower{f.follow(nil, nil), f.follow(new(int64(0)), nil), f.follow(nil, nil)}
		reads := log.reads
		for range 3 {
			log.add(alice, 10)
		}
		f.Wake()
		f.Wake()
		for _, c := range consumers {
			c.want(t, log.frames(t)...)
			if !slices.Equal(c.arrays, consumers[0].arrays) {
				t.Error("a frame was made twice")
			}
		}
		if log.reads > reads+2 {
			t.Errorf("the log was read %d times, want 2 at most", log.reads-reads)
		}
	})
}

// gate lets a consumer take what comes when it is opened.
type gate struct{ open chan struct{} }

func (g gate) pass(ctx context.Context) {
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

func TestSlowConsumerCostsItselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{RingBytes: 20_000})
		slow := gate{make(chan struct{})}
		behind, live := f.follow(nil, slow.pass), f.follow(nil, nil)
		for range 2000 { // pages of 500, and of 64 KiB
			log.add(alice, 200)
			f.Wake()
			synctest.Wait()
		}
		live.want(t, log.frames(t)...)
		behind.want(t, log.frames(t)[0])
		reads := log.reads
		close(slow.open)
		behind.want(t, log.frames(t)...)
		if n := log.reads - reads; n < 4 || n > 20 {
			t.Errorf("%d pages were read for the slow one, want 4 to 20", n)
		}
		reads = log.reads
		log.add(alice, 200)
		f.Wake()
		behind.want(t, log.frames(t)...) // live again
		live.want(t, log.frames(t)...)
		if n := log.reads - reads; n != 1 {
			t.Errorf("%d pages were read for one event, want the reader's", n)
		}
	})
}

func TestConsumerTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{RingBytes: 2000})
		slow := gate{make(chan struct{})}
		c, fast := f.follow(nil, slow.pass), f.follow(nil, nil)
		for range 600 {
			log.add(alice, 200)
		}
		f.Wake()
		all := log.frames(t)
		fast.want(t, all...)
		log.outdate(501) // the page that it has goes up to 500
		close(slow.open)
		c.want(t, all[:500]...)
		c.wantEnd(t, ErrConsumerTooSlow)
		fast.want(t, all...)
	})
}

// Within the window nobody is too slow, and who has missed nothing either.
func TestConsumerAtTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{RingBytes: 2000})
		slow := gate{make(chan struct{})}
		c := f.follow(nil, slow.pass)
		for range 600 {
			log.add(alice, 200)
		}
		f.Wake()
		all := log.frames(t)
		synctest.Wait()
		log.outdate(500) // it has that
		close(slow.open)
		c.want(t, all...)
		log.outdate(600) // long quiet
		log.add(alice, 10)
		f.Wake()
		c.want(t, append(all, log.frames(t)...)...)
	})
}

// Events that are outdated while a consumer waits for its first page are no fault of its own.
func TestOutdatedBeforeTheFirstPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		for range 10 {
			log.add(alice, 10)
		}
		f := start(t, log, Options{})
		log.slow(time.Second)
		c := f.follow(new(int64(3)), nil)
		log.outdate(7)
		time.Sleep(time.Minute)
		c.want(t, append([]string{outdatedFrame}, log.frames(t)...)...)
	})
}

// A page that was read while its events were being outdated is not whole.
func TestOutdatedWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		for range 1000 {
			log.add(alice, 10)
		}
		f := start(t, log, Options{})
		all := log.frames(t)
		log.slow(time.Second)
		c := f.follow(new(int64(0)), nil)
		time.Sleep(time.Second + time.Millisecond) // in the second page
		log.outdate(700)
		time.Sleep(time.Minute)
		c.want(t, all[:500]...)
		c.wantEnd(t, ErrConsumerTooSlow)
	})
}

func TestDeletedAccountLeavesTheRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{})
		for range 3 {
			log.add(alice, 10)
			log.add(bob, 10)
		}
		log.append(alice, event.Account(alice, "deactivated")) // that is none
		f.Wake()
		synctest.Wait()
		f.follow(new(int64(0)), nil).want(t, log.frames(t)...)
		log.erase(bob)
		log.append(bob, event.Account(bob, "deleted"))
		log.add(bob, 10) // taken up again
		f.Wake()
		synctest.Wait()
		reads := log.reads
		f.follow(new(int64(0)), nil).want(t, log.frames(t)...)
		f.follow(new(int64(2)), nil).want(t, log.frames(t)[1:]...)
		if log.reads != reads {
			t.Error("the ring has no place for those cursors")
		}
		f.held(t)
	})
}

// A generated stream takes the frames as they are.
func TestFramesAreMessagesOfTheLexicon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{outdated: 1, last: 1}
		log.append(alice, event.Identity(alice, "alice.test"))
		log.append(alice, commit())
		f := start(t, log, Options{})
		done := errors.New("done")
		var got []string
		out := xrpc.Receive(func(_ context.Context, m api.SubscribeReposMessage) error {
			switch m := m.Value().(type) {
			case *api.SubscribeReposInfo:
				got = append(got, m.Name+": "+*m.Message)
			case *api.SubscribeReposIdentity:
				got = append(got, fmt.Sprint(m.Seq, " ", m.DID, " ", *m.Handle, " ", m.Time))
			case *api.SubscribeReposCommit:
				got = append(got, fmt.Sprint(m.Seq, " ", m.Repo, " ", m.Rev, " ", m.Ops[0].Path))
				return done
			}
			return nil
		})
		if err := f.Follow(t.Context(), new(int64(0)), out.SendFrame); err != done {
			t.Error(err)
		}
		want := []string{
			"OutdatedCursor: Requested cursor exceeded limit. Possibly missing events",
			"2 " + alice.String() + " alice.test 2001-09-09T01:46:40.002Z",
			"3 " + alice.String() + " 3jzfcijpj2z2b app.bsky.feed.post/3jzfcijpj2z2a",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// What cannot be framed does not stop what follows.
func TestDamagedEventIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{})
		live := f.follow(nil, nil)
		log.add(alice, 10)
		whole := log.frames(t)
		log.append(bob, event.Event{Kind: "#sync", Body: []byte("no map")})
		log.add(alice, 10)
		f.Wake()
		synctest.Wait()
		frame, err := event.Frame(log.events[2].Event, 3, log.events[2].Time)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, string(frame))
		live.want(t, whole...)
		f.stop()
		f = start(t, log, Options{})
		f.follow(new(int64(0)), nil).want(t, whole...)
		if n := strings.Count(f.lines.String(), "seq=2"); n != 1 {
			t.Errorf("%d lines about event 2, want 1:\n%s", n, f.lines.String())
		}
	})
}

func TestLogAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		for range 600 {
			log.add(alice, 10)
		}
		away := errors.New("database is away")
		tries := 0
		log.failing(func() error {
			tries++
			return away
		})
		f := start(t, log, Options{})
		live, old, future := f.follow(nil, nil), f.follow(new(int64(0)), nil), f.follow(new(int64(1000)), nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		if tries > 4*(3600/5+10) {
			t.Errorf("the log was tried %d times in an hour by four", tries)
		}
		live.want(t)
		old.want(t)
		log.failing(nil)
		time.Sleep(5 * time.Second)
		future.wantEnd(t, ErrFutureCursor)
		old.want(t, log.frames(t)...)

		log.failing(func() error { return away })
		log.add(alice, 10)
		f.Wake()
		time.Sleep(time.Hour)
		log.failing(nil)
		time.Sleep(5 * time.Second)
		live.want(t, log.frames(t)[600:]...)
		old.want(t, log.frames(t)...)
		f.stop() // and writes no more
		for _, tt := range []struct {
			text string
			want int
		}{{"trying again", 5}, {"can be read again", 5}, {"database is away", 5}} { // the reader twice, each consumer once
			if n := strings.Count(f.lines.String(), tt.text); n != tt.want {
				t.Errorf("%d lines with %q, want %d:\n%s", n, tt.text, tt.want, f.lines.String())
			}
		}
	})
}

func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		f := start(t, log, Options{RingBytes: 100_000})
		slow := gate{make(chan struct{})}
		live, within := f.follow(nil, nil), f.follow(nil, slow.pass)
		for range 10 {
			log.add(alice, 100)
		}
		f.Wake()
		synctest.Wait()
		log.failing(func() error { return errors.New("database is away") })
		waits := f.follow(nil, nil)
		time.Sleep(time.Minute)
		log.failing(nil)
		f.stop()
		live.want(t, log.frames(t)...)
		live.wantEnd(t, nil)
		waits.wantEnd(t, nil)
		close(slow.open)
		within.want(t, log.frames(t)...) // the ring has them
		within.wantEnd(t, nil)
		f.follow(nil, nil).wantEnd(t, nil)
	})
}

func TestEndBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		log.failing(func() error { return errors.New("database is away") })
		f := start(t, log, Options{})
		c := f.follow(new(int64(0)), nil)
		f.stop()
		c.wantEnd(t, nil)
	})
}

func TestErrorsOfTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		log.add(alice, 10)
		f := start(t, log, Options{})
		gone := errors.New("gone")
		send := func(context.Context, []byte) error { return gone }
		if err := f.Follow(t.Context(), new(int64(0)), send); err != gone {
			t.Errorf("got %v, want the error of send", err)
		}
		log.outdate(1)
		if err := f.Follow(t.Context(), new(int64(0)), send); err != gone {
			t.Errorf("#info: got %v, want the error of send", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Follow(ctx, nil, send); err != context.DeadlineExceeded {
			t.Errorf("got %v, want that of the context", err)
		}
		log.failing(func() error { return errors.New("database is away") })
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Follow(ctx, nil, send); err != context.DeadlineExceeded {
			t.Errorf("without the log: got %v, want that of the context", err)
		}
	})
}

func TestBackfillsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		for range 10 {
			log.add(alice, 10)
		}
		f := start(t, log, Options{Backfills: 3, Poll: time.Hour})
		log.slow(time.Second)
		var all []*follower
		for range 50 {
			all = append(all, f.follow(new(int64(0)), nil))
		}
		time.Sleep(time.Hour / 2)
		for _, c := range all {
			c.want(t, log.frames(t)...)
		}
		if log.most != 3 {
			t.Errorf("%d pages were read at a time, want 3", log.most)
		}
	})
}

// Consumers that stop in the midst of a page share what there is for pages, and hold no
// place that others need.
func TestPagesOfStoppedConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		for range 40 {
			log.add(alice, 100_000)
		}
		f := start(t, log, Options{Backfills: 2, PageBytes: 3 << 20, RingBytes: 1, Poll: time.Hour})
		stopped := gate{make(chan struct{})}
		var all []*follower
		for i, want := range []int{1 << 20, 1 << 20, 1 << 20, 3 << 18, 3 << 20 / 5, 1 << 19} {
			log.largest = 0
			c := f.follow(new(int64(0)), stopped.pass)
			c.want(t, log.frames(t)[0])
			if log.largest != want {
				t.Errorf("consumer %d asked for %d bytes, want %d", i+1, log.largest, want)
			}
			all = append(all, c)
		}
		log.largest = 0
		f.follow(new(int64(0)), nil).want(t, log.frames(t)...)
		if log.largest != 3<<20/7 {
			t.Errorf("consumer 7 asked for %d bytes, want %d", log.largest, 3<<20/7)
		}
		for _, c := range all {
			c.stop()
		}
		f.follow(new(int64(0)), nil).want(t, log.frames(t)...)
		if log.largest != 1<<20 {
			t.Errorf("alone again it asked for %d bytes, want %d", log.largest, 1<<20)
		}
	})
}

func TestRingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		log := &memoryLog{}
		f := start(t, log, Options{RingBytes: most})
		slow := gate{make(chan struct{})}
		c := f.follow(nil, slow.pass)
		before := heap()
		random := rand.New(rand.NewPCG(1, 2))
		for range 30 {
			for range 5 {
				log.add(alice, random.IntN(1<<17))
			}
			log.add(alice, most) // alone more than the ring may hold
			for range random.IntN(10) {
				log.add(alice, 10)
			}
			f.Wake()
			synctest.Wait()
			if held := f.held(t); held > most {
				t.Fatalf("the ring holds %d bytes, want at most %d", held, most)
			}
			log.outdate(log.last)
		}
		for range 40 {
			log.add(alice, 100_000)
			f.Wake()
			synctest.Wait()
			log.outdate(log.last)
			if grown := heap() - before; grown > 3*most {
				t.Fatalf("memory grew by %d bytes, want at most %d: the ring, and the page of the consumer", grown, 3*most)
			}
		}
		close(slow.open)
		c.wantEnd(t, ErrConsumerTooSlow)
	})
}

// held is what the ring holds, in bytes, which it counts itself.
func (f *fixture) held(t *testing.T) (held int) {
	t.Helper()
	for _, e := range f.ring.entries {
		held += e.bytes()
	}
	if held != f.ring.bytes {
		t.Fatalf("the ring holds %d bytes and counts %d", held, f.ring.bytes)
	}
	return held
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Each consumer gets each event once and in order, whatever its speed, however often it
// comes back with its cursor, and though the log fails at times.
func TestEachOnceInOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		log := &memoryLog{last: 100}
		for range 700 {
			log.add(alice, random.IntN(300))
		}
		failures := rand.New(rand.NewPCG(seed, 1))
		log.slow(time.Millisecond)
		f := start(t, log, Options{RingBytes: 1 << (12 + random.IntN(6)), PageBytes: 1 << 18, Backfills: 2})
		log.failing(func() error {
			if failures.IntN(20) == 0 {
				return errors.New("database is away")
			}
			return nil
		})
		var all sync.WaitGroup
		grown := make(chan struct{})
		all.Go(func() {
			defer close(grown)
			for log.end() < 1800 {
				for range 1 + random.IntN(30) {
					log.add(alice, random.IntN(300))
				}
				if random.IntN(10) == 0 {
					log.skip(random.IntN(50))
				}
				if random.IntN(3) > 0 {
					f.Wake()
				}
				time.Sleep(time.Duration(random.IntN(int(400 * time.Millisecond))))
			}
		})
		type had struct {
			from   int64
			frames []string
		}
		consumers := make([]had, 12)
		for i := range consumers {
			own := rand.New(rand.NewPCG(seed, uint64(2+i)))
			all.Go(func() {
				c := &consumers[i]
				at := int64(own.IntN(800))
				c.from = at
				slowest := 1 << own.IntN(25)
				for {
					stop := errors.New("comes back")
					left := own.IntN(700)
					err := f.Follow(t.Context(), &at, func(_ context.Context, frame []byte) error {
						if left--; left < 0 {
							return stop // and does not have it
						}
						c.frames = append(c.frames, string(frame))
						at = number(frame)
						if own.IntN(4) == 0 {
							time.Sleep(time.Duration(own.IntN(slowest)))
						}
						if at >= 1800 && at == log.end() {
							select {
							case <-grown:
								return context.Canceled
							default:
							}
						}
						return nil
					})
					if err == context.Canceled {
						return
					}
					if err != stop {
						t.Errorf("consumer %d: %v", i, err)
						return
					}
				}
			})
		}
		all.Go(func() { // those that had all before it was known to be all get one more
			<-grown
			time.Sleep(time.Minute)
			log.add(alice, 10)
		})
		all.Wait()
		frames := log.frames(t)
		for i, c := range consumers {
			want := frames
			for n, e := range log.events {
				if e.Seq > c.from {
					want = frames[n:]
					break
				}
			}
			if !slices.Equal(c.frames, want) && !slices.Equal(c.frames, want[:len(want)-1]) {
				t.Errorf("consumer %d behind %d got %d frames, want %d", i, c.from, len(c.frames), len(want))
			}
		}
	})
}
