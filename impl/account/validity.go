package account

import (
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// validFor is how long a DID that was found valid is said to be so without asking
	// again: longer than clients wait between two questions, and less than it takes to move
	// an account.
	validFor = 30 * time.Second
	// maxValid is how many DIDs are remembered at most: a megabyte.
	maxValid = 4096
)

// validity remembers which DIDs were found valid a short time ago, and with which signing
// key. Only accounts of this server get in, each with one entry. What else changes a DID,
// at the directory or by another process, is noticed when the time is over. It is ready for
// use when zero, and safe for concurrent use.
type validity struct {
	mu      sync.Mutex
	valid   *simplelru.LRU[syntax.DID, found] // nil: none yet
	changes uint64                            // how often something was forgotten
}

type found struct {
	key string
	at  time.Time // when it was asked
}

// has reports whether did was found valid with a key at most validFor ago.
func (v *validity) has(did syntax.DID, key string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.valid == nil {
		return false
	}
	f, ok := v.valid.Get(did)
	age := now.Sub(f.at)
	return ok && f.key == key && age >= 0 && age < validFor
}

// state is what keep wants from before the network was asked.
func (v *validity) state() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes
}

// keep remembers that did was valid with a key when the network was asked at a time, unless
// something was forgotten since state: the answer may be of before.
func (v *validity) keep(did syntax.DID, key string, at time.Time, state uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changes != state {
		return
	}
	if v.valid == nil {
		v.valid, _ = simplelru.NewLRU[syntax.DID, found](maxValid, nil) // fails for a size of none
	}
	v.valid.Add(did, found{key, at})
}

func (v *validity) forget(did syntax.DID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++
	if v.valid != nil {
		v.valid.Remove(did)
	}
}

// DIDChanged makes [Verifier.FoundValid] forget a DID. Whatever changes one calls it after
// the directory could have learnt of that, whether it says so or not, and before the client
// is answered.
func (a *Accounts) DIDChanged(did syntax.DID) { a.validity.forget(did) }
