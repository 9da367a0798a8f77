package db

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// DIDDocument returns a cached DID document and when it was read, or ErrNotFound.
func (q *queries) DIDDocument(ctx context.Context, did syntax.DID) (doc []byte, updatedAt time.Time, err error) {
	err = q.get(ctx, `SELECT document, updated_at FROM did_document WHERE did = ?`, []any{string(did)}, &doc, (*stamp)(&updatedAt))
	return doc, updatedAt, wrap(err, "read cached document of %s", did)
}

// PutDIDDocument caches the DID document of an account, unless a newer one is there.
// It does nothing where there is no such account: anybody can name any number of
// DIDs, and make documents of any size for them.
func (tx *Tx) PutDIDDocument(ctx context.Context, did syntax.DID, doc []byte, updatedAt time.Time) error {
	if _, err := tx.AccountByDID(ctx, did); errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	_, err := tx.exec(ctx, `INSERT INTO did_document (did, document, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (did) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at
		WHERE did_document.updated_at <= excluded.updated_at`, string(did), doc, micros(updatedAt))
	return wrap(err, "cache document of %s", did)
}

// DeleteDIDDocument drops a DID document from the cache.
func (tx *Tx) DeleteDIDDocument(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, `DELETE FROM did_document WHERE did = ?`, string(did))
	return wrap(err, "drop cached document of %s", did)
}
