// Package firehose streams the log of events to those who follow it.
//
// One reader in a process follows the log and keeps the latest frames in a ring, which
// all consumers read: an event is read and framed once, however many there are. A
// consumer that is not within the ring, because its cursor is older or because it is
// slow, reads the log itself, page by page, until it has come back. So slowness costs the
// slow one alone, and nobody is sent away for it but who is behind all that is kept.
//
// What is held has bounds that time and speed do not move: the ring, a page for each
// consumer that reads the log, smaller the more there are, and the frame that a consumer
// is being sent. How many consumers there may be is for the caller to bound.
package firehose

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
)

// An Event is a stored event with the number and the time that it was given.
type Event struct {
	Seq  int64
	Time time.Time
	DID  syntax.DID
	event.Event
}

// A Log keeps events in the order of their numbers. Numbers have gaps where the events of
// deleted accounts were, but an event becomes visible after all that have lower ones.
type Log interface {
	// Events returns up to limit events with numbers above after, in order. With the
	// first whose body makes them size bytes or more it has enough, so that a page is
	// at most one event larger than size.
	Events(ctx context.Context, after int64, limit, size int) ([]Event, error)
	// Past is Events for a consumer, and through which number events were outdated when they
	// were read, so that one knows whether they are all. It may read a copy of the log that has
	// what the log had when it was called.
	Past(ctx context.Context, after int64, limit, size int) (page []Event, through int64, err error)
	// LastEvent returns the highest number given, whether that event is kept or not.
	LastEvent(ctx context.Context) (int64, error)
	// LastOutdated returns the highest number of an event that was deleted because it
	// was older than what is kept, 0 if there was none. It says so no later than the
	// event is gone.
	LastOutdated(ctx context.Context) (int64, error)
}

// How a consumer is refused.
var (
	// ErrFutureCursor says that the cursor is above every number given.
	ErrFutureCursor = errors.New("cursor in the future")
	// ErrConsumerTooSlow says that what the consumer was to be sent next is older than
	// what is kept.
	ErrConsumerTooSlow = errors.New("stream consumer too slow")
)

// Options are the bounds of a firehose. A zero means what is said.
type Options struct {
	RingBytes int           // of memory for the latest frames, 0: 32 MiB
	PageBytes int           // of events that consumers outside the ring share; each has 64 KiB or one event at least, 0: 32 MiB
	Backfills int           // that read the log at a time, 0: 4
	Poll      time.Duration // between looks for events that nobody woke for, 0: 100 ms
}

