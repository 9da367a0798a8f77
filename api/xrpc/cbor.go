package xrpc

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atdata"
)

// A frame of a subscription is DAG-CBOR of the same values that bodies are JSON of: map
// keys by length and then bytewise, shortest integers, no floats, no indefinite lengths;
// {"$link"} is a link there, {"$bytes"} bytes. So a message has one form in Go and one
// table, and this file changes between the two encodings. (atdata does that too, for
// records of up to 1 MiB and by way of maps; a commit of the firehose is larger.)

const (
	cborUint  = 0 << 5
	cborNeg   = 1 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborMap   = 5 << 5
	cborTag   = 6 << 5

	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6

	cborLink = 42 // the tag of a link
)

func cborHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func cborString(b []byte, s string) []byte {
	return append(cborHead(b, cborText, uint64(len(s))), s...)
}

// cbor appends the value at i, which is of JSON that passed validate, as DAG-CBOR.
func (c *checker) cbor(b []byte, i int) ([]byte, error) {
	switch c.data[i] {
	case '{':
		return c.cborObject(b, i)
	case '[':
		n, at := 0, c.first(i)
		for item := at; item >= 0; item = c.after(c.skip(item)) {
			n++
		}
		b = cborHead(b, cborArray, uint64(n))
		var err error
		for item := at; item >= 0 && err == nil; item = c.after(c.skip(item)) {
			b, err = c.cbor(b, item)
		}
		return b, err
	case '"':
		return cborString(b, c.text(i)), nil
	case 't':
		return append(b, cborTrue), nil
	case 'f':
		return append(b, cborFalse), nil
	case 'n':
		return append(b, cborNull), nil
	}
	n, ok := c.integer(i, c.skip(i))
	switch {
	case !ok:
		return nil, fmt.Errorf("%s is no integer of the data model", c.data[i:c.skip(i)])
	case n < 0:
		return cborHead(b, cborNeg, uint64(-(n + 1))), nil
	}
	return cborHead(b, cborUint, uint64(n)), nil
}

func (c *checker) cborObject(b []byte, i int) ([]byte, error) {
	if c.isLink(i) {
		var link atdata.CIDLink
		if err := link.UnmarshalJSON(c.data[i:c.skip(i)]); err != nil {
			return nil, err
		}
		id := link.CID().Bytes()
		b = cborHead(b, cborTag, cborLink)
		b = append(cborHead(b, cborBytes, uint64(1+len(id))), 0)
		return append(b, id...), nil
	}
	if c.isBytes(i) {
		plain, err := base64.RawStdEncoding.DecodeString(trimPadding(c.text(c.only(i, "$bytes"))))
		if err != nil {
			return nil, err
		}
		return append(cborHead(b, cborBytes, uint64(len(plain))), plain...), nil
	}
	return c.cborMap(b, i, "")
}

// cborMap appends the object at i as a map, without the key called without.
func (c *checker) cborMap(b []byte, i int, without string) ([]byte, error) {
	type member struct {
		key string
		at  int // of the value
	}
	var few [16]member
	members := few[:0]
	for key := c.first(i); key >= 0; {
		at := c.value(key)
		if name := c.text(key); name != without || without == "" {
			members = append(members, member{name, at})
		}
		key = c.after(c.skip(at))
	}
	slices.SortStableFunc(members, func(x, y member) int { return compareKeys(x.key, y.key) })
	kept := members[:0]
	for n, m := range members { // of equal keys the last one counts, as everywhere
		if n+1 == len(members) || members[n+1].key != m.key {
			kept = append(kept, m)
		}
	}
	b = cborHead(b, cborMap, uint64(len(kept)))
	for _, m := range kept {
		var err error
		if b, err = c.cbor(cborString(b, m.key), m.at); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func compareKeys(x, y string) int { return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) }

func trimPadding(s string) string {
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	return s
}

var (
	errCBOR      = errors.New("malformed DAG-CBOR")
	errCBORShort = fmt.Errorf("%w: cut short", errCBOR)
)

// cborReader changes DAG-CBOR into JSON. It takes only the one form that a value has,
// and goes as deep as the scanner of JSON does.
type cborReader struct {
	data []byte // what is left
	json []byte
}

// head reads a major type and its argument.
func (r *cborReader) head() (major byte, n uint64, err error) {
	if len(r.data) == 0 {
		return 0, 0, errCBORShort
	}
	major, info := r.data[0]&0xe0, r.data[0]&0x1f
	r.data = r.data[1:]
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, fmt.Errorf("%w: indefinite or reserved length", errCBOR)
	}
	size := 1 << (info - 24)
	if len(r.data) < size {
		return 0, 0, errCBORShort
	}
	for _, c := range r.data[:size] {
		n = n<<8 | uint64(c)
	}
	if n < 24 || size > 1 && n < 1<<(size*4) {
		return 0, 0, fmt.Errorf("%w: integer not in its shortest form", errCBOR)
	}
	r.data = r.data[size:]
	return major, n, nil
}

