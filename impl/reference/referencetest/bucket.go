package referencetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// PutIntoBucket gives put all files of the blobs of a directory, under the keys that they
// have where the server keeps them in a bucket.
func PutIntoBucket(t testing.TB, pds string, put func(key string, data []byte)) {
	t.Helper()
	blocks := filepath.Join(pds, "blocks")
	err := filepath.WalkDir(blocks, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(blocks, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key := "blocks/" + filepath.ToSlash(name)
		if rest, ok := strings.CutPrefix(key, "blocks/tempt/"); ok {
			key = "tmp/" + rest
		} else if strings.HasPrefix(key, "blocks/quarantine/") {
			key = strings.TrimPrefix(key, "blocks/")
		}
		put(key, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
