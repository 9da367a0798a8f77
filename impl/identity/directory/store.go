package directory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrConflict is what [Store.Append] returns when another operation came first.
var ErrConflict = errors.New("another operation was appended first")

// An Entry is an accepted operation.
type Entry struct {
	Seq       int64 // number among all operations, set by the store, from 1 upwards
	DID       string
	Operation json.RawMessage // as it was posted
	CID       string
	Nullified bool
	CreatedAt time.Time // whole milliseconds, UTC; later than every earlier one of the DID
}

// A Store keeps the operations of all DIDs. It is safe for concurrent use.
type Store interface {
	// Log returns all entries of did, nullified ones too, the oldest first. A DID
	// that is unknown has none; that is no error.
	Log(ctx context.Context, did string) ([]Entry, error)
	// Append adds e with the next number and marks the entries of e.DID whose CIDs
	// are listed as nullified, both or neither, if head is the CID of the last
	// entry of e.DID that is not nullified, or empty where there is no entry at
	// all. Otherwise, and if e.DID has an entry with e.CID, it changes nothing and
	// returns ErrConflict.
	Append(ctx context.Context, e Entry, nullified []string, head string) error
	// ExportAfterTime returns up to count entries made after t, by CreatedAt and
	// then by number.
	ExportAfterTime(ctx context.Context, t time.Time, count int) ([]Entry, error)
	// ExportAfterSeq returns up to count entries with numbers above seq, by number.
	ExportAfterSeq(ctx context.Context, seq int64, count int) ([]Entry, error)
}

// Memory is a Store that forgets everything when the process ends.
type Memory struct {
	mu  sync.RWMutex
	all []*Entry // by number
	did map[string][]*Entry
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{did: map[string][]*Entry{}} }

// Log implements Store.
func (m *Memory) Log(_ context.Context, did string) ([]Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]Entry, len(m.did[did]))
	for i, e := range m.did[did] {
		out[i] = *e
	}
	return out, nil
}

// Append implements Store.
func (m *Memory) Append(_ context.Context, e Entry, nullified []string, head string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := ""
	for _, known := range m.did[e.DID] {
		if known.CID == e.CID {
			return ErrConflict
		}
		if !known.Nullified {
			last = known.CID
		}
	}
	if last != head {
		return ErrConflict
	}
	for _, known := range m.did[e.DID] {
		known.Nullified = known.Nullified || slices.Contains(nullified, known.CID)
	}
	e.Seq = int64(len(m.all)) + 1
	m.all = append(m.all, &e)
	m.did[e.DID] = append(m.did[e.DID], &e)
	return nil
}

// ExportAfterTime implements Store.
func (m *Memory) ExportAfterTime(_ context.Context, t time.Time, count int) ([]Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Entry
	for _, e := range m.all {
		if e.CreatedAt.After(t) {
			out = append(out, *e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out[:min(count, len(out))], nil
}

// ExportAfterSeq implements Store.
func (m *Memory) ExportAfterSeq(_ context.Context, seq int64, count int) ([]Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []Entry
	for i := max(seq, 0); i < int64(len(m.all)) && len(out) < count; i++ {
		out = append(out, *m.all[i])
	}
	return out, nil
}
