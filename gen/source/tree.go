package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the JSON type of a [Value].
type Kind byte

// The JSON types. Integer is a number without fraction that an int64 holds.
const (
	Null Kind = iota
	Boolean
	Integer
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "a boolean", "an integer", "a number", "a string", "an array", "an object"}[k]
}

// Value is a JSON value that knows where it stands and in which order its members
// were written, both of which encoding/json forgets.
type Value struct {
	Kind    Kind
	Offset  int    // in bytes, of its first character
	Pointer string // JSON pointer from the root of the document
	Members []Member
	Items   []*Value
	Text    string // of a string
	Int     int64  // of an integer
	Raw     []byte
}

// Member is one property of an object.
type Member struct {
	Key   string
	At    int // offset of the key
	Value *Value
}

// key stands for the key of the member in a message.
func (m Member) key() *Value { return &Value{Offset: m.At, Pointer: m.Value.Pointer} }

// Get is the member called key, or nil. Of two with one name the last counts, as in
// encoding/json.
func (v *Value) Get(key string) *Value {
	if v == nil {
		return nil
	}
	for i := len(v.Members) - 1; i >= 0; i-- {
		if v.Members[i].Key == key {
			return v.Members[i].Value
		}
	}
	return nil
}

// String is the text of the member called key, or "" when there is no such string.
func (v *Value) String(key string) string {
	if m := v.Get(key); m != nil {
		return m.Text
	}
	return ""
}

// Strings are the strings in the array called key.
func (v *Value) Strings(key string) []string {
	var s []string
	if m := v.Get(key); m != nil {
		for _, item := range m.Items {
			if item.Kind == String {
				s = append(s, item.Text)
			}
		}
	}
	return s
}

// Keys are the names of the members, in the order they were written.
func (v *Value) Keys() []string {
	var keys []string
	if v != nil {
		for _, m := range v.Members {
			keys = append(keys, m.Key)
		}
	}
	return keys
}

// maxDepth is far more than any lexicon needs and keeps recursion over a document
// bounded.
const maxDepth = 100

type syntaxError struct {
	offset  int
	message string
}

func (e *syntaxError) Error() string { return e.message }

// parse reads one JSON document. Its error is a *syntaxError.
func parse(data []byte) (*Value, error) {
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		var syn *json.SyntaxError
		if errors.As(err, &syn) {
			return nil, &syntaxError{max(0, int(syn.Offset)-1), err.Error()}
		}
		return nil, &syntaxError{0, err.Error()}
	}
	s := scanner{data: data}
	return s.value("", 0)
}

// scanner walks over bytes that encoding/json has already found to be well-formed.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) space() {
	for s.pos < len(s.data) && strings.IndexByte(" \t\r\n", s.data[s.pos]) >= 0 {
		s.pos++
	}
}

func (s *scanner) value(pointer string, depth int) (*Value, error) {
	s.space()
	if depth > maxDepth {
		return nil, &syntaxError{s.pos, fmt.Sprintf("nested more than %d levels deep", maxDepth)}
	}
	v := &Value{Offset: s.pos, Pointer: pointer}
	defer func() { v.Raw = s.data[v.Offset:s.pos] }()
	switch s.data[s.pos] {
	case '{':
		v.Kind = Object
		return v, s.members(v, depth)
	case '[':
		v.Kind = Array
		return v, s.items(v, depth)
	case '"':
		v.Kind, v.Text = String, s.text()
	case 't', 'n':
		if s.data[s.pos] == 't' {
			v.Kind = Boolean
		}
		s.pos += len("true")
	case 'f':
		v.Kind = Boolean
		s.pos += len("false")
	default:
		for s.pos < len(s.data) && strings.IndexByte("+-.0123456789eE", s.data[s.pos]) >= 0 {
			s.pos++
		}
		v.Kind = Number
		if n, err := strconv.ParseInt(string(s.data[v.Offset:s.pos]), 10, 64); err == nil {
			v.Kind, v.Int = Integer, n
		}
	}
	return v, nil
}

func (s *scanner) members(v *Value, depth int) error {
	for s.pos++; ; s.pos++ { // over '{' or ','
		s.space()
		if s.data[s.pos] == '}' {
			break
		}
		m := Member{At: s.pos, Key: s.text()}
		s.space()
		s.pos++ // ':'
		var err error
		if m.Value, err = s.value(v.Pointer+"/"+escape(m.Key), depth+1); err != nil {
			return err
		}
		v.Members = append(v.Members, m)
		if s.space(); s.data[s.pos] == '}' {
			break
		}
	}
	s.pos++
	return nil
}

func (s *scanner) items(v *Value, depth int) error {
	for s.pos++; ; s.pos++ { // over '[' or ','
		s.space()
		if s.data[s.pos] == ']' {
			break
		}
		item, err := s.value(v.Pointer+"/"+strconv.Itoa(len(v.Items)), depth+1)
		if err != nil {
			return err
		}
		v.Items = append(v.Items, item)
		if s.space(); s.data[s.pos] == ']' {
			break
		}
	}
	s.pos++
	return nil
}

func (s *scanner) text() string {
	start := s.pos
	for s.pos++; s.data[s.pos] != '"'; s.pos++ {
		if s.data[s.pos] == '\\' {
			s.pos++
		}
	}
	s.pos++
	if plain := s.data[start+1 : s.pos-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var text string
	_ = json.Unmarshal(s.data[start:s.pos], &text) // known to be well-formed
	return text
}

// escape writes one segment of a JSON pointer (RFC 6901).
func escape(key string) string { return escaper.Replace(key) }

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// position turns an offset into a line and a column, both counted from 1.
func position(data []byte, offset int) (line, col int) {
	before := data[:min(offset, len(data))]
	line = bytes.Count(before, []byte{'\n'}) + 1
	col = len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	return line, col
}
