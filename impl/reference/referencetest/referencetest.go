// Package referencetest has data directories that a reference PDS 0.5.35 made, as
// pds.adopt.test, for tests to take over.
package referencetest

import (
	"archive/tar"
	"compress/gzip"
	"embed"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

//go:embed testdata
var files embed.FS

// Stopped is the directory after a stop: twelve accounts in every state, and one that was
// deleted. Crashed is the same after a kill: with logs of databases, a store without an
// account, an account without a store, and a root that lags. Both have the secrets in
// pds.env, and name their files under /pds.
const (
	Stopped = "dir"
	Crashed = "crashed"
)

// Unpack writes a directory to a folder of the test's and returns its path.
func Unpack(t testing.TB, name string) string {
	t.Helper()
	folder := t.TempDir()
	if err := UnpackTo(folder, name); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "pds")
}

// UnpackTo writes a directory to the folder "pds" of another one.
func UnpackTo(folder, name string) error {
	f, err := files.Open("testdata/" + name + ".tar.gz")
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		to := filepath.Join(folder, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(to, 0o700); err != nil {
				return err
			}
			continue
		}
		if err := unpackFile(to, h, r); err != nil {
			return err
		}
	}
}

func unpackFile(to string, h *tar.Header, r io.Reader) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, h.FileInfo().Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Chtimes(to, h.ModTime, h.ModTime)
}

// Expected is expected.json of the stopped directory, or crashed.json, which has where the
// other differs.
func Expected(t testing.TB, name string) []byte {
	t.Helper()
	if name == Stopped {
		name = "expected"
	}
	b, err := files.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
