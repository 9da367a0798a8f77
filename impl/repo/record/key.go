package record

import (
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Keys makes record keys for those who give none: TIDs, each later than the one before,
// whatever the clock does. It is safe for concurrent use.
type Keys struct {
	now   func() time.Time
	clock uint
	draw  func(n uint) uint

	mu   sync.Mutex
	last int64 // in microseconds
}

// clocks is how many numbers a clock may have, and ownClocks how many of them those of servers do.
const (
	clocks    = 1024
	ownClocks = 32
)

// NewKeys returns a source of keys by a clock. Those of different servers differ by their
// clock's number, which is below 32, unless two have drawn the same. What draw returns is
// below n.
func NewKeys(now func() time.Time, clock uint, draw func(n uint) uint) *Keys {
	return &Keys{now: now, clock: clock, draw: draw}
}

// Next returns the next key.
func (k *Keys) Next() syntax.RecordKey { return k.next(k.clock) }

// Anew returns a key in place of one that is taken: it is no [Keys.Next] of any server.
func (k *Keys) Anew() syntax.RecordKey { return k.next(ownClocks + k.draw(clocks-ownClocks)) }

func (k *Keys) next(clock uint) syntax.RecordKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = max(k.now().UnixMicro(), k.last+1)
	return syntax.RecordKey(syntax.NewTID(k.last, clock))
}
