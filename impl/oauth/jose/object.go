package jose

import (
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"unicode/utf8"
)

// errObject says that a text is no object as this package wants them.
var errObject = errors.New("not a JSON object")

// An Object is a JSON object, whose members are told apart as they are written: "ISS" is not
// "iss", as it would be to encoding/json, and none is there twice, so that nobody else reads
// another value than we do.
type Object []member

type member struct {
	name  string
	value []byte // JSON, without blanks around it
}

// ParseObject reads an object of at most that many members. It keeps parts of raw.
func ParseObject(raw []byte, most int) (Object, error) {
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, errObject
	}
	// What is valid is taken apart with few questions.
	at := blanks(raw, 0)
	if raw[at] != '{' {
		return nil, errObject
	}
	o := make(Object, 0, min(8, most))
	for at = blanks(raw, at+1); raw[at] != '}'; {
		end := text(raw, at)
		name, ok := unquote(raw[at:end])
		if !ok {
			return nil, errObject
		}
		if _, twice := o.Raw(name); twice {
			return nil, errors.New("a JSON object has a member twice")
		}
		if len(o) == most {
			return nil, errors.New("a JSON object has too many members")
		}
		at = blanks(raw, blanks(raw, end)+1) // behind the colon
		end = value(raw, at)
		o = append(o, member{name, raw[at:end:end]})
		if at = blanks(raw, end); raw[at] == ',' {
			at = blanks(raw, at+1)
		}
	}
	return o, nil
}

// blanks returns where what is no blank begins, from at on.
func blanks(raw []byte, at int) int {
	for at < len(raw) && (raw[at] == ' ' || raw[at] == '\t' || raw[at] == '\n' || raw[at] == '\r') {
		at++
	}
	return at
}

// text returns where the string ends that begins at at.
func text(raw []byte, at int) int {
	for at++; raw[at] != '"'; at++ {
		if raw[at] == '\\' {
			at++
		}
	}
	return at + 1
}

// value returns where the value ends that begins at at.
func value(raw []byte, at int) int {
	for depth := 0; ; {
		switch raw[at] {
		case '"':
			at = text(raw, at)
		case '{', '[':
			depth++
			at++
			continue
		case '}', ']':
			depth--
			at++
		default:
			at++
			if depth > 0 {
				continue
			}
			// A number or a word goes on to what cannot be in it.
			for at < len(raw) && raw[at] != ',' && raw[at] != '}' && raw[at] != ']' && blanks(raw, at) == at {
				at++
			}
		}
		if depth == 0 {
			return at
		}
	}
}

func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	for _, c := range raw {
		if c == '\\' {
			var s string
			err := json.Unmarshal(raw, &s)
			return s, err == nil
		}
	}
	return string(raw[1 : len(raw)-1]), true
}

// Raw returns a member as JSON.
func (o Object) Raw(name string) (raw []byte, has bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// Text returns a member that is a string: ok is false where it is something else or missing.
func (o Object) Text(name string) (s string, ok bool) {
	raw, _ := o.Raw(name)
	return unquote(raw)
}

// Number returns a member that is a number, as Text.
func (o Object) Number(name string) (n float64, ok bool) {
	raw, _ := o.Raw(name)
	if len(raw) == 0 || raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return 0, false
	}
	n, err := strconv.ParseFloat(string(raw), 64)
	return n, err == nil
}

// Texts returns a member that is a list of at most that many strings, as Text.
func (o Object) Texts(name string, most int) (list []string, ok bool) {
	raw, _ := o.Raw(name)
	parts, ok := Elements(raw, most)
	if !ok {
		return nil, false
	}
	list = make([]string, 0, len(parts))
	for _, part := range parts {
		s, ok := unquote(part)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// Elements takes a list apart that is a member of an [Object]. ok is false where it is none,
// or has more elements than most.
func Elements(raw []byte, most int) (parts [][]byte, ok bool) {
	if len(raw) == 0 || raw[0] != '[' {
		return nil, false
	}
	for at := blanks(raw, 1); raw[at] != ']'; {
		if len(parts) == most {
			return nil, false
		}
		end := value(raw, at)
		parts = append(parts, raw[at:end:end])
		if at = blanks(raw, end); raw[at] == ',' {
			at = blanks(raw, at+1)
		}
	}
	return parts, true
}

// All are the members, in their order, as JSON.
func (o Object) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, m := range o {
			if !yield(m.name, m.value) {
				return
			}
		}
	}
}
