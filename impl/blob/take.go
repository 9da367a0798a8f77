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
			if found, err = d.takeFile(ctx, from, name, w, written); err != nil {
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

// takeFile takes one file, and reports whether d has it now.
func (d *Disk) takeFile(ctx context.Context, from *Disk, name Name, w Want, written map[string]bool) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if there, err := d.Stat(ctx, name); err == nil {
		return there.Size == w.Size, nil
	} else if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if there, err := from.Stat(ctx, name); errors.Is(err, ErrNotFound) || err == nil && there.Size != w.Size {
		return false, nil
	} else if err != nil {
		return false, err
	}
	source, err := from.path(name)
	if err != nil {
		return false, err
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
		err = d.takeCopy(ctx, from, name, w)
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
		return false, nil
	}
	return err == nil, full(err)
}

func (d *Disk) takeCopy(ctx context.Context, from *Disk, name Name, w Want) error {
	r, _, err := from.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	return d.replace(name, func(to io.Writer) error { return receiveAs(ctx, to, r, w.CID, w.Size) })
}
