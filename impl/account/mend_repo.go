package account

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// mendBatch is how many rows of a repository are mended in one transaction, so that
// nobody else waits for long.
const mendBatch = 500

// maxSteps is in how many steps a repository is mended, of which those count too that come
// to nothing because it is written to meanwhile.
const maxSteps = 10

// errRepoChanged says that a repository was written to while it was being mended.
var errRepoChanged = errors.New("repository was written to meanwhile")

// A repoMending mends what a finding of a name is about, unless that is not needed any
// more, and whatever has to be mended before it. It reads outside of transactions, and
// writes only as long as the commit is the one over which it has looked.
type repoMending struct {
	*inspection
	name  string
	noted bool // that it was done
}

func (n *inspection) mendRepo(ctx context.Context, name string) error {
	return (&repoMending{inspection: n, name: name}).run(ctx)
}

func (n *repoMending) run(ctx context.Context) error {
	for range maxSteps {
		row, err := n.Accounts.DB.ReadSigningKey(ctx, n.did, KeyPurpose)
		if err != nil {
			return err
		}
		l, err := lookAtRepo(ctx, n.Accounts.DB, n.did, row.Public)
		if err != nil {
			return err
		}
		var step func(context.Context, *repoLook) error
		switch {
		case l.remedy == await:
			return ErrImportUnfinished
		case n.name == RepoIndex && l.index != "":
			step = n.mendIndex
		case n.name == RepoIndex || l.name == "":
			return nil
		case l.remedy == restore:
			return errors.New("tree of the repository is not whole any more")
		case l.remedy == rebuild:
			step = n.rebuildTree
		case l.remedy == prune:
			step = n.pruneTree
		case l.remedy == sign:
			step = n.signTree
		}
		if err := step(ctx, l); err != nil && !errors.Is(err, errRepoChanged) {
			return err
		}
	}
	return errors.New("repository is not whole yet, or was written to again and again")
}

// guarded runs fn in a transaction that has locked the account and its repository, if
// that is what it was at a look; otherwise it returns errRepoChanged. The first one says
// in the account's record that something was mended.
func (n *repoMending) guarded(ctx context.Context, l *repoLook, fn func(tx *db.Tx, acct *db.Account) error) error {
	err := n.Accounts.DB.WriteAlone(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, n.did)
		if err != nil {
			return err
		}
		now, err := tx.LockRepo(ctx, n.did)
		if errors.Is(err, db.ErrNotFound) {
			now, err = nil, nil
		}
		if err != nil {
			return err
		}
		if (now == nil) != (l.row == nil) || now != nil && !bytes.Equal(now.CommitCID, l.row.CommitCID) {
			return errRepoChanged
		}
		if unfinished, err := tx.UnfinishedImport(ctx, n.did); err != nil || unfinished != "" {
			return cmp.Or(err, errRepoChanged)
		}
		if !n.noted {
			if err := audit.Record(ctx, tx, n.Accounts.Now(), n.did, audit.Repaired, n.name); err != nil {
				return err
			}
		}
		return fn(tx, acct)
	})
	n.noted = n.noted || err == nil
	return err
}

// A batch gathers what is to be done, and does it so many at a time.
type batch struct {
	run  func(do func(tx *db.Tx) error) error // in a transaction
	todo []func(tx *db.Tx) error
}

func (b *batch) add(do func(tx *db.Tx) error) error {
	if b.todo = append(b.todo, do); len(b.todo) < mendBatch {
		return nil
	}
	return b.end()
}

