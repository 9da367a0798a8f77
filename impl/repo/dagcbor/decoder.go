package dagcbor

import (
	"bytes"
	"cmp"
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

// Err is what was not as expected so far, if anything.
func (d *Decoder) Err() error { return d.err }

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

// Kind returns what the next value is, 0 when there is none.
func (d *Decoder) Kind() Kind {
	if len(d.b) == 0 {
		return 0
	}
	switch d.b[0] {
	case simpleNull:
		return KindNull
	case simpleFalse, simpleTrue:
		return KindBool
	}
	return kinds[d.b[0]>>5]
}

// Kind is one of the kinds of values of the data model.
type Kind uint8

// The kinds of values.
const (
	KindNull Kind = iota + 1
	KindBool
	KindInteger
	KindBytes
	KindText
	KindArray
	KindMap
	KindLink
)

// kinds are those of the major types, the last of which has no other values than null,
// false and true.
var kinds = [8]Kind{KindInteger, KindInteger, KindBytes, KindText, KindArray, KindMap, KindLink, 0}

// Skip reads any value, and returns its encoding, which aliases what is decoded.
func (d *Decoder) Skip() []byte {
	if d.err != nil {
		return nil
	}
	rest, err := skip(d.b, 1)
	if err != nil {
		d.err, d.b = err, nil
		return nil
	}
	v := d.b[:len(d.b)-len(rest)]
	d.b = rest
	return v
}

// Text reads a text, which aliases what is decoded.
func (d *Decoder) Text() []byte {
	n := d.length(majorText)
	v := d.b[:n:n]
	if !utf8.Valid(v) {
		d.fail("text is not UTF-8")
		return nil
	}
	d.b = d.b[n:]
	return v
}

// KeyAfter reads the key of an entry of a map, which has to come after the previous one:
// nil for the first. It aliases what is decoded.
func (d *Decoder) KeyAfter(previous []byte) []byte {
	key := d.Text()
	if previous != nil && cmp.Or(cmp.Compare(len(previous), len(key)), bytes.Compare(previous, key)) >= 0 {
		d.fail("keys out of order")
	}
	return key
}

// Bool reads false or true.
func (d *Decoder) Bool() bool {
	if d.Kind() != KindBool {
		d.fail("value of another kind")
		return false
	}
	v := d.b[0] == simpleTrue
	d.b = d.b[1:]
	return v
}

// Integer reads any integer: n, or -1-n when it is negative.
func (d *Decoder) Integer() (negative bool, n uint64) {
	if len(d.b) > 0 && d.b[0]&0xe0 == majorNeg {
		return true, d.head(majorNeg)
	}
	return false, d.head(majorUint)
}

// LinkBytes reads a link to anything, and returns the binary form of its CID, which
// aliases what is decoded and is not looked at.
func (d *Decoder) LinkBytes() []byte {
	if d.head(majorTag) != tagLink {
		d.fail("tag is not a link")
		return nil
	}
	v, ok := bytes.CutPrefix(d.Bytes(), []byte{0})
	if !ok || len(v) == 0 {
		d.fail("not a link")
		return nil
	}
	return v
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
