package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

// pageBytes is at which sum of values a page of records ends.
const pageBytes = 4 << 20

// A FullReader reads all that is stored of a repository: it is a *db.DB, a *db.Tx
// or a *db.Snapshot.
type FullReader interface {
	Reader
	Records(ctx context.Context, did syntax.DID, in db.RecordRange) ([]db.Record, error)
	RecordBlobs(ctx context.Context, did syntax.DID, after db.RecordBlob, limit int) ([]db.RecordBlob, error)
	Collections(ctx context.Context, did syntax.DID) ([]string, error)
	BlobCounts(ctx context.Context, did syntax.DID) (db.BlobCounts, error)
}

// A Verification is what was found of a stored repository.
type Verification struct {
	Contents
	// Fault is the first thing that is wrong with a node; nil if the tree is whole. Where
	// it is not, nodes are among the spare ones that may be the tree's.
	Fault error
	// Lost is how many records are not stored as the tree has them, the first of them at
	// FirstLost. Where a node is missing, only what does not have its own name is seen.
	Lost      int
	FirstLost string
	// Extra is how many records are stored that the tree, as far as it is there, does not
	// have.
	Extra int
	// Unindexed is how many records, there or not, have other rows beside them than their
	// values say: where they point, and the blobs that they name.
	Unindexed int
	// Collections are those of the stored records, in their order, and Listed those that
	// are listed.
	Collections, Listed []string
	// Blobs are the numbers that the rows of blobs give.
	Blobs db.BlobCounts
}

// Wrong is told what a verification comes by. Each function may be nil; an error of one
// ends the verification with it.
type Wrong struct {
	Node   func(db.Place) error      // that the tree, as far as it is there, does not have
	Record func(path string) error   // that the tree does not have
	Index  func(IndexedRecord) error // with what its index should be
}

// An IndexedRecord is a record with what is kept beside its value. The zero one, but for
// its path, is that of a record that is not there.
type IndexedRecord struct {
	Path   string
	LinkTo string
	Blobs  []dagcbor.CID // in the order of their bytes, each once
}

// Verify goes through the whole tree of did, and through all records and what is kept
// beside them, and hashes every node and value. It holds one page of each. Where r is a
// *db.DB, what it returns is that of one state only if nobody writes meanwhile. Errors are
// those of the database and of w.
func Verify(ctx context.Context, r FullReader, did syntax.DID, root tree.Root, w Wrong) (*Verification, error) {
	v := &Verification{}
	nodes := &pages{reader: r, did: did, passed: w.Node}
	records := &recordPages{reader: r, did: did, refs: refPages{reader: r, did: did}, wrong: w.Index, found: v}
	seen := ""
	var err error
	v.Nodes, v.Records, err = tree.Verify(ctx, root, nodes.get, records.all(ctx), func(p tree.Problem) error {
		switch {
		case p.Path == "":
			v.Fault = cmp.Or(v.Fault, p.Err)
		case errors.Is(p.Err, tree.ErrSpareRecord):
			v.Extra++
			seen = p.Path
			if w.Record != nil {
				return w.Record(p.Path)
			}
		case p.Path != seen: // two things may be wrong with one
			seen = p.Path
			v.FirstLost = cmp.Or(v.FirstLost, p.Path)
			v.Lost++
		}
		return nil
	})
	if err == nil {
		err = nodes.end(ctx)
	}
	if err == nil {
		v.Listed, err = r.Collections(ctx, did)
	}
	if err == nil {
		v.Blobs, err = r.BlobCounts(ctx, did)
	}
	if err != nil {
		return nil, fmt.Errorf("verify repository of %s: %w", did, err)
	}
	v.Root, v.Spare = root, nodes.spare
	v.Collections = slices.Sorted(maps.Keys(records.collections))
	slices.Sort(v.Listed)
	return v, nil
}

// recordPages are the stored records of a repository in their order, with a look at what
// is kept beside them.
type recordPages struct {
	reader      FullReader
	did         syntax.DID
	refs        refPages
	wrong       func(IndexedRecord) error
	found       *Verification
	collections map[string]bool
}

func (p *recordPages) all(ctx context.Context) iter.Seq2[tree.Record, error] {
	p.collections = make(map[string]bool)
	return func(yield func(tree.Record, error) bool) {
		for row, err := range records(ctx, p.reader, p.did) {
			if err == nil {
				err = p.look(ctx, row)
			}
			if err != nil {
				yield(tree.Record{}, err)
				return
			}
			if !yield(tree.Record{Path: row.Path, Value: car.Block{CID: CID(row.CID), Data: row.Value}}, nil) {
				return
			}
		}
		if err := p.dangling(ctx, ""); err != nil {
			yield(tree.Record{}, err)
		}
	}
}

