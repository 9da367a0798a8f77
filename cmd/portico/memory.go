package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
)

// heapHeadroom is how many bytes more than Go's default, which is as much as is in use,
// the heap may take before garbage is collected. A server of a few thousand accounts uses
// 3 MB and would collect after each few hundred requests. GOGC=400 would save it the same
// work, and let a server whose caches are full take five times these.
const heapHeadroom = 12 << 20

// ballast counts as in use, and takes nothing of the machine because nobody writes to it.
var ballast []byte

// collector is tuned by the first server of the process; in tests there are several.
var collector sync.Once

// tuneCollector sets how much garbage there may be. hashes is how many bytes password
// hashes take beside Go's heap. What the variables of Go's runtime say holds nevertheless.
func tuneCollector(s *settings, hashes int64) {
	limit := debug.SetMemoryLimit(-1)
	if s.MemoryLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		limit = s.MemoryLimit - hashes
	}
	if os.Getenv("GOGC") == "" {
		ballast = make([]byte, heapHeadroom)
		dropPages(ballast) // where the start had used and freed them, they were cleared
		limit += min(heapHeadroom, math.MaxInt64-limit)
	}
	debug.SetMemoryLimit(limit)
}

// Of the least limit, one hash takes a third.
const leastMemoryLimit = 64 << 20

func storeMemoryLimit(s *settings, v string) (err error) {
	if s.MemoryLimit, err = parseSize(v); err == nil && s.MemoryLimit < leastMemoryLimit {
		err = errors.New("must be at least 64MiB")
	}
	return err
}

// parseSize reads a number of bytes as GOMEMLIMIT has it.
func parseSize(v string) (int64, error) {
	digits := strings.TrimRight(v, "KMGTiB")
	shift, ok := map[string]int{"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}[v[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("must be a number of bytes, with or without a unit: B, KiB, MiB, GiB or TiB")
	}
	return int64(n) << shift, nil
}