func (b *batch) end() error {
	todo := b.todo
	if b.todo = nil; len(todo) == 0 {
		return nil
	}
	return b.run(func(tx *db.Tx) error {
		for _, do := range todo {
			if err := do(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *repoMending) batch(ctx context.Context, l *repoLook) *batch {
	return &batch{run: func(do func(tx *db.Tx) error) error {
		return n.guarded(ctx, l, func(tx *db.Tx, _ *db.Account) error { return do(tx) })
	}}
}

// rebuildTree puts the nodes that the records make, where they are not there.
func (n *repoMending) rebuildTree(ctx context.Context, l *repoLook) error {
	b := n.batch(ctx, l)
	_, err := store.Rebuild(ctx, n.Accounts.DB, n.did, func(row tree.Row) error {
		return b.add(func(tx *db.Tx) error {
			there, err := tx.Node(ctx, n.did, db.Place(row.Place))
			if err == nil && bytes.Equal(there.CID, row.CID[:]) && bytes.Equal(there.Data, row.Data) {
				return nil
			}
			if err != nil && !errors.Is(err, db.ErrNotFound) {
				return err
			}
			return tx.PutNode(ctx, n.did, db.Node{Low: row.Place.Low, Layer: row.Place.Layer, CID: row.CID[:], Rev: l.row.Rev, Data: row.Data})
		})
	})
	if err != nil {
		return err
	}
	return b.end()
}

// pruneTree removes the nodes that are not in the tree.
func (n *repoMending) pruneTree(ctx context.Context, l *repoLook) error {
	b := n.batch(ctx, l)
	for _, place := range l.Spare {
		if err := b.add(func(tx *db.Tx) error { return tx.DeleteNode(ctx, n.did, place) }); err != nil {
			return err
		}
	}
	return b.end()
}

// mendIndex makes the rows beside the tree what that and the records say.
func (n *repoMending) mendIndex(ctx context.Context, l *repoLook) error {
	b := n.batch(ctx, l)
	_, err := store.Verify(ctx, n.Accounts.DB, n.did, l.Root, store.Wrong{
		Record: func(path string) error {
			return b.add(func(tx *db.Tx) error {
				if err := tx.DeleteRecords(ctx, n.did, path); err != nil {
					return err
				}
				return tx.SetRecordIndex(ctx, n.did, path, "")
			})
		},
		Index: func(r store.IndexedRecord) error {
			return b.add(func(tx *db.Tx) error {
				blobs := make([][]byte, len(r.Blobs))
				for i := range r.Blobs {
					blobs[i] = r.Blobs[i][:]
				}
				return tx.SetRecordIndex(ctx, n.did, r.Path, r.LinkTo, blobs...)
			})
		},
	})
	if err == nil {
		err = b.end()
	}
	if err != nil {
		return err
	}
	return n.guarded(ctx, l, func(tx *db.Tx, _ *db.Account) error {
		for _, name := range l.Collections {
			if err := tx.AddCollection(ctx, n.did, name); err != nil {
				return err
			}
		}
		for _, name := range append(l.Collections, l.Listed...) {
			if err := tx.DropCollection(ctx, n.did, name); err != nil { // unless there are records
				return err
			}
		}
		if l.row == nil {
			return nil
		}
		row, err := tx.LockRepo(ctx, n.did)
		if err != nil {
			return err
		}
		row.Nodes, row.Records = l.Nodes, l.Records
		if err := tx.UpdateRepo(ctx, n.did, *row, row.CommitCID); err != nil {
			return err
		}
		return tx.RecountBlobs(ctx, n.did)
	})
}

// signTree makes a new commit over the tree, and tells the network.
func (n *repoMending) signTree(ctx context.Context, l *repoLook) error {
	a := n.Accounts
	return n.guarded(ctx, l, func(tx *db.Tx, acct *db.Account) error {
		row, err := tx.SigningKey(ctx, n.did, KeyPurpose)
		if err != nil {
			return err
		}
		key, err := a.Keys.SigningKey(KeyPurpose, n.did.String(), row.Sealed)
		if err != nil {
			return fmt.Errorf("open signing key: %w", err)
		}
		signed, err := store.Replace(ctx, tx, n.did, key, a.Now(), l.rev, l.Contents)
		if err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(n.did, newCommit(acct, signed)...)...)
	})
}
