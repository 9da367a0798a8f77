package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Space is how many bytes an adoption takes on the disk: those of the databases and stores
// and a quarter, one copy of the largest store that has a log, and the blobs that are copied.
// Copies that share their bytes with the old files take nothing, which is not known before.
func (a *Adoption) Space(ctx context.Context) (int64, error) {
	var stores, copied int64
	for _, path := range []string{a.Layout.AccountDB, a.Layout.SequencerDB} {
		path, err := filepath.EvalSymlinks(path) // its log is beside the file itself
		if err != nil {
			return 0, err
		}
		for _, suffix := range []string{"", "-wal"} {
			info, err := os.Stat(path + suffix)
			if err == nil {
				stores += info.Size()
			} else if !errors.Is(err, fs.ErrNotExist) {
				return 0, err
			}
		}
	}
	logged := make(map[string]bool)
	err := sizes(ctx, a.Layout.Actors, func(path string, size int64) {
		stores += size
		store, isLog := strings.CutSuffix(path, "-wal")
		if isLog && size > 0 {
			logged[store] = true
		}
	})
	if err != nil {
		return 0, err
	}
	for path := range logged {
		if info, err := os.Stat(path); err == nil {
			copied = max(copied, info.Size())
		}
	}
	blobs, err := a.blobSpace(ctx)
	return stores + stores/4 + copied + blobs, err
}

// blobSpace is what the files of blobs take.
func (a *Adoption) blobSpace(ctx context.Context) (total int64, err error) {
	if a.Layout.Blobs == "" || a.How == LinkBlobs {
		return 0, nil
	}
	folders := []string{a.Layout.Temporary, a.Layout.Quarantine}
	if a.How == CopyBlobs {
		folders = append(folders, a.Layout.Blobs)
	}
	seen := make(map[string]bool) // the others are inside of that of the blobs, or not
	for _, folder := range folders {
		err := sizes(ctx, folder, func(path string, size int64) {
			if !seen[path] {
				total += size
			}
			if folder != a.Layout.Blobs {
				seen[path] = true
			}
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// sizes calls add with all files below a folder, which may be a link and need not be there.
func sizes(ctx context.Context, folder string, add func(path string, size int64)) error {
	err := filepath.WalkDir(folder+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			add(path, info.Size())
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// space compares what the adoption takes with what the disk of its folder has.
func (p *planner) space(ctx context.Context) error {
	need, err := p.Space(ctx)
	if err != nil || p.Folder == "" {
		return err
	}
	free, ok := freeBytes(nearest(p.Folder))
	if ok && free < need {
		p.found(Finding{Name: "space-short", Text: fmt.Sprintf("the adoption takes about %d MB, and the disk of %s has %d MB", need>>20, p.Folder, free>>20)})
	}
	return nil
}

// nearest is the folder that is there, of path and those above it.
func nearest(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || filepath.Dir(path) == path {
			return path
		}
		path = filepath.Dir(path)
	}
}
