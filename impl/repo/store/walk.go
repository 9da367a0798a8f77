package store

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

// pageSize is how many nodes are read at a time.
const pageSize = 500

// maxSpare is how many places of spare nodes a walk returns.
const maxSpare = 10_000

// Walk goes through the whole stored tree of did, as [tree.Walk] does, and reads all that
// is stored once, in pages. Where r is not a transaction, the tree is that of one state
// only if nobody writes meanwhile.
func Walk(ctx context.Context, r Reader, did syntax.DID, root tree.Root, v tree.Visitor) (c Contents, err error) {
	pages := &pages{reader: r, did: did}
	seen := func(row tree.Row) error {
		c.Nodes++
		if v.Node != nil {
			return v.Node(row)
		}
		return nil
	}
	record := func(path string, name dagcbor.CID) error {
		c.Records++
		if v.Record != nil {
			return v.Record(path, name)
		}
		return nil
	}
	c.Root, err = tree.Walk(ctx, root, pages.get, tree.Visitor{Node: seen, Record: record, Fault: v.Fault})
	if err == nil {
		err = pages.end(ctx)
	}
	if err != nil {
		return Contents{}, fmt.Errorf("repository of %s: %w", did, err)
	}
	c.Spare = pages.spare
	return c, nil
}

// Top returns the root that the stored nodes of did have if they are a tree, or
// db.ErrNotFound when there are none.
func Top(ctx context.Context, r Reader, did syntax.DID) (tree.Root, error) {
	first, err := r.Nodes(ctx, did, nil, 1)
	if err != nil {
		return tree.Root{}, err
	}
	if len(first) == 0 {
		return tree.Root{}, fmt.Errorf("root of %s: %w", did, db.ErrNotFound)
	}
	return tree.Root{CID: CID(first[0].CID), Layer: first[0].Layer}, nil
}

// pages are the stored nodes of a repository in the order in which a walk asks for them.
type pages struct {
	reader Reader
	did    syntax.DID
	page   []db.Node            // those that were not looked at yet
	last   *db.Place            // that was read
	spare  []db.Place           // of nodes that nobody asked for
	passed func(db.Place) error // told of all of them; may be nil
}

// more reads the next page if there is nothing left of the one before, and reports
// whether there is another node.
func (p *pages) more(ctx context.Context) (bool, error) {
	if len(p.page) > 0 {
		return true, nil
	}
	var err error
	p.page, err = p.reader.Nodes(ctx, p.did, p.last, pageSize)
	if err != nil || len(p.page) == 0 {
		return false, err
	}
	p.last = new(p.page[len(p.page)-1].Place())
	return true, nil
}

// pass goes on to the next node; nobody asks for the current one any more.
func (p *pages) pass() error {
	place := p.page[0].Place()
	if len(p.spare) < maxSpare {
		p.spare = append(p.spare, place)
	}
	p.page = p.page[1:]
	if p.passed == nil {
		return nil
	}
	return p.passed(place)
}

// get is a [tree.Getter] for places in their order.
func (p *pages) get(ctx context.Context, place tree.Place, _ dagcbor.CID) ([]byte, error) {
	for {
		more, err := p.more(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			return nil, tree.ErrMissing
		}
		n := &p.page[0]
		switch order := tree.Place(n.Place()).Compare(place); {
		case order > 0:
			return nil, tree.ErrMissing
		case order == 0:
			p.page = p.page[1:]
			return n.Data, nil
		}
		if err := p.pass(); err != nil {
			return nil, err
		}
	}
}

// end passes what is left.
func (p *pages) end(ctx context.Context) error {
	for {
		more, err := p.more(ctx)
		if err != nil || !more {
			return err
		}
		if err := p.pass(); err != nil {
			return err
		}
	}
}