const (
	pageEvents = 500
	// leastPage is what the page of a consumer has room for, in bytes, however many
	// there are, and mostPage what it has for a few, and for the reader.
	leastPage = 64 << 10
	mostPage  = 1 << 20
	// firstPause and longestPause are between trials of a log that fails.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Firehose is the log as it is streamed. All methods are safe for concurrent use.
type Firehose struct {
	log    Log
	logger *slog.Logger
	o      Options

	ring  ring
	wake  chan struct{}
	done  chan struct{} // closed when Run has ended
	slots chan struct{} // taken while a page is read
	pages atomic.Int64  // held by consumers
	followers

	read, sent, backfilled atomic.Int64 // see Figures
}

// Figures are how busy a firehose is.
type Figures struct {
	// Events were read of the log since Run began, each once. Frames were sent, the same one to
	// each consumer, of which Backfilled were read of the log for one consumer.
	Events, Frames, Backfilled int64
	// Entries and Bytes are in the ring, which has at most Most bytes.
	Entries, Bytes, Most int
}

// Figures returns them.
func (f *Firehose) Figures() Figures {
	f.ring.mu.RLock()
	defer f.ring.mu.RUnlock()
	return Figures{f.read.Load(), f.sent.Load(), f.backfilled.Load(), len(f.ring.entries), f.ring.bytes, f.ring.most}
}

// New returns a firehose of the events in log. It streams once [Firehose.Run] runs. To
// logger goes what is wrong with the log.
func New(log Log, logger *slog.Logger, o Options) *Firehose {
	o.RingBytes = cmp.Or(o.RingBytes, 32<<20)
	o.PageBytes = cmp.Or(o.PageBytes, 32<<20)
	o.Poll = cmp.Or(o.Poll, 100*time.Millisecond)
	o.Backfills = cmp.Or(o.Backfills, 4)
	return &Firehose{
		log: log, logger: logger, o: o,
		ring:  ring{most: o.RingBytes, changed: make(chan struct{})},
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
		slots: make(chan struct{}, o.Backfills),
	}
}

// Wake says that the log has grown. It returns at once, and is called after the
// transaction has committed; events of other processes are found without.
func (f *Firehose) Wake() {
	select {
	case f.wake <- struct{}{}:
	default: // the reader has not looked yet since it was last woken
	}
}

// Run follows the log until ctx is done. Then every consumer ends as soon as it has what
// the ring has for it. While the log fails it is tried again, with pauses up to 5 seconds.
// A firehose runs once.
func (f *Firehose) Run(ctx context.Context) {
	defer close(f.done)
	defer f.ring.end()
	at, err := retry(ctx, f, "find the end of the log of events", func() (int64, error) { return f.log.LastEvent(ctx) })
	if err != nil {
		return
	}
	f.ring.begin(at)
	tick := time.NewTicker(f.o.Poll)
	defer tick.Stop()
	for {
		page, err := retry(ctx, f, "follow the log of events", func() ([]Event, error) { return f.log.Events(ctx, at, pageEvents, mostPage) })
		if err != nil {
			return
		}
		if len(page) > 0 {
			at = page[len(page)-1].Seq
			f.publish(ctx, page)
		}
		if full(page, mostPage) {
			continue
		}
		select {
		case <-f.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// full says whether there may be more behind page.
func full(page []Event, size int) bool {
	for _, e := range page {
		size -= len(e.Body)
	}
	return len(page) >= pageEvents || size <= 0
}

// publish puts page into the ring. The events of an account that has been deleted leave
// it, as they have left the log.
func (f *Firehose) publish(ctx context.Context, page []Event) {
	entries := make([]entry, 0, len(page))
	deleted := make(map[syntax.DID]int64)
	for _, e := range page {
		if e.Kind == "#account" && bytes.Equal(e.Body, event.Account(e.DID, "deleted").Body) {
			deleted[e.DID] = e.Seq
		}
		if frame := f.frame(ctx, nil, e); frame != nil {
			entries = append(entries, entry{e.Seq, e.DID, frame})
		}
	}
	f.ring.put(entries, deleted)
	f.read.Add(int64(len(page)))
}

// frame appends to b what consumers are sent of e, and returns nil if that cannot be made
// out. Nothing but a damaged database has such an event, and it must not stop those
// behind it.
func (f *Firehose) frame(ctx context.Context, b []byte, e Event) []byte {
	frame, err := event.AppendFrame(b, e.Event, e.Seq, e.Time)
	if err != nil {
		f.logger.ErrorContext(ctx, "event left out of the firehose", "seq", e.Seq, "did", e.DID, "error", err)
		return nil
	}
	return frame
}

// Follow sends the frames of all events behind cursor, and then those that come, each
// once and in order; without a cursor those that come from now on. Where some of what is
// behind the cursor is not kept any more, it says so first and sends the rest. It waits
// for send, which must neither change nor keep the frame.
//
// It returns nil when the firehose ends, ErrFutureCursor, ErrConsumerTooSlow, the error
// of send as it is, or that of ctx. While the log fails it waits.
func (f *Firehose) Follow(ctx context.Context, cursor *int64, send func(ctx context.Context, frame []byte) error) error {
	return f.FollowFrom(ctx, "", cursor, send)
}

// FollowFrom is Follow for a consumer at an address of the network, of which
// [Firehose.Consumers] tells meanwhile.
func (f *Firehose) FollowFrom(ctx context.Context, address string, cursor *int64, send func(ctx context.Context, frame []byte) error) error {
	c := consumer{Firehose: f, sendFrame: send}
	defer f.join(&c, address)()
	if err := c.follow(ctx, cursor); err != errEnded {
		return err
	}
	return nil
}

// errEnded says that the firehose has ended.
var errEnded = errors.New("the firehose has ended")

// consumer is one that follows the firehose.
type consumer struct {
	*Firehose
	sendFrame func(context.Context, []byte) error
	at        int64 // number of the last event that it has, or will not get
	begun     bool  // it was sent an event
	told      bool  // that its cursor was outdated

	shown atomic.Int64 // at, for others to read; negative before it is known where to begin
}

func (c *consumer) follow(ctx context.Context, cursor *int64) error {
	if err := c.start(ctx, cursor); err != nil {
		return err
	}
	for {
		e, place, changed := c.ring.after(c.at)
		switch place {
		case within:
			if err := c.send(ctx, e.seq, e.frame); err != nil {
				return err
			}
		case behind:
			if err := c.backfill(ctx, e.seq); err != nil {
				return err
			}
		case ahead:
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		case ended:
			return errEnded
		}
	}
}

// start finds where c begins.
func (c *consumer) start(ctx context.Context, cursor *int64) error {
	last, err := retry(ctx, c.Firehose, "look up the last event", func() (int64, error) { return c.log.LastEvent(ctx) })
	if err != nil {
		return err
	}
	if cursor == nil {
		c.at = last
		c.shown.Store(c.at)
		return nil
	}
	if *cursor > last {
		return ErrFutureCursor
	}
	c.at = max(*cursor, 0)
	c.shown.Store(c.at)
	through, err := retry(ctx, c.Firehose, "look up the last outdated event", func() (int64, error) { return c.log.LastOutdated(ctx) })
	if err != nil {
		return err
	}
	return c.skip(ctx, through)
}

// skip goes beyond the events that are outdated through a number, if c is not there yet.
// One that has begun would not learn that it missed something, and is refused.
func (c *consumer) skip(ctx context.Context, through int64) error {
	if c.at >= through {
		return nil
	}
	if c.begun {
		return ErrConsumerTooSlow
	}
	c.at = through
	if c.told {
		return nil
	}
	c.told = true
	return c.sendFrame(ctx, outdatedCursor)
}

func (c *consumer) send(ctx context.Context, seq int64, frame []byte) error {
	c.at, c.begun = seq, true
	err := c.sendFrame(ctx, frame)
	c.sent.Add(1)
	c.shown.Store(seq)
	return err
}

// backfill sends c the next page of the log. The ring began behind from before it is read:
// where there is nothing up to there, c is within the ring.
func (c *consumer) backfill(ctx context.Context, from int64) error {
	size := min(max(c.o.PageBytes/int(c.pages.Add(1)), leastPage), mostPage)
	defer c.pages.Add(-1)
	at := c.at
	page, through, err := c.read(ctx, size)
	if err != nil {
		return err
	}
	if err := c.skip(ctx, through); err != nil || c.at > at {
		return err
	}
	if len(page) == 0 {
		c.at = max(c.at, from)
	}
	var buf []byte // garbage of whole frames is most of what a backfill would cost
	for i, e := range page {
		page[i] = Event{} // sending may take long
		frame := c.frame(ctx, buf, e)
		if frame == nil {
			c.at = e.Seq
			continue
		}
		buf = frame[:0]
		c.backfilled.Add(1)
		if err := c.send(ctx, e.Seq, frame); err != nil {
			return err
		}
	}
	return nil
}

// read returns the page behind c, and through which number events were outdated when it
// was read, so that one knows whether it is whole.
func (c *consumer) read(ctx context.Context, size int) (page []Event, through int64, err error) {
	page, err = retry(ctx, c.Firehose, "read back the log of events", func() ([]Event, error) {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.done:
			return nil, errEnded
		}
		defer func() { <-c.slots }()
		var page []Event
		var err error
		page, through, err = c.log.Past(ctx, c.at, pageEvents, size)
		return page, err
	})
	return page, through, err
}

// retry calls do until it succeeds, ctx is done, whose error it returns then, or the
// firehose ends, which is errEnded. The first failure is written down, and that it is over.
func retry[T any](ctx context.Context, f *Firehose, what string, do func() (T, error)) (T, error) {
	for pause := time.Duration(0); ; {
		v, err := do()
		if err == nil {
			if pause > 0 {
				f.logger.InfoContext(ctx, "the log of events can be read again", "doing", what)
			}
			return v, nil
		}
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		if err == errEnded {
			return v, err
		}
		if pause == 0 {
			f.logger.WarnContext(ctx, "the log of events cannot be read; trying again", "doing", what, "error", err)
		}
		pause = min(max(2*pause, firstPause), longestPause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return v, ctx.Err()
		case <-f.done:
			timer.Stop()
			return v, errEnded
		}
	}
}

// outdatedCursor is the frame that tells a consumer that it may have missed something.
var outdatedCursor = func() []byte {
	header := map[string]any{"op": 1, "t": "#info"}
	body := map[string]any{"name": "OutdatedCursor", "message": "Requested cursor exceeded limit. Possibly missing events"}
	var frame []byte
	for _, part := range []map[string]any{header, body} {
		b, err := dagcbor.Marshal(part)
		if err != nil {
			panic(fmt.Sprintf("frame of an outdated cursor: %v", err))
		}
		frame = append(frame, b...)
	}
	return frame
}()
