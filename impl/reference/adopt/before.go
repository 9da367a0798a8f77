package adopt

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"portico/db/reference"
)

// What a backup of a source has: the database of accounts with its log, the settings, the
// number of the last event, and all private keys in one archive, under the paths that they
// have in the folder of stores.
const (
	keysName    = "keys.tar"
	forName     = "of" // has the fingerprint of the source; written last
	accountName = "account.sqlite"
	lastName    = "last-event"
	envName     = "pds.env"
)

// BackUp copies what of a source cannot be had again, and is small, to a new folder: who
// loses the source and the adoption still has the identities of all accounts. It reads the
// copies again, and opens the database. A backup that is there of the same source stays;
// scratch is a folder for other copies.
//
// Events are not copied, which may be most of a source: they repeat what repositories and
// accounts have. Only that numbers never come again is known nowhere else, so the last one
// is kept.
func BackUp(ctx context.Context, source *reference.Source, l reference.Layout, folder, scratch, fingerprint string) error {
	if of, err := os.ReadFile(filepath.Join(folder, forName)); err == nil && string(of) == fingerprint {
		return nil
	}
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
		return err
	}
	if err := backUpFile(ctx, l.Settings, filepath.Join(folder, envName)); err != nil {
		return fmt.Errorf("back up %s: %w", l.Settings, err)
	}
	if err := backUpDatabase(ctx, l.AccountDB, filepath.Join(folder, accountName)); err != nil {
		return fmt.Errorf("back up %s: %w", l.AccountDB, err)
	}
	last, _, err := source.LastEvent(ctx)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, lastName), fmt.Appendln(nil, last)); err != nil {
		return err
	}
	if err := backUpKeys(ctx, l.Actors, filepath.Join(folder, keysName)); err != nil {
		return fmt.Errorf("back up signing keys: %w", err)
	}
	// Read from a copy of the copy where there is a log: opening would fold that in.
	if err := reference.CheckAccounts(ctx, filepath.Join(folder, accountName), scratch); err != nil {
		return fmt.Errorf("check backup: %w", err)
	}
	return writeFile(filepath.Join(folder, forName), []byte(fingerprint))
}

// backUpDatabase copies a database with its logs, which are beside the file itself where the
// path is a link.
func backUpDatabase(ctx context.Context, from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-journal"} {
		if err := backUpFile(ctx, from+suffix, to+suffix); err != nil {
			return err
		}
	}
	return nil
}

// backUpFile copies a file, if it is there, and compares the copy.
func backUpFile(ctx context.Context, from, to string) error {
	source, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) || from == "" {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	want := sha256.New()
	if err := create(to, func(f *os.File) error {
		_, err := io.Copy(io.MultiWriter(f, want), reader{ctx, source})
		return err
	}); err != nil {
		return err
	}
	return compareFile(ctx, to, want.Sum(nil))
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// create writes a new file that is on the disk once it returns nil.
func create(path string, write func(f *os.File) error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func compareFile(ctx context.Context, path string, want []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	got := sha256.New()
	if _, err := io.Copy(got, reader{ctx, f}); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), want) {
		return fmt.Errorf("%s is not what was written", path)
	}
	return nil
}

// backUpKeys puts the files of keys below a folder into an archive. What a link leads to
// outside of the folder is none: it may be anything that this process can read.
func backUpKeys(ctx context.Context, actors, to string) error {
	root, err := filepath.EvalSymlinks(actors)
	if err != nil {
		return err
	}
	sum := sha256.New()
	err = create(to, func(f *os.File) error {
		w := tar.NewWriter(io.MultiWriter(f, sum))
		for _, pattern := range []string{"*/*/key", "reserved_keys/*"} {
			paths, err := filepath.Glob(filepath.Join(globQuoted(actors), pattern))
			if err != nil {
				return err
			}
			for _, path := range paths {
				if err := ctx.Err(); err != nil {
					return err
				}
				real, err := filepath.EvalSymlinks(path)
				if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasPrefix(real, root+string(filepath.Separator)) {
					continue
				}
				if err != nil {
					return err
				}
				if err := addFile(w, actors, path); err != nil {
					return err
				}
			}
		}
		return w.Close()
	})
	if err != nil {
		return err
	}
	return compareFile(ctx, to, sum.Sum(nil))
}

// maxKey is more than a file has that is a key.
const maxKey = 4096

func addFile(w *tar.Writer, root, path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxKey {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: filepath.ToSlash(name), Mode: 0o600, Size: int64(len(b)), ModTime: info.ModTime()}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// globQuoted is a path as a pattern of [filepath.Glob] that means itself.
func globQuoted(path string) string {
	var b []byte
	for i := range len(path) {
		if bytes.IndexByte([]byte(`*?[\`), path[i]) >= 0 {
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}
