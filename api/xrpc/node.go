package xrpc

import "iter"

// A Node is a value in a JSON text, looked at where it stands: nothing is decoded that
// nobody asks for, and nothing is copied. Looking for something in it reads all of it, so
// that a text costs as often as it nests, which is at most 128 times. The zero value is no
// value: it has no members and no items.
type Node struct {
	c  *checker
	at int
}

// Parse returns the one value in data, which s allows; the error is that of [Schema.Check].
// data may not be changed while Nodes of it are used.
func (s *Schema) Parse(data []byte) (Node, error) {
	if err := s.Check(data); err != nil {
		return Node{}, err
	}
	c := &checker{data: data}
	return Node{c, c.space(0)}, nil
}

// Start is where the value begins in the text, in bytes.
func (n Node) Start() int { return n.at }

// End is where it ends.
func (n Node) End() int {
	if n.c == nil {
		return 0
	}
	return n.c.skip(n.at)
}

// Raw is the text of the value, a part of the whole.
func (n Node) Raw() []byte {
	if n.c == nil {
		return nil
	}
	return n.c.data[n.at:n.End()]
}

// IsObject reports whether it is an object.
func (n Node) IsObject() bool { return n.c != nil && n.c.data[n.at] == '{' }

// IsArray reports whether it is an array.
func (n Node) IsArray() bool { return n.c != nil && n.c.data[n.at] == '[' }

// IsString reports whether it is a string.
func (n Node) IsString() bool { return n.c != nil && n.c.data[n.at] == '"' }

// Text is the value of a string, and "" of any other. It is good for as long as the text.
func (n Node) Text() string {
	if !n.IsString() {
		return ""
	}
	return n.c.text(n.at)
}

// Member is the value that an object has under a name, the last one of several; of path
// each is looked for in the one before. The zero Node: there is none.
func (n Node) Member(path ...string) Node {
	for _, name := range path {
		if !n.IsObject() {
			return Node{}
		}
		at := n.c.member(n.at, name)
		if at < 0 {
			return Node{}
		}
		n.at = at
	}
	return n
}

// Members are those of an object as they come, by name.
func (n Node) Members() iter.Seq2[string, Node] {
	return func(yield func(string, Node) bool) {
		if !n.IsObject() {
			return
		}
		for key := n.c.first(n.at); key >= 0; {
			value := Node{n.c, n.c.value(key)}
			if !yield(n.c.text(key), value) {
				return
			}
			key = n.c.after(value.End())
		}
	}
}

// Items are those of an array.
func (n Node) Items() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		if !n.IsArray() {
			return
		}
		for at := n.c.first(n.at); at >= 0; {
			item := Node{n.c, at}
			if !yield(item) {
				return
			}
			at = n.c.after(item.End())
		}
	}
}
