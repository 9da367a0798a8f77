package record

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"portico/impl/repo/dagcbor"
)

// FromJSON returns the DAG-CBOR of a JSON value. {"$link": "bafy…"} becomes a link and
// {"$bytes": "AQID"} bytes; an object that only looks like one of them stays an object.
// The last of several equal keys counts, 1.0 and 1e2 are integers, and what is not UTF-8,
// or half a surrogate pair, becomes U+FFFD: as the reference reads JSON. Errors are
// ErrJSON and ErrNumber.
func FromJSON(data []byte) ([]byte, error) {
	if !json.Valid(data) {
		return nil, ErrJSON
	}
	e := encoder{in: data, out: make([]byte, 0, len(data))}
	if err := e.value(0); err != nil {
		return nil, err
	}
	return e.out, nil
}

// encoder writes the DAG-CBOR of JSON that is known to be well-formed.
type encoder struct {
	in []byte // from what is to be read next
	// out is what was written. Objects and arrays are written with a head of one byte,
	// which is set right, and their entries sorted, when they are complete.
	out     []byte
	entries []entry // of the objects that are open
	sorted  []byte  // room for an object that has to be sorted
}

// entry is where an encoded entry of an object is in out.
type entry struct{ key, value, end int }

func (e *encoder) space() {
	for len(e.in) > 0 && (e.in[0] == ' ' || e.in[0] == '\n' || e.in[0] == '\r' || e.in[0] == '\t') {
		e.in = e.in[1:]
	}
}

// more goes to the next item of an object or array, and reports whether there is one.
func (e *encoder) more() bool {
	e.in = e.in[1:] // the bracket or comma
	e.space()
	return e.in[0] != '}' && e.in[0] != ']'
}

func (e *encoder) value(depth int) error {
	e.space()
	switch e.in[0] {
	case '{', '[':
		if depth >= dagcbor.MaxDepth {
			return fmt.Errorf("%w: nested too deeply", ErrJSON)
		}
		if e.in[0] == '{' {
			return e.object(depth)
		}
		return e.array(depth)
	case '"':
		return e.text()
	case 'n':
		e.in, e.out = e.in[len("null"):], dagcbor.AppendNull(e.out)
	case 't':
		e.in, e.out = e.in[len("true"):], dagcbor.AppendBool(e.out, true)
	case 'f':
		e.in, e.out = e.in[len("false"):], dagcbor.AppendBool(e.out, false)
	default:
		return e.number()
	}
	return nil
}

func (e *encoder) array(depth int) error {
	start, n := len(e.out), 0
	e.out = append(e.out, 0)
	for e.more() {
		if err := e.value(depth + 1); err != nil {
			return err
		}
		n++
		if e.space(); e.in[0] == ']' {
			break
		}
	}
	e.in = e.in[1:]
	var head [9]byte
	e.setHead(start, dagcbor.AppendArray(head[:0], n))
	return nil
}

func (e *encoder) setHead(start int, head []byte) {
	e.out[start] = head[0]
	if len(head) > 1 {
		e.out = slices.Insert(e.out, start+1, head[1:]...)
	}
}

func (e *encoder) object(depth int) error {
	start, first, inOrder := len(e.out), len(e.entries), true
	e.out = append(e.out, 0)
	for e.more() {
		item := entry{key: len(e.out)}
		if err := e.text(); err != nil {
			return err
		}
		item.value = len(e.out)
		e.space()
		e.in = e.in[1:] // the colon
		if err := e.value(depth + 1); err != nil {
			return err
		}
		item.end = len(e.out)
		if n := len(e.entries); n > first && e.compare(e.entries[n-1], item) >= 0 {
			inOrder = false
		}
		e.entries = append(e.entries, item)
		if e.space(); e.in[0] == '}' {
			break
		}
	}
	e.in = e.in[1:]
	n := len(e.entries) - first
	var head [9]byte
	if inOrder {
		e.setHead(start, dagcbor.AppendMap(head[:0], n))
	} else {
		n = e.sort(start, e.entries[first:])
	}
	e.entries = e.entries[:first]
	if n == 1 {
		e.special(start)
	}
	return nil
}

