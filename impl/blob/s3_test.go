package blob_test

import (
	"testing"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
)

func s3Config(t testing.TB, server *blobtest.S3) blob.S3Config {
	return blob.S3Config{
		Bucket:          server.Bucket,
		Region:          "us-east-1",
		Endpoint:        server.URL,
		ForcePathStyle:  true,
		AccessKeyID:     "key",
		SecretAccessKey: "secret",
		Spool:           t.TempDir(),
	}
}

func openS3(t testing.TB, config blob.S3Config) *blob.S3 {
	t.Helper()
	s, err := blob.OpenS3(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3(t *testing.T) {
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store {
		config := s3Config(t, blobtest.StartS3(t))
		config.Bounds = bounds
		return openS3(t, config)
	})
}
