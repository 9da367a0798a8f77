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

	mu   sync.Mutex
	last int64 // in microseconds
}

// NewKeys returns a source of keys by a clock. Those of different servers differ by their
// clock's number, which is below 32.
func NewKeys(now func() time.Time, clock uint) *Keys { return &Keys{now: now, clock: clock} }

// Next returns the next key.
func (k *Keys) Next() syntax.RecordKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = max(k.now().UnixMicro(), k.last+1)
	return syntax.RecordKey(syntax.NewTID(k.last, k.clock))
}