// compare orders entries by their encoded keys, which is the order of dagcbor.CompareKeys:
// the length comes first.
func (e *encoder) compare(a, b entry) int {
	return bytes.Compare(e.out[a.key:a.value], e.out[b.key:b.value])
}

// sort writes the object at start anew, with each key once, and returns how many there are.
func (e *encoder) sort(start int, entries []entry) int {
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(e.compare(a, b), a.key-b.key) })
	kept := entries[:0]
	for _, item := range entries {
		if n := len(kept); n > 0 && e.compare(kept[n-1], item) == 0 {
			kept[n-1] = item
		} else {
			kept = append(kept, item)
		}
	}
	e.sorted = dagcbor.AppendMap(e.sorted[:0], len(kept))
	for _, item := range kept {
		e.sorted = append(e.sorted, e.out[item.key:item.end]...)
	}
	e.out = append(e.out[:start], e.sorted...)
	return len(kept)
}

// special turns the object of one entry at start into the link or the bytes that it
// stands for, if it does.
func (e *encoder) special(start int) {
	d := dagcbor.NewDecoder(e.out[start:])
	d.Map()
	key := d.Text()
	if d.Kind() != dagcbor.KindText || len(key) == 0 || key[0] != '$' {
		return
	}
	switch string(key) {
	case "$link":
		if link, _, err := parseLink(string(d.Text())); err == nil {
			e.out = dagcbor.AppendLinkBytes(e.out[:start], link)
		}
	case "$bytes":
		if b, ok := decodeBytes(string(d.Text())); ok {
			e.out = dagcbor.AppendBytes(e.out[:start], b)
		}
	}
}

var standardAlphabet = strings.NewReplacer("-", "+", "_", "/")

// decodeBytes reads base64 of both alphabets, with all, some or none of its padding.
func decodeBytes(text string) ([]byte, bool) {
	plain := strings.TrimRight(text, "=")
	if len(text) > (len(plain)+3)/4*4 || strings.ContainsAny(plain, "\r\n") { // base64 would skip the line breaks
		return nil, false
	}
	b, err := base64.RawStdEncoding.DecodeString(standardAlphabet.Replace(plain))
	return b, err == nil
}

func (e *encoder) text() error {
	end, plain := 1, true
	for e.in[end] != '"' {
		if e.in[end] == '\\' {
			plain = false
			end++
		}
		end++
	}
	raw := e.in[:end+1]
	e.in = e.in[end+1:]
	if body := raw[1:end]; plain && utf8.Valid(body) {
		e.out = dagcbor.AppendText(e.out, body)
		return nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	e.out = dagcbor.AppendText(e.out, s)
	return nil
}

func (e *encoder) number() error {
	end := bytes.IndexAny(e.in, ",]} \n\r\t")
	if end < 0 {
		end = len(e.in)
	}
	raw := string(e.in[:end])
	e.in = e.in[end:]
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		f, err := strconv.ParseFloat(raw, 64)
		if err != nil || f != math.Trunc(f) || math.Abs(f) > dagcbor.MaxInt {
			return fmt.Errorf("%w: %.40s", ErrNumber, raw)
		}
		n = int64(f)
	}
	if n > dagcbor.MaxInt || n < -dagcbor.MaxInt {
		return fmt.Errorf("%w: %d", ErrNumber, n)
	}
	e.out = dagcbor.AppendInt(e.out, n)
	return nil
}

// AppendJSON appends the JSON of a DAG-CBOR value, in the form that JavaScript gives it:
// no spaces, nothing escaped that needs not be, keys in the order of DAG-CBOR but small
// integers first. It returns ErrRecord when value is not well-formed.
func AppendJSON(b, value []byte) ([]byte, error) {
	d := decoder{Decoder: dagcbor.NewDecoder(value), out: b}
	d.value(0)
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if d.err != nil {
		return nil, d.err
	}
	return d.out, nil
}

