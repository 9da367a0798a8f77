package tree

import (
	"context"
	"errors"
	"fmt"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// justAfter makes of a key the probe for what follows it: no character of a path sorts
// before this one.
const justAfter = "!"

// A partial is the part of a stored tree that some keys need.
type partial struct {
	tree   Tree
	root   *subtree
	before map[Place]dagcbor.CID // of the nodes that were loaded
	rows   map[dagcbor.CID]Row   // that the source gave
}

func newPartial(t Tree) *partial {
	return &partial{tree: t, before: make(map[Place]dagcbor.CID), rows: make(map[dagcbor.CID]Row)}
}

// load loads the nodes on the paths of some keys, as [partial.path] goes. What the cache
// does not have is asked for at once.
func (p *partial) load(ctx context.Context, keys []string) error {
	var missing []string
	for _, key := range keys {
		err := p.descend(key)
		if errors.Is(err, ErrMissing) {
			missing = append(missing, key)
		} else if err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, err := p.tree.Source.Nodes(ctx, p.tree.Root.Layer, missing)
	if err != nil {
		return err
	}
	for _, row := range rows {
		p.rows[row.CID] = row
	}
	for _, key := range missing {
		if err := p.descend(key); err != nil {
			return err
		}
	}
	return nil
}

// descend hangs the nodes on the path of a key into the tree, as far as they are to be
// had.
func (p *partial) descend(key string) error {
	place := Place{Layer: p.tree.Root.Layer}
	if p.root == nil {
		root, err := p.node(p.tree.Root.CID, place)
		if err != nil {
			return err
		}
		p.root = root
	}
	for s := p.root; ; {
		i := search(s.keys, key)
		if s.kids[i].none() {
			return nil
		}
		place.Layer--
		if i > 0 {
			place.Low = s.keys[i-1].key
		}
		if s.kids[i].sub == nil {
			below, err := p.node(s.kids[i].name, place)
			if err != nil {
				return err
			}
			s.kids[i].sub = below
		}
		s = s.kids[i].sub
	}
}

// node returns a node of the stored tree to work on.
func (p *partial) node(name dagcbor.CID, place Place) (*subtree, error) {
	if place.Layer < 0 {
		return nil, fmt.Errorf("%w: below the bottom", ErrNode)
	}
	n, ok := p.tree.Cache.get(name)
	if !ok {
		row, ok := p.rows[name]
		if !ok {
			return nil, fmt.Errorf("%w: layer %d after %q", ErrMissing, place.Layer, place.Low)
		}
		err := car.Block{CID: name, Data: row.Data}.Check()
		if err == nil {
			n, err = decode(row.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("node on layer %d after %q: %w", place.Layer, place.Low, err)
		}
		p.tree.Cache.add(name, n)
	}
	p.before[place] = name
	s := &subtree{layer: place.Layer, keys: n.keys, kids: make([]kid, len(n.kids)), name: name}
	for i, kid := range n.kids {
		s.kids[i].name = kid
	}
	return s, nil
}

// path returns the nodes on the search path of a key, and beyond it if it is found: to
// the greatest key that is less. All of them have been loaded.
func (p *partial) path(key string) []*subtree {
	var path []*subtree
	for s := p.root; s != nil; s = s.kids[search(s.keys, key)].sub {
		path = append(path, s)
	}
	return path
}

// get returns the name of a key's record, whose path was loaded, or zero.
func (p *partial) get(key string) dagcbor.CID {
	for _, s := range p.path(key) {
		if i, ok := s.find(key); ok {
			return s.keys[i].value
		}
	}
	return dagcbor.CID{}
}

// put sets the record of a key.
func (p *partial) put(key string, value dagcbor.CID) error {
	layer := Layer(key)
	if p.root == nil {
		p.root = &subtree{layer: layer, kids: make([]kid, 1)}
	}
	for p.root.layer < layer {
		p.root = &subtree{layer: p.root.layer + 1, kids: []kid{{sub: p.root.normal()}}}
	}
	var err error
	p.root, err = put(p.root, p.root.layer, leaf{key, value}, layer)
	return err
}

// remove removes a key.
func (p *partial) remove(key string) (err error) {
	p.root, err = p.root.remove(key)
	for err == nil && p.root != nil && len(p.root.keys) == 0 {
		p.root, err = p.root.kids[0].loaded()
	}
	return err
}
