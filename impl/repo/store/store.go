// Package store keeps repositories in the database. It reads the trees of
// portico/impl/repo/tree from their rows, and writes a commit as the rows that it changes:
// the new nodes, the places of those that stand elsewhere, the records, and the row of
// the repository. All of a commit is in the caller's transaction.
//
// Functions return what the network is to be told, and tell it nothing.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

// A Reader is a *db.DB or a *db.Tx.
type Reader interface {
	Repo(ctx context.Context, did syntax.DID) (*db.Repo, error)
	Nodes(ctx context.Context, did syntax.DID, after *db.Place, limit int) ([]db.Node, error)
	NodesOnPaths(ctx context.Context, did syntax.DID, top int, keys []string, below func(*db.Node, string) (db.Place, bool)) ([]db.Node, error)
}

// CID returns a name that was stored, or the zero one if what was is none.
func CID(stored []byte) dagcbor.CID {
	if len(stored) != len(dagcbor.CID{}) || !dagcbor.CID(stored).Valid() {
		return dagcbor.CID{}
	}
	return dagcbor.CID(stored)
}

// Root returns the root of the tree of a repository.
func Root(r *db.Repo) tree.Root { return tree.Root{CID: CID(r.DataCID), Layer: r.Layer} }

// LastCommit returns the block of the last commit, or car.ErrHash when that is missing or
// not what its name says.
func LastCommit(r *db.Repo) (car.Block, error) {
	b := car.Block{CID: CID(r.CommitCID), Data: r.CommitBlock}
	if err := b.Check(); err != nil {
		return car.Block{}, fmt.Errorf("last commit: %w", err)
	}
	return b, nil
}

// Tree returns the tree of did as it is in the row of its repository. Its cache may be
// nil.
func Tree(r Reader, did syntax.DID, row *db.Repo, cache *tree.Cache) tree.Tree {
	return tree.Tree{Root: Root(row), Source: source{r, did}, Cache: cache}
}

// A source reads the nodes of one repository.
type source struct {
	reader Reader
	did    syntax.DID
}

// Nodes implements [tree.Source].
func (s source) Nodes(ctx context.Context, top int, keys []string) ([]tree.Row, error) {
	nodes, err := s.reader.NodesOnPaths(ctx, s.did, top, keys, func(n *db.Node, key string) (db.Place, bool) {
		place, more := tree.Below(treeRow(n), key)
		return db.Place(place), more
	})
	rows := make([]tree.Row, len(nodes))
	for i := range nodes {
		rows[i] = treeRow(&nodes[i])
	}
	return rows, err
}

func treeRow(n *db.Node) tree.Row {
	return tree.Row{Place: tree.Place(n.Place()), CID: CID(n.CID), Data: n.Data}
}

func nodeRow(r tree.Row, rev syntax.TID) db.Node {
	return db.Node{Low: r.Place.Low, Layer: r.Place.Layer, CID: r.CID[:], Rev: rev.String(), Data: r.Data}
}

// Create stores the first state of the repository of did. It returns db.ErrNotFound when
// there is no account.
func Create(ctx context.Context, tx *db.Tx, did syntax.DID, g *repo.Repository) error {
	if err := tx.PutNode(ctx, did, nodeRow(tree.EmptyNode(), g.Rev)); err != nil {
		return err
	}
	return tx.InsertRepo(ctx, did, db.Repo{
		CommitCID: g.Commit.CID[:], CommitBlock: g.Commit.Data, Rev: g.Rev.String(), DataCID: tree.Empty.CID[:], Nodes: 1,
	})
}

// A Draft is a commit that was made and not stored yet.
type Draft struct {
	Event event.Commit // what the network is to be told
	// More is how many records more than before the repository has afterwards, and Records
	// how many it has then.
	More, Records int

	did    syntax.DID
	before db.Repo
	row    db.Repo
	change *tree.Change
	stored []db.Record // new ones and updated ones
}