type decoder struct {
	*dagcbor.Decoder
	out     []byte
	members []member // of the objects that are open
	err     error
}

// member is where a member of an object is in out, and whether its key is an index.
type member struct {
	start, end int
	index      bool
}

func (d *decoder) value(depth int) {
	if d.err == nil && depth > dagcbor.MaxDepth {
		d.err = fmt.Errorf("%w: nested too deeply", ErrRecord)
	}
	if d.err != nil || d.Err() != nil {
		return
	}
	switch d.Kind() {
	case dagcbor.KindNull:
		d.Null()
		d.out = append(d.out, "null"...)
	case dagcbor.KindBool:
		d.out = strconv.AppendBool(d.out, d.Bool())
	case dagcbor.KindInteger:
		d.integer()
	case dagcbor.KindText:
		d.out = appendText(d.out, d.Text())
	case dagcbor.KindBytes:
		d.out = append(d.out, `{"$bytes":"`...)
		d.out = base64.RawStdEncoding.AppendEncode(d.out, d.Bytes())
		d.out = append(d.out, `"}`...)
	case dagcbor.KindLink:
		var err error
		out := append(d.out, `{"$link":"`...)
		if out, err = appendLink(out, d.LinkBytes()); err != nil {
			d.err = err
			return
		}
		d.out = append(out, `"}`...)
	case dagcbor.KindArray:
		d.out = append(d.out, '[')
		for i := range d.Array() {
			if i > 0 {
				d.out = append(d.out, ',')
			}
			d.value(depth + 1)
		}
		d.out = append(d.out, ']')
	case dagcbor.KindMap:
		d.object(depth)
	default:
		d.Skip() // says what is wrong
	}
}

func (d *decoder) integer() {
	negative, n := d.Integer()
	switch {
	case !negative:
		d.out = strconv.AppendUint(d.out, n, 10)
	case n == math.MaxUint64:
		d.out = append(d.out, "-18446744073709551616"...)
	default:
		d.out = strconv.AppendUint(append(d.out, '-'), n+1, 10)
	}
}

func (d *decoder) object(depth int) {
	d.out = append(d.out, '{')
	first, others, mixed := len(d.members), false, false
	var key []byte
	for i := range d.Map() {
		if i > 0 {
			d.out = append(d.out, ',')
		}
		start := len(d.out)
		key = d.KeyAfter(key)
		d.out = append(appendText(d.out, key), ':')
		d.value(depth + 1)
		if d.err != nil || d.Err() != nil {
			return
		}
		index := isIndex(key)
		mixed = mixed || index && others
		others = others || !index
		d.members = append(d.members, member{start, len(d.out), index})
	}
	if mixed {
		d.indicesFirst(d.members[first:])
	}
	d.members = d.members[:first]
	d.out = append(d.out, '}')
}

// indicesFirst writes the members of an object anew. The order of DAG-CBOR is right among
// the indices and among the others.
func (d *decoder) indicesFirst(members []member) {
	start := members[0].start
	old := slices.Clone(d.out[start:])
	d.out = d.out[:start]
	for _, indices := range []bool{true, false} {
		for _, m := range members {
			if m.index == indices {
				if len(d.out) > start {
					d.out = append(d.out, ',')
				}
				d.out = append(d.out, old[m.start-start:m.end-start]...)
			}
		}
	}
}

// isIndex reports whether JavaScript takes a key for the index of an array, which it
// lists before others.
func isIndex(key []byte) bool {
	if len(key) == 0 || len(key) > len("4294967295") || key[0] == '0' && len(key) > 1 {
		return false
	}
	n := 0
	for _, c := range key {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n < math.MaxUint32
}

// appendText appends a JSON string as JSON.stringify writes it.
func appendText(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(b, text[done:]...), '"')
}
