package db

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// didDocument is a DID document as it was read from the directory or a web server.
type didDocument struct {
	bun.BaseModel `bun:"table:did_document,alias:d"`

	DID       syntax.DID `bun:"did,pk"`
	Document  []byte     `bun:"document"`
	UpdatedAt time.Time  `bun:"updated_at"`
}

var (
	selectDIDDocument = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*didDocument)(nil)).Where("did = ?", b.p())
	})
	putDIDDocument = prepared(func(b *builder) bun.Query {
		return b.insert(new(didDocument)).On("CONFLICT (did) DO UPDATE").
			Set("document = excluded.document").Set("updated_at = excluded.updated_at").
			Where("d.updated_at <= excluded.updated_at")
	})
	deleteDIDDocument = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*didDocument)(nil)).Where("did = ?", b.p())
	})
)

// DIDDocument returns a cached DID document and when it was read, or ErrNotFound.
func (q *queries) DIDDocument(ctx context.Context, did syntax.DID) (doc []byte, updatedAt time.Time, err error) {
	d, err := one[didDocument](ctx, q, selectDIDDocument, did)
	if err != nil {
		return nil, time.Time{}, wrap(err, "read cached document of %s", did)
	}
	return d.Document, d.UpdatedAt, nil
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
	_, err := tx.exec(ctx, putDIDDocument, values(&didDocument{DID: did, Document: doc, UpdatedAt: updatedAt})...)
	return wrap(err, "cache document of %s", did)
}

// DeleteDIDDocument drops a DID document from the cache.
func (tx *Tx) DeleteDIDDocument(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteDIDDocument, did)
	return wrap(err, "drop cached document of %s", did)
}
