package bsky

import (
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Who signs in chooses with atproto-proxy whose answers are read here, and may have written
// the service. So an account has a bound on what reading costs, and the process one on how
// many answers it holds; beyond them they are passed on as they come.
const (
	maxReadings        = 64 // in memory at a time
	maxReadingsAccount = 4
	// maxWork is that of an account in a minute, see [work]: it takes a core less than three
	// seconds, and is ten times what an app comes to that is used all the time.
	maxWork   = 512 << 20
	workEvery = time.Minute
)

// readings are the answers that are read here. The zero value is none.
type readings struct {
	mu       sync.Mutex
	under    int
	began    time.Time // the minute
	accounts map[syntax.DID]*reading
}

type reading struct{ under, work int }

// enter says that an answer is going to be read for an account, until leave is called;
// unless ok it may not.
func (r *readings) enter(did syntax.DID, now time.Time) (leave func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.began).Abs() >= workEvery {
		r.began = now
		for did, a := range r.accounts {
			if a.work = 0; a.under == 0 {
				delete(r.accounts, did)
			}
		}
	}
	a := r.accounts[did]
	if a == nil {
		if a = new(reading); r.accounts == nil {
			r.accounts = make(map[syntax.DID]*reading)
		}
		r.accounts[did] = a
	}
	if r.under >= maxReadings || a.under >= maxReadingsAccount || a.work >= maxWork {
		return nil, false
	}
	r.under++
	a.under++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.under--
		a.under--
	}, true
}

// spend says what an answer costs that an account entered for, and reports whether that may
// be done.
func (r *readings) spend(did syntax.DID, work int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[did]
	a.work += work
	return a.work <= maxWork
}

// work is what it costs to look for something in a JSON text: each byte as often as it is
// deep in it, see [xrpc.Node].
func work(text []byte) (sum int) {
	depth := 1
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth = max(1, depth-1)
		case '"':
			from := i
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			sum += depth * (i - from)
		}
		sum += depth
	}
	return sum
}
