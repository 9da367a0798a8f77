package main

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/directory"
	"portico/impl/identity/resolve"
)

// plcStore keeps the embedded directory's operations in the database.
type plcStore struct{ db *db.DB }

var _ directory.Store = plcStore{}

func (s plcStore) Log(ctx context.Context, did string) ([]directory.Entry, error) {
	ops, err := s.db.PLCOperations(ctx, syntax.DID(did))
	return entries(ops), err
}

func (s plcStore) Append(ctx context.Context, e directory.Entry, nullified []string, head string) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if err := tx.LockPLC(ctx); err != nil {
			return err
		}
		ops, err := tx.PLCOperations(ctx, syntax.DID(e.DID))
		if err != nil {
			return err
		}
		last := ""
		for _, op := range ops {
			if op.CID == e.CID {
				return directory.ErrConflict
			}
			if !op.Nullified {
				last = op.CID
			}
		}
		if last != head {
			return directory.ErrConflict
		}
		return tx.AppendPLCOperation(ctx, &db.PLCOperation{
			DID: syntax.DID(e.DID), CID: e.CID, Operation: e.Operation, CreatedAt: e.CreatedAt,
		}, nullified...)
	})
}

func (s plcStore) ExportAfterTime(ctx context.Context, t time.Time, count int) ([]directory.Entry, error) {
	ops, err := s.db.PLCExportAfter(ctx, t, count)
	return entries(ops), err
}

func (s plcStore) ExportAfterSeq(ctx context.Context, seq int64, count int) ([]directory.Entry, error) {
	ops, err := s.db.PLCExport(ctx, seq, count)
	return entries(ops), err
}

func entries(ops []db.PLCOperation) []directory.Entry {
	list := make([]directory.Entry, len(ops))
	for i, op := range ops {
		list[i] = directory.Entry{
			Seq: op.Seq, DID: op.DID.String(), Operation: op.Operation, CID: op.CID,
			Nullified: op.Nullified, CreatedAt: op.CreatedAt,
		}
	}
	return list
}

// documentStore keeps the DID documents of accounts in the database, where they
// survive a restart and serve every node. Those of others, whose service tokens
// anybody can show, are kept in memory, so many and no more.
type documentStore struct {
	db     *db.DB
	others *resolve.Memory
}

var _ resolve.Store = documentStore{}

// otherDocuments is how many documents of others are kept. None is larger than
// 256 KiB.
const otherDocuments = 256

func newDocumentStore(store *db.DB) documentStore {
	return documentStore{store, resolve.NewMemory(otherDocuments)}
}

func (s documentStore) DIDDocument(ctx context.Context, did syntax.DID) ([]byte, time.Time, error) {
	document, fetched, err := s.db.DIDDocument(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return s.others.DIDDocument(ctx, did)
	}
	return document, fetched, err
}

func (s documentStore) SaveDIDDocument(ctx context.Context, did syntax.DID, document []byte, fetched, since time.Time) error {
	_, err := s.db.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return s.others.SaveDIDDocument(ctx, did, document, fetched, since)
	}
	if err != nil {
		return err
	}
	return s.ifUnchanged(ctx, did, since, func(tx *db.Tx) error { return tx.PutDIDDocument(ctx, did, document, fetched) })
}

func (s documentStore) DeleteDIDDocument(ctx context.Context, did syntax.DID, since time.Time) error {
	if err := s.others.DeleteDIDDocument(ctx, did, since); err != nil {
		return err
	}
	_, _, err := s.db.DIDDocument(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil // nobody makes the server write by naming DIDs that do not exist
	}
	if err != nil {
		return err
	}
	return s.ifUnchanged(ctx, did, since, func(tx *db.Tx) error { return tx.DeleteDIDDocument(ctx, did) })
}

// ifUnchanged writes unless since is given and the document kept is another one.
func (s documentStore) ifUnchanged(ctx context.Context, did syntax.DID, since time.Time, write func(*db.Tx) error) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if !since.IsZero() {
			_, fetched, err := tx.DIDDocument(ctx, did)
			if errors.Is(err, db.ErrNotFound) || err == nil && !fetched.Equal(since) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return write(tx)
	})
}

// identities is what the rest of the network says about identities.
type identities struct {
	*resolve.Handles
	*resolve.Cache
}
