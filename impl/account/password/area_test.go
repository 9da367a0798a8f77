package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// system counts the areas that a Hasher has from it.
type system struct {
	mu        sync.Mutex
	now, most int // bytes
	areas     int
	err       error // what the next one fails with
}

// hasher has the areas of its hashes from s.
func (s *system) hasher(c Config) *Hasher {
	h := NewHasher(c)
	h.areas = newAreas(h.areas.most, func(bytes int) ([]byte, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return nil, s.err
		}
		s.areas++
		s.now += bytes
		s.most = max(s.most, s.now)
		return make([]byte, bytes), nil
	}, func(memory []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.areas--
		s.now -= len(memory)
	})
	return h
}

// Each hash has its area to itself, whatever ends the others, and there are no more areas
// than hashes run at a time. (The race detector watches areas that are of Go's heap.)
func TestAreasAreNotShared(t *testing.T) {
	var s system
	h := s.hasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 3, Queue: 1000})
	stored, err := h.Hash(t.Context(), Caller{}, "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for i := range 24 {
		running.Go(func() {
			for j := range 20 {
				switch who := (Caller{Address: fmt.Sprint(i)}); (i + j) % 6 {
				case 0:
					if ok, err := h.Verify(t.Context(), who, stored, "hunter2"); !ok || err != nil {
						t.Errorf("right password: %v, %v", ok, err)
					}
				case 1:
					if ok, err := h.Verify(t.Context(), who, stored, "hunter3"); ok || err != nil {
						t.Errorf("wrong password: %v, %v", ok, err)
					}
				case 2:
					if err := h.VerifyNothing(t.Context(), who, "hunter2"); err != nil {
						t.Errorf("nobody's password: %v", err)
					}
				case 3:
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					if _, err := h.Verify(ctx, who, stored, "hunter2"); !errors.Is(err, context.Canceled) {
						t.Errorf("cancelled: %v", err)
					}
				case 4:
					func() {
						defer func() { _ = recover() }()
						_ = h.run(t.Context(), who, cheap.Memory, func(a area) { a.memory[i]++; panic("in a hash") })
					}()
				case 5:
					made, err := h.Hash(t.Context(), who, "hunter4")
					if err != nil {
						t.Error(err)
					}
					if ok, err := h.Verify(t.Context(), who, made, "hunter4"); !ok || err != nil {
						t.Errorf("new password: %v, %v", ok, err)
					}
				}
			}
		})
	}
	running.Wait()
	if s.areas < 1 || s.most > 3*int(cheap.Memory)<<10 {
		t.Errorf("%d areas, %d bytes at most", s.areas, s.most)
	}
	if n := len(h.areas.idle); n != s.areas || h.free != h.total {
		t.Errorf("%d of %d areas were given back, %d of %d KiB are free", n, s.areas, h.free, h.total)
	}
}

// have is how many areas and bytes there are now, and the most bytes there ever were.
func (s *system) have() (areas, now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.areas, s.now, s.most
}

// hold runs n hashes of a cost at the same time.
func hold(t *testing.T, h *Hasher, n int, cost uint32) {
	t.Helper()
	done := make(chan struct{})
	for range n {
		go func() {
			if err := h.run(t.Context(), Caller{}, cost, func(a area) {
				if len(a.memory) < int(cost)<<10 {
					t.Errorf("area of %d bytes for %d KiB", len(a.memory), cost)
				}
				<-done
			}); err != nil {
				t.Error(err)
			}
		}()
	}
	synctest.Wait()
	close(done)
	synctest.Wait()
}

// After a flood the memory of it goes back to the system, also while somebody signs in
// now and then.
func TestAreasAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s system
		h := s.hasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 4})
		check := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			if got, bytes, _ := s.have(); got != want || bytes != want*int(cheap.Memory)<<10 {
				t.Errorf("%s: %d areas of %d bytes, want %d", when, got, bytes, want)
			}
		}
		check("before the first hash", 0)
		hold(t, h, 4, cheap.Memory)
		check("after four at a time", 4)
		for range 10 {
			time.Sleep(20 * time.Second)
			hold(t, h, 1, cheap.Memory)
		}
		check("one at a time, now and then", 1)
		time.Sleep(time.Minute)
		check("after a minute", 0)
		hold(t, h, 2, cheap.Memory)
		check("after two at a time", 2)
		time.Sleep(time.Minute)
		check("after another minute", 0)
	})
}

// Hashes that were made under other settings stay within the budget, too.
func TestAreasOfOtherCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s system
		h := s.hasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 3})
		most := int(h.Memory())
		if want := 3 * 16384 << 10; most != want {
			t.Errorf("memory of %d bytes, want %d", most, want)
		}
		for _, cost := range []uint32{cheap.Memory, scryptMemory, 8, 2 * scryptMemory, scryptMemory, 3 * scryptMemory, cheap.Memory} {
			hold(t, h, 5, cost)
			if _, _, got := s.have(); got > most {
				t.Errorf("%d bytes with hashes of %d KiB", got, cost)
			}
		}
		hold(t, h, 5, 5*scryptMemory)
		if left, _, got := s.have(); got != 5*scryptMemory<<10 || left != 0 {
			t.Errorf("%d bytes at most with hashes dearer than all memory, %d areas are left", got, left)
		}
	})
}

// A system without memory costs that login, and nothing of the budget.
func TestNoMemory(t *testing.T) {
	s := system{err: syscall.ENOMEM}
	h := s.hasher(Config{Rand: rand.Reader, Params: cheap, Concurrency: 1})
	if _, err := h.Hash(t.Context(), Caller{}, "x"); !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("got %v", err)
	}
	s.err = nil
	if _, err := h.Hash(t.Context(), Caller{}, "x"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// What a hash leaves to the garbage collector does not depend on its cost.
func TestAllocations(t *testing.T) {
	h := NewHasher(Config{Rand: rand.Reader})
	for _, tt := range []struct {
		name   string
		stored string
		most   uint64 // bytes
	}{
		{"argon2id", h.decoy.String(), 4 << 10},
		{"scrypt", referenceHash, 8 << 10},
	} {
		least := uint64(math.MaxUint64)
		for range 3 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := h.Verify(t.Context(), Caller{}, tt.stored, "x"); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if least > tt.most {
			t.Errorf("%s: %d bytes a hash", tt.name, least)
		}
	}
}
