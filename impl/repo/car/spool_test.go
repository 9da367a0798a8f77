package car

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/iotest"

	"portico/impl/repo/dagcbor"
)

// numbered reads an archive of n blocks, each with its number.
type numbered struct {
	n, i int
	rest []byte
	peak uint64 // of memory in use
}

func (r *numbered) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.i == r.n {
			return 0, io.EOF
		}
		if r.i%50_000 == 0 {
			r.peak = max(r.peak, held())
		}
		b := number(r.i)
		r.rest = append(appendName(r.rest[:0], b), b.Data...)
		r.i++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func held() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func number(i int) Block {
	data := binary.BigEndian.AppendUint32(nil, uint32(i))
	return Block{dagcbor.Sum(dagcbor.CodecDAGCBOR, data), data}
}

func TestSpool(t *testing.T) {
	long, twice, empty := newBlock(string(make([]byte, MaxBlock))), newBlock("twice"), Block{dagcbor.Sum(dagcbor.CodecRaw, nil), nil}
	for _, tt := range []struct {
		name   string
		blocks []Block
	}{
		{"none", nil},
		{"one", []Block{twice}},
		{"some", []Block{long, twice, empty, newBlock("x"), twice, long}},
	} {
		dir := t.TempDir()
		s, err := NewSpool(t.Context(), bytes.NewReader(Marshal(twice.CID, tt.blocks...)), dir)
		if err != nil {
			t.Fatal(err)
		}
		if s.Blocks != len(tt.blocks) || len(s.Roots) != 1 || s.Roots[0] != twice.CID {
			t.Errorf("%s: %d blocks, roots %v", tt.name, s.Blocks, s.Roots)
		}
		for _, b := range tt.blocks {
			if got, err := s.Get(b.CID); err != nil || !bytes.Equal(got, b.Data) {
				t.Errorf("%s: %s: %d bytes, %v", tt.name, b.CID, len(got), err)
			}
		}
		if _, err := s.Get(newBlock("absent").CID); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: absent: %v", tt.name, err)
		}
		near := newBlock("twice").CID // only the end of the hash is another
		near[35]++
		if _, err := s.Get(near); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: nearly there: %v", tt.name, err)
		}
		if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 0 {
			t.Errorf("%s: left %v, %v", tt.name, names, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Get(twice.CID); tt.blocks != nil && (err == nil || errors.Is(err, ErrNotFound)) {
			t.Errorf("%s: after the end: %v", tt.name, err)
		}
	}
}

// An archive whose index does not fit into one run: each block is found, doubles are no
// matter, and memory is bounded.
func TestSpoolOfManyBlocks(t *testing.T) {
	const n = 600_000
	tiny := number(7)
	before := held()
	many := &numbered{n: n}
	s, err := NewSpool(t.Context(), io.MultiReader(
		bytes.NewReader(Marshal(tiny.CID)), many, &repeat{b: append(appendName(nil, tiny), tiny.Data...), n: 1000},
	), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if after := held(); many.peak > before+16<<20 || after > before+1<<20 {
		t.Errorf("%d bytes held at the most, %d in the end, %d before", many.peak, after, before)
	}
	if s.Blocks != n+1000 {
		t.Errorf("%d blocks", s.Blocks)
	}
	for i := 0; i < n; i += 97 {
		if got, err := s.Get(number(i).CID); err != nil || !bytes.Equal(got, number(i).Data) {
			t.Fatalf("%d: %x, %v", i, got, err)
		}
	}
	for _, i := range []int{7, n - 1} {
		if got, err := s.Get(number(i).CID); err != nil || !bytes.Equal(got, number(i).Data) {
			t.Errorf("%d: %x, %v", i, got, err)
		}
	}
	if _, err := s.Get(number(n).CID); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestSpoolThatFails(t *testing.T) {
	x := newBlock("x")
	whole, long := Marshal(x.CID, x), Marshal(x.CID, x, newBlock(string(make([]byte, MaxBlock))))
	broken := errors.New("broken line")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		dir  string
		want error
	}{
		{"cut short", t.Context(), bytes.NewReader(whole[:len(whole)-1]), t.TempDir(), ErrFormat},
		{"other data", t.Context(), bytes.NewReader(append(whole[:len(whole)-1:len(whole)-1], 'y')), t.TempDir(), ErrHash},
		{"reader's own error", t.Context(), io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken)), t.TempDir(), broken},
		{"cancelled", ctx, bytes.NewReader(whole), t.TempDir(), context.Canceled},
		{"cut short, long", t.Context(), bytes.NewReader(long[:len(long)-1]), t.TempDir(), ErrFormat},
		{"cancelled, long", ctx, bytes.NewReader(long), t.TempDir(), context.Canceled},
		{"no such directory", t.Context(), bytes.NewReader(long), filepath.Join(t.TempDir(), "absent"), os.ErrNotExist},
	} {
		if _, err := NewSpool(tt.ctx, tt.r, tt.dir); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if names, err := filepath.Glob(filepath.Join(tt.dir, "*")); err != nil || len(names) != 0 {
			t.Errorf("%s: left %v, %v", tt.name, names, err)
		}
	}
}

func BenchmarkSpool(b *testing.B) {
	blocks := make([]Block, 100_000)
	for i := range blocks {
		blocks[i] = newBlock(fmt.Sprintf("%0300d", i))
	}
	archive := Marshal(blocks[0].CID, blocks...)
	dir := b.TempDir()
	b.Run("new", func(b *testing.B) {
		b.SetBytes(int64(len(archive)))
		for b.Loop() {
			s, err := NewSpool(b.Context(), bytes.NewReader(archive), dir)
			if err != nil {
				b.Fatal(err)
			}
			_ = s.Close()
		}
	})
	b.Run("get", func(b *testing.B) {
		s, err := NewSpool(b.Context(), bytes.NewReader(archive), dir)
		if err != nil {
			b.Fatal(err)
		}
		i := 0
		for b.Loop() {
			if _, err := s.Get(blocks[i*7919%len(blocks)].CID); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}
