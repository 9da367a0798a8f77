package db

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// BlobCounts are how many blobs an account has.
type BlobCounts struct {
	Expected int // that its records name
	Imported int // that are here, temporary ones too
}

var (
	selectBlobCounts = prepared(func(b *builder) bun.Query {
		named, here := b.blobCounts(b.p())
		return b.NewSelect().ColumnExpr("(?)", named).ColumnExpr("(?)", here)
	})
	setRecordLink = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*Record)(nil)).Set("link_to = ?", b.p()).Where("did = ?", b.p()).Where("path = ?", b.p())
	})
)

// BlobCounts counts the blobs of an account, whatever its repository says. It reads the
// rows of all.
func (q *queries) BlobCounts(ctx context.Context, did syntax.DID) (BlobCounts, error) {
	var c BlobCounts
	err := q.scan(ctx, selectBlobCounts, []any{did}, []any{&c.Expected, &c.Imported})
	return c, wrap(err, "count blobs of %s", did)
}

// SetRecordIndex puts what is kept beside the value of a record in the place of what was:
// where it points, and the CIDs of the blobs that it names. Of a record that is not there
// nothing is kept. The transaction has locked the repository.
func (tx *Tx) SetRecordIndex(ctx context.Context, did syntax.DID, path, linkTo string, blobs ...[]byte) error {
	n, err := tx.exec(ctx, setRecordLink, orNull(linkTo), did, path)
	if err == nil {
		_, err = tx.DeleteRecordBlobs(ctx, did, []string{path})
	}
	if err == nil && n > 0 {
		mentions := make([]RecordBlob, len(blobs))
		for i, cid := range blobs {
			mentions[i] = RecordBlob{Path: path, CID: cid}
		}
		err = tx.PutRecordBlobs(ctx, did, mentions)
	}
	return wrap(err, "index record %s of %s", path, did)
}
