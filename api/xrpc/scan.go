package xrpc

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxDepth is how deep JSON may nest. It bounds the recursion of the scanner and
// the number of times it looks at the same bytes; data of the network nests at
// most 32 deep.
const maxDepth = 128

// SyntaxError says that something is not JSON.
type SyntaxError struct {
	Offset int // in bytes
	text   string
}

// Error returns what is wrong.
func (e *SyntaxError) Error() string { return e.text }

// errProto refuses a key that poisons objects in JavaScript. The reference refuses
// it at every depth, also below keys it ignores.
var errProto = errors.New("Invalid key: __proto__") //lint:ignore ST1005 sent as is

// validate reports whether data is one JSON value (RFC 8259), not too deep, and
// without "__proto__" keys. The error is a *SyntaxError or errProto.
func validate(data []byte) error {
	if len(data) > math.MaxInt32 {
		return &SyntaxError{0, "JSON is too large"}
	}
	v := validator{data: data}
	i, ok := v.value(skipSpace(data, 0), 0)
	if ok {
		if i = skipSpace(data, i); i == len(data) {
			if v.proto {
				return errProto
			}
			return nil
		}
		v.at = i
	}
	switch {
	case v.deep:
		return &SyntaxError{v.at, "JSON is nested too deep"}
	case v.at >= len(data):
		return &SyntaxError{len(data), "Unexpected end of JSON input"}
	}
	r, _ := utf8.DecodeRune(data[v.at:])
	return &SyntaxError{v.at, fmt.Sprintf("Unexpected token %q in JSON at position %d", r, v.at)}
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\r' || data[i] == '\t') {
		i++
	}
	return i
}

type validator struct {
	data  []byte
	at    int // where it went wrong
	deep  bool
	proto bool
}

func (v *validator) fail(i int) (int, bool) {
	v.at = i
	return i, false
}

// value checks the value at i and returns where it ends.
func (v *validator) value(i, depth int) (int, bool) {
	if i >= len(v.data) {
		return v.fail(i)
	}
	switch c := v.data[i]; c {
	case '"':
		return v.str(i)
	case '{', '[':
		if depth == maxDepth {
			v.deep = true
			return v.fail(i)
		}
		if c == '{' {
			return v.object(i, depth)
		}
		return v.array(i, depth)
	case 't':
		return v.literal(i, "true")
	case 'f':
		return v.literal(i, "false")
	case 'n':
		return v.literal(i, "null")
	default:
		return v.number(i)
	}
}

func (v *validator) object(i, depth int) (int, bool) {
	i = skipSpace(v.data, i+1)
	if i < len(v.data) && v.data[i] == '}' {
		return i + 1, true
	}
	for {
		if i >= len(v.data) || v.data[i] != '"' {
			return v.fail(i)
		}
		end, ok := v.str(i)
		if !ok {
			return end, false
		}
		if !v.proto && isProto(v.data[i:end]) {
			v.proto = true
		}
		i = skipSpace(v.data, end)
		if i >= len(v.data) || v.data[i] != ':' {
			return v.fail(i)
		}
		if i, ok = v.value(skipSpace(v.data, i+1), depth+1); !ok {
			return i, false
		}
		i = skipSpace(v.data, i)
		if i >= len(v.data) {
			return v.fail(i)
		}
		switch v.data[i] {
		case ',':
			i = skipSpace(v.data, i+1)
		case '}':
			return i + 1, true
		default:
			return v.fail(i)
		}
	}
}

func (v *validator) array(i, depth int) (int, bool) {
	i = skipSpace(v.data, i+1)
	if i < len(v.data) && v.data[i] == ']' {
		return i + 1, true
	}
	for {
		var ok bool
		if i, ok = v.value(i, depth+1); !ok {
			return i, false
		}
		i = skipSpace(v.data, i)
		if i >= len(v.data) {
			return v.fail(i)
		}
		switch v.data[i] {
		case ',':
			i = skipSpace(v.data, i+1)
		case ']':
			return i + 1, true
		default:
			return v.fail(i)
		}
	}
}

func (v *validator) literal(i int, word string) (int, bool) {
	for j := range len(word) {
		if i+j >= len(v.data) || v.data[i+j] != word[j] {
			return v.fail(i + j)
		}
	}
	return i + len(word), true
}

func (v *validator) str(i int) (int, bool) {
	data := v.data
	for i++; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			return i + 1, true
		case c < ' ':
			return v.fail(i)
		case c == '\\':
			i++
			if i >= len(data) {
				return v.fail(i)
			}
			switch data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					i++
					if i >= len(data) || !isHex(data[i]) {
						return v.fail(i)
					}
				}
			default:
				return v.fail(i)
			}
		}
	}
	return v.fail(i)
}

