// Package tree changes, walks, builds and verifies the trees of repositories: Merkle
// search trees from paths (collection/rkey) to the names of records, stored node by node.
//
// A node is stored under its [Place], so that a write rewrites rows where they are and
// nothing has to be counted or collected. [Tree.Apply] turns writes into the rows to
// change and the blocks by which others check the change, from the nodes on the search
// paths of the written keys and their neighbours alone: what a write costs does not depend
// on the size of the tree. [Walk] goes through a whole tree, which may be a stranger's,
// and finds whether it is the one tree of its keys; places hold for such trees only.
// [Builder] makes the tree of keys that come in order, and [Verify] compares a stored tree
// with the records beside it.
//
// The tree's algorithm is here and not indigo's, by which the tests go: importing
// atproto/repo/mst links eleven old modules and the package testing into the server for one
// interface, its nodes are changed in place, which is no good for a cache, and its decoder
// trusts what it reads.
//
// Nothing here has state but a [Cache], and everything is safe for concurrent use unless
// it says otherwise.
package tree

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// MaxKey is how long a key may be, in bytes. No path is as long.
const MaxKey = 1024

// A node may have MaxKeys keys, which is what other readers of repositories take, of
// MaxKeyBytes bytes in all. Only keys that were chosen for it make a node wide.
const (
	MaxKeys     = 8192
	MaxKeyBytes = 1 << 20
)

var (
	// ErrPath says that a path is not a collection and a record key.
	ErrPath = errors.New("malformed path")
	// ErrExists says that a record that is to be created exists: an *ExistsError.
	ErrExists = errors.New("record exists")
	// ErrNotFound says that a record that is to be updated or deleted does not exist.
	ErrNotFound = errors.New("record does not exist")
	// ErrTooWide says that a node has, or would have, more than MaxKeys or MaxKeyBytes.
	ErrTooWide = errors.New("node of tree is too wide")
	// ErrNode says that bytes are not a node of the one tree of its keys, at its place.
	ErrNode = errors.New("malformed node of tree")
	// ErrMissing says that a node is not where it should be.
	ErrMissing = errors.New("node of tree is missing")
)

// An ExistsError is a record that is to be created and exists.
type ExistsError struct{ Path string }

// Error is for logs.
func (e *ExistsError) Error() string { return "create " + e.Path + ": " + ErrExists.Error() }

// Is makes it ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// A Place is where a node stands: no two nodes of a tree share one.
type Place struct {
	// Low is the greatest key of a higher layer left of the node; empty if there is none.
	Low string
	// Layer counts from the bottom, which is 0.
	Layer int
}

// Compare orders places by Low and then from the top, which is the order in which a walk
// through the tree reaches them.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Low, q.Low), cmp.Compare(q.Layer, p.Layer))
}

// A Root is the top of a tree. Its place is its layer, with nothing to the left.
type Root struct {
	CID   dagcbor.CID
	Layer int
}

// Empty is the tree without records: one node, without entries.
var Empty = EmptyNode().root()

// EmptyNode returns the row of the tree without records.
func EmptyNode() Row {
	n := newNode()
	block, err := n.encode()
	if err != nil {
		panic(err) // it encodes, or nothing does
	}
	return Row{CID: block.CID, Data: block.Data}
}

// A Row is a node as it is stored.
type Row struct {
	Place Place
	CID   dagcbor.CID
	Data  []byte
}

func (r Row) root() Root { return Root{r.CID, r.Place.Layer} }

// A Source has the nodes of one stored tree.
type Source interface {
	// Nodes returns, for each key and each layer from top down to 0, the node with the
	// greatest Low that is less than the key (the empty one is less than any). Not all of
	// them are on the search path of the key, but all that are there are among them.
	// Others may be too, in any order and more than once.
	Nodes(ctx context.Context, top int, keys []string) ([]Row, error)
}

// A Tree is one state of a stored tree.
type Tree struct {
	Root   Root
	Source Source
	Cache  *Cache // of nodes of any trees; may be nil
}

// Path returns the nodes on the search path of a key, from the root to the one that has
// the key or would have it, and the name of its record; that is zero when there is none,
// and the nodes prove it. Errors are ErrMissing, ErrNode and those of the source.
func (t Tree) Path(ctx context.Context, key string) ([]car.Block, dagcbor.CID, error) {
	p := newPartial(t)
	if err := p.load(ctx, []string{key}); err != nil {
		return nil, dagcbor.CID{}, fmt.Errorf("path of %s: %w", key, err)
	}
	var blocks []car.Block
	for _, s := range p.path(key) {
		block, err := s.encode()
		if err != nil {
			return nil, dagcbor.CID{}, fmt.Errorf("path of %s: %w", key, err)
		}
		blocks = append(blocks, block)
		if i, ok := s.find(key); ok {
			return blocks, s.keys[i].value, nil
		}
	}
	return blocks, dagcbor.CID{}, nil
}

// Find returns the name of a key's record, or zero. Errors are those of Path.
func (t Tree) Find(ctx context.Context, key string) (dagcbor.CID, error) {
	p := newPartial(t)
	if err := p.load(ctx, []string{key}); err != nil {
		return dagcbor.CID{}, fmt.Errorf("find %s: %w", key, err)
	}
	return p.get(key), nil
}

// Below returns where the search path of a key goes on below a node, and false where it
// ends, which it also does at a node that is malformed. It is for a [Source] that goes
// down node by node.
func Below(n Row, key string) (Place, bool) {
	at, err := decode(n.Data)
	if err != nil {
		return Place{}, false
	}
	i := search(at.keys, key)
	if at.kids[i] == (dagcbor.CID{}) {
		return Place{}, false
	}
	low := n.Place.Low
	if i > 0 {
		low = at.keys[i-1].key
	}
	return Place{low, n.Place.Layer - 1}, true
}

// CheckPath returns ErrPath unless path is a collection and a record key: what a key of
// a tree has to be so that others take it.
func CheckPath(path string) error {
	if _, _, err := syntax.ParseRepoPath(path); err != nil {
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	return nil
}

// checkPathAfter is CheckPath for what follows a path that was checked. Most follow one
// of the same collection, which costs as much to check as the key.
func checkPathAfter(before, path string) error {
	collection, _, _ := strings.Cut(before, "/")
	key, same := strings.CutPrefix(path, collection+"/")
	if collection == "" || !same {
		return CheckPath(path)
	}
	if _, err := syntax.ParseRecordKey(key); err != nil {
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	return nil
}

// Layer returns the layer on which a key stands in every tree that has it: half the number
// of zero bits that its SHA-256 begins with.
func Layer(key string) int {
	zeros := 0
	for _, b := range sha256.Sum256([]byte(key)) {
		zeros += bits.LeadingZeros8(b)
		if b != 0 {
			break
		}
	}
	return zeros / 2
}
