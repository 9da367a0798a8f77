package xrpc

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Issue is what is wrong with a value, in the reference's words, and where: "$" is
// the body, followed by ".name" and "[index]".
type Issue struct {
	Path string
	Text string
}

// Error returns what a client reads: the text, " at " and the path.
func (i *Issue) Error() string { return i.Text + " at " + i.Path }

// below moves i one property down.
func (i *Issue) below(name string) *Issue {
	segment := "." + name
	if !isIdentifier(name) {
		segment = "[" + jsString(name) + "]"
	}
	i.Path = "$" + segment + i.Path[1:]
	return i
}

// at moves i one item down.
func (i *Issue) at(index int) *Issue {
	i.Path = "$[" + strconv.Itoa(index) + "]" + i.Path[1:]
	return i
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '$' && i == 0
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func tooBig(what string, maximum, got int64) *Issue {
	return &Issue{"$", fmt.Sprintf("%s too big (maximum %d, got %d)", what, maximum, got)}
}

func tooSmall(what string, minimum, got int64) *Issue {
	return &Issue{"$", fmt.Sprintf("%s too small (minimum %d, got %d)", what, minimum, got)}
}

func (c *checker) wrongType(want string, i int) *Issue {
	return &Issue{"$", "Expected " + want + " value type (got " + c.preview(i) + ")"}
}

// wrongValue lists the values, already in preview form, that are allowed.
func (c *checker) wrongValue(i int, want ...string) *Issue {
	return &Issue{"$", "Expected " + oneOf(want) + " (got " + c.preview(i) + ")"}
}

func oneOf(want []string) string {
	switch n := len(want); n {
	case 0:
		return ""
	case 1:
		return want[0]
	default:
		return "one of " + strings.Join(want[:n-1], ", ") + " or " + want[n-1]
	}
}

func quoteAll(v []string) []string {
	out := make([]string, len(v))
	for i, s := range v {
		out[i] = previewString(utf16.Encode([]rune(s)))
	}
	return out
}

func formatAll(v []int64) []string {
	out := make([]string, len(v))
	for i, n := range v {
		out[i] = strconv.FormatInt(n, 10)
	}
	return out
}

// preview shows the value at i as the reference does, which prints JavaScript
// values: strings in UTF-16, numbers as doubles, objects with their last duplicates
// and with integer keys first.
func (c *checker) preview(i int) string {
	switch c.data[i] {
	case '"':
		return previewString(units(c.data[i:c.skipString(i)]))
	case 't':
		return "true"
	case 'f':
		return "false"
	case 'n':
		return "null"
	case '[':
		var parts []string
		for item := c.first(i); item >= 0; item = c.after(c.skip(item)) {
			if len(parts) == 2 {
				parts = append(parts, "...")
				break
			}
			parts = append(parts, c.preview(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case '{':
		if c.isLink(i) {
			return "cid"
		}
		if c.isBytes(i) {
			return "object"
		}
		return c.previewObject(i)
	}
	f, _ := strconv.ParseFloat(string(c.data[i:c.skip(i)]), 64) // out of range is infinite
	return jsNumber(f)
}

func (c *checker) previewObject(i int) string {
	// At most three keys are needed, but integers go first and equal ones count once, so
	// all must be seen. Bodies are bounded.
	var keys []string
	var integers []uint64
	seen := make(map[string]bool)
	for key := c.first(i); key >= 0; key = c.after(c.skip(c.value(key))) {
		quoted := jsQuote(units(c.data[key:c.skipString(key)]))
		if seen[quoted] {
			continue
		}
		seen[quoted] = true
		plain := quoted[1 : len(quoted)-1]
		if n, err := strconv.ParseUint(plain, 10, 32); err == nil && n < math.MaxUint32 && strconv.FormatUint(n, 10) == plain {
			integers = append(integers, n)
		} else if len(keys) < 3 {
			keys = append(keys, quoted)
		}
	}
	slices.Sort(integers)
	var all []string
	for _, n := range integers[:min(3, len(integers))] {
		all = append(all, `"`+strconv.FormatUint(n, 10)+`"`)
	}
	all = append(all, keys...)
	var parts []string
	for n, key := range all {
		if n == 2 {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, key+": ...")
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// units returns the UTF-16 code units of a quoted string, lone surrogates as they are.
func units(quoted []byte) []uint16 {
	raw := quoted[1 : len(quoted)-1]
	out := make([]uint16, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] == '\\' {
			r, n := unescape(raw[i:])
			out = append(out, uint16(r))
			i += n
			continue
		}
		r, n := utf8.DecodeRune(raw[i:])
		out = utf16.AppendRune(out, r)
		i += n
	}
	return out
}

const previewLimit = 256 // UTF-16 code units

func previewString(u []uint16) string {
	if len(u) >= previewLimit {
		u = append(slices.Clip(u[:previewLimit-1]), '…')
	}
	return jsQuote(u)
}

func jsString(s string) string { return jsQuote(utf16.Encode([]rune(s))) }

// jsQuote is JSON.stringify of a string.
func jsQuote(u []uint16) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(u); i++ {
		switch r := rune(u[i]); {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteByte(byte(r))
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		case utf16.IsSurrogate(r):
			if i+1 < len(u) {
				if pair := utf16.DecodeRune(r, rune(u[i+1])); pair != utf8.RuneError {
					b.WriteRune(pair)
					i++
					continue
				}
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// jsNumber is String(f) in JavaScript.
func jsNumber(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		return "0"
	}
	if a := math.Abs(f); a >= 1e-6 && a < 1e21 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	s := strconv.FormatFloat(f, 'e', -1, 64) // 1e-07 → 1e-7
	mantissa, exponent, _ := strings.Cut(s, "e")
	return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
}
