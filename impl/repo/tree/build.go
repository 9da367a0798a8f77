package tree

import (
	"fmt"

	"portico/impl/repo/dagcbor"
)

// A Builder makes the tree of keys that come in ascending order, and holds what is open
// at the right edge: at most one node for each layer. It is not safe for concurrent use.
type Builder struct {
	// Emit takes each node when it is done, children before parents. An error ends the
	// building with it.
	Emit func(Row) error
	// Nodes and Records are how many there are so far.
	Nodes, Records int

	open []open // from the bottom
	last string // key
}

// An open is the last node of a layer, with what it has so far.
type open struct {
	low string
	node
}

// Add adds a key with the name of its record. It returns ErrPath for a key that is no
// path or does not ascend, ErrTooWide, or the error of Emit.
func (b *Builder) Add(path string, name dagcbor.CID) error {
	if err := checkPathAfter(b.last, path); err != nil {
		return err
	}
	if path <= b.last {
		return fmt.Errorf("%w: %s after %s", ErrPath, path, b.last)
	}
	b.last = path
	layer := Layer(path)
	for len(b.open) <= layer {
		b.open = append(b.open, open{node: newNode()})
	}
	if err := b.close(layer); err != nil {
		return err
	}
	for l := range layer {
		b.open[l].low = path
	}
	on := &b.open[layer]
	on.keys, on.kids = append(on.keys, leaf{path, name}), append(on.kids, dagcbor.CID{})
	if len(on.keys) > MaxKeys {
		return fmt.Errorf("build tree: %w", ErrTooWide)
	}
	b.Records++
	return nil
}

// Root ends the tree and returns its root. Errors are those of Add.
func (b *Builder) Root() (Root, error) {
	if len(b.open) == 0 {
		b.Nodes++
		return Empty, b.Emit(EmptyNode())
	}
	top := len(b.open) - 1
	if err := b.close(top); err != nil {
		return Root{}, err
	}
	row, err := b.emit(top)
	return row.root(), err
}

// close hangs what is open below a layer into the node on it.
func (b *Builder) close(layer int) error {
	for l := range layer {
		n := &b.open[l].node
		if len(n.keys) == 0 && n.kids[0] == (dagcbor.CID{}) {
			continue
		}
		row, err := b.emit(l)
		if err != nil {
			return err
		}
		above := b.open[l+1].kids
		above[len(above)-1] = row.CID
		*n = newNode()
	}
	return nil
}

func newNode() node { return node{kids: make([]dagcbor.CID, 1)} }

func (b *Builder) emit(layer int) (Row, error) {
	block, err := b.open[layer].encode()
	if err != nil {
		return Row{}, fmt.Errorf("build tree: %w", err)
	}
	b.Nodes++
	row := Row{Place{b.open[layer].low, layer}, block.CID, block.Data}
	return row, b.Emit(row)
}
