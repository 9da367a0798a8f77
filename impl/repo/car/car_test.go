package car

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"portico/impl/repo/dagcbor"
)

func newBlock(data string) Block {
	return Block{dagcbor.Sum(dagcbor.CodecDAGCBOR, []byte(data)), []byte(data)}
}

// read returns all blocks, and the error that ended them.
func read(r io.Reader) (roots []dagcbor.CID, blocks []Block, err error) {
	c, err := NewReader(r)
	if err != nil {
		return nil, nil, err
	}
	for {
		b, err := c.Next()
		if err == io.EOF {
			return c.Roots(), blocks, nil
		}
		if err != nil {
			if _, again := c.Next(); !errors.Is(again, err) {
				return nil, nil, fmt.Errorf("%w, then %w", err, again)
			}
			return c.Roots(), blocks, err
		}
		blocks = append(blocks, Block{b.CID, bytes.Clone(b.Data)})
	}
}

func TestRoundTrip(t *testing.T) {
	empty := Block{dagcbor.Sum(dagcbor.CodecRaw, nil), []byte{}}
	blocks := []Block{newBlock("one"), empty, newBlock(strings.Repeat("x", MaxBlock)), newBlock("one")}
	archive := Marshal(blocks[0].CID, blocks...)
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(archive), "bytewise": iotest.OneByteReader(bytes.NewReader(archive))} {
		roots, got, err := read(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		same := func(a, b Block) bool { return a.CID == b.CID && bytes.Equal(a.Data, b.Data) }
		if !slices.EqualFunc(got, blocks, same) || !slices.Equal(roots, []dagcbor.CID{blocks[0].CID}) {
			t.Errorf("%s: roots %v, and %d blocks that are not those written", name, roots, len(got))
		}
	}
	var streamed bytes.Buffer
	w, err := NewWriter(&streamed, blocks[0].CID)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(streamed.Bytes(), archive) {
		t.Error("streamed and marshalled archives differ")
	}

	// What a reader of single blocks goes by.
	c, err := NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range blocks {
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
		if got := archive[c.Offset():][:len(want.Data)]; !bytes.Equal(got, want.Data) {
			t.Errorf("at %d there is not %s", c.Offset(), want.CID)
		}
	}
}

func TestRoots(t *testing.T) {
	x, y := newBlock("x").CID, newBlock("y").CID
	for _, tt := range []struct {
		roots  []dagcbor.CID
		header string
	}{
		{nil, "11a265726f6f7473806776657273696f6e01"},
		{[]dagcbor.CID{x}, "3aa265726f6f747381d82a582500" + hex.EncodeToString(x[:]) + "6776657273696f6e01"},
		{[]dagcbor.CID{x, y}, "63a265726f6f747382d82a582500" + hex.EncodeToString(x[:]) + "d82a582500" + hex.EncodeToString(y[:]) + "6776657273696f6e01"},
	} {
		var b bytes.Buffer
		if _, err := NewWriter(&b, tt.roots...); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b.Bytes()); got != tt.header {
			t.Errorf("%d roots:\n got %s\nwant %s", len(tt.roots), got, tt.header)
		}
		roots, blocks, err := read(&b)
		if err != nil || !slices.Equal(roots, tt.roots) || len(blocks) != 0 {
			t.Errorf("%d roots: read %v, %d blocks, %v", len(tt.roots), roots, len(blocks), err)
		}
	}
}

