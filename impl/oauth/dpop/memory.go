package dpop

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// Errors of [Memory.Once].
var (
	// ErrForgotten says that nobody knows any more whether something was used: it counts as if
	// it had been, and the client may try again with a newer nonce.
	ErrForgotten = errors.New("too old to know whether it was used before")
	// ErrFull says that nothing can be remembered now, for less than a minute.
	ErrFull = errors.New("too many proofs to remember")
)

const (
	// kept is how many proofs a Memory remembers, in some 40 MB. Each was a signature to verify:
	// whoever sends as many within the life of a nonce has nearly all of a processor for it.
	kept   = 1 << 20
	shards = 64
)

// Memory remembers proofs that were used, within one process: see [Verifier.Once]. When there
// are more than it has room for, it gives up those which end first, all of them, and takes none of that
// age any more, so that nothing is taken twice. It is safe for concurrent use.
type Memory struct {
	now    func() time.Time
	seed   maphash.Seed // nobody else knows which ids are kept together
	room   int          // of a shard
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex
	count int
	ages  []age // the oldest first; few, as untils are ends of minutes
	given int64 // up and including which ages were given up
}

// An age are ids that are forgotten at the same time.
type age struct {
	until int64 // unix seconds
	used  map[[16]byte]struct{}
}

// NewMemory makes one that remembers nothing yet.
func NewMemory(now func() time.Time) *Memory { return newMemory(now, kept) }

func newMemory(now func() time.Time, most int) *Memory {
	return &Memory{now: now, seed: maphash.MakeSeed(), room: max(1, most/shards)}
}

// grain is what times are rounded up to, in seconds.
const grain = 30

// Once notes that something with this id, a hash of at least 16 bytes, was used, and says false if
// it had been before. It returns ErrForgotten and ErrFull.
func (m *Memory) Once(_ context.Context, id []byte, until time.Time) (bool, error) {
	key := [16]byte(id)
	ends := (until.Unix() + grain - 1) / grain * grain
	s := &m.shards[maphash.Bytes(m.seed, key[:])%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	now := m.now().Unix()
	s.forget(now)
	if ends <= max(s.given, now) {
		return false, ErrForgotten
	}
	at := -1
	for i, a := range s.ages {
		if _, used := a.used[key]; used {
			return false, nil
		}
		if a.until == ends {
			at = i
		}
	}
	if s.count >= m.room {
		oldest := s.ages[0].until
		// Nobody can get a nonce that ends later than the last.
		if len(s.ages) == 1 && oldest == ends {
			return false, ErrFull
		}
		s.given = max(oldest, s.given)
		s.drop()
		if ends <= s.given {
			return false, ErrForgotten
		}
		at--
	}
	if at < 0 {
		at, _ = slices.BinarySearchFunc(s.ages, ends, func(a age, ends int64) int { return int(a.until - ends) })
		s.ages = slices.Insert(s.ages, at, age{ends, make(map[[16]byte]struct{})})
	}
	s.ages[at].used[key] = struct{}{}
	s.count++
	return true, nil
}

// forget drops what ended before now.
func (s *shard) forget(now int64) {
	for len(s.ages) > 0 && s.ages[0].until <= now {
		s.drop()
	}
}

// drop forgets the oldest age.
func (s *shard) drop() {
	s.count -= len(s.ages[0].used)
	s.ages = slices.Delete(s.ages, 0, 1)
}
