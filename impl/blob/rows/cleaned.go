package rows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

// claimFor is longer than any request to a store takes.
const claimFor = 15 * time.Minute

// cleaned implements [blob.Rows].
type cleaned struct{ *Blobs }

// Expire implements [blob.Rows]. Accounts are done one after the other, so that none is
// locked for long.
func (c cleaned) Expire(ctx context.Context, before time.Time, limit int) ([]blob.Name, error) {
	old, err := c.DB.OldUploads(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	keys := make(map[syntax.DID][]string)
	for _, f := range old {
		keys[f.DID] = append(keys[f.DID], f.TempKey)
	}
	var names []blob.Name
	for did, keys := range keys {
		var deleted []string
		err := c.DB.Write(ctx, func(tx *db.Tx) error {
			deleted = nil
			_, err := tx.LockRepo(ctx, did)
			if err == nil {
				deleted, err = tx.DeleteOldUploads(ctx, did, before, keys)
			}
			return err
		})
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return names, err
		}
		for _, key := range deleted {
			names = append(names, blob.TemporaryName(did, key))
		}
	}
	return names, nil
}

// Unnamed implements [blob.Rows].
func (c cleaned) Unnamed(ctx context.Context, names []blob.Name) ([]blob.Name, error) {
	files := make([]db.BlobFile, len(names))
	for i, name := range names {
		files[i].DID = name.DID
		if name.Area == blob.Temporary {
			files[i].TempKey = name.Key
			continue
		}
		cid, err := dagcbor.ParseCID(name.Key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[i].CID = cid[:]
	}
	spare, err := c.DB.SpareBlobFiles(ctx, files)
	unnamed := make([]blob.Name, len(spare))
	for i, number := range spare {
		unnamed[i] = names[number]
	}
	return unnamed, err
}

// Claim implements [blob.Rows].
func (c cleaned) Claim(ctx context.Context, did syntax.DID, cid dagcbor.CID) (claimed bool, err error) {
	err = c.DB.Write(ctx, func(tx *db.Tx) error {
		claimed, err = tx.ClaimBlob(ctx, did, cid[:], c.Now().Add(claimFor))
		return err
	})
	return claimed, err
}

// Release implements [blob.Rows].
func (c cleaned) Release(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	return c.DB.Write(ctx, func(tx *db.Tx) error { return tx.ReleaseBlob(ctx, did, cid[:]) })
}
