package password

import (
	"fmt"
	"sync"
	"time"
	"unsafe"

	"portico/impl/account/password/argon2id"
)

// keepArea is how long an area is kept that no hash needs. A new one costs a hash half as
// much again, because the system has to find and wipe its pages.
const keepArea = time.Minute

// area is memory that hashes are computed in, one at a time. It holds what the last one
// left there.
type area struct {
	memory []byte // of whole pages
	used   time.Time
}

func (a area) blocks() []argon2id.Block {
	const size = int(unsafe.Sizeof(argon2id.Block{}))
	return unsafe.Slice((*argon2id.Block)(unsafe.Pointer(unsafe.SliceData(a.memory))), len(a.memory)/size)
}

func (a area) words() []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(a.memory))), len(a.memory)/4)
}

// areas are those that wait for a hash. There are never more, with those in use, than
// hashes ran at a time. They may be used concurrently.
type areas struct {
	most  int // KiB of one that is kept
	alloc func(bytes int) ([]byte, error)
	free  func([]byte)

	mu    sync.Mutex
	idle  []area // the one that was used last is the last
	armed bool   // expire will be called
}

func newAreas(most int, alloc func(int) ([]byte, error), free func([]byte)) *areas {
	return &areas{most: most, alloc: alloc, free: free}
}

// take returns an area of at least so many KiB, which nobody else has until it is given back.
func (s *areas) take(kib int) (area, error) {
	s.mu.Lock()
	var a area
	var drop []area
	if n := len(s.idle); n > 0 && len(s.idle[n-1].memory) >= kib<<10 {
		a, s.idle = s.idle[n-1], s.idle[:n-1]
	} else {
		// All that are here are too small, but for costs that were changed. One that is dearer than
		// usual has the memory of several.
		drop, s.idle = s.idle, nil
	}
	s.mu.Unlock()
	s.release(drop)
	if a.memory != nil {
		return a, nil
	}
	memory, err := s.alloc(kib << 10)
	if err != nil {
		return area{}, fmt.Errorf("make room for a password hash of %d KiB: %w", kib, err)
	}
	return area{memory: memory}, nil
}

// give takes an area back.
func (s *areas) give(a area) {
	if len(a.memory) > s.most<<10 {
		s.release([]area{a})
		return
	}
	a.used = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, a)
	if !s.armed {
		s.armed = true
		time.AfterFunc(keepArea, s.expire)
	}
}

// expire lets go of the areas that were not used for as long as one is kept.
func (s *areas) expire() {
	s.mu.Lock()
	n := 0
	for n < len(s.idle) && time.Since(s.idle[n].used) >= keepArea {
		n++
	}
	old := s.idle[:n:n]
	s.idle = s.idle[n:]
	s.armed = len(s.idle) > 0
	if s.armed {
		time.AfterFunc(keepArea-time.Since(s.idle[0].used), s.expire)
	}
	s.mu.Unlock()
	s.release(old)
}

func (s *areas) release(all []area) {
	for _, a := range all {
		s.free(a.memory)
	}
}
