package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// Disk is a [Store] in folders, those of the reference: ROOT/DID/CID for permanent blobs,
// ROOT/tempt/DID/KEY for temporary ones, ROOT/quarantine/DID/CID for those taken down. Its
// own are ROOT/partial, for copies under way, and ROOT/removed, see [Disk.Over].
//
// A blob becomes permanent by a hard link, or by a copy where the folders are on different
// file systems or theirs has no links: never by a rename.
type Disk struct {
	dirs   [len(areas)]string
	left   string // see [Disk.Over]; empty: nothing was
	bounds Bounds
	under  underWay
	// making is held while a folder is made and synced, and shared while one is
	// looked for: whoever finds a folder may rely on it.
	making sync.RWMutex
	// step, in tests, is told what is about to be done, and fails it.
	step func(step, path string) error
}

// OpenDisk returns the store in the folder root, which is made if need be. Temporary
// blobs are in the folder temporary, or in root/tempt when it is empty.
func OpenDisk(root, temporary string, bounds Bounds) (*Disk, error) {
	if root == "" {
		return nil, errors.New("blob store: no folder")
	}
	if temporary == "" {
		temporary = filepath.Join(root, "tempt")
	}
	d := &Disk{
		dirs: [...]string{
			Permanent:  root,
			Temporary:  temporary,
			Quarantine: filepath.Join(root, "quarantine"),
			Partial:    filepath.Join(root, "partial"),
		},
		bounds: bounds,
		step:   func(string, string) error { return nil },
	}
	for _, dir := range d.dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
		if err := d.syncDir(filepath.Dir(dir)); err != nil {
			return nil, fmt.Errorf("blob store: %w", err)
		}
	}
	return d, nil
}

// FoldersToRead returns the store in some folders, of which each may be empty or not there,
// for reading alone: nothing is made or written.
func FoldersToRead(permanent, temporary, quarantine string) *Disk {
	return &Disk{
		dirs: [...]string{Permanent: permanent, Temporary: temporary, Quarantine: quarantine, Partial: ""},
		step: func(string, string) error { return nil },
	}
}

// path checks a name: whatever it is, the path is one of its area.
func (d *Disk) path(n Name) (string, error) {
	if err := n.check(); err != nil {
		return "", err
	}
	if d.dirs[n.Area] == "" {
		return "", ErrNotFound
	}
	return filepath.Join(d.dirs[n.Area], n.DID.String(), n.Key), nil
}

// Upload implements [Store].
func (d *Disk) Upload(ctx context.Context, did syntax.DID, r io.Reader, limit int64, declared string) (Upload, error) {
	if err := checkDID(did); err != nil {
		return Upload{}, err
	}
	share, err := d.under.start(did, d.bounds)
	if err != nil {
		return Upload{}, err
	}
	defer share.done()
	up := Upload{Key: newKey()}
	err = d.create(TemporaryName(did, up.Key), func(w io.Writer) error {
		cid, size, head, err := receive(ctx, io.MultiWriter(share, w), r, limit)
		up.CID, up.Size, up.Type = cid, size, Type(head, declared)
		return err
	})
	if err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	return up, nil
}

