package firehose

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A Consumer is one that follows the firehose now.
type Consumer struct {
	Address string // of the network, "" if it is not known
	Since   time.Time
	Seq     int64 // of the last event that it was sent, or that it begins behind
	Lag     int64 // how many numbers that is behind the last event
}

// A Lag says how far behind consumers were at a time.
type Lag struct {
	At        time.Time
	Consumers int
	Most      int64 // the lag of the one who was furthest behind
}

// historyEvery is how often [Firehose.Watch] looks, and history how many times it
// remembers: a day.
const (
	historyEvery = time.Minute
	history      = 24 * 60
)

// followers knows who follows, and how far behind they were.
type followers struct {
	mu   sync.Mutex
	all  []*following // in the order in which they came
	past []Lag        // the oldest first
}

type following struct {
	c       *consumer
	address string
	since   time.Time
}

// join counts c among the consumers until leave is called.
func (f *Firehose) join(c *consumer, address string) (leave func()) {
	one := &following{c, address, time.Now()}
	c.shown.Store(-1)
	f.followers.mu.Lock()
	defer f.followers.mu.Unlock()
	f.all = append(f.all, one)
	return func() {
		f.followers.mu.Lock()
		defer f.followers.mu.Unlock()
		f.all = slices.DeleteFunc(f.all, func(other *following) bool { return other == one })
	}
}

// Consumers returns the number of the last event that this process has read of the log,
// and those who follow it, in the order in which they came.
func (f *Firehose) Consumers() (last int64, all []Consumer) {
	last = f.ring.last()
	f.followers.mu.Lock()
	defer f.followers.mu.Unlock()
	for _, one := range f.all {
		seq := one.c.shown.Load()
		if seq < 0 {
			continue // it has not begun, and may be refused
		}
		last = max(last, seq)
		all = append(all, Consumer{Address: one.address, Since: one.since, Seq: seq})
	}
	for i := range all {
		all[i].Lag = last - all[i].Seq
	}
	return last, all
}

// Watch remembers every minute how far behind the consumers are, until ctx is done.
func (f *Firehose) Watch(ctx context.Context) {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			f.Look(now)
		case <-ctx.Done():
			return
		}
	}
}

// Look remembers how far behind the consumers are now.
func (f *Firehose) Look(now time.Time) {
	_, all := f.Consumers()
	seen := Lag{At: now, Consumers: len(all)}
	for _, c := range all {
		seen.Most = max(seen.Most, c.Lag)
	}
	f.followers.mu.Lock()
	defer f.followers.mu.Unlock()
	if len(f.past) == history {
		f.past = slices.Delete(f.past, 0, 1)
	}
	f.past = append(f.past, seen)
}

// History returns what [Firehose.Watch] remembers: of the last day at most, the oldest
// first.
func (f *Firehose) History() []Lag {
	f.followers.mu.Lock()
	defer f.followers.mu.Unlock()
	return slices.Clone(f.past)
}
