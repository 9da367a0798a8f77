package importer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

const (
	pageRows  = 500
	pageBytes = 1 << 20
)

// A difference is that between the rows of an account and the tree of an archive: both are
// gone through side by side.
type difference struct {
	db    *db.DB
	did   syntax.DID
	spool *car.Spool
	row   *db.Repo
	rev   syntax.TID
	now   time.Time
	// emit is given the changes in the order of the places of nodes, and of paths.
	emit func(change) error
	// moved has nodes that the archive lacks and that are stored in another place, which may
	// be gone before they are written. They are found by the first walk, and again says
	// that this is the second.
	moved      map[dagcbor.CID][]byte
	movedBytes int
	again      bool
	places     map[uint64]db.Place // of all stored nodes by what their hashes begin with, once it was needed

	storedNodes   cursor[db.Node]
	storedRecords cursor[db.Record]

	nodes, records int  // of the tree
	changed        bool // whether anything was emitted
}

// walk goes through the tree whose root is data, checks it, and emits what differs. It
// returns the root.
func (d *difference) walk(ctx context.Context, data dagcbor.CID) (tree.Root, error) {
	d.storedNodes = cursor[db.Node]{
		read: func(ctx context.Context, last *db.Node) ([]db.Node, error) {
			if last == nil {
				return d.db.Nodes(ctx, d.did, nil, pageRows)
			}
			return d.db.Nodes(ctx, d.did, new(last.Place()), pageRows)
		},
		drop: func(n *db.Node) error { return d.change(change{deleteNode: new(n.Place())}) },
	}
	d.storedRecords = cursor[db.Record]{
		read: func(ctx context.Context, last *db.Record) ([]db.Record, error) {
			in := db.RecordRange{Limit: pageRows, Bytes: pageBytes}
			if last != nil {
				in.After = last.Path
			}
			return d.db.Records(ctx, d.did, in)
		},
		drop: func(r *db.Record) error { return d.change(change{deleteRecord: r.Path}) },
	}
	root, err := tree.Walk(ctx, tree.Root{CID: data, Layer: tree.AnyLayer}, d.data, tree.Visitor{
		Node:   func(row tree.Row) error { return d.node(ctx, row) },
		Record: func(path string, name dagcbor.CID) error { return d.record(ctx, path, name) },
	})
	if err == nil {
		err = d.storedNodes.end(ctx)
	}
	if err == nil {
		err = d.storedRecords.end(ctx)
	}
	return root, err
}

func (d *difference) change(c change) error {
	d.changed = true
	return d.emit(c)
}

// data is a [tree.Getter]: nodes of the archive, or stored ones.
func (d *difference) data(ctx context.Context, place tree.Place, name dagcbor.CID) ([]byte, error) {
	data, err := d.spool.Get(name)
	if !errors.Is(err, car.ErrNotFound) {
		return data, err
	}
	if data, ok := d.moved[name]; ok {
		return data, nil
	}
	if place.Layer == tree.AnyLayer { // the root, of which only the name is known
		return d.stored(ctx, db.Place{Layer: d.row.Layer}, name)
	}
	// A walk that asks for a node comes to its place, or ends.
	stored, err := d.storedNode(ctx, db.Place(place))
	if err != nil {
		return nil, err
	}
	if stored != nil && store.CID(stored.CID) == name {
		return stored.Data, nil
	}
	if d.again {
		return nil, fmt.Errorf("node %s: %w", name, db.ErrStale)
	}
	return d.elsewhere(ctx, name)
}

// stored returns the data of the node with a name that is stored at a place.
func (d *difference) stored(ctx context.Context, place db.Place, name dagcbor.CID) ([]byte, error) {
	n, err := d.db.Node(ctx, d.did, place)
	if errors.Is(err, db.ErrNotFound) || err == nil && store.CID(n.CID) != name {
		return nil, fmt.Errorf("%w: %s", tree.ErrMissing, name)
	}
	if err != nil {
		return nil, err
	}
	return n.Data, nil
}

