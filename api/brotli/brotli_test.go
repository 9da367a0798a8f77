package brotli

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
)

// compressed is text with a window of 1<<bits bytes.
func compressed(bits int, text string) string {
	var b bytes.Buffer
	w := brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: bits})
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func TestWindow(t *testing.T) {
	for _, tt := range []struct {
		bits int // as sent
		most int64
		want int
	}{
		{10, 1000, 10}, {15, 1000, 15}, {16, 1000, 16}, {17, 1000, 17}, {18, 1000, 18}, {22, 1000, 18}, {24, 1000, 18},
		{24, 1<<18 - 16, 18}, {24, 1<<18 - 15, 19}, {19, 1 << 30, 19}, {24, 1<<23 - 15, 24}, {24, 1 << 40, 24},
	} {
		text := compressed(tt.bits, "text")
		first, bits := window(text[0], tt.most)
		if bits != tt.want || first&^0xe != text[0]&^0xe {
			t.Errorf("%d bits for %d bytes: got %d, and %#x of %#x", tt.bits, tt.most, bits, first, text[0])
		}
		if _, again := window(first, 1<<40); again != bits {
			t.Errorf("the narrowed window has %d bits, want %d", again, bits)
		}
	}
	for first := range 256 {
		if n := Memory(byte(first), 1<<40); n < 4<<20 || n > 32<<20 {
			t.Errorf("%#x: %d", first, n)
		}
	}
}

// What fits into the narrower window reads the same, to its last byte.
func TestNarrowed(t *testing.T) {
	var text bytes.Buffer
	for n := 0; text.Len() < 300_000; n++ { // refers to its beginning, and to the dictionary of brotli
		fmt.Fprintf(&text, "the time of the person %d which would have been ", n%20_000)
	}
	for _, bits := range []int{10, 16, 17, 18, 20, 22, 24} {
		sent := compressed(bits, text.String())
		for _, most := range []int{100, 150_000, 1<<18 - 16, 1<<18 - 15, text.Len()} {
			r, err := NewReader(strings.NewReader(sent), int64(most))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, most)
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, text.Bytes()[:most]) {
				t.Errorf("window of %d bits, %d bytes: %v", bits, most, err)
			}
		}
	}
}
