package pull

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// literalDepth is far more than any document needs and keeps recursion bounded.
const literalDepth = 100

// LiteralError says where a text is something else than a literal.
type LiteralError struct {
	Line, Column int // of its first character, counted from 1
	Message      string
}

func (e *LiteralError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// entry is a member of an object literal, with its value as JSON.
type entry struct {
	key   string
	value []byte
}

// literals reads the object literal of JavaScript that data has at offset at, whose end a
// semicolon has to follow. Literals of objects, arrays, strings, numbers, true, false and
// null are taken, comments and commas at the end; anything else is a [LiteralError], also
// what JavaScript would take and mean otherwise than JSON does: keys that come twice, and
// __proto__. Nothing is evaluated. Members keep their order.
func literals(data []byte, at int) (entries []entry, err error) {
	p := literalParser{data: data, pos: at}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*LiteralError)
			if !ok {
				panic(r)
			}
			entries, err = nil, e
		}
	}()
	p.space()
	p.object(0, func(key string) {
		p.out.Reset()
		p.value(1)
		entries = append(entries, entry{key, bytes.Clone(p.out.Bytes())})
	})
	p.space()
	p.take(';', "the literal")
	return entries, nil
}

// literalParser writes JSON of the literals that it passes. It panics with its errors.
type literalParser struct {
	data []byte
	pos  int
	out  bytes.Buffer
}

func (p *literalParser) fail(at int, format string, args ...any) {
	before := p.data[:at]
	panic(&LiteralError{
		Line:    bytes.Count(before, []byte{'\n'}) + 1,
		Column:  utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
		Message: fmt.Sprintf(format, args...),
	})
}

// peek is the next byte, or 0 at the end, which no literal begins with.
func (p *literalParser) peek() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

