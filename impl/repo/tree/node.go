package tree

import (
	"fmt"
	"sort"
	"strings"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// A leaf is a key with the name of its record.
type leaf struct {
	key   string
	value dagcbor.CID
}

// A node is a node as it is encoded. It is never changed, so that many can use one.
type node struct {
	keys []leaf
	// kids are the names of the children, zero where there is none: kids[i] is left of
	// keys[i], and the last one right of all.
	kids []dagcbor.CID
}

// size estimates what a node takes in memory, in bytes.
func (n *node) size() int {
	size := 200
	for _, k := range n.keys {
		size += 100 + len(k.key)
	}
	return size
}

// search returns the index of the first key that is not less than the given one: the path
// of that key goes on in the child left of it.
func search(keys []leaf, key string) int {
	return sort.Search(len(keys), func(i int) bool { return keys[i].key >= key })
}

// decode takes a node apart, which has to be in its one form, with keys that ascend.
// Whether it belongs where it stands is for [node.check]. Errors are ErrNode.
func decode(data []byte) (*node, error) {
	d := dagcbor.NewDecoder(data)
	if d.Map() != 2 {
		return nil, fmt.Errorf("%w: other fields", ErrNode)
	}
	d.Key("e")
	count := d.Array()
	if count > MaxKeys {
		return nil, fmt.Errorf("%w: %w", ErrNode, ErrTooWide)
	}
	n := &node{keys: make([]leaf, count), kids: make([]dagcbor.CID, count+1)}
	type part struct{ start, end int }
	parts := make([]part, count)
	buf := make([]byte, 0, 2*len(data))
	for i := range n.keys {
		if d.Map() != 4 {
			return nil, fmt.Errorf("%w: entry of other fields", ErrNode)
		}
		d.Key("k")
		rest := d.Bytes()
		d.Key("p")
		prefix := d.Uint()
		d.Key("t")
		if !d.Null() {
			n.kids[i+1] = d.Link()
		}
		d.Key("v")
		n.keys[i].value = d.Link()

		var before []byte
		if i > 0 {
			before = buf[parts[i-1].start:parts[i-1].end]
		}
		start := len(buf)
		switch {
		case prefix > int64(len(before)):
			return nil, fmt.Errorf("%w: prefix is longer than the key before", ErrNode)
		case len(rest) == 0 || int(prefix)+len(rest) > MaxKey:
			return nil, fmt.Errorf("%w: length of a key", ErrNode)
		case start+int(prefix)+len(rest) > MaxKeyBytes:
			return nil, fmt.Errorf("%w: %w", ErrNode, ErrTooWide)
		case int(prefix) < len(before) && rest[0] <= before[prefix]:
			// Less is out of order, and the same belongs to the prefix.
			return nil, fmt.Errorf("%w: keys out of order", ErrNode)
		}
		buf = append(append(buf, before[:prefix]...), rest...)
		parts[i] = part{start, len(buf)}
	}
	d.Key("l")
	if !d.Null() {
		n.kids[0] = d.Link()
	}
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNode, err)
	}
	all := string(buf) // one for all keys
	for i, p := range parts {
		n.keys[i].key = all[p.start:p.end]
	}
	for _, k := range n.keys {
		if k.value[1] != dagcbor.CodecDAGCBOR {
			return nil, fmt.Errorf("%w: name of a record", ErrNode)
		}
	}
	for _, kid := range n.kids {
		if kid != (dagcbor.CID{}) && kid[1] != dagcbor.CodecDAGCBOR {
			return nil, fmt.Errorf("%w: name of a child", ErrNode)
		}
	}
	return n, nil
}

// encode returns the block of a node, or ErrTooWide.
func (n *node) encode() (car.Block, error) {
	size, total := 16+48*len(n.kids), 0
	for _, k := range n.keys {
		size += 56 + len(k.key)
		total += len(k.key)
	}
	if len(n.keys) > MaxKeys || total > MaxKeyBytes {
		return car.Block{}, ErrTooWide
	}
	b := dagcbor.AppendMap(make([]byte, 0, size), 2)
	b = dagcbor.AppendArray(dagcbor.AppendText(b, "e"), len(n.keys))
	before := ""
	for i, k := range n.keys {
		shared := 0
		for shared < min(len(before), len(k.key)) && before[shared] == k.key[shared] {
			shared++
		}
		before = k.key
		b = dagcbor.AppendMap(b, 4)
		b = dagcbor.AppendBytes(dagcbor.AppendText(b, "k"), k.key[shared:])
		b = dagcbor.AppendInt(dagcbor.AppendText(b, "p"), int64(shared))
		b = appendKid(dagcbor.AppendText(b, "t"), n.kids[i+1])
		b = dagcbor.AppendLink(dagcbor.AppendText(b, "v"), k.value)
	}
	b = appendKid(dagcbor.AppendText(b, "l"), n.kids[0])
	return car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, b), Data: b}, nil
}

func appendKid(b []byte, kid dagcbor.CID) []byte {
	if kid == (dagcbor.CID{}) {
		return dagcbor.AppendNull(b)
	}
	return dagcbor.AppendLink(b, kid)
}

// compact returns a copy of a node that keeps nothing else in memory, as keys do that were
// cut from those of a node before.
func (n *node) compact() *node {
	var all strings.Builder
	for _, k := range n.keys {
		all.WriteString(k.key)
	}
	c, rest := &node{keys: make([]leaf, len(n.keys)), kids: n.kids}, all.String()
	for i, k := range n.keys {
		c.keys[i] = leaf{rest[:len(k.key)], k.value}
		rest = rest[len(k.key):]
	}
	return c
}

// check returns ErrNode unless a node may stand at a place: its keys are paths on its
// layer, and lie between the low of the place, which is a path if it is not empty, and high,
// if that is not; and it has a child, or a key, wherever one is due.
func (n *node) check(place Place, high string, root bool) error {
	low := place.Low
	for _, k := range n.keys {
		switch {
		case k.key <= low, high != "" && k.key >= high:
			return fmt.Errorf("%w: keys out of order", ErrNode)
		case Layer(k.key) != place.Layer:
			return fmt.Errorf("%w: key of layer %d on layer %d", ErrNode, Layer(k.key), place.Layer)
		}
		if err := checkPathAfter(low, k.key); err != nil {
			return fmt.Errorf("%w: %w", ErrNode, err)
		}
		low = k.key
	}
	kids := 0
	for _, kid := range n.kids {
		if kid != (dagcbor.CID{}) {
			kids++
		}
	}
	switch {
	case kids > 0 && place.Layer == 0:
		return fmt.Errorf("%w: child below the bottom", ErrNode)
	case len(n.keys) == 0 && kids == 0 && !root:
		return fmt.Errorf("%w: empty below the top", ErrNode)
	case len(n.keys) == 0 && kids > 0 && root:
		return fmt.Errorf("%w: top without a key", ErrNode)
	}
	return nil
}
