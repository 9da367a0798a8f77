package firehose

import (
	"slices"
	"sort"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// ring holds the latest frames, for all consumers: they are never changed.
type ring struct {
	most int // bytes

	mu      sync.RWMutex
	entries []entry // in order: all events behind from that the log had
	from    int64
	bytes   int
	begun   bool
	ended   bool
	changed chan struct{} // closed with the next change
}

type entry struct {
	seq   int64
	did   syntax.DID
	frame []byte
}

// bytes is what e takes of the ring: the frame, and about as much as all else does.
func (e entry) bytes() int { return cap(e.frame) + 128 }

// A place is where a consumer is as the ring sees it.
type place int

const (
	within place = iota // the next event is here
	behind              // the next event may have left the ring
	ahead               // the next event has not come yet
	ended               // none will come
)

// after returns the entry that follows the number at, if it is within the ring. If it is
// behind, the number of the entry is where the ring begins; if it is ahead, changed is
// closed with the next change.
func (r *ring) after(at int64) (e entry, p place, changed <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.begun && at >= r.from {
		i := sort.Search(len(r.entries), func(i int) bool { return r.entries[i].seq > at })
		if i < len(r.entries) {
			return r.entries[i], within, nil
		}
	}
	switch {
	case r.ended:
		return entry{}, ended, nil
	case r.begun && at < r.from:
		return entry{seq: r.from}, behind, nil
	}
	return entry{}, ahead, r.changed
}

// last is the number of the last event that came.
func (r *ring) last() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if n := len(r.entries); n > 0 {
		return r.entries[n-1].seq
	}
	return r.from
}

// begin opens the ring behind the number at.
func (r *ring) begin(at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.from = true, at
	r.change()
}

// put appends entries, takes out those that the deleted accounts had before the numbers
// of their deletions, and the oldest until it holds no more than it may.
func (r *ring) put(entries []entry, deleted map[syntax.DID]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		r.bytes += e.bytes()
	}
	r.entries = append(r.entries, entries...)
	if len(deleted) > 0 {
		r.entries = slices.DeleteFunc(r.entries, func(e entry) bool {
			gone := e.seq < deleted[e.did]
			if gone {
				r.bytes -= e.bytes()
			}
			return gone
		})
	}
	n := 0
	for ; r.bytes > r.most; n++ {
		r.bytes -= r.entries[n].bytes()
		r.from = r.entries[n].seq
	}
	clear(r.entries[:n]) // the array stays for a while
	r.entries = r.entries[n:]
	r.change()
}

// end says that nothing comes any more.
func (r *ring) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.change()
}

func (r *ring) change() {
	close(r.changed)
	r.changed = make(chan struct{})
}
