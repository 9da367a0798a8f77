package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/errgroup"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/store"
)

const (
	// blobWorkers is how many files are made at a time: most of the time goes into waiting
	// for the disk.
	blobWorkers = 8
	// blobPage is how many rows are read at a time, and blobsAtOnce how many of an account
	// one worker takes.
	blobPage, blobsAtOnce = 1000, 50
)

// blobs takes the files of the blobs that have rows, whole ones alone, and skips what is
// there. Those that are missing are findings, one for each account, as is how many files
// have no row. Where both servers use one bucket nothing is to be done: the checks read it.
func (a *Adoption) blobs(ctx context.Context) error {
	if a.Blobs == nil {
		return nil
	}
	from := a.filesOfSource()
	take := a.Blobs.TakeCopies
	switch a.How {
	case LinkBlobs:
		take = a.Blobs.Take
	case LeaveBlobs: // the store is over the folder, and has what is there
		if err := a.Blobs.Over(a.Layout.Blobs); err != nil {
			return err
		}
	}
	totals, err := a.Target.Totals(ctx)
	if err != nil {
		return err
	}
	a.lost = newLostBlobs()
	var after db.StoredBlob
	for done := int64(0); ; {
		page, err := a.Target.StoredBlobs(ctx, after, blobPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1]
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(blobWorkers)
		for did, wants := range wanted(page) {
			if err := a.inside(did); errors.Is(err, errOutside) {
				a.found(Finding{Name: "link-outside", DID: did, Grave: true, Text: err.Error()})
				return fmt.Errorf("%w: %w", ErrRefused, err)
			} else if err != nil {
				return err
			}
			g.Go(func() error {
				missing, err := take(ctx, from, did, wants)
				a.lost.add(did, missing)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		done += int64(len(page))
		a.progress("blobs", done, totals.Blobs)
	}
	for _, f := range a.lost.findings() {
		if !a.told(f.Name, f.DID) { // by the plan
			a.found(f)
		}
	}
	return a.spareFiles(ctx, from)
}

var errOutside = errors.New("folder of an account leads elsewhere")

// inside returns errOutside when the folder of an account is a link to somewhere else than
// below the one of all accounts, which may be a link itself.
func (a *Adoption) inside(did syntax.DID) error {
	for _, root := range []string{a.Layout.Blobs, a.Layout.Temporary, a.Layout.Quarantine} {
		folder := filepath.Join(root, did.String())
		info, err := os.Lstat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		real, err := filepath.EvalSymlinks(folder)
		if err != nil {
			return err
		}
		if root, err = filepath.EvalSymlinks(root); err != nil {
			return err
		}
		if !strings.HasPrefix(real, root+string(filepath.Separator)) {
			return fmt.Errorf("%w: %s is %s", errOutside, folder, real)
		}
	}
	return nil
}

// filesOfSource are the folders of the source.
func (a *Adoption) filesOfSource() *blob.Disk {
	return blob.FoldersToRead(a.Layout.Blobs, a.Layout.Temporary, a.Layout.Quarantine)
}

// wanted gives the blobs of a page, some of one account at a time.
func wanted(page []db.StoredBlob) func(yield func(syntax.DID, []blob.Want) bool) {
	return func(yield func(syntax.DID, []blob.Want) bool) {
		var some []blob.Want
		for i, row := range page {
			some = append(some, blob.Want{CID: store.CID(row.CID), Size: row.Size, Key: row.TempKey})
			if last := i == len(page)-1; last || len(some) == blobsAtOnce || page[i+1].DID != row.DID {
				if !yield(row.DID, some) {
					return
				}
				some = nil
			}
		}
	}
}

// lostBlobs are those that have a row and no file.
type lostBlobs struct {
	mu    sync.Mutex
	of    map[syntax.DID]*lostOf
	order []syntax.DID
}

func newLostBlobs() *lostBlobs { return &lostBlobs{of: make(map[syntax.DID]*lostOf)} }

type lostOf struct {
	count int
	first string
}

func (l *lostBlobs) add(did syntax.DID, missing []blob.Want) {
	if len(missing) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.of[did]
	if of == nil {
		of = &lostOf{first: missing[0].CID.String()}
		l.of[did] = of
		l.order = append(l.order, did)
	}
	of.count += len(missing)
}

// count is how many blobs of an account were lost.
func (l *lostBlobs) count(did syntax.DID) int {
	if l == nil || l.of[did] == nil {
		return 0
	}
	return l.of[did].count
}

func (l *lostBlobs) findings() (all []Finding) {
	for _, did := range l.order {
		of := l.of[did]
		all = append(all, Finding{Name: "blob-missing", DID: did, Text: fmt.Sprintf(
			"%d blobs have no file, or one of other bytes, %s first: they are served as little as before, until their owner uploads them again", of.count, of.first)})
	}
	return all
}

// spareFiles counts the files of the source that have no row.
func (a *Adoption) spareFiles(ctx context.Context, from *blob.Disk) error {
	var files []db.BlobFile
	var sizes []int64
	var count, bytes int64
	flush := func() error {
		spare, err := a.Target.SpareBlobFiles(ctx, files)
		for _, n := range spare {
			count++
			bytes += sizes[n]
		}
		files, sizes = files[:0], sizes[:0]
		return err
	}
	for f, err := range from.Files(ctx, "") {
		if err != nil {
			return err
		}
		file, err := blobFile(f.Name)
		if err != nil {
			return err
		}
		files, sizes = append(files, file), append(sizes, f.Size)
		if len(files) == blobPage {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if count > 0 {
		a.found(Finding{Name: "blob-files-spare", Text: fmt.Sprintf("%d files of blobs, %d bytes, are of no account's blobs, and are left behind", count, bytes)})
	}
	return nil
}

func blobFile(n blob.Name) (db.BlobFile, error) {
	if n.Area == blob.Temporary {
		return db.BlobFile{DID: n.DID, TempKey: n.Key}, nil
	}
	cid, err := parseBlobCID(n.Key)
	if err != nil {
		return db.BlobFile{}, errors.Join(fmt.Errorf("file %s", n), err)
	}
	return db.BlobFile{DID: n.DID, CID: cid[:]}, nil
}
