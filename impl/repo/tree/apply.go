package tree

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// An Action is what a write does with a record.
type Action string

const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// A Write is one of the writes that are to become a commit.
type Write struct {
	Action Action
	Path   string
	Record car.Block // none for a deletion
}

// An Op is what a commit does with one record in the end.
type Op struct {
	Action Action
	Path   string
	CID    dagcbor.CID // zero for a deletion
	Prev   dagcbor.CID // of the record before; zero for a creation
}

// A Change is what writes do to a stored tree. All that it names is disjoint: deleted
// places are not written, and what is moved is not in Write.
type Change struct {
	Root Root // afterwards
	// Ops are the net changes, in the order in which their paths were first written: one
	// for a path, none for a record that is as it was. Without any nothing changes, and no
	// commit is to be made.
	Ops []Op
	// Write are the rows of new nodes, in the place of what is there, if anything is.
	Write []Row
	// Move are nodes that only stand elsewhere now. They keep the rev that their rows
	// have; since they may change places, all of those are to be read before any is
	// written.
	Move []Move
	// Delete are places where no node stands any more.
	Delete []Place
	// Blocks are what the change is checked with: the nodes on the paths of the written
	// keys and their neighbours in the new tree, the root first, and the new records.
	Blocks []car.Block
	// Nodes and Records are by how many more there are.
	Nodes, Records int
	// Kept are collections that are known to have records before and afterwards, of those
	// in which records come or go. What was loaded of the tree tells, so it need not be all.
	Kept map[string]bool
}

// A Move is a node at its new place.
type Move struct {
	From Place
	Row  Row
}

// Apply returns what some writes, one after the other, change. It returns ErrPath,
// ErrExists and ErrNotFound for writes that cannot be done, and ErrTooWide; ErrMissing
// and ErrNode when the stored tree is damaged; or an error of the source.
func (t Tree) Apply(ctx context.Context, writes []Write) (*Change, error) {
	for _, w := range writes {
		if err := CheckPath(w.Path); err != nil {
			return nil, fmt.Errorf("write %s: %w", w.Path, err)
		}
	}
	return t.apply(ctx, writes)
}

func (t Tree) apply(ctx context.Context, writes []Write) (*Change, error) {
	paths := make([]string, len(writes))
	for i, w := range writes {
		paths[i] = w.Path
	}
	p := newPartial(t)
	if err := p.load(ctx, paths); err != nil {
		return nil, fmt.Errorf("change tree: %w", err)
	}
	ops, records, err := p.net(writes)
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return &Change{Root: t.Root}, nil
	}
	// What follows a key that is there may be on a path of its own.
	var probes []string
	for _, op := range ops {
		if op.Action != Create && Layer(op.Path) > 0 {
			probes = append(probes, op.Path+justAfter)
		}
	}
	if err := p.load(ctx, probes); err != nil {
		return nil, fmt.Errorf("change tree: %w", err)
	}
	kept := make(map[string]bool)
	for _, op := range ops {
		if op.Action == Create {
			p.keep(kept, op.Path)
		}
	}
	for _, op := range ops {
		if op.Action == Delete {
			err = p.remove(op.Path)
		} else {
			err = p.put(op.Path, op.CID)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", op.Action, op.Path, err)
		}
	}
	for _, op := range ops {
		if op.Action == Delete {
			p.keep(kept, op.Path)
		}
	}
	c, err := p.change(ops, records)
	if err != nil {
		return nil, err
	}
	c.Kept = kept
	return c, nil
}

// keep adds the collection of a path that is not in the tree if one of the records beside
// it is of the same: one that a commit creates was not there before, one that it deletes
// is not there afterwards, and so that record was, or is.
func (p *partial) keep(kept map[string]bool, path string) {
	collection, _, _ := strings.Cut(path, "/")
	if kept[collection] {
		return
	}
	for _, s := range p.path(path) {
		i := search(s.keys, path)
		for _, beside := range s.keys[max(0, i-1):min(len(s.keys), i+1)] {
			if strings.HasPrefix(beside.key, collection+"/") {
				kept[collection] = true
			}
		}
	}
}

