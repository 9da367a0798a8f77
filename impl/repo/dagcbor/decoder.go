package dagcbor

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// A Decoder takes an encoded value of a known form apart, from left to right. The first
// thing that is not as expected, or not in its one form, sticks: what the methods return
// after it is zero, and [Decoder.End] returns it. It is not safe for concurrent use.
type Decoder struct {
	b   []byte
	err error
}

// NewDecoder returns a decoder of b, which is not changed.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// End returns ErrEncoding if anything was not as expected, or is left.
func (d *Decoder) End() error {
	if len(d.b) != 0 {
		d.fail("trailing bytes")
	}
	return d.err
}

func (d *Decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrEncoding, what)
	}
	d.b = nil
}

func (d *Decoder) head(want byte) uint64 {
	if d.err != nil {
		return 0
	}
	major, n, rest, err := head(d.b)
	if err != nil {
		d.err, d.b = err, nil
		return 0
	}
	if major != want {
		d.fail("value of another kind")
		return 0
	}
	d.b = rest
	return n
}

// length is head for what has a length, of which each part takes a byte at least.
func (d *Decoder) length(want byte) int {
	n := d.head(want)
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return 0
	}
	return int(n)
}

// Map reads the head of a map and returns its number of entries, which are not more than
// there are bytes.
func (d *Decoder) Map() int { return d.length(majorMap) }

// Array reads the head of an array and returns its number of items, which are not more
// than there are bytes.
func (d *Decoder) Array() int { return d.length(majorArray) }

// Bytes reads a byte string, which aliases what is decoded.
func (d *Decoder) Bytes() []byte {
	n := d.length(majorBytes)
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// Key reads a text, which has to be this one.
func (d *Decoder) Key(key string) {
	n := d.length(majorText)
	if d.err != nil {
		return
	}
	if string(d.b[:n]) != key || !utf8.ValidString(key) {
		d.fail("another key than " + key)
		return
	}
	d.b = d.b[n:]
}

// Uint reads an integer that is not negative and at most MaxInt.
func (d *Decoder) Uint() int64 {
	n := d.head(majorUint)
	if n > MaxInt {
		d.fail("integer out of range")
		return 0
	}
	return int64(n)
}

// Null reads null, if that is next, and reports whether it was.
func (d *Decoder) Null() bool {
	if len(d.b) == 0 || d.b[0] != simpleNull {
		return false
	}
	d.b = d.b[1:]
	return true
}

// Link reads a link whose CID is [CID.Valid].
func (d *Decoder) Link() (c CID) {
	rest, ok := bytes.CutPrefix(d.b, []byte(linkHead))
	if !ok || len(rest) < len(c) {
		d.fail("not a link")
		return CID{}
	}
	d.b = rest[copy(c[:], rest):]
	if !c.Valid() {
		d.fail("link of another kind")
		return CID{}
	}
	return c
}