// elsewhere returns the data of a node that is stored somewhere, and keeps it.
func (d *difference) elsewhere(ctx context.Context, name dagcbor.CID) ([]byte, error) {
	if d.places == nil {
		d.places = make(map[uint64]db.Place)
		var last *db.Place
		for {
			page, err := d.db.Nodes(ctx, d.did, last, pageRows)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			for n := range page {
				d.places[prefix(store.CID(page[n].CID))] = page[n].Place()
			}
			last = new(page[len(page)-1].Place())
		}
	}
	place, ok := d.places[prefix(name)]
	if !ok {
		return nil, fmt.Errorf("%w: %s", tree.ErrMissing, name)
	}
	data, err := d.stored(ctx, place, name)
	if err != nil {
		return nil, err
	}
	if d.movedBytes += len(data); d.movedBytes > maxMoved {
		return nil, fmt.Errorf("%w: %s, and many before it", tree.ErrMissing, name)
	}
	d.moved[name] = data
	return data, nil
}

func prefix(name dagcbor.CID) uint64 { return binary.BigEndian.Uint64(name[4:]) }

func (d *difference) storedNode(ctx context.Context, place db.Place) (*db.Node, error) {
	return d.storedNodes.at(ctx, func(n *db.Node) int { return tree.Place(n.Place()).Compare(tree.Place(place)) })
}

// node compares a node of the tree with what is stored in its place.
func (d *difference) node(ctx context.Context, row tree.Row) error {
	d.nodes++
	stored, err := d.storedNode(ctx, db.Place(row.Place))
	if err != nil {
		return err
	}
	if stored != nil {
		d.storedNodes.keep()
		if store.CID(stored.CID) == row.CID {
			return nil
		}
	}
	return d.change(change{putNode: &db.Node{
		Low: row.Place.Low, Layer: row.Place.Layer, CID: row.CID[:], Rev: d.rev.String(), Data: row.Data,
	}})
}

// record compares a record of the tree with the one that is stored under its path.
func (d *difference) record(ctx context.Context, path string, name dagcbor.CID) error {
	d.records++
	stored, err := d.storedRecords.at(ctx, func(r *db.Record) int { return strings.Compare(r.Path, path) })
	if err != nil {
		return err
	}
	if stored != nil {
		d.storedRecords.keep()
		if store.CID(stored.CID) == name {
			return nil
		}
	}
	value, err := d.spool.Get(name)
	if errors.Is(err, car.ErrNotFound) {
		return &RecordError{path, err}
	}
	if err != nil {
		return err
	}
	put := &db.Record{Path: path, CID: name[:], Rev: d.rev.String(), IndexedAt: d.now, Value: value}
	index, err := store.Index(put)
	if err != nil {
		return &RecordError{path, err}
	}
	put.LinkTo = index.LinkTo
	mentions := make([]db.RecordBlob, len(index.Blobs))
	for i, blob := range index.Blobs {
		mentions[i] = db.RecordBlob{Path: path, CID: blob[:]}
	}
	return d.change(change{putRecord: put, mentions: mentions})
}

// A cursor goes through stored rows in their order, page by page. Rows that nobody keeps
// are dropped.
type cursor[T any] struct {
	read func(ctx context.Context, last *T) ([]T, error)
	drop func(*T) error

	page []T // from the current row on
	last *T
	over bool // there is no page behind this one: what is written meanwhile is not read
	kept bool // the current row stays
}

// at goes on to the row for which compare, which compares one with what is looked for, is
// 0, and returns that, or nil if there is none.
func (c *cursor[T]) at(ctx context.Context, compare func(*T) int) (*T, error) {
	for {
		if len(c.page) == 0 {
			if c.over {
				return nil, nil
			}
			page, err := c.read(ctx, c.last)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				c.over = true
				return nil, nil
			}
			c.page, c.last = page, &page[len(page)-1]
		}
		switch order := compare(&c.page[0]); {
		case order == 0:
			return &c.page[0], nil
		case order > 0:
			return nil, nil
		}
		passed := &c.page[0]
		kept := c.kept
		c.page, c.kept = c.page[1:], false
		if !kept {
			if err := c.drop(passed); err != nil {
				return nil, err
			}
		}
	}
}

// keep says that the current row stays.
func (c *cursor[T]) keep() { c.kept = true }

// end goes through what is left.
func (c *cursor[T]) end(ctx context.Context) error {
	_, err := c.at(ctx, func(*T) int { return -1 })
	return err
}