// Prepare makes the commit of some writes, one after the other, to the repository of did,
// whose row was read, and signs it with key. It returns nil when nothing changes: then
// there is no commit. Nothing is written.
//
// Errors are those of [tree.Tree.Apply], repo.ErrTooLarge and repo.ErrLastRev.
func Prepare(
	ctx context.Context, r Reader, did syntax.DID, row *db.Repo, key atcrypto.PrivateKey, now time.Time, cache *tree.Cache,
	writes []tree.Write,
) (*Draft, error) {
	change, err := Tree(r, did, row, cache).Apply(ctx, writes)
	if err != nil {
		return nil, fmt.Errorf("write to repository of %s: %w", did, err)
	}
	if len(change.Ops) == 0 {
		return nil, nil
	}
	d := &Draft{did: did, before: *row, row: *row, change: change, More: change.Records}
	d.row.DataCID, d.row.Layer = change.Root.CID[:], change.Root.Layer
	d.row.Nodes, d.row.Records = row.Nodes+change.Nodes, row.Records+change.Records
	d.Records = d.row.Records
	signed, err := sign(&d.row, did, key, now, change.Blocks...)
	if err != nil {
		return nil, fmt.Errorf("write to repository of %s: %w", did, err)
	}
	d.stored = newRecords(change.Ops, writes, signed.Rev, now)
	orderReplacement(change.Ops, row.Records)
	d.Event = event.Commit{
		Repo: did, Commit: signed.Commit.CID, Rev: signed.Rev, Since: syntax.TID(row.Rev), PrevData: CID(row.DataCID),
		Ops: change.Ops, Blocks: signed.Archive,
	}
	return d, nil
}

// Row is the row of the repository once the commit is stored, but for the figures of
// blobs. It keeps nothing else of the draft in memory.
func (d *Draft) Row() *db.Repo {
	row := d.row
	row.CommitCID, row.DataCID = slices.Clone(row.CommitCID), slices.Clone(row.DataCID)
	return &row
}

// orderReplacement puts the operations of a commit that leaves none of the records before
// into an order that indigo can undo. It sorts them by an order that is none (an operation
// that is no deletion may be less than a deletion and greater), so that what comes of it
// goes by what there was; and if it undoes all creations before the first deletion, the
// tree that it empties keeps its height, and gets a wrong root.
func orderReplacement(ops []tree.Op, before int) {
	deleted := 0
	for _, op := range ops {
		if op.Action == tree.Delete {
			deleted++
		}
	}
	if deleted == 0 || deleted < before || deleted == len(ops) {
		return
	}
	slices.SortFunc(ops, func(a, b tree.Op) int {
		switch {
		case a.Action != tree.Delete && b.Action == tree.Delete:
			return -1
		case a.Action == tree.Delete && b.Action != tree.Delete:
			return 1
		case a.Action == tree.Delete:
			return strings.Compare(a.Path, b.Path)
		}
		return strings.Compare(b.Path, a.Path)
	})
}

// newRecords are the rows of what writes leave there.
func newRecords(ops []tree.Op, writes []tree.Write, rev syntax.TID, now time.Time) []db.Record {
	last := make(map[string][]byte, len(writes))
	for _, w := range writes {
		last[w.Path] = w.Record.Data
	}
	var records []db.Record
	for _, op := range ops {
		if op.Action == tree.Delete {
			continue
		}
		value := last[op.Path]
		records = append(records, db.Record{
			Path: op.Path, CID: op.CID[:], Rev: rev.String(), IndexedAt: now, LinkTo: record.LinkTo(Collection(op.Path), value), Value: value,
		})
	}
	return records
}

// Collection returns the collection of a path.
func Collection(path string) syntax.NSID {
	collection, _, _ := strings.Cut(path, "/")
	return syntax.NSID(collection)
}

// Store stores the commit: nodes, records, collections, and the row of the repository. It
// returns db.ErrStale, or db.DB.Write does, when that has another commit meanwhile.
// What records say of blobs is not looked at.
func (d *Draft) Store(ctx context.Context, tx *db.Tx) error {
	if err := tx.AdvanceRepo(ctx, d.did, d.row, d.before); err != nil {
		return err
	}
	if err := putChange(ctx, tx, d.did, d.change, d.Event.Rev); err != nil {
		return err
	}
	var deleted []string
	gone, come := make(map[syntax.NSID]bool), make(map[syntax.NSID]bool)
	for _, op := range d.change.Ops {
		switch op.Action {
		case tree.Delete:
			deleted = append(deleted, op.Path)
			gone[Collection(op.Path)] = true
		case tree.Create:
			come[Collection(op.Path)] = true
		}
	}
	if err := tx.DeleteRecords(ctx, d.did, deleted...); err != nil {
		return err
	}
	if err := tx.PutRecords(ctx, d.did, d.stored...); err != nil {
		return err
	}
	for collection := range come {
		if d.change.Kept[collection.String()] {
			continue
		}
		if err := tx.AddCollection(ctx, d.did, collection.String()); err != nil {
			return err
		}
	}
	for collection := range gone {
		if come[collection] || d.change.Kept[collection.String()] {
			continue
		}
		if err := tx.DropCollection(ctx, d.did, collection.String()); err != nil {
			return err
		}
	}
	return nil
}