// create makes a file out of what write writes, and both it and its name durable. If
// that cannot be, there is no file.
func (d *Disk) create(name Name, write func(io.Writer) error) (err error) {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := d.folder(name); err != nil {
		return err
	}
	if err := d.step("create", path); err != nil {
		return full(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return full(err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	if err := write(fileWriter{d, f}); err != nil {
		return err
	}
	if err := d.step("sync", path); err != nil {
		return full(err)
	}
	if err := f.Sync(); err != nil {
		return full(err)
	}
	if err := f.Close(); err != nil {
		return full(err)
	}
	return d.syncDir(filepath.Dir(path))
}

// A fileWriter writes a file of a store.
type fileWriter struct {
	d *Disk
	f *os.File
}

func (w fileWriter) Write(p []byte) (int, error) {
	if err := w.d.step("write", w.f.Name()); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

// ReadFrom lets the system copy from another file: where the file system can, both share
// the bytes then.
func (w fileWriter) ReadFrom(r io.Reader) (int64, error) {
	if err := w.d.step("write", w.f.Name()); err != nil {
		return 0, err
	}
	return w.f.ReadFrom(r)
}

// folder makes the folder that a name is in.
func (d *Disk) folder(name Name) error {
	dir := filepath.Join(d.dirs[name.Area], name.DID.String())
	d.making.RLock()
	_, err := os.Lstat(dir)
	d.making.RUnlock()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.making.Lock()
	defer d.making.Unlock()
	if err := d.step("mkdir", dir); err != nil {
		return full(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return full(err)
	}
	return d.syncDir(d.dirs[name.Area])
}

// syncDir makes the names in a folder durable.
func (d *Disk) syncDir(dir string) error {
	if err := d.step("sync folder", dir); err != nil {
		return full(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return full(f.Sync())
}

// MakePermanent implements [Store].
func (d *Disk) MakePermanent(ctx context.Context, did syntax.DID, key string, cid dagcbor.CID) error {
	if err := d.also(ctx, TemporaryName(did, key), PermanentName(did, cid)); err != nil {
		return fmt.Errorf("make blob %s permanent: %w", cid, err)
	}
	return nil
}

// also lets a file be had under a second name too, which is of permanent bytes. If only
// the second is there, nothing is to be done.
func (d *Disk) also(ctx context.Context, from, to Name) error {
	source, left, err := d.locate(from)
	if err != nil {
		return err
	}
	if left {
		return d.copy(ctx, from, to)
	}
	target, err := d.path(to)
	if err != nil {
		return err
	}
	if err := d.folder(to); err != nil {
		return err
	}
	err = d.step("link", target)
	if err == nil {
		err = os.Link(source, target)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		// The reference writes permanent files in place: one that a crash left half
		// is shorter. A link or a copy of ours is whole.
		var same bool
		if same, err = sameSize(source, target); err == nil && !same {
			return d.copy(ctx, from, to)
		}
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EMLINK), errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		if err = d.copy(ctx, from, to); err == nil {
			return nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFound) {
		_, err = d.Stat(ctx, to)
	}
	if err != nil {
		return full(err)
	}
	// Also when another made the link just now: its name may not be durable yet.
	return d.syncDir(filepath.Dir(target))
}

func sameSize(a, b string) (bool, error) {
	x, err := os.Lstat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Lstat(b)
	if err != nil {
		return false, err
	}
	return x.Size() == y.Size(), nil
}

// copy makes a copy of a file and puts it, whole, in the place of what is under the
// second name.
func (d *Disk) copy(ctx context.Context, from, to Name) error {
	r, _, err := d.Open(ctx, from)
	if err != nil {
		return err
	}
	defer r.Close()
	return d.replace(to, func(w io.Writer) error {
		_, _, _, err := receive(ctx, w, r, 1<<62)
		return err
	}, nil)
}

// replace puts what write writes, once it is whole and durable, in the place of what is
// under a name. Unless it is nil, check looks at the file before.
func (d *Disk) replace(name Name, write func(io.Writer) error, check func(path string) error) error {
	target, err := d.path(name)
	if err != nil {
		return err
	}
	if err := d.folder(name); err != nil {
		return err
	}
	partial := Name{Area: Partial, DID: name.DID, Key: newKey()}
	if err := d.create(partial, write); err != nil {
		return err
	}
	source, err := d.path(partial)
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(source); err != nil {
			os.Remove(source)
			return err
		}
	}
	err = d.step("rename", target)
	if err == nil {
		err = os.Rename(source, target)
	}
	if err != nil {
		os.Remove(source)
		return full(err)
	}
	return d.syncDir(filepath.Dir(target))
}

// Put implements [Store].
func (d *Disk) Put(ctx context.Context, did syntax.DID, cid dagcbor.CID, r io.Reader, size int64) error {
	err := d.replace(PermanentName(did, cid), func(w io.Writer) error {
		return receiveAs(ctx, w, r, cid, size)
	}, nil)
	if err != nil {
		return fmt.Errorf("put blob %s: %w", cid, err)
	}
	return nil
}

// receiveAs writes r to w if it is what it should be: ErrMismatch.
func receiveAs(ctx context.Context, w io.Writer, r io.Reader, cid dagcbor.CID, size int64) error {
	got, n, _, err := receive(ctx, w, r, size)
	if errors.Is(err, ErrTooLarge) || err == nil && (n != size || got != cid) {
		return ErrMismatch
	}
	return err
}

// Open implements [Store]. What it gives is an [*os.File], so that it can be sent
// without going through the process.
func (d *Disk) Open(_ context.Context, name Name) (io.ReadCloser, File, error) {
	path, _, err := d.locate(name)
	if err != nil {
		return nil, File{}, err
	}
	// A link is no blob, wherever it leads, and no reader waits for the other end of a pipe.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, File{}, notFound(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		f.Close()
		return nil, File{}, err
	}
	return f, File{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

// Stat implements [Store].
func (d *Disk) Stat(_ context.Context, name Name) (File, error) {
	path, _, err := d.locate(name)
	if err != nil {
		return File{}, err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return File{}, notFound(err)
	}
	if !info.Mode().IsRegular() {
		return File{}, ErrNotFound
	}
	return File{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return err
}

// Quarantine implements [Store].
func (d *Disk) Quarantine(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	if err := d.move(ctx, PermanentName(did, cid), QuarantineName(did, cid)); err != nil {
		return fmt.Errorf("quarantine blob %s: %w", cid, err)
	}
	return nil
}

// Restore implements [Store].
func (d *Disk) Restore(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	if err := d.move(ctx, QuarantineName(did, cid), PermanentName(did, cid)); err != nil {
		return fmt.Errorf("restore blob %s: %w", cid, err)
	}
	return nil
}

func (d *Disk) move(ctx context.Context, from, to Name) error {
	if err := d.also(ctx, from, to); err != nil {
		return err
	}
	return d.Remove(ctx, from)
}

// Remove implements [Store].
func (d *Disk) Remove(_ context.Context, name Name) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := d.forget(name); err != nil {
		return err
	}
	if err := d.step("remove", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveAccount implements [Store].
func (d *Disk) RemoveAccount(_ context.Context, did syntax.DID) error {
	if err := checkDID(did); err != nil {
		return err
	}
	if err := d.forgetAccount(did); err != nil {
		return err
	}
	for _, dir := range d.dirs {
		dir = filepath.Join(dir, did.String())
		if err := d.step("remove", dir); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// Files implements [Store]. What was left to the store, see [Disk.Over], is not among them.
func (d *Disk) Files(ctx context.Context, did syntax.DID) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for area, dir := range d.dirs {
			if dir == "" {
				continue
			}
			accounts := entries(ctx, dir)
			if did != "" {
				accounts = func(yield func(string, error) bool) { yield(did.String(), nil) }
			}
			for account, err := range accounts {
				if err != nil {
					yield(File{}, err)
					return
				}
				name := Name{Area: Area(area), DID: syntax.DID(account)}
				if checkDID(name.DID) != nil {
					continue
				}
				for key, err := range entries(ctx, filepath.Join(dir, account)) {
					if err != nil {
						yield(File{}, err)
						return
					}
					name.Key = key
					switch f, err := d.Stat(ctx, name); {
					case errors.Is(err, ErrNotFound), errors.Is(err, ErrName):
					case !yield(f, err) || err != nil:
						return
					}
				}
			}
		}
	}
}

// entries gives the names in a folder, some at a time; of none when it is none.
func entries(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return
		}
		if err != nil {
			yield("", err)
			return
		}
		defer f.Close()
		for {
			names, err := f.Readdirnames(500)
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield("", err)
				return
			}
		}
	}
}
