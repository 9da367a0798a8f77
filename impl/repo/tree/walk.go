package tree

import (
	"context"
	"fmt"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

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
	// Fault is told of a node that is not to be had, with the key that limits what would be
	// below it; empty if none does. The walk goes on after it, and without it ends there.
	Fault func(place Place, high string, err error) error
}

// Walk goes through the whole tree below a root, in the order of its keys, and asks for
// every node once, each before those below it and right of it. A tree that it goes
// through without an error is the one tree of its keys: every node is what its name says,
// in its one form, every key a path that is greater than the one before it and on its
// layer. It returns the root with its layer.
//
// The tree may be a stranger's. There are no cycles to be caught in, since every step down
// goes down one layer, and no node is visited without a key that is new; the walk holds
// one node for each layer. Errors are ErrNode, car.ErrHash, those of get and of v.
func Walk(ctx context.Context, root dagcbor.CID, get Getter, v Visitor) (Root, error) {
	w := walk{get, v}
	data, err := w.data(ctx, Place{}, root)
	if err != nil {
		return Root{}, fmt.Errorf("walk tree: %w", err)
	}
	n, err := decode(data)
	if err != nil {
		return Root{}, fmt.Errorf("walk tree: %w", err)
	}
	top := Root{CID: root}
	if len(n.keys) > 0 {
		top.Layer = Layer(n.keys[0].key)
	}
	place := Place{Layer: top.Layer}
	if err := n.check(place, "", true); err != nil {
		return Root{}, fmt.Errorf("walk tree: %w", err)
	}
	if err := w.through(ctx, n, Row{place, root, data}, ""); err != nil {
		return Root{}, fmt.Errorf("walk tree: %w", err)
	}
	return top, nil
}

type walk struct {
	get Getter
	Visitor
}

func (w walk) data(ctx context.Context, place Place, name dagcbor.CID) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := w.get(ctx, place, name)
	if err != nil {
		return nil, err
	}
	return data, car.Block{CID: name, Data: data}.Check()
}

// child walks through a node below the root, and what is below it.
func (w walk) child(ctx context.Context, name dagcbor.CID, place Place, high string) error {
	data, err := w.data(ctx, place, name)
	var n *node
	if err == nil {
		n, err = decode(data)
	}
	if err == nil {
		err = n.check(place, high, false)
	}
	if err != nil {
		err = fmt.Errorf("node on layer %d after %q: %w", place.Layer, place.Low, err)
		if w.Fault == nil || ctx.Err() != nil {
			return err
		}
		return w.Fault(place, high, err)
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