// Commit is Prepare and Store in a transaction that locks the repository first. It returns
// db.ErrNotFound when there is none.
func Commit(
	ctx context.Context, tx *db.Tx, did syntax.DID, key atcrypto.PrivateKey, now time.Time, cache *tree.Cache, writes []tree.Write,
) (*event.Commit, error) {
	row, err := tx.LockRepo(ctx, did)
	if err != nil {
		return nil, err
	}
	d, err := Prepare(ctx, tx, did, row, key, now, cache, writes)
	if d == nil || err != nil {
		return nil, err
	}
	return &d.Event, d.Store(ctx, tx)
}

func putChange(ctx context.Context, tx *db.Tx, did syntax.DID, c *tree.Change, rev syntax.TID) error {
	moved := make(map[db.Place]db.Place, len(c.Move))
	for _, m := range c.Move {
		moved[db.Place(m.From)] = db.Place(m.Row.Place)
	}
	// What is moved is read before anything is written.
	if err := tx.MoveNodes(ctx, did, moved); err != nil {
		return err
	}
	for _, place := range c.Delete {
		if err := tx.DeleteNode(ctx, did, db.Place(place)); err != nil {
			return err
		}
	}
	nodes := make([]db.Node, len(c.Write))
	for i, row := range c.Write {
		nodes[i] = nodeRow(row, rev)
	}
	return tx.PutNodes(ctx, did, nodes...)
}

// SignAnew makes another commit, signed with key, over the tree that row says did has. tx
// has locked the row.
func SignAnew(
	ctx context.Context, tx *db.Tx, did syntax.DID, row *db.Repo, key atcrypto.PrivateKey, now time.Time,
) (*repo.Signed, error) {
	before := row.CommitCID
	signed, err := sign(row, did, key, now)
	if err != nil {
		return nil, fmt.Errorf("sign repository of %s anew: %w", did, err)
	}
	return signed, tx.UpdateRepo(ctx, did, *row, before)
}

// sign makes the commit over the tree of row, after the one that it has, and puts it
// there.
func sign(row *db.Repo, did syntax.DID, key atcrypto.PrivateKey, now time.Time, blocks ...car.Block) (*repo.Signed, error) {
	rev, err := repo.NextRev(now, syntax.TID(row.Rev))
	if err != nil {
		return nil, err
	}
	signed, err := repo.Sign(did, key, rev, CID(row.DataCID), blocks...)
	if err != nil {
		return nil, err
	}
	row.CommitCID, row.CommitBlock, row.Rev = signed.Commit.CID[:], signed.Commit.Data, rev.String()
	return signed, nil
}

// Contents are what a walk has found of a stored tree.
type Contents struct {
	Root           tree.Root
	Nodes, Records int
	// Spare are places at which nodes are stored that the tree does not have: not more
	// than 10,000 of them.
	Spare []db.Place
}

// Replace puts a commit over the tree with some contents, which is stored, in the place
// of the row that the repository of did has, if it has one, and removes the spare nodes.
// The commit follows the rev after, which may be empty. The empty tree need not be stored:
// it is, in the place of all nodes.
func Replace(
	ctx context.Context, tx *db.Tx, did syntax.DID, key atcrypto.PrivateKey, now time.Time, after syntax.TID, c Contents,
) (*repo.Signed, error) {
	row := db.Repo{Rev: after.String(), DataCID: c.Root.CID[:], Layer: c.Root.Layer, Nodes: c.Nodes, Records: c.Records}
	signed, err := sign(&row, did, key, now)
	if err != nil {
		return nil, fmt.Errorf("replace repository of %s: %w", did, err)
	}
	if _, err := tx.LockRepo(ctx, did); err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	blobs, err := tx.BlobCounts(ctx, did)
	if err != nil {
		return nil, err
	}
	row.ExpectedBlobs, row.ImportedBlobs = blobs.Expected, blobs.Imported
	for _, place := range c.Spare {
		if err := tx.DeleteNode(ctx, did, place); err != nil {
			return nil, err
		}
	}
	if c.Root == tree.Empty {
		row.Nodes, row.Records = 1, 0
		if err := tx.DeleteNodes(ctx, did); err != nil {
			return nil, err
		}
		if err := tx.PutNode(ctx, did, nodeRow(tree.EmptyNode(), signed.Rev)); err != nil {
			return nil, err
		}
	}
	if err := tx.DeleteRepo(ctx, did); err != nil {
		return nil, err
	}
	return signed, tx.InsertRepo(ctx, did, row)
}
