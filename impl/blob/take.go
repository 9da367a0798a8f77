package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// A Want is a blob of an account that is to be had, see [Disk.Take].
type Want struct {
	CID  dagcbor.CID
	Size int64  // in bytes
	Key  string // of the temporary file, while there is no permanent one; else empty
}

// Take lets d have blobs of an account that another store on disk has: as a second name
// of the same file where both are on one file system, since the bytes of a blob never
// change, and else as a copy, which is hashed. What d has it keeps. A blob is taken from
// wherever it is, to the same area, since it may be on its way from one to another. Take
// returns those of which the other store has no file of that size.
func (d *Disk) Take(ctx context.Context, from *Disk, did syntax.DID, wants []Want) (missing []Want, err error) {
	return d.take(ctx, from, did, wants, d.takeFile)
}

// TakeCopies is Take for files that somebody else may change: they are copied. A copy
// shares its bytes with the file where the file system can have that.
func (d *Disk) TakeCopies(ctx context.Context, from *Disk, did syntax.DID, wants []Want) (missing []Want, err error) {
	return d.take(ctx, from, did, wants, d.takeCopyOf)
}

// A taker takes one file, if it is there, and reports whether d has it then. It notes the
// folder that it wrote to, unless that is synced.
type taker func(ctx context.Context, from *Disk, name Name, w Want, written map[string]bool) (bool, error)

func (d *Disk) take(ctx context.Context, from *Disk, did syntax.DID, wants []Want, taker taker) (missing []Want, err error) {
	if err := checkDID(did); err != nil {
		return nil, err
	}
	written := make(map[string]bool) // folders
	for _, w := range wants {
		names := []Name{PermanentName(did, w.CID), QuarantineName(did, w.CID)}
		if w.Key != "" {
			names = append([]Name{TemporaryName(did, w.Key)}, names...)
		}
		found := false
		for _, name := range names {
			if found, err = taker(ctx, from, name, w, written); err != nil {
				return nil, fmt.Errorf("take blob %s of %s: %w", w.CID, did, err)
			}
			if found {
				break
			}
		}
		if !found {
			missing = append(missing, w)
		}
	}
	for dir := range written {
		if err := d.syncDir(dir); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// wanting reports whether d lacks a file that the other store has, or has it.
func (d *Disk) wanting(ctx context.Context, from *Disk, name Name, w Want) (wanting, has bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, false, err
	}
	if there, err := d.Stat(ctx, name); err == nil {
		return false, there.Size == w.Size, nil
	} else if !errors.Is(err, ErrNotFound) {
		return false, false, err
	}
	there, err := from.Stat(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, false, nil
	}
	return err == nil && there.Size == w.Size, false, err
}

// takeFile is a taker that lets d have a second name of the file, if that can be.
func (d *Disk) takeFile(ctx context.Context, from *Disk, name Name, w Want, written map[string]bool) (bool, error) {
	wanting, has, err := d.wanting(ctx, from, name, w)
	if err != nil || !wanting {
		return has, err
	}
	source, left, err := from.locate(name)
	if err != nil {
		return false, err
	}
	if left {
		return d.takeCopy(ctx, from, name, w)
	}
	target, err := d.path(name)
	if err != nil {
		return false, err
	}
	if err := d.folder(name); err != nil {
		return false, err
	}
	if err = d.step("link", target); err == nil {
		err = os.Link(source, target)
	}
	switch {
	case err == nil:
		written[filepath.Dir(target)] = true
		return true, nil
	case errors.Is(err, fs.ErrNotExist): // just now
		return false, nil
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EMLINK), errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission):
		return d.takeCopy(ctx, from, name, w)
	}
	return false, full(err)
}

// takeCopyOf is a taker that makes a copy.
func (d *Disk) takeCopyOf(ctx context.Context, from *Disk, name Name, w Want, _ map[string]bool) (bool, error) {
	wanting, has, err := d.wanting(ctx, from, name, w)
	if err != nil || !wanting {
		return has, err
	}
	return d.takeCopy(ctx, from, name, w)
}

// takeCopy copies a file, and reports whether it was there and is what it should be.
func (d *Disk) takeCopy(ctx context.Context, from *Disk, name Name, w Want) (bool, error) {
	r, _, err := from.Open(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	err = d.replace(name, func(to io.Writer) error { return pour(ctx, to, r) }, func(path string) error {
		return sameBytes(path, w)
	})
	if errors.Is(err, ErrMismatch) {
		return false, nil
	}
	return err == nil, full(err)
}

// pour copies r to w, and looks at ctx now and then.
func pour(ctx context.Context, w io.Writer, r io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(w, r, 64<<20); err == io.EOF {
			return nil
		} else if err != nil {
			return full(err)
		}
	}
}

// sameBytes returns ErrMismatch unless a file is the blob that is wanted.
func sameBytes(path string, w Want) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if cid, size, err := Sum(f); err != nil {
		return err
	} else if cid != w.CID || size != w.Size {
		return ErrMismatch
	}
	return nil
}
