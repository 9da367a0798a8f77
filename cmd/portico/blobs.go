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
func openBlobs(ctx context.Context, s *settings, quota func() int64, store *db.DB, log *slog.Logger) (*rows.Blobs, error) {
	blobs := &rows.Blobs{DB: store, Quota: quota, Now: time.Now, Log: log}
	var err error
	if blobs.Known, err = s.knownBlobs(ctx, store, log); err != nil {
		return nil, err
	}
	if s.BlobBucket.Bucket != "" {
		blobs.Store, err = blob.OpenS3(s.BlobBucket)
	} else {
		blobs.Store, err = s.openBlobFolder()
	}
	return blobs, err
}

// knownBlobs is until when the database knows all blobs, or zero. A server that was started on
// a backup may have the place of its blobs together with the server that the backup is of, as
// at a drill with all of its settings: what came there since is not removed, until somebody
// says that there is no other. What lies in the data directory came there with the database.
func (s *settings) knownBlobs(ctx context.Context, store *db.DB, log *slog.Logger) (time.Time, error) {
	made, err := store.StartedOnBackup(ctx)
	if err != nil || made.IsZero() || made.Equal(s.BlobsOwnSince) {
		return time.Time{}, err
	}
	place := "the bucket " + s.BlobBucket.Bucket
	if s.BlobBucket.Bucket == "" {
		place = s.BlobFolder
		if s.BlobTempFolder != "" && liesIn(s.DataDirectory, place) {
			place = s.BlobTempFolder
		}
		if liesIn(s.DataDirectory, place) {
			return time.Time{}, nil
		}
	}
	log.WarnContext(ctx, "the server was started on a backup, and files of blobs that are newer and that it does not know are not removed, since they may be "+
		"another server's: once no other uses the place, set PORTICO_BLOBSTORE_OWN_SINCE", "place", place, "PORTICO_BLOBSTORE_OWN_SINCE", made.UTC().Format(time.RFC3339))
	return made, nil
}

// liesIn reports whether a folder is below another one.
func liesIn(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
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
