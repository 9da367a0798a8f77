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
