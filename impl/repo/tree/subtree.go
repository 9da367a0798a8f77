package tree

import (
	"fmt"
	"slices"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// A subtree is a part of a tree to work on: a node whose children hang below it where
// they are loaded. A nil one is empty. Its keys may be those of a node in the cache, and
// so are only ever replaced by others.
type subtree struct {
	layer int
	keys  []leaf
	kids  []kid // as those of a node
	// name is that of the node as it stood in the stored tree; zero if it has changed.
	name dagcbor.CID
}

// A kid is a child: nothing, or a name, or a subtree.
type kid struct {
	name dagcbor.CID
	sub  *subtree
}

func (k kid) none() bool { return k == kid{} }

// loaded returns the subtree of a child, nil if there is none, or ErrMissing for one that
// is there in name only.
func (k kid) loaded() (*subtree, error) {
	if k.sub == nil && !k.none() {
		return nil, fmt.Errorf("%w: %s, which was not thought to be needed", ErrMissing, k.name)
	}
	return k.sub, nil
}

// find returns the index of a key in the node, or where it would be.
func (s *subtree) find(key string) (int, bool) {
	i := search(s.keys, key)
	return i, i < len(s.keys) && s.keys[i].key == key
}

// normal returns s, or nil if there is nothing in it.
func (s *subtree) normal() *subtree {
	if len(s.keys) == 0 && s.kids[0].none() {
		return nil
	}
	return s
}

// put sets the record of a key, whose layer is not above that of s; s may be empty, and
// is on the given layer.
func put(s *subtree, layer int, key leaf, keyLayer int) (*subtree, error) {
	if s == nil {
		s = &subtree{layer: layer, kids: make([]kid, 1)}
	}
	s.name = dagcbor.CID{}
	i, found := s.find(key.key)
	if found {
		s.keys = slices.Clone(s.keys)
		s.keys[i] = key
		return s, nil
	}
	below, err := s.kids[i].loaded()
	if err != nil {
		return nil, err
	}
	if keyLayer < layer {
		below, err = put(below, layer-1, key, keyLayer)
		s.kids[i] = kid{sub: below}
		return s, err
	}
	left, right, err := below.split(key.key)
	if err != nil {
		return nil, err
	}
	s.keys = slices.Concat(s.keys[:i], []leaf{key}, s.keys[i:])
	s.kids = slices.Concat(s.kids[:i], []kid{{sub: left}, {sub: right}}, s.kids[i+1:])
	return s, nil
}

// split returns what is left and what is right of a key that s does not have.
func (s *subtree) split(key string) (left, right *subtree, err error) {
	if s == nil {
		return nil, nil, nil
	}
	i := search(s.keys, key)
	between, err := s.kids[i].loaded()
	if err != nil {
		return nil, nil, err
	}
	l, r, err := between.split(key)
	if err != nil {
		return nil, nil, err
	}
	if i == 0 && l == nil {
		return nil, s, nil
	}
	if i == len(s.keys) && r == nil {
		return s, nil, nil
	}
	left = &subtree{layer: s.layer, keys: s.keys[:i:i], kids: slices.Concat(s.kids[:i], []kid{{sub: l}})}
	right = &subtree{layer: s.layer, keys: s.keys[i:], kids: slices.Concat([]kid{{sub: r}}, s.kids[i+1:])}
	return left.normal(), right.normal(), nil
}

// remove removes a key that is there.
func (s *subtree) remove(key string) (*subtree, error) {
	s.name = dagcbor.CID{}
	i, found := s.find(key)
	left, err := s.kids[i].loaded()
	if err != nil {
		return nil, err
	}
	if !found {
		if left == nil {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
		}
		left, err = left.remove(key)
		s.kids[i] = kid{sub: left}
		return s.normal(), err
	}
	right, err := s.kids[i+1].loaded()
	if err != nil {
		return nil, err
	}
	merged, err := merge(left, right)
	if err != nil {
		return nil, err
	}
	s.keys = slices.Concat(s.keys[:i], s.keys[i+1:])
	s.kids = slices.Concat(s.kids[:i], []kid{{sub: merged}}, s.kids[i+2:])
	return s.normal(), nil
}

// merge joins two subtrees of one layer, of which the keys of the first are less.
func merge(left, right *subtree) (*subtree, error) {
	if left == nil {
		return right, nil
	}
	if right == nil {
		return left, nil
	}
	last := len(left.keys)
	l, err := left.kids[last].loaded()
	if err != nil {
		return nil, err
	}
	r, err := right.kids[0].loaded()
	if err != nil {
		return nil, err
	}
	between, err := merge(l, r)
	if err != nil {
		return nil, err
	}
	return &subtree{
		layer: left.layer, keys: slices.Concat(left.keys, right.keys),
		kids: slices.Concat(left.kids[:last], []kid{{sub: between}}, right.kids[1:]),
	}, nil
}

// node returns the node of s, whose children have names.
func (s *subtree) node() *node {
	n := &node{keys: s.keys, kids: make([]dagcbor.CID, len(s.kids))}
	for i, kid := range s.kids {
		n.kids[i] = kid.name
	}
	return n
}

func (s *subtree) encode() (car.Block, error) { return s.node().encode() }
