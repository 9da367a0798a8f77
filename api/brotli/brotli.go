// Package brotli reads what is compressed with brotli, with no more memory than what is
// wanted of it needs: whoever sends some bytes may choose a window of 16 MiB.
package brotli

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
)

// ErrBroken says that something is not brotli.
var ErrBroken = errors.New("Decompression failed") //lint:ignore ST1005 sent as is

// Memory is what a reader of [NewReader] takes at most, in bytes, judged by the first byte
// of what it is to read.
func Memory(first byte, most int64) int64 {
	// The window, and half of it beside it while it grows; up to 3·256 tables of codes.
	_, bits := window(first, most)
	return 3<<bits/2 + 4<<20
}

// NewReader returns a reader of the first most bytes that r unpacks to; what comes behind
// them may be wrong. Reading fails with ErrBroken, or as r does.
func NewReader(r io.Reader, most int64) (io.Reader, error) {
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return nil, err
	}
	first[0], _ = window(first[0], most)
	return &reader{brotli.NewReader(io.MultiReader(bytes.NewReader(first[:]), r))}, nil
}

// window narrows the window that a stream begins with (RFC 7932 §9.1) to what its
// first most bytes can refer to. They mean the same then: a window makes a difference
// only to what is behind as many bytes as it has, less 16. It returns the first byte of
// that stream, and the size of its window as a power of two.
func window(first byte, most int64) (narrowed byte, bits int) {
	switch three, next := first>>1&7, int(first>>4&7); {
	case first&1 == 0:
		return first, 16
	case three == 0 && next == 0:
		return first, 17
	case three == 0:
		return first, 8 + next // one that is reserved fails
	default: // the rest have as many bits for it
		bits = 17 + int(three)
		for bits > 18 && most <= 1<<(bits-1)-16 {
			bits--
		}
		return first&^0xe | byte(bits-17)<<1, bits
	}
}

// reader marks errors of a brotli reader, which have no type to know them by.
type reader struct{ r io.Reader }

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF && strings.HasPrefix(err.Error(), "brotli: ") {
		err = ErrBroken
	}
	return n, err
}
