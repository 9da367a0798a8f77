package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// forgotten is the name of the file that says of an account that nothing was left of it.
const forgotten = "all"

// Over lets d have the permanent blobs in a folder that another server has left, LEFT/DID/CID,
// which is read, and never written to: a blob that d has not it has from there. One that is
// removed is removed for good: d notes that it is, in ROOT/removed/DID/CID. Files gives none
// of them. It is called before the first use of d, and returns an error when the folder is
// not there.
func (d *Disk) Over(left string) error {
	info, err := os.Stat(left)
	if err == nil && !info.IsDir() {
		err = errors.New("not a folder")
	}
	if err != nil {
		return fmt.Errorf("blobs that were left in %s: %w", left, err)
	}
	d.left = left
	if err := os.MkdirAll(d.removed(), 0o700); err != nil {
		return fmt.Errorf("blob store: %w", err)
	}
	return d.syncDir(d.dirs[Permanent])
}

func (d *Disk) removed() string { return filepath.Join(d.dirs[Permanent], "removed") }

// locate returns where the file of a name is, or would be, and whether that is in the folder
// that was left.
func (d *Disk) locate(n Name) (path string, left bool, err error) {
	if path, err = d.path(n); err != nil || n.Area != Permanent || d.left == "" {
		return path, false, err
	}
	if is, err := there(path); err != nil || is {
		return path, false, err
	}
	in := filepath.Join(d.left, n.DID.String(), n.Key)
	if is, err := there(in); err != nil || !is {
		return path, false, err
	}
	for _, key := range []string{n.Key, forgotten} {
		if is, err := there(filepath.Join(d.removed(), n.DID.String(), key)); err != nil || is {
			return path, false, err
		}
	}
	return in, true, nil
}

func there(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// forget notes that a file that was left is removed, so that it is not had again when that
// in the place of it goes.
func (d *Disk) forget(n Name) error {
	if d.left == "" || n.Area != Permanent {
		return nil
	}
	if is, err := there(filepath.Join(d.left, n.DID.String(), n.Key)); err != nil || !is {
		return err
	}
	return d.note(n.DID, n.Key)
}

// forgetAccount is forget for all files of an account.
func (d *Disk) forgetAccount(did syntax.DID) error {
	if d.left == "" {
		return nil
	}
	if is, err := there(filepath.Join(d.left, did.String())); err != nil || !is {
		return err
	}
	return d.note(did, forgotten)
}

// note makes an empty file that outlives a power cut.
func (d *Disk) note(did syntax.DID, key string) error {
	dir := filepath.Join(d.removed(), did.String())
	path := filepath.Join(dir, key)
	if is, err := there(path); err != nil || is {
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
	if err := d.syncDir(d.removed()); err != nil {
		return err
	}
	if err := d.step("create", path); err != nil {
		return full(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return full(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return full(err)
	}
	return d.syncDir(dir)
}