// take returns the next n bytes.
func (r *cborReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)) {
		return nil, errCBORShort
	}
	taken := r.data[:n]
	r.data = r.data[n:]
	return taken, nil
}

func (r *cborReader) text(n uint64) (string, error) {
	raw, err := r.take(n)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(raw) {
		return "", fmt.Errorf("%w: text is not UTF-8", errCBOR)
	}
	return string(raw), nil
}

// value appends the next value as JSON.
func (r *cborReader) value(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: nested too deeply", errCBOR)
	}
	if len(r.data) > 0 && r.data[0] >= 7<<5 {
		switch r.data[0] {
		case cborFalse:
			r.json = append(r.json, "false"...)
		case cborTrue:
			r.json = append(r.json, "true"...)
		case cborNull:
			r.json = append(r.json, "null"...)
		default:
			return fmt.Errorf("%w: float or unknown simple value", errCBOR)
		}
		r.data = r.data[1:]
		return nil
	}
	major, n, err := r.head()
	if err != nil {
		return err
	}
	switch major {
	case cborUint, cborNeg:
		return r.integer(major, n)
	case cborText:
		text, err := r.text(n)
		if err != nil {
			return err
		}
		r.json = append(r.json, jsString(text)...)
		return nil
	case cborBytes:
		raw, err := r.take(n)
		if err != nil {
			return err
		}
		r.json = append(r.json, `{"$bytes":"`...)
		r.json = base64.RawStdEncoding.AppendEncode(r.json, raw)
		r.json = append(r.json, `"}`...)
		return nil
	case cborTag:
		return r.link(n)
	case cborArray:
		r.json = append(r.json, '[')
		for i := range n {
			if i > 0 {
				r.json = append(r.json, ',')
			}
			if err := r.value(depth + 1); err != nil {
				return err
			}
		}
		r.json = append(r.json, ']')
		return nil
	}
	return r.members(n, depth, "")
}

func (r *cborReader) integer(major byte, n uint64) error {
	if n > maxSafeInteger || major == cborNeg && n == maxSafeInteger {
		return fmt.Errorf("%w: integer of more than 53 bits", errCBOR)
	}
	v := int64(n)
	if major == cborNeg {
		v = -1 - v
	}
	r.json = strconv.AppendInt(r.json, v, 10)
	return nil
}

func (r *cborReader) link(tag uint64) error {
	major, n, err := r.head()
	if err != nil {
		return err
	}
	if tag != cborLink || major != cborBytes || n < 2 {
		return fmt.Errorf("%w: tag is not a link", errCBOR)
	}
	raw, err := r.take(n)
	if err != nil {
		return err
	}
	text, err := linkText(raw)
	if err != nil {
		return err
	}
	r.json = append(r.json, `{"$link":"`...)
	r.json = append(r.json, text...)
	r.json = append(r.json, `"}`...)
	return nil
}

// linkText is the CID of a link's bytes. Of all that calls itself a CID it takes version 1
// alone, and of that only what is read back from its text.
func linkText(raw []byte) (string, error) {
	if raw[0] != 0 || raw[1] != 1 {
		return "", fmt.Errorf("%w: link is not a CID", errCBOR)
	}
	text := "b" + base32Lower.EncodeToString(raw[1:])
	var link atdata.CIDLink
	if err := link.UnmarshalJSON([]byte(`{"$link":"` + text + `"}`)); err != nil || link.String() != text {
		return "", fmt.Errorf("%w: link is not a CID", errCBOR)
	}
	return text, nil
}

// object appends the next value, which has to be a map, as the JSON of an object that
// has the "$type" typ, unless that is empty.
func (r *cborReader) object(typ string) error {
	major, n, err := r.head()
	if err != nil {
		return err
	}
	if major != cborMap {
		return fmt.Errorf("%w: not a map", errCBOR)
	}
	return r.members(n, 0, typ)
}

func (r *cborReader) members(n uint64, depth int, typ string) error {
	r.json = append(r.json, '{')
	if typ != "" {
		r.json = append(append(r.json, `"$type":`...), jsString(typ)...)
	}
	previous, empty := "", typ == ""
	for i := range n {
		major, size, err := r.head()
		if err != nil {
			return err
		}
		if major != cborText {
			return fmt.Errorf("%w: key is not a text", errCBOR)
		}
		key, err := r.text(size)
		if err != nil {
			return err
		}
		switch {
		case i > 0 && compareKeys(previous, key) >= 0:
			return fmt.Errorf("%w: keys out of order", errCBOR)
		case key == "$link" || key == "$bytes": // would be another value in JSON
			return fmt.Errorf("%w: reserved key %s", errCBOR, key)
		case key == "__proto__":
			return errProto
		}
		previous = key
		before := len(r.json)
		if !empty {
			r.json = append(r.json, ',')
		}
		r.json = append(append(r.json, jsString(key)...), ':')
		if err := r.value(depth + 1); err != nil {
			return err
		}
		if key == "$type" && typ != "" { // the header of the frame goes first
			r.json = r.json[:before]
			continue
		}
		empty = false
	}
	r.json = append(r.json, '}')
	return nil
}
