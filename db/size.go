package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A Size is how much an account has.
type Size struct {
	Records int
	BlobSum
}

// Totals are how many rows there are of all accounts.
type Totals struct {
	Repos, Nodes, Records, RecordBlobs, Blobs int64
	// Preferences are the accounts that have some.
	Preferences int64
}

var selectTotals = prepared(func(b *builder) bun.Query {
	s := b.NewSelect()
	for _, model := range []any{(*Repo)(nil), (*Node)(nil), (*Record)(nil), (*RecordBlob)(nil), (*Blob)(nil), (*preferences)(nil)} {
		s = s.ColumnExpr("(?)", b.NewSelect().Model(model).ColumnExpr("count(*)"))
	}
	return s
})

// Totals counts the rows of all accounts. It reads an index of each table to its end.
func (q *queries) Totals(ctx context.Context) (Totals, error) {
	var t Totals
	err := q.get(ctx, selectTotals, nil, &t.Repos, &t.Nodes, &t.Records, &t.RecordBlobs, &t.Blobs, &t.Preferences)
	return t, wrap(err, "count all rows")
}

var selectRecordCounts = prepared(func(b *builder) bun.Query {
	return b.NewSelect().Model((*Repo)(nil)).Column("did", "records").Where("?", b.among("r.did", "text"))
})

// Sizes returns the sizes of some accounts. It reads the rows of all their blobs.
func (q *queries) Sizes(ctx context.Context, dids ...syntax.DID) (map[syntax.DID]Size, error) {
	sizes := make(map[syntax.DID]Size, len(dids))
	err := q.each(ctx, selectRecordCounts, []any{list(q, dids)}, func(row scanner) error {
		var did string
		var s Size
		err := row.Scan(&did, &s.Records)
		sizes[syntax.DID(did)] = s
		return err
	})
	if err != nil {
		return nil, wrap(err, "count records of %d accounts", len(dids))
	}
	sums, err := q.BlobSums(ctx, dids...)
	for did, sum := range sums {
		s := sizes[did]
		s.BlobSum = sum
		sizes[did] = s
	}
	return sizes, err
}