// records are all records of a repository, read in pages.
func records(ctx context.Context, r FullReader, did syntax.DID) iter.Seq2[*db.Record, error] {
	return func(yield func(*db.Record, error) bool) {
		in := db.RecordRange{Limit: pageSize, Bytes: pageBytes}
		for {
			page, err := r.Records(ctx, did, in)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			in.After = page[len(page)-1].Path
		}
	}
}

// look compares what is kept beside a record with its value.
func (p *recordPages) look(ctx context.Context, row *db.Record) error {
	if err := p.dangling(ctx, row.Path); err != nil {
		return err
	}
	var refs [][]byte
	for {
		ref, err := p.refs.next(ctx)
		if err != nil {
			return err
		}
		if ref == nil || ref.Path != row.Path {
			break
		}
		refs = append(refs, ref.CID)
		p.refs.pass()
	}
	p.collections[Collection(row.Path).String()] = true
	want, err := Index(row)
	if err != nil {
		return nil // its value is damaged, which is found elsewhere
	}
	if row.LinkTo == want.LinkTo && slices.EqualFunc(refs, want.Blobs, func(a []byte, b dagcbor.CID) bool { return bytes.Equal(a, b[:]) }) {
		return nil
	}
	return p.report(want)
}

// dangling reports the records before a path, or all that are left where it is empty, that
// are not there but name blobs.
func (p *recordPages) dangling(ctx context.Context, before string) error {
	last := ""
	for {
		ref, err := p.refs.next(ctx)
		if err != nil || ref == nil || before != "" && ref.Path >= before {
			return err
		}
		if ref.Path != last {
			last = ref.Path
			if err := p.report(IndexedRecord{Path: ref.Path}); err != nil {
				return err
			}
		}
		p.refs.pass()
	}
}

func (p *recordPages) report(r IndexedRecord) error {
	p.found.Unindexed++
	if p.wrong == nil {
		return nil
	}
	return p.wrong(r)
}

// Index returns what is to be kept beside a record. It returns record.ErrRecord for a
// value that is none.
func Index(row *db.Record) (IndexedRecord, error) {
	read, err := record.Read(Collection(row.Path), row.Value)
	if err != nil {
		return IndexedRecord{}, err
	}
	r := IndexedRecord{Path: row.Path, LinkTo: read.LinkTo}
	for _, b := range read.Blobs {
		if name, err := dagcbor.ParseCID(b.CID); err == nil {
			r.Blobs = append(r.Blobs, name)
		}
	}
	slices.SortFunc(r.Blobs, func(a, b dagcbor.CID) int { return bytes.Compare(a[:], b[:]) })
	r.Blobs = slices.Compact(r.Blobs)
	return r, nil
}

// refPages are the blobs that the records of a repository name, in the order of the
// records.
type refPages struct {
	reader FullReader
	did    syntax.DID
	page   []db.RecordBlob
	last   *db.RecordBlob
	ended  bool
}

func (p *refPages) next(ctx context.Context) (*db.RecordBlob, error) {
	if len(p.page) == 0 && !p.ended {
		var after db.RecordBlob
		if p.last != nil {
			after = *p.last
		}
		var err error
		if p.page, err = p.reader.RecordBlobs(ctx, p.did, after, pageSize); err != nil {
			return nil, err
		}
		if p.ended = len(p.page) < pageSize; len(p.page) > 0 {
			p.last = &p.page[len(p.page)-1]
		}
	}
	if len(p.page) == 0 {
		return nil, nil
	}
	return &p.page[0], nil
}

func (p *refPages) pass() { p.page = p.page[1:] }

// Rebuild makes the tree of the stored records of did, told node by node, and returns its
// root. That the records are what their names say is not looked at.
func Rebuild(ctx context.Context, r FullReader, did syntax.DID, node func(tree.Row) error) (tree.Root, error) {
	b := tree.Builder{Emit: node}
	for row, err := range records(ctx, r, did) {
		if err == nil {
			err = b.Add(row.Path, CID(row.CID))
		}
		if err != nil {
			return tree.Root{}, fmt.Errorf("rebuild tree of %s: %w", did, err)
		}
	}
	root, err := b.Root()
	if err != nil {
		return tree.Root{}, fmt.Errorf("rebuild tree of %s: %w", did, err)
	}
	return root, nil
}