// here is what stands at the next byte, for messages.
func (p *literalParser) here() string {
	if p.pos >= len(p.data) {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRune(p.data[p.pos:])
	return fmt.Sprintf("%q", r)
}

func (p *literalParser) take(c byte, after string) {
	if p.peek() != c {
		p.fail(p.pos, "want %q after %s, got %s", c, after, p.here())
	}
	p.pos++
}

func (p *literalParser) has(prefix string) bool {
	return bytes.HasPrefix(p.data[p.pos:], []byte(prefix))
}

// space passes white space and comments.
func (p *literalParser) space() {
	for {
		switch {
		case strings.IndexByte(" \t\r\n", p.peek()) >= 0 && p.pos < len(p.data):
			p.pos++
		case p.has("//"):
			end := bytes.IndexByte(p.data[p.pos:], '\n')
			if end < 0 {
				end = len(p.data) - p.pos
			}
			p.pos += end
		case p.has("/*"):
			end := bytes.Index(p.data[p.pos+2:], []byte("*/"))
			if end < 0 {
				p.fail(p.pos, "the comment has no end")
			}
			p.pos += 2 + end + 2
		default:
			return
		}
	}
}

func (p *literalParser) value(depth int) {
	if depth > literalDepth {
		p.fail(p.pos, "nested more than %d levels deep", literalDepth)
	}
	switch c := p.peek(); {
	case c == '{':
		p.out.WriteByte('{')
		comma := ""
		p.object(depth, func(key string) {
			p.out.WriteString(comma)
			p.json(key)
			p.out.WriteByte(':')
			p.value(depth + 1)
			comma = ","
		})
		p.out.WriteByte('}')
	case c == '[':
		p.array(depth)
	case c == '\'' || c == '"':
		p.json(p.text())
	case c == '-' || '0' <= c && c <= '9':
		p.number()
	default:
		at := p.pos
		switch word := p.word(); word {
		case "true", "false", "null":
			p.out.WriteString(word)
		case "":
			p.fail(at, "%s is no literal", p.here())
		default:
			p.fail(at, "%s is no literal", word)
		}
	}
}

// object passes an object, and lets member read the value of each key.
func (p *literalParser) object(depth int, member func(key string)) {
	p.take('{', "=")
	seen := map[string]bool{}
	for {
		p.space()
		if p.peek() == '}' {
			break
		}
		at, key := p.pos, ""
		if c := p.peek(); c == '\'' || c == '"' {
			key = p.text()
		} else if key = p.word(); key == "" {
			p.fail(at, "%s is no key", p.here())
		}
		switch {
		case key == "__proto__":
			p.fail(at, "__proto__ is no key of JSON")
		case seen[key]:
			p.fail(at, "the key %q comes twice", key)
		}
		seen[key] = true
		p.space()
		p.take(':', "a key")
		p.space()
		member(key)
		if p.space(); p.peek() == '}' {
			break
		}
		p.take(',', "a member")
	}
	p.pos++
}

func (p *literalParser) array(depth int) {
	p.pos++
	p.out.WriteByte('[')
	for comma := ""; ; comma = "," {
		p.space()
		if p.peek() == ']' {
			break
		}
		p.out.WriteString(comma)
		p.value(depth + 1)
		if p.space(); p.peek() == ']' {
			break
		}
		p.take(',', "an item")
	}
	p.pos++
	p.out.WriteByte(']')
}

// word passes an identifier of ASCII, and returns "" where there is none.
func (p *literalParser) word() string {
	start := p.pos
	for c := p.peek(); c == '_' || c == '$' || 'a' <= c|0x20 && c|0x20 <= 'z' || p.pos > start && '0' <= c && c <= '9'; c = p.peek() {
		p.pos++
	}
	return string(p.data[start:p.pos])
}

// number passes a number as JSON has it.
func (p *literalParser) number() {
	start := p.pos
	for strings.IndexByte("+-.0123456789eE", p.peek()) >= 0 && p.pos < len(p.data) {
		p.pos++
	}
	number := p.data[start:p.pos]
	if !json.Valid(number) || p.word() != "" {
		p.fail(start, "%s is no number of JSON", p.data[start:p.pos])
	}
	p.out.Write(number)
}

func (p *literalParser) json(text string) {
	e := json.NewEncoder(&p.out)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can be written, and memory takes it
	p.out.Truncate(p.out.Len() - len("\n"))
}

var escapes = map[byte]rune{'\'': '\'', '"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// text passes a string.
func (p *literalParser) text() string {
	start, quote := p.pos, p.peek()
	var b strings.Builder
	for p.pos++; ; {
		r, size := utf8.DecodeRune(p.data[p.pos:])
		switch {
		case size == 0 || r == '\n' || r == '\r':
			p.fail(start, "the string has no end")
		case r == utf8.RuneError && size == 1:
			p.fail(p.pos, "the string is not UTF-8")
		case r == rune(quote):
			p.pos++
			return b.String()
		case r == '\\':
			b.WriteRune(p.escape())
		default:
			b.WriteRune(r)
			p.pos += size
		}
	}
}

// escape passes a backslash and what belongs to it.
func (p *literalParser) escape() rune {
	at := p.pos
	p.pos++
	c := p.peek()
	p.pos++
	if r, ok := escapes[c]; ok {
		return r
	}
	switch c {
	case 'x':
		return p.hex(at, 2)
	case 'u':
		r := p.hex(at, 4)
		if utf16.IsSurrogate(r) && p.has(`\u`) {
			p.pos += 2
			r = utf16.DecodeRune(r, p.hex(at, 4))
		}
		if utf16.IsSurrogate(r) || r == utf8.RuneError {
			p.fail(at, "half a character")
		}
		return r
	}
	p.fail(at, "an escape that is not of JSON")
	return 0
}

func (p *literalParser) hex(at, digits int) (r rune) {
	for range digits {
		i := strings.IndexByte("0123456789abcdef", p.peek()|0x20)
		if i < 0 || p.peek() == 0 {
			p.fail(at, "an escape that is not of JSON")
		}
		r = r<<4 | rune(i)
		p.pos++
	}
	return r
}
