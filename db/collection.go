package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A collection is one of which an account has records.
type collection struct {
	bun.BaseModel `bun:"table:collection,alias:c"`

	DID        syntax.DID `bun:"did"`
	Collection string     `bun:"collection"`
}

var (
	addCollection = prepared(func(b *builder) bun.Query {
		return b.insert(new(collection)).On("CONFLICT (did, collection) DO NOTHING")
	})
	dropCollection = prepared(func(b *builder) bun.Query {
		s := b.NewDelete().Model((*collection)(nil)).Where("did = ?", b.p()).Where("collection = ?", b.p())
		return s.Where("NOT EXISTS (?)", b.recordsBetween().ColumnExpr("1"))
	})
	deleteCollections = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*collection)(nil)).Where("did = ?", b.p())
	})
	selectCollections = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*collection)(nil)).Column("collection").Where("did = ?", b.p()).Order("collection")
	})
	selectByCollection = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*collection)(nil)).Column("did").
			Where("collection = ?", b.p()).Where("did > ?", b.p()).Where("NOT EXISTS (?)", b.heldAccount("c.did")), "did")
	})
)

// Collections returns the collections of which an account has records, in bytewise order.
func (q *queries) Collections(ctx context.Context, did syntax.DID) ([]string, error) {
	var all []string
	err := q.each(ctx, selectCollections, []any{did}, func(row scanner) error {
		all = append(all, "")
		return row.Scan(&all[len(all)-1])
	})
	return all, wrap(err, "list collections of %s", did)
}

// AccountsByCollection returns up to limit accounts, in any state but quarantine, that have records of a
// collection, in the order of their DIDs, those after the given one.
func (q *queries) AccountsByCollection(ctx context.Context, collection string, after syntax.DID, limit int) ([]syntax.DID, error) {
	if !storable(collection) || !storable(string(after)) {
		return nil, nil
	}
	var all []syntax.DID
	err := q.each(ctx, selectByCollection, []any{collection, after, limit}, func(row scanner) error {
		all = append(all, "")
		return row.Scan((*string)(&all[len(all)-1]))
	})
	return all, wrap(err, "list accounts by collection")
}

// AddCollection notes that an account has records of a collection, if that is not known.
// It returns ErrNotFound when there is no account.
func (tx *Tx) AddCollection(ctx context.Context, did syntax.DID, name string) error {
	return tx.later(ctx, "add collection of "+did.String(), addCollection, values(&collection{DID: did, Collection: name})...)
}

// DropCollection forgets a collection of an account unless it has records of it.
func (tx *Tx) DropCollection(ctx context.Context, did syntax.DID, name string) error {
	in := CollectionRange(name)
	return tx.later(ctx, "drop collection of "+did.String(), dropCollection, did, name, did, in.After, in.Before)
}

// DeleteCollections forgets all collections of an account.
func (tx *Tx) DeleteCollections(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteCollections, did)
	return wrap(err, "forget collections of %s", did)
}
