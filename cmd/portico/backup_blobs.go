package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/store"
)

// blobsName is the folder of blobs in a data directory, unless settings name another.
const blobsName = "blobs"

// blobPage is how many blobs are copied at a time.
const blobPage = 1000

// databaseCopies is how often the database is copied for a backup at most.
const databaseCopies = 5

// backupBlobs is what a backup has of the blobs.
type backupBlobs struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
	// Missing is how many of those that the database knows were not where they belong any
	// more when they were copied.
	Missing int `json:"missing"`
	// Bucket is where the blobs are instead; empty: in the folder.
	Bucket string `json:"bucket,omitempty"`
}

// copyData copies the database to the folder draft, and then the blobs that the copy
// knows, while the server goes on. A blob may go before it is copied, with the last record
// that names it: then the database is copied again, and what is not there yet. What is
// still missing is missing from the server; or, where so much is deleted that the last
// copy is behind, too, of a record that was deleted since.
func (s *settings) copyData(ctx context.Context, from *db.DB, draft string) (*backupBlobs, error) {
	var before map[string]bool
	for copies := 1; ; copies++ {
		file := filepath.Join(draft, databaseName)
		if err := removeIfThere(file); err != nil {
			return nil, err
		}
		if err := from.Backup(ctx, file); err != nil {
			return nil, err
		}
		if s.BlobBucket.Bucket != "" {
			return &backupBlobs{Bucket: s.BlobBucket.Bucket}, nil
		}
		b, missing, err := s.copyBlobs(ctx, draft)
		if err != nil {
			return nil, fmt.Errorf("copy blobs: %w", err)
		}
		again := false
		for name := range missing {
			again = again || !before[name]
		}
		if !again || copies == databaseCopies {
			return b, nil
		}
		before = missing
	}
}

// copyBlobs copies those blobs that the database in the folder draft knows and that are
// not there yet. It returns the names of those that are nowhere.
func (s *settings) copyBlobs(ctx context.Context, draft string) (_ *backupBlobs, missing map[string]bool, err error) {
	known, err := openCopy(ctx, draft)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, known.Close()) }()
	b, missing := new(backupBlobs), make(map[string]bool)
	if any, err := known.HasBlobs(ctx); err != nil || !any {
		return b, missing, err
	}
	var source, target *blob.Disk
	var after db.StoredBlob
	for {
		page, err := known.StoredBlobs(ctx, after, blobPage)
		if err != nil || len(page) == 0 {
			return b, missing, err
		}
		if target == nil {
			if source, err = s.openBlobFolder(); err != nil {
				return nil, nil, err
			}
			if target, err = blob.OpenDisk(filepath.Join(draft, blobsName), "", blob.Bounds{}); err != nil {
				return nil, nil, err
			}
		}
		after = page[len(page)-1]
		wants := make(map[syntax.DID][]blob.Want)
		for _, row := range page {
			wants[row.DID] = append(wants[row.DID], blob.Want{CID: store.CID(row.CID), Size: row.Size, Key: row.TempKey})
			b.Count++
			b.Bytes += row.Size
		}
		for did, some := range wants {
			gone, err := target.Take(ctx, source, did, some)
			if err != nil {
				return nil, nil, err
			}
			for _, w := range gone {
				missing[did.String()+" "+w.CID.String()] = true
				b.Missing++
				b.Count--
				b.Bytes -= w.Size
			}
		}
	}
}

// lines say what a backup has of the blobs, where it has any.
func (b *backupBlobs) lines() (written, besides []string) {
	if b.Count > 0 {
		written = append(written, fmt.Sprintf("  %-14s  %d bytes in %d files", blobsName, b.Bytes, b.Count))
	}
	if b.Bucket != "" {
		besides = append(besides, "Blobs are in the bucket "+b.Bucket+" and in no backup: let it keep for some time what is removed.")
	}
	if b.Missing > 0 {
		besides = append(besides, fmt.Sprintf("Blobs that the database knows, but that were not on the server: %d.", b.Missing))
	}
	return written, besides
}
