// Copyright 2017 The Go Authors. All rights reserved.
// Use of this source code is governed by a BSD-style
// license that can be found in the LICENSE file.

package argon2id

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/argon2"
)

// dirty is an area for a cost, full of what another password left.
func dirty(memory uint32, threads uint8) []Block {
	area := make([]Block, Blocks(memory, threads)+3)
	for i := range area {
		for j := range area[i] {
			area[i][j] = 0xa5a5a5a5a5a5a5a5
		}
	}
	return area
}

// The test vector of RFC 9106, section 5.3.
func TestRFC9106(t *testing.T) {
	everyway(t, func(t *testing.T) {
		got := deriveKey(dirty(32, 4), bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16),
			bytes.Repeat([]byte{3}, 8), bytes.Repeat([]byte{4}, 12), 3, 32, 4, 32)
		if want := "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"; hex.EncodeToString(got) != want {
			t.Errorf("got %x, want %s", got, want)
		}
	})
}

// The test vectors of x/crypto.
func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		time, memory uint32
		threads      uint8
		want         string
	}{
		{1, 64, 1, "655ad15eac652dc59f7170a7332bf49b8469be1fdb9c28bb"},
		{2, 64, 1, "068d62b26455936aa6ebe60060b0a65870dbfa3ddf8d41f7"},
		{2, 64, 2, "350ac37222f436ccb5c0972f1ebd3bf6b958bf2071841362"},
		{3, 256, 2, "4668d30ac4187e6878eedeacf0fd83c5a0a30db2cc16ef0b"},
		{4, 4096, 4, "145db9733a9f4ee43edf33c509be96b934d505a4efb33c5a"},
		{4, 1024, 8, "8dafa8e004f8ea96bf7c0f93eecf67a6047476143d15577f"},
		{2, 64, 3, "4a15b31aec7c2590b87d1f520be7d96f56658172deaa3079"},
		{3, 1024, 6, "1640b932f4b60e272f5d2207b9a9c626ffa1bd88d2349016"},
	} {
		t.Run(fmt.Sprintf("t=%d,m=%d,p=%d", tt.time, tt.memory, tt.threads), func(t *testing.T) {
			everyway(t, func(t *testing.T) {
				got := Key(dirty(tt.memory, tt.threads), []byte("password"), []byte("somesalt"), tt.time, tt.memory, tt.threads, 24)
				if hex.EncodeToString(got) != tt.want {
					t.Errorf("got %x, want %s", got, tt.want)
				}
			})
		})
	}
}

// One area serves all, as it does in a server: nothing of a key shows in the next one.
func TestSameAsXCrypto(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(most int) []byte {
		b := make([]byte, random.IntN(most))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	area := dirty(1<<10, 8)
	for range 50 {
		password, salt, keyLen := text(600), text(70), 1+random.Uint32N(200)
		time, memory, threads := 1+random.Uint32N(4), random.Uint32N(1<<10), uint8(1+random.UintN(8))
		got := Key(area, password, salt, time, memory, threads, keyLen)
		if want := argon2.IDKey(password, salt, time, memory, threads, keyLen); !bytes.Equal(got, want) {
			t.Errorf("t=%d,m=%d,p=%d: got %x, want %x", time, memory, threads, got, want)
		}
	}
}

// What the assembly does is what the code in Go does that other processors run.
func TestProcessBlock(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	block := func() (b Block) {
		for i := range b {
			b[i] = random.Uint64()
		}
		return b
	}
	everyway(t, func(t *testing.T) {
		for range 100 {
			a, b, was, scratch := block(), block(), block(), block()
			got, want := was, was
			processBlock(&got, &a, &b, &scratch)
			processBlockGeneric(&want, &a, &b, &scratch, false)
			if got != want {
				t.Fatalf("first pass: got %x, want %x", got, want)
			}
			got, want = was, was
			processBlockXOR(&got, &a, &b, &scratch)
			processBlockGeneric(&want, &a, &b, &scratch, true)
			if got != want {
				t.Fatalf("later passes: got %x, want %x", got, want)
			}
		}
		if zero != (Block{}) {
			t.Error("zero is not zero any more")
		}
	})
}

func TestKeyPanics(t *testing.T) {
	for _, tt := range []struct {
		name    string
		blocks  int
		time    uint32
		threads uint8
	}{
		{"no passes", 64, 0, 1},
		{"no lanes", 64, 1, 0},
		{"area of one block too few", 63, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("did not panic")
				}
			}()
			Key(make([]Block, tt.blocks), nil, nil, tt.time, 64, tt.threads, 32)
		})
	}
}

func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		memory  uint32
		threads uint8
		want    int
	}{{0, 1, 8}, {64, 1, 64}, {67, 1, 64}, {64, 3, 60}, {8, 255, 2040}, {19 * 1024, 1, 19 * 1024}} {
		if got := Blocks(tt.memory, tt.threads); got != tt.want {
			t.Errorf("m=%d,p=%d: got %d, want %d", tt.memory, tt.threads, got, tt.want)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	password, salt := []byte("password"), []byte("choosing random salts is hard")
	for _, tt := range []struct {
		time, memory uint32
		threads      uint8
	}{{2, 19 * 1024, 1}, {3, 32 * 1024, 1}, {3, 64 * 1024, 4}} {
		cost := fmt.Sprintf("t=%d,m=%d,p=%d", tt.time, tt.memory, tt.threads)
		b.Run("impl=here/"+cost, func(b *testing.B) {
			area := make([]Block, Blocks(tt.memory, tt.threads))
			b.ReportAllocs()
			for b.Loop() {
				Key(area, password, salt, tt.time, tt.memory, tt.threads, 32)
			}
		})
		b.Run("impl=xcrypto/"+cost, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				argon2.IDKey(password, salt, tt.time, tt.memory, tt.threads, 32)
			}
		})
	}
}
