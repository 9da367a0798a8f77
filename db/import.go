package db

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// unfinishedImport says that the rows of a repository are being changed by several
// transactions, and which import does that.
type unfinishedImport struct {
	bun.BaseModel `bun:"table:unfinished_import,alias:i"`

	DID syntax.DID `bun:"did"`
	ID  string     `bun:"id"`
}

var (
	beginImport = prepared(func(b *builder) bun.Query {
		return b.insert(new(unfinishedImport)).On("CONFLICT (did) DO UPDATE").Set("id = excluded.id")
	})
	selectImport = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*unfinishedImport)(nil)).Column("id").Where("i.did = ?", b.p())
	})
	endImport = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*unfinishedImport)(nil)).Where("did = ?", b.p())
	})
)

// BeginImport notes that an import, under some id, begins to change the rows of a
// repository in several transactions. It takes the place of one before it. It returns
// ErrNotFound when there is no account.
func (tx *Tx) BeginImport(ctx context.Context, did syntax.DID, id string) error {
	_, err := tx.exec(ctx, beginImport, values(&unfinishedImport{DID: did, ID: id})...)
	return wrap(err, "begin import of %s", did)
}

// UnfinishedImport returns the id of the import that was the last to begin to change the
// rows of a repository, if that has not ended: then they are not whole. It is empty if
// there is none.
func (q *queries) UnfinishedImport(ctx context.Context, did syntax.DID) (id string, err error) {
	err = q.get(ctx, selectImport, []any{did}, &id)
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return id, wrap(err, "read import of %s", did)
}

// EndImport notes that the rows of a repository are whole.
func (tx *Tx) EndImport(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, endImport, did)
	return wrap(err, "end import of %s", did)
}
