package main

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestTuneCollector(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before); ballast = nil })
	for _, tt := range []struct {
		name             string
		gogc, gomemlimit string
		limit, hashes    int64
		want             int64 // bytes, ballast included
		ballast          int
	}{
		{"no limit", "", "", 0, 38 << 20, math.MaxInt64, 12 << 20},
		{"limit", "", "", 512 << 20, 38 << 20, (512 - 38 + 12) << 20, 12 << 20},
		{"the runtime's limit", "", "100MiB", 512 << 20, 38 << 20, 112 << 20, 12 << 20},
		{"garbage as the runtime is told", "100", "", 512 << 20, 38 << 20, (512 - 38) << 20, 0},
		{"all as the runtime is told", "off", "100MiB", 512 << 20, 38 << 20, 100 << 20, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("GOGC", tt.gogc)
			t.Setenv("GOMEMLIMIT", tt.gomemlimit)
			started := int64(math.MaxInt64) // what Go's runtime makes of its variable at its start
			if tt.gomemlimit != "" {
				started = 100 << 20
			}
			debug.SetMemoryLimit(started)
			ballast = nil
			tuneCollector(&settings{MemoryLimit: tt.limit}, tt.hashes)
			if got := debug.SetMemoryLimit(-1); got != tt.want || len(ballast) != tt.ballast {
				t.Errorf("limit %d and ballast %d, want %d and %d", got, len(ballast), tt.want, tt.ballast)
			}
		})
	}
}
