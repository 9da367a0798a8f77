//go:build interop

package interop

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"portico/cmd/portico/launch"
	"portico/impl/blob"
	"portico/impl/blob/blobtest"
)

// versitygw is a real S3 server, from the module proxy. It is a tool here: nothing of it
// is in a binary of ours.
const versitygw = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// The store of blobs in S3 does on a real server what it does on that of the unit tests.
func TestS3Store(t *testing.T) {
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), "go", "install", versitygw)
	install.Dir, install.Env = dir, append(os.Environ(), "GOBIN="+dir)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install versitygw: %v\n%s", err, out)
	}
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s3.sock")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), filepath.Join(dir, "versitygw"), "--port", socket, "--quiet", "posix", "--sidecar", filepath.Join(dir, "meta"), data)
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY=key", "ROOT_SECRET_KEY=secret")
	if err := os.Mkdir(filepath.Join(dir, "meta"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	through := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	client, err := minio.New("localhost", &minio.Options{Creds: credentials.NewStaticV4("key", "secret", ""), Region: "us-east-1", Transport: through, BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	up, cancel := context.WithTimeout(t.Context(), launch.Patience)
	defer cancel()
	for _, err := client.ListBuckets(up); err != nil; _, err = client.ListBuckets(up) {
		if up.Err() != nil {
			t.Fatalf("versitygw does not answer: %v", err)
		}
	}
	var buckets atomic.Int64
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store {
		bucket := "blobs-" + strconv.FormatInt(buckets.Add(1), 10)
		if err := client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{Region: "us-east-1"}); err != nil {
			t.Fatal(err)
		}
		s, err := blob.OpenS3(blob.S3Config{
			Bucket: bucket, Region: "us-east-1", Endpoint: "http://localhost", ForcePathStyle: true,
			AccessKeyID: "key", SecretAccessKey: "secret", Spool: t.TempDir(), Bounds: bounds, Transport: through,
		})
		if err == nil {
			err = s.Check(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
