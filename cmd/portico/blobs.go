package main

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/blob/rows"
)

// checkBlobs says what of the settings of blobs does not go together, and decides on the
// folder.
func (s *settings) checkBlobs(given func(name string) string, add func(variable, text string)) {
	if s.BlobBucket.Bucket == "" {
		for _, name := range []string{"PDS_BLOBSTORE_S3_REGION", "PDS_BLOBSTORE_S3_ENDPOINT", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY"} {
			if given(name) != "" {
				add("PDS_BLOBSTORE_S3_BUCKET", "is missing: it goes with "+name)
			}
		}
		if s.BlobFolderGiven = given("PDS_BLOBSTORE_DISK_LOCATION") != ""; !s.BlobFolderGiven {
			s.BlobFolder = filepath.Join(s.DataDirectory, blobsName)
		}
		return
	}
	if s.BlobFolder != "" || s.BlobTempFolder != "" {
		add("PDS_BLOBSTORE_S3_BUCKET", "is set beside PDS_BLOBSTORE_DISK_LOCATION: blobs are in a bucket or in a folder")
	}
	if s.BlobLeftFolder != "" {
		add("PORTICO_BLOBSTORE_LEFT_LOCATION", "is set beside PDS_BLOBSTORE_S3_BUCKET: blobs are in a bucket or in a folder")
	}
	if (given("PDS_BLOBSTORE_S3_ACCESS_KEY_ID") == "") != (given("PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY") == "") {
		add(cmp.Or(missing(given, "PDS_BLOBSTORE_S3_ACCESS_KEY_ID"), "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY"), "is missing: the two access keys go together")
	} else if _, err := blob.OpenS3(s.BlobBucket); err != nil {
		add("PDS_BLOBSTORE_S3_ENDPOINT", "and its bucket can't be used: "+err.Error())
	}
}

// openBlobs opens the store that blobs are in, and puts it together with their rows.
func openBlobs(s *settings, quota func() int64, store *db.DB, log *slog.Logger) (*rows.Blobs, error) {
	blobs := &rows.Blobs{DB: store, Quota: quota, Now: time.Now, Log: log}
	var err error
	if s.BlobBucket.Bucket != "" {
		blobs.Store, err = blob.OpenS3(s.BlobBucket)
	} else {
		blobs.Store, err = s.openBlobFolder()
	}
	return blobs, err
}

// openBlobFolder opens the store in the folder of blobs.
func (s *settings) openBlobFolder() (*blob.Disk, error) {
	d, err := blob.OpenDisk(s.BlobFolder, s.BlobTempFolder, blob.Bounds{})
	if err != nil || s.BlobLeftFolder == "" {
		return d, err
	}
	return d, d.Over(s.BlobLeftFolder)
}

// warnOfBucket says in the log when the bucket of blobs does not answer.
func warnOfBucket(ctx context.Context, blobs *rows.Blobs, log *slog.Logger) {
	bucket, ok := blobs.Store.(*blob.S3)
	if !ok {
		return
	}
	if err := bucket.Check(ctx); err != nil {
		log.ErrorContext(ctx, "the bucket of blobs can't be used", "error", err)
	}
}

// cleanBlobs removes the files that nobody needs any more.
func cleanBlobs(ctx context.Context, blobs *rows.Blobs, log *slog.Logger) error {
	report, err := blobs.Cleaner().Run(ctx)
	if report != (blob.Report{}) {
		log.InfoContext(ctx, "removed blobs that nobody needs", "uploads", report.Expired, "files", report.Spare, "bytes", report.Bytes)
	}
	return err
}