// net returns what some writes do in the end, and the records that come with it.
func (p *partial) net(writes []Write) ([]Op, []car.Block, error) {
	type state struct {
		prev   dagcbor.CID
		record car.Block
	}
	states := make(map[string]*state, len(writes))
	var paths []string
	for _, w := range writes {
		s := states[w.Path]
		if s == nil {
			prev := p.get(w.Path)
			s = &state{prev, car.Block{CID: prev}}
			states[w.Path] = s
			paths = append(paths, w.Path)
		}
		exists := s.record.CID != (dagcbor.CID{})
		switch {
		case w.Action == Create && exists:
			return nil, nil, &ExistsError{w.Path}
		case w.Action != Create && !exists:
			return nil, nil, fmt.Errorf("%s %s: %w", w.Action, w.Path, ErrNotFound)
		}
		s.record = w.Record
		if w.Action == Delete {
			s.record = car.Block{}
		}
	}
	var ops []Op
	var records []car.Block
	for _, path := range paths {
		s := states[path]
		op := Op{Path: path, CID: s.record.CID, Prev: s.prev}
		switch {
		case op.CID == op.Prev:
			continue
		case op.CID == (dagcbor.CID{}):
			op.Action = Delete
		case op.Prev == (dagcbor.CID{}):
			op.Action = Create
		default:
			op.Action = Update
		}
		ops = append(ops, op)
		if op.Action != Delete && !slices.ContainsFunc(records, func(b car.Block) bool { return b.CID == op.CID }) {
			records = append(records, s.record)
		}
	}
	return ops, records, nil
}

// change compares the tree with what was loaded.
func (p *partial) change(ops []Op, records []car.Block) (*Change, error) {
	if p.root == nil {
		p.root = &subtree{kids: make([]kid, 1)}
	}
	// All new nodes are needed to check the change, and those on the paths of the keys and
	// of their neighbours.
	w := settling{partial: p, needed: make(map[*subtree]bool), stood: make(map[dagcbor.CID]Place, len(p.before))}
	for _, op := range ops {
		for _, key := range []string{op.Path, op.Path + justAfter} {
			for _, s := range p.path(key) {
				w.needed[s] = true
			}
		}
	}
	for place, name := range p.before {
		w.stood[name] = place
	}
	before := len(p.before)
	root, err := w.settle(p.root, Place{Layer: p.root.layer})
	if err != nil {
		return nil, fmt.Errorf("change tree: %w", err)
	}

	c := &w.change
	c.Root, c.Ops, c.Nodes = Root{root, p.root.layer}, ops, w.nodes-before
	for _, op := range ops {
		switch op.Action {
		case Create:
			c.Records++
		case Delete:
			c.Records--
		}
	}
	c.Delete = slices.SortedFunc(maps.Keys(p.before), Place.Compare)
	slices.Reverse(c.Blocks) // settled from the bottom
	c.Blocks = append(c.Blocks, records...)
	return c, nil
}

// A settling gives the nodes of a tree that are loaded their names and places. Places
// where something stands then are removed from the partial's before.
type settling struct {
	*partial
	needed map[*subtree]bool
	stood  map[dagcbor.CID]Place
	nodes  int
	change Change
}

// settle settles s and what is below it, children first.
func (w *settling) settle(s *subtree, place Place) (dagcbor.CID, error) {
	for i := range s.kids {
		below := Place{place.Low, place.Layer - 1}
		if i > 0 {
			below.Low = s.keys[i-1].key
		}
		if s.kids[i].sub == nil {
			continue
		}
		name, err := w.settle(s.kids[i].sub, below)
		if err != nil {
			return dagcbor.CID{}, err
		}
		s.kids[i].name = name
	}
	w.nodes++
	row, c := Row{Place: place, CID: s.name}, &w.change
	if from, was := w.stood[s.name]; was && from == place && !w.needed[s] {
		delete(w.before, place)
		return s.name, nil
	}
	n := s.node()
	block, err := n.encode()
	if err != nil {
		return dagcbor.CID{}, err
	}
	row.CID, row.Data = block.CID, block.Data
	from, was := w.stood[row.CID]
	switch {
	case !was:
		c.Write = append(c.Write, row)
		w.tree.Cache.add(row.CID, n.compact())
	case from != place:
		c.Move = append(c.Move, Move{from, row})
	}
	if !was || w.needed[s] {
		c.Blocks = append(c.Blocks, block)
	}
	delete(w.before, place)
	return row.CID, nil
}
