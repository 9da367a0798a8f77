package password

import (
	"cmp"
	"slices"
)

// A Caller is who waits for a hash. Turns are dealt by it.
type Caller struct {
	// Address is where the caller is, as far as one customer of a network has it: an IPv4
	// address, or a /64 of IPv6. All whose address says nothing, because it is this
	// machine's or a proxy's, have "" and share a turn.
	Address string
	// Network is what somebody may have many addresses of, a /48 of IPv6; "" if there is
	// no such thing.
	Network string
	// Known says that the owner of the account has signed in to it at the address before.
	Known bool
}

// network is what has a turn: one of those that many addresses belong to, or an address.
func (c Caller) network() string { return cmp.Or(c.Network, c.Address) }

// How many may wait.
const (
	queueEach   = 32 // for each hash that is computed at a time, unless configured
	networkMost = 8  // of one Network
)

// queue is who waits, and whose turn it is. Ours because x/sync/semaphore serves in the
// order of coming, and who comes most would have the most of it. Half of its places are for known callers and
// half for the rest. The halves take turns, within each the networks, and within these
// their addresses: whoever is alone somewhere waits for one hash of each other network
// at most, however many that one wants.
type queue struct {
	known, unknown half
	lastKnown      bool // the last turn was a known caller's
}

type half struct {
	places  int
	waiters []*waiter // in order of arrival
	// since is when each network and address that somebody waits in had its last turn, or
	// else came. No two networks have the same, and no two addresses.
	since map[string]int
	clock int
}

type waiter struct {
	Caller
	weight int64
	turn   chan error // has nil when it has come, ErrBusy when it never will
}

func newQueue(places int) queue {
	some := max(1, places/2)
	return queue{
		known:   half{places: max(1, places-some), since: make(map[string]int)},
		unknown: half{places: some, since: make(map[string]int)},
	}
}

func (q *queue) half(w *waiter) *half {
	if w.Known {
		return &q.known
	}
	return &q.unknown
}

// add lets w wait, and returns who lost a place by that: nobody while there are enough,
// else the youngest of the network that has the most, which can be w itself. But a place
// is always taken from others if w is the first of its network.
func (q *queue) add(w *waiter) (lost *waiter) {
	h := q.half(w)
	h.waiters = append(h.waiters, w)
	h.clock++
	for _, name := range []string{w.network(), w.Address} {
		if _, ok := h.since[name]; !ok {
			h.since[name] = h.clock
		}
	}
	of := h.counts()
	switch {
	case w.Network != "" && of[w.Network] > networkMost:
		lost = youngestOfMost(h.waiters, func(o *waiter) (int, bool) { return of[o.Address], o.Network == w.Network })
	case len(h.waiters) > h.places:
		first := of[w.network()] == 1
		lost = youngestOfMost(h.waiters, func(o *waiter) (int, bool) { return of[o.network()], o != w || !first })
	default:
		return nil
	}
	q.remove(lost)
	return lost
}

// counts returns how many wait of each network and address.
func (h *half) counts() map[string]int {
	n := make(map[string]int)
	for _, w := range h.waiters {
		n[w.Address]++
		if w.Network != "" {
			n[w.Network]++
		}
	}
	return n
}

// youngestOfMost returns the last of those for which count is the greatest.
func youngestOfMost(waiters []*waiter, count func(*waiter) (n int, ok bool)) (last *waiter) {
	most := 0
	for _, w := range waiters {
		if n, ok := count(w); ok && n >= most {
			last, most = w, n
		}
	}
	return last
}

// next is whose turn it is; nil when nobody waits.
func (q *queue) next() *waiter {
	first, second := &q.known, &q.unknown
	if q.lastKnown {
		first, second = second, first
	}
	if len(first.waiters) == 0 {
		first = second
	}
	if len(first.waiters) == 0 {
		return nil
	}
	return slices.MinFunc(first.waiters, func(a, b *waiter) int { // the first of the least
		return cmp.Or(
			cmp.Compare(first.since[a.network()], first.since[b.network()]),
			cmp.Compare(first.since[a.Address], first.since[b.Address]))
	})
}

// take ends the waiting of w, whose turn it is: those that come from where it does are
// behind all others now.
func (q *queue) take(w *waiter) {
	h := q.half(w)
	h.clock++
	h.since[w.network()], h.since[w.Address] = h.clock, h.clock
	q.lastKnown = w.Known
	q.remove(w)
}

// remove ends the waiting of w. It reports whether it did wait.
func (q *queue) remove(w *waiter) bool {
	h := q.half(w)
	i := slices.Index(h.waiters, w)
	if i < 0 {
		return false
	}
	h.waiters = slices.Delete(h.waiters, i, i+1)
	of := h.counts()
	for _, name := range []string{w.network(), w.Address} {
		if of[name] == 0 {
			delete(h.since, name)
		}
	}
	return true
}
