package bsky

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"portico/api/xrpc"
)

// maxAdded is how much a patch may put into an answer, in bytes. Ten posts that are posts
// come to a tenth of that.
const maxAdded = 4 << 20

var errTooMuch = errors.New("patch is too large")

// edits are changes to a JSON text, which stays as it came everywhere else.
type edits struct {
	list  []edit
	added int
}

type edit struct {
	from, to int // of what goes away
	text     []byte
}

// insert puts text before the byte at, behind what was inserted there before.
func (e *edits) insert(at int, text []byte) { e.put(edit{at, at, text}) }

// replace puts text in the place of n.
func (e *edits) replace(n xrpc.Node, text []byte) { e.put(edit{n.Start(), n.End(), text}) }

func (e *edits) put(one edit) {
	if e.added += len(one.text); e.added <= maxAdded {
		e.list = append(e.list, one)
	}
}

// apply returns a copy of text with the changes made. It fails where they put in more than
// maxAdded.
func (e *edits) apply(text []byte) ([]byte, error) {
	if e.added > maxAdded {
		return nil, errTooMuch
	}
	slices.SortStableFunc(e.list, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	out, done := make([]byte, 0, len(text)+e.added), 0
	for _, one := range e.list {
		out = append(append(out, text[done:one.from]...), one.text...)
		done = one.to
	}
	return append(out, text[done:]...), nil
}

// A member is one of an object; without a value: that there is none.
type member struct {
	name  string
	value []byte
}

// with is the text of the object n with some members as they are given, at its end.
func with(n xrpc.Node, members ...member) []byte {
	out := []byte{'{'}
	add := func(name string, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted(name)...), ':'), value...)
	}
	for name, value := range n.Members() {
		if !slices.ContainsFunc(members, func(m member) bool { return m.name == name }) {
			add(name, value.Raw())
		}
	}
	for _, m := range members {
		if m.value != nil {
			add(m.name, m.value)
		}
	}
	return append(out, '}')
}

// object is the text of one with the given members.
func object(members ...member) []byte { return with(xrpc.Node{}, members...) }

// list is the text of an array of texts.
func list(texts [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(texts, []byte{','})...), ']')
}

// marshal is the text of a value, as JSON.stringify writes it.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// quoted is the text of a string, which each has.
func quoted[S ~string](s S) []byte {
	text, _ := marshal(string(s))
	return text
}
