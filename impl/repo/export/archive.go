// Package export writes repositories as archives.
//
// An archive is of one state of the database, which it reads as fast as that goes:
// [Archive] writes it wherever that does not make it wait. [Exports] makes archives for
// clients, of whom the database must not wait for any: what is read is kept in memory or
// in a file without a name, and sent from there at the pace of the client, beginning
// while the rest is still read. How much of that there is, for one address and for all,
// is bounded.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// Archive writes the repository of did to w, in many small pieces: the commit, which is
// the root, the nodes of the tree, and the values of the records in the order of their
// paths, those that are taken down too. With since, which is a rev, it writes what later
// commits have made, the root alone when there is none. Values that several records have
// are written once, those of the first 32,768 values that is. What is damaged is written as it is
// stored.
//
// Errors are db.ErrNotFound when there is no repository, and those of w.
func Archive(ctx context.Context, s *db.Snapshot, did syntax.DID, since syntax.TID, w io.Writer) error {
	row, err := s.Repo(ctx, did)
	if err != nil {
		return err
	}
	name := store.CID(row.CommitCID)
	archive, err := car.NewWriter(w, name)
	if err != nil {
		return err
	}
	if row.Rev > since.String() {
		if err := archive.Write(car.Block{CID: name, Data: row.CommitBlock}); err != nil {
			return err
		}
	}
	node := func(cid, data []byte) error {
		return archive.Write(car.Block{CID: store.CID(cid), Data: data})
	}
	if err := s.NodeBlocks(ctx, did, since.String(), node); err != nil {
		return err
	}
	written := make(map[dagcbor.CID]bool)
	return s.ValueBlocks(ctx, did, since.String(), func(cid, data []byte) error {
		name := store.CID(cid)
		if written[name] {
			return nil
		}
		if len(written) < maxWritten {
			written[name] = true
		}
		return archive.Write(car.Block{CID: name, Data: data})
	})
}

// maxWritten is how many values are remembered, so that they are not written again: some
// two megabytes.
const maxWritten = 1 << 15

// Proof writes what shows that a record is in the repository of did, or that it is not:
// the commit, which is the root, the nodes on the path, and the value if there is one.
// The cache may be nil.
//
// Errors are db.ErrNotFound when there is no repository, those of [tree.Tree.Path], and
// those of w.
func Proof(ctx context.Context, s *db.Snapshot, did syntax.DID, path string, cache *tree.Cache, w io.Writer) error {
	row, err := s.Repo(ctx, did)
	if err != nil {
		return err
	}
	commit, err := store.LastCommit(row)
	if err != nil {
		return fmt.Errorf("proof of %s of %s: %w", path, did, err)
	}
	blocks, value, err := store.Tree(s, did, row, cache).Path(ctx, path)
	if err != nil {
		return fmt.Errorf("proof of %s of %s: %w", path, did, err)
	}
	blocks = append([]car.Block{commit}, blocks...)
	if value != (dagcbor.CID{}) {
		record, err := s.Record(ctx, did, path)
		if err != nil {
			return fmt.Errorf("proof of %s of %s: %w", path, did, errDamaged(err))
		}
		blocks = append(blocks, car.Block{CID: value, Data: record.Value})
	}
	_, err = w.Write(car.Marshal(commit.CID, blocks...))
	return err
}

// errDamaged is db.ErrNotFound of a part of a repository, which is not that of the whole.
func errDamaged(err error) error {
	if errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("%w: %v", tree.ErrMissing, err)
	}
	return err
}

// A MissingError says that some blocks are not in a repository.
type MissingError struct {
	CIDs []dagcbor.CID // in the order in which they were asked for
}

func (e *MissingError) Error() string { return fmt.Sprintf("%d blocks are missing", len(e.CIDs)) }

// Blocks writes an archive without a root of the blocks of a repository that have some
// names, each once. Errors are db.ErrNotFound when there is no repository, those of w,
// and, when all that there are have been written, a *MissingError.
func Blocks(ctx context.Context, s *db.Snapshot, did syntax.DID, wanted []dagcbor.CID, w io.Writer) error {
	row, err := s.Repo(ctx, did)
	if err != nil {
		return err
	}
	archive, err := car.NewWriter(w)
	if err != nil {
		return err
	}
	left := make(map[dagcbor.CID]bool, len(wanted))
	for _, name := range wanted {
		left[name] = true
	}
	block := func(cid, data []byte) error {
		if len(cid) != len(dagcbor.CID{}) || !left[dagcbor.CID(cid)] {
			return nil
		}
		delete(left, dagcbor.CID(cid))
		return archive.Write(car.Block{CID: dagcbor.CID(cid), Data: data})
	}
	if err := block(row.CommitCID, row.CommitBlock); err != nil {
		return err
	}
	if len(left) > 0 {
		rest := make([][]byte, 0, len(left))
		for name := range left {
			rest = append(rest, name[:])
		}
		if err := s.BlocksNamed(ctx, did, rest, block); err != nil {
			return err
		}
	}
	missing := new(MissingError)
	for _, name := range wanted {
		if left[name] {
			missing.CIDs = append(missing.CIDs, name)
			delete(left, name)
		}
	}
	if len(missing.CIDs) > 0 {
		return missing
	}
	return nil
}
