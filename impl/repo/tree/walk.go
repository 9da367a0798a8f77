package tree

import (
	"context"
	"errors"
	"fmt"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// AnyLayer is the layer of the root of a tree that is not known yet.
const AnyLayer = -1

// A Getter returns the data of the node with a name, which stands at a place if it is
// there, or an error that wraps ErrMissing. That the data is what the name says is checked
// by who asks.
type Getter func(ctx context.Context, place Place, name dagcbor.CID) ([]byte, error)

// A Visitor is told what a walk finds. Each function may be nil; an error of one ends
// the walk with it.
type Visitor struct {
	// Node is told every node before what is below it.
	Node func(Row) error
	// Record is told every key with the name of its record, in the order of the keys.
	Record func(path string, name dagcbor.CID) error
	// Fault is told of a node that is missing or malformed, with the key that limits what
	// would be below it; empty if none does. The walk goes on behind that, and without Fault
	// ends there.
	Fault func(place Place, high string, err error) error
}

// Walk goes through the whole tree below a root, in the order of its keys, and asks for
// every node once, each before those below it and right of it. A tree that it goes
// through without an error is the one tree of its keys: every node is what its name says,
// in its one form, every key a path that is greater than the one before it and on its
// layer. It returns the root with its layer, which need not be known before: AnyLayer
// stands for it then.
//
// The tree may be a stranger's. There are no cycles to be caught in, since every step down
// goes down one layer, and no node is visited without a key that is new; the walk holds
// one node for each layer. Errors are ErrNode, car.ErrHash, those of get and of v.
func Walk(ctx context.Context, root Root, get Getter, v Visitor) (Root, error) {
	w := walk{get, v}
	n, data, err := w.node(ctx, root.CID, Place{Layer: root.Layer})
	top := Root{CID: root.CID}
	if err == nil {
		if len(n.keys) > 0 {
			top.Layer = Layer(n.keys[0].key)
		}
		err = n.check(Place{Layer: top.Layer}, "", true)
	}
	if err == nil && root.Layer != AnyLayer && root.Layer != top.Layer {
		err = fmt.Errorf("%w: root of layer %d on layer %d", ErrNode, top.Layer, root.Layer)
	}
	if err != nil {
		err = w.fault(Place{Layer: root.Layer}, "", err)
	} else {
		err = w.through(ctx, n, Row{Place{Layer: top.Layer}, root.CID, data}, "")
	}
	if err != nil {
		return Root{}, fmt.Errorf("walk tree: %w", err)
	}
	return top, nil
}

type walk struct {
	get Getter
	Visitor
}

func (w walk) node(ctx context.Context, name dagcbor.CID, place Place) (*node, []byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	data, err := w.get(ctx, place, name)
	if err != nil {
		return nil, nil, err
	}
	if err := (car.Block{CID: name, Data: data}).Check(); err != nil {
		return nil, nil, err
	}
	n, err := decode(data)
	return n, data, err
}

// fault tells of an error, if it is one of the tree's and somebody is to be told.
func (w walk) fault(place Place, high string, err error) error {
	err = fmt.Errorf("node on layer %d after %q: %w", place.Layer, place.Low, err)
	if w.Fault == nil || !errors.Is(err, ErrNode) && !errors.Is(err, ErrMissing) && !errors.Is(err, car.ErrHash) {
		return err
	}
	return w.Fault(place, high, err)
}

// child walks through a node below the root, and what is below it.
func (w walk) child(ctx context.Context, name dagcbor.CID, place Place, high string) error {
	n, data, err := w.node(ctx, name, place)
	if err == nil {
		err = n.check(place, high, false)
	}
	if err != nil {
		return w.fault(place, high, err)
	}
	return w.through(ctx, n, Row{place, name, data}, high)
}

func (w walk) through(ctx context.Context, n *node, row Row, high string) error {
	if w.Node != nil {
		if err := w.Node(row); err != nil {
			return err
		}
	}
	for i, kid := range n.kids {
		low, limit := row.Place.Low, high
		if i > 0 {
			low = n.keys[i-1].key
			if w.Record != nil {
				if err := w.Record(low, n.keys[i-1].value); err != nil {
					return err
				}
			}
		}
		if kid == (dagcbor.CID{}) {
			continue
		}
		if i < len(n.keys) {
			limit = n.keys[i].key
		}
		if err := w.child(ctx, kid, Place{low, row.Place.Layer - 1}, limit); err != nil {
			return err
		}
	}
	return nil
}
