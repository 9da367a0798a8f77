package blob_test

import (
	"testing"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
)

func openDisk(t testing.TB, bounds blob.Bounds) *blob.Disk {
	t.Helper()
	d, err := blob.OpenDisk(t.TempDir(), "", bounds)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDisk(t *testing.T) {
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store { return openDisk(t, bounds) })
}
