package adopt

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/repo/store"
)

// bucketReaders is how many blobs of a bucket are read at a time: each waits for the network
// most of its time.
const bucketReaders = 16

// bucket asks whether the bucket that blobs stay in can be used: a server that cannot serves
// no blob.
func (p *planner) bucket(ctx context.Context) error {
	if p.Bucket == nil {
		return nil
	}
	if err := p.Bucket.Check(ctx); err != nil {
		p.found(Finding{Name: "bucket-unusable", Grave: true, Text: fmt.Sprintf("blobs are in a bucket that cannot be read: %v. --skip-bucket goes on without it", err)})
	}
	return ctx.Err()
}

// checkBucket reads every blob that stays in the bucket, and compares it with its row. Those
// that are not as they were uploaded are findings, one for each account.
func (a *Adoption) checkBucket(ctx context.Context) error {
	if a.Blobs != nil {
		return nil
	}
	totals, err := a.Target.Totals(ctx)
	if err != nil {
		return err
	}
	if a.Bucket == nil {
		a.found(Finding{Name: "bucket-skipped", Text: fmt.Sprintf(
			"%d blobs stay in the bucket, and were not looked at: portico blob verify reads those of an account", totals.Blobs)})
		return nil
	}
	blobs := &rows.Blobs{DB: a.Target, Store: a.Bucket, Now: a.Now, Log: a.Log}
	missing, damaged := newLostBlobs(), newLostBlobs()
	var done atomic.Int64
	var after db.StoredBlob
	for {
		page, err := a.Target.StoredBlobs(ctx, after, blobPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1]
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(bucketReaders)
		for i := range page {
			g.Go(func() error {
				row := &page[i]
				switch err := blobs.Verify(gctx, row.DID, &row.Blob); {
				case errors.Is(err, rows.ErrNoBytes):
					missing.add(row.DID, []blob.Want{{CID: store.CID(row.CID)}})
				case errors.Is(err, rows.ErrOtherBytes):
					damaged.add(row.DID, []blob.Want{{CID: store.CID(row.CID)}})
				case err != nil:
					return fmt.Errorf("blob %s of %s in the bucket: %w", store.CID(row.CID), row.DID, err)
				}
				a.progress("blobs in the bucket", done.Add(1), totals.Blobs)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	for _, did := range missing.order {
		of := missing.of[did]
		a.found(Finding{Name: "blob-missing", DID: did, Text: fmt.Sprintf(
			"%d blobs are not in the bucket, %s among them: they are served as little as before, until their owner uploads them again", of.count, of.first)})
	}
	for _, did := range damaged.order {
		of := damaged.of[did]
		a.found(Finding{Name: "blob-damaged", DID: did, Text: fmt.Sprintf(
			"%d blobs in the bucket are not what was uploaded, %s among them", of.count, of.first)})
	}
	a.found(Finding{Name: "bucket-read", Text: fmt.Sprintf("%d blobs stay in the bucket, and all were read there and hashed", totals.Blobs)})
	return nil
}