// header returns an archive that begins with the encoding of v.
func header(t *testing.T, v any) []byte {
	t.Helper()
	b, err := dagcbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

func TestRefuses(t *testing.T) {
	x, y := newBlock("x"), newBlock("y")
	good := Marshal(x.CID)
	block := func(name []byte, data string) []byte {
		return slices.Concat(good, binary.AppendUvarint(nil, uint64(len(name)+len(data))), name, []byte(data))
	}
	changed := func(i int, to byte) []byte {
		name := bytes.Clone(x.CID[:])
		name[i] = to
		return name
	}
	for _, tt := range []struct {
		name    string
		archive []byte
		want    error
	}{
		{"nothing", nil, ErrFormat},
		{"junk", []byte("junk, longer than what it says it is: j is 106 bytes, and there are some more of them up to here, and beyond"), ErrFormat},
		{"empty header", []byte{0}, ErrFormat},
		{"header cut short", good[:len(good)-1], ErrFormat},
		{"header of a gigabyte", binary.AppendUvarint(nil, 1<<30), ErrFormat},
		{"header beyond the bound", append(binary.AppendUvarint(nil, MaxHeader+1), make([]byte, MaxHeader+1)...), ErrFormat},
		{"header without an end", bytes.Repeat([]byte{0xff}, 100), ErrFormat},
		{"length of header in a longer form", slices.Concat([]byte{good[0] | 0x80, 0}, good[1:]), ErrFormat},
		{"version 2", header(t, map[string]any{"roots": []any{x.CID}, "version": 2}), ErrFormat},
		{"pragma of version 2", []byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02}, ErrFormat},
		{"version 1 without roots", header(t, map[string]any{"version": 1}), ErrFormat},
		{"no version", header(t, map[string]any{"roots": []any{x.CID}}), ErrFormat},
		{"something else in the header", header(t, map[string]any{"roots": []any{x.CID}, "version": 1, "x": 1}), ErrFormat},
		{"roots null", header(t, map[string]any{"roots": nil, "version": 1}), ErrFormat},
		{"a root that is text", header(t, map[string]any{"roots": []any{x.CID.String()}, "version": 1}), ErrFormat},
		{"header is a list", header(t, []any{x.CID}), ErrFormat},
		{"header is nested", header(t, map[string]any{"roots": []any{[]any{[]any{x.CID}}}, "version": 1}), ErrFormat},
		{"header with something behind", slices.Concat([]byte{good[0] + 1}, good[1:], []byte{0}), ErrFormat},

		{"block of nothing", append(bytes.Clone(good), 0), ErrFormat},
		{"block with half a name", block(x.CID[:20], ""), ErrFormat},
		{"block of a gigabyte", binary.AppendUvarint(bytes.Clone(good), 1<<30), ErrFormat},
		{"block of 2^63", binary.AppendUvarint(bytes.Clone(good), 1<<63), ErrFormat},
		{"block beyond the bound", binary.AppendUvarint(bytes.Clone(good), MaxBlock+37), ErrFormat},
		{"length without an end", append(bytes.Clone(good), bytes.Repeat([]byte{0x80}, 100)...), ErrFormat},
		{"length in a longer form", slices.Concat(good, []byte{37 | 0x80, 0}, x.CID[:], x.Data), ErrFormat},
		{"length cut short", append(bytes.Clone(good), 0xa5), ErrFormat},
		{"name cut short", append(append(bytes.Clone(good), 37), x.CID[:10]...), ErrFormat},
		{"data missing", append(append(bytes.Clone(good), 37), x.CID[:]...), ErrFormat},
		{"data of another", block(x.CID[:], "y"), ErrHash},
		{"another codec", block(changed(1, 0x70), "x"), ErrFormat},
		{"another hash", block(changed(2, 0x13), "x"), ErrFormat},
		{"another length of hash", block(changed(3, 0x10), "x"), ErrFormat},
		{"version 0", block(append([]byte{0x12, 0x20}, x.CID[4:]...), "xx"), ErrFormat},
		{"the second of three", slices.Concat(Marshal(x.CID, x, Block{x.CID, []byte("z")}), Marshal(x.CID, y)), ErrHash},
	} {
		if _, _, err := read(bytes.NewReader(tt.archive)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}

	// Cut anywhere but between two blocks.
	whole := Marshal(x.CID, x, y)
	ends := []int{len(good), len(Marshal(x.CID, x)), len(whole)}
	for n := range len(whole) + 1 {
		_, _, err := read(bytes.NewReader(whole[:n]))
		if at := slices.Contains(ends, n); at != (err == nil) || !at && !errors.Is(err, ErrFormat) {
			t.Errorf("first %d of %d bytes: %v", n, len(whole), err)
		}
	}

	broken := errors.New("broken line")
	if _, _, err := read(io.MultiReader(bytes.NewReader(whole[:len(whole)-1]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
		t.Errorf("reader's own error: %v", err)
	}
	if _, err := NewReader(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("reader's own error at the start: %v", err)
	}
}

// repeat reads b n times.
type repeat struct {
	b    []byte
	n    int
	rest []byte
}

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == 0 {
			return 0, io.EOF
		}
		r.n, r.rest = r.n-1, r.b
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// A million blocks cost no more memory than one.
func TestMemoryOfAMillionTinyBlocks(t *testing.T) {
	x := newBlock("x")
	tiny := append(appendName(nil, x), x.Data...)
	before := new(runtime.MemStats)
	runtime.ReadMemStats(before)
	c, err := NewReader(io.MultiReader(bytes.NewReader(Marshal(x.CID)), &repeat{b: tiny, n: 1_000_000}))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil; n++ {
		_, err = c.Next()
	}
	if err != io.EOF || n != 1_000_001 {
		t.Fatalf("%d blocks, then %v", n-1, err)
	}
	after := new(runtime.MemStats)
	runtime.ReadMemStats(after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestWriterSaysWhatFailed(t *testing.T) {
	x := newBlock("x")
	for n := range 3 {
		w, err := NewWriter(&failing{n}, x.CID)
		if err == nil {
			err = w.Write(x)
		}
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}

// What is read without complaint is the one form of what it says.
func FuzzReader(f *testing.F) {
	x, y := newBlock("x"), newBlock("y")
	f.Add(Marshal(x.CID, x, y))
	f.Add(Marshal(x.CID, x, y)[:120])
	f.Add(binary.AppendUvarint(Marshal(x.CID), 1<<62))
	f.Add([]byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02})
	f.Fuzz(func(t *testing.T, archive []byte) {
		roots, blocks, err := read(bytes.NewReader(archive))
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrHash) {
				t.Errorf("%v", err)
			}
			return
		}
		var again bytes.Buffer
		w, err := NewWriter(&again, roots...)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if err := w.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again.Bytes(), archive) {
			t.Errorf("read %x\nwrote %x", archive, again.Bytes())
		}
	})
}

func BenchmarkReader(b *testing.B) {
	blocks := make([]Block, 1000)
	for i := range blocks {
		blocks[i] = newBlock(strings.Repeat("record ", 40) + fmt.Sprint(i))
	}
	archive := Marshal(blocks[0].CID, blocks...)
	b.SetBytes(int64(len(archive)))
	b.ReportAllocs()
	for b.Loop() {
		c, err := NewReader(bytes.NewReader(archive))
		for err == nil {
			_, err = c.Next()
		}
		if err != io.EOF {
			b.Fatal(err)
		}
	}
}
