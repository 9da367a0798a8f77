package dpop

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"
)

func id(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 8), uint64(n)) }

func TestMemory(t *testing.T) {
	now := time.Unix(1795383360, 0)
	m := NewMemory(func() time.Time { return now })
	for _, tt := range []struct {
		after, until time.Duration
		id           int
		fresh        bool
		err          error
	}{
		{0, 2 * time.Minute, 1, true, nil},
		{0, 2 * time.Minute, 1, false, nil},
		{0, 3 * time.Minute, 1, false, nil}, // under another end too
		{0, time.Minute, 1, false, nil},
		{0, time.Minute, 2, true, nil},
		{119 * time.Second, 4 * time.Minute, 1, false, nil},
		{119 * time.Second, 4 * time.Minute, 2, true, nil}, // the first use was to be remembered until then
		{2 * time.Minute, 4 * time.Minute, 1, true, nil},
	} {
		now = time.Unix(1795383360, 0).Add(tt.after)
		fresh, err := m.Once(t.Context(), id(tt.id), time.Unix(1795383360, 0).Add(tt.until))
		if fresh != tt.fresh || !errors.Is(err, tt.err) {
			t.Errorf("%+v: %v, %v", tt, fresh, err)
		}
	}
	total := 0
	for i := range m.shards {
		total += m.shards[i].count
	}
	if total != 2 {
		t.Errorf("%d ids are remembered, want 2", total)
	}
	if fresh, err := m.Once(t.Context(), id(3), now); fresh || !errors.Is(err, ErrForgotten) {
		t.Errorf("what is over already: %v, %v", fresh, err)
	}
}

// Who fills the memory gains no second use, and shuts nobody out who takes a new nonce.
func TestMemoryFull(t *testing.T) {
	start := time.Unix(1795383360, 0)
	now := start
	m := newMemory(func() time.Time { return now }, 64*16)
	once := func(n int, until time.Duration) (bool, error) { return m.Once(t.Context(), id(n), start.Add(until)) }
	for n := range 64 { // some in each age
		if fresh, err := once(n, time.Minute); !fresh || err != nil {
			t.Fatal(fresh, err)
		}
		if fresh, err := once(100+n, 2*time.Minute); !fresh || err != nil {
			t.Fatal(fresh, err)
		}
	}
	full := 0
	for n := range 4000 {
		switch fresh, err := once(1000+n, 3*time.Minute); {
		case errors.Is(err, ErrFull):
			full++
		case !fresh || err != nil:
			t.Fatal(fresh, err)
		}
	}
	if full != 4000-64*16 {
		t.Errorf("full %d times", full)
	}
	for n := range 64 {
		for _, used := range []struct {
			n     int
			until time.Duration
		}{{n, time.Minute}, {100 + n, 2 * time.Minute}, {1000 + n, 3 * time.Minute}} {
			if fresh, _ := once(used.n, used.until); fresh {
				t.Errorf("%d was used twice", used.n)
			}
		}
	}
	// With a nonce of the next minute everybody is let in again.
	now = start.Add(time.Minute)
	for n := range 64 * 2 {
		if fresh, err := once(10_000+n, 4*time.Minute); !fresh || err != nil {
			t.Fatal(n, fresh, err)
		}
	}
	for i := range m.shards {
		count := 0
		for _, a := range m.shards[i].ages {
			count += len(a.used)
		}
		if s := &m.shards[i]; s.count != count || count > 16 {
			t.Errorf("shard %d has %d and counts %d", i, count, s.count)
		}
	}
}

func TestMemoryTogether(t *testing.T) {
	now := time.Unix(1795383360, 0)
	m := NewMemory(func() time.Time { return now })
	var all sync.WaitGroup
	won := make(chan bool, 8*1000)
	for range 8 {
		all.Go(func() {
			for n := range 1000 {
				fresh, err := m.Once(t.Context(), id(n), now.Add(time.Minute))
				if err != nil {
					t.Error(err)
				}
				if fresh {
					won <- true
				}
			}
		})
	}
	all.Wait()
	if len(won) != 1000 {
		t.Errorf("%d uses, want 1000", len(won))
	}
}

func BenchmarkMemory(b *testing.B) {
	now := time.Unix(1795383360, 0)
	m := NewMemory(func() time.Time { return now })
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; n%100_000 == 0 {
			now = now.Add(time.Minute)
		}
		if _, err := m.Once(b.Context(), id(n), now.Add(3*time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
}
