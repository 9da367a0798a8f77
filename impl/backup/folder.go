package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// partialName is the folder of files that are being written.
const partialName = "partial"

// Folder is a [Store] in a folder, for its owner alone.
type Folder struct{ root string }

// OpenFolder returns the store in a folder. It makes nothing yet: see [Folder.Lock].
func OpenFolder(root string) (*Folder, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return &Folder{root}, nil
}

func (f *Folder) String() string { return f.root }

// Check implements [Store].
func (f *Folder) Check(context.Context) error {
	info, err := os.Stat(f.root)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: %w", f.root, syscall.ENOTDIR)
	}
	return err
}

// Lock implements [Store]. The folder is made; one with other things in it is refused.
func (f *Folder) Lock(ctx context.Context) (*Hold, error) {
	if err := f.make(); err != nil {
		return nil, fmt.Errorf("make folder of backups: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(f.root, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w to %s", ErrBusy, f.root)
		}
		return nil, err
	}
	if err := f.clear(); err != nil {
		return nil, errors.Join(fmt.Errorf("clear away what was not finished: %w", err), lock.Close())
	}
	// The kernel gives the lock back with the process, however that ends.
	return &Hold{Context: ctx, Still: func(context.Context) error { return nil }, Release: lock.Close}, nil
}

func (f *Folder) make() error {
	entries, err := os.ReadDir(f.root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(f.root, 0o700); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(f.root))
	case err != nil:
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "lock", "snapshots", "blobs", partialName, "lost+found":
		default:
			return fmt.Errorf("%s has something else in it, %q: name a new folder", f.root, e.Name())
		}
	}
	// One that somebody made may be open to others.
	info, err := os.Stat(f.root)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(f.root, 0o700)
	}
	return err
}

func (f *Folder) clear() error {
	partial := filepath.Join(f.root, partialName)
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	return os.Mkdir(partial, 0o700)
}

func (f *Folder) path(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", fmt.Errorf("%q: %w", printable(name), err)
	}
	return filepath.Join(f.root, filepath.FromSlash(name)), nil
}

// Put implements [Store].
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	draft := filepath.Join(f.root, partialName, rand.Text())
	file, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeFile(draft))
		}
	}()
	n, err := io.Copy(file, contextReader{ctx, r})
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("%d bytes in the place of %d", n, size)
	}
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := f.folder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// folder makes a folder of the store, in a way that survives a power cut.
func (f *Folder) folder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if dir != f.root {
		if err := f.folder(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(dir))
}

// Open implements [Store].
func (f *Folder) Open(_ context.Context, name string) (io.ReadCloser, int64, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, 0, err
	}
	// No reader follows a link, or waits for the other end of a pipe.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// Remove implements [Store].
func (f *Folder) Remove(_ context.Context, name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	if err := removeFile(path); err != nil {
		return err
	}
	// The last one takes its folder along.
	if err := os.Remove(filepath.Dir(path)); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List implements [Store].
func (f *Folder) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		top := filepath.Join(f.root, filepath.FromSlash(prefix[:strings.LastIndex(prefix, "/")+1]))
		err := filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(f.root, path)
			if err != nil {
				return err
			}
			name := filepath.ToSlash(rel)
			if !strings.HasPrefix(name, prefix) || checkName(name) != nil {
				return nil
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if !yield(Object{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Object{}, err)
		}
	}
}

func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A contextReader reads until its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