func (v *validator) number(i int) (int, bool) {
	data := v.data
	if data[i] == '-' {
		i++
	}
	digits := func() bool {
		start := i
		for i < len(data) && '0' <= data[i] && data[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(data) && data[i] == '0' {
		i++
	} else if !digits() {
		return v.fail(i)
	}
	if i < len(data) && data[i] == '.' {
		if i++; !digits() {
			return v.fail(i)
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		if !digits() {
			return v.fail(i)
		}
	}
	return i, true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// isProto reports whether the quoted key is "__proto__", also with escapes.
func isProto(quoted []byte) bool {
	const proto = "__proto__"
	switch {
	case len(quoted) == len(proto)+2:
		return string(quoted[1:len(quoted)-1]) == proto
	case len(quoted) > 6*len(proto)+2 || bytes.IndexByte(quoted, '\\') < 0:
		return false
	}
	return unquote(quoted) == proto
}

// The functions below trust that their input passed validate.

// checker walks JSON beside a schema.
type checker struct {
	data   []byte
	failed error // of a Go type that cannot hold what its schema allows
}

func (c *checker) space(i int) int { return skipSpace(c.data, i) }

// skip returns the end of the value at i.
func (c *checker) skip(i int) int {
	switch c.data[i] {
	case '"':
		return c.skipString(i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch c.data[i] {
			case '"':
				i = c.skipString(i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(c.data) {
		switch c.data[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

func (c *checker) skipString(i int) int {
	for i++; ; i++ {
		switch c.data[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// value returns where the value of the key that begins at i begins.
func (c *checker) value(key int) int {
	return c.space(c.space(c.skipString(key)) + 1)
}

// member returns where the value of the last member called name begins, or -1.
func (c *checker) member(object int, name string) int {
	at := -1
	for key := c.first(object); key >= 0; {
		v := c.value(key)
		if c.keyIs(key, name) {
			at = v
		}
		key = c.after(c.skip(v))
	}
	return at
}

// first returns the first key or item of the object or array at i, -1 when empty.
func (c *checker) first(i int) int {
	i = c.space(i + 1)
	if c.data[i] == '}' || c.data[i] == ']' {
		return -1
	}
	return i
}

// after returns the key or item that follows the value that ends at i, or -1.
func (c *checker) after(i int) int {
	i = c.space(i)
	if c.data[i] != ',' {
		return -1
	}
	return c.space(i + 1)
}

func (c *checker) keyIs(key int, name string) bool {
	raw := c.data[key:c.skipString(key)]
	if len(raw) == len(name)+2 && string(raw[1:len(raw)-1]) == name {
		return true
	}
	return bytes.IndexByte(raw, '\\') >= 0 && unquote(raw) == name
}

// text returns the string at i, decoded. It copies only when it must, so the
// result is valid as long as the data; ownText's is for good.
func (c *checker) text(i int) string {
	text, _ := c.view(i)
	return text
}

// ownText returns the string at i as a copy.
func (c *checker) ownText(i int) string {
	text, copied := c.view(i)
	if !copied {
		text = strings.Clone(text)
	}
	return text
}

func (c *checker) view(i int) (text string, copied bool) {
	raw := c.data[i:c.skipString(i)]
	body := raw[1 : len(raw)-1]
	if bytes.IndexByte(body, '\\') >= 0 || !utf8.Valid(body) {
		return unquote(raw), true
	}
	// The interpreter may not allocate, and nothing writes to the data while it runs.
	return unsafe.String(unsafe.SliceData(body), len(body)), false
}

// unquote decodes a quoted string. What is not UTF-8, and lone surrogates, become
// U+FFFD, as in encoding/json.
func unquote(raw []byte) string {
	var b strings.Builder
	raw = raw[1 : len(raw)-1]
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '\\':
			r, n := unescape(raw[i:])
			if utf16.IsSurrogate(r) {
				low, m := rune(0), 0
				if i+n+1 < len(raw) && raw[i+n] == '\\' && raw[i+n+1] == 'u' {
					low, m = unescape(raw[i+n:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					n += m
				}
			}
			b.WriteRune(r)
			i += n
		case c < utf8.RuneSelf:
			b.WriteByte(c)
			i++
		default:
			r, n := utf8.DecodeRune(raw[i:])
			b.WriteRune(r)
			i += n
		}
	}
	return b.String()
}

// unescape decodes the escape that raw begins with, and returns its length.
func unescape(raw []byte) (rune, int) {
	switch raw[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		n, _ := strconv.ParseUint(string(raw[2:6]), 16, 32)
		return rune(n), 6
	}
	return rune(raw[1]), 2
}

const maxSafeInteger = 1<<53 - 1

// integer reads the number at i, as JavaScript does: 1.0 and 1e2 are integers.
func (c *checker) integer(i, end int) (n int64, ok bool) {
	raw := c.data[i:end]
	digits := raw
	if raw[0] == '-' {
		digits = raw[1:]
	}
	if len(digits) <= 15 {
		for _, d := range digits {
			if d < '0' || d > '9' {
				goto float
			}
			n = n*10 + int64(d-'0')
		}
		if raw[0] == '-' {
			n = -n
		}
		return n, true
	}
float:
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxSafeInteger {
		return 0, false
	}
	return int64(f), true
}
