package blob

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// Rows are what the database knows of blobs.
type Rows interface {
	// Expire removes the rows of at most limit blobs that are temporary, that no record
	// names, and that were uploaded before that time. It returns their temporary names.
	Expire(ctx context.Context, before time.Time, limit int) ([]Name, error)
	// Unnamed returns those of names that are of no row: a temporary one when no row
	// has its key, any other when its account has no row of its CID, in whatever state.
	Unnamed(ctx context.Context, names []Name) ([]Name, error)
	// Claim is given where the account has no row of this CID. Until Release, no row
	// of it can be made: an upload of the same bytes waits or is told to come again.
	// A claim that nobody releases lapses, later than any request to the store ends.
	Claim(ctx context.Context, did syntax.DID, cid dagcbor.CID) (bool, error)
	Release(ctx context.Context, did syntax.DID, cid dagcbor.CID) error
}

// A Cleaner removes the files that nobody needs any more. It may run on several nodes at
// once.
type Cleaner struct {
	Store Store
	Rows  Rows
	Now   func() time.Time
	// TemporaryFor is how long an upload waits for a record; 0 is a day.
	TemporaryFor time.Duration
	// Grace is how old a file without a row must be to be spare; 0 is an hour. Within it
	// an upload has its row, a copy has its last byte, and what a backup is restored
	// from has both.
	Grace time.Duration
	// Known is zero, or until when Rows are all there were: files from after it that have no
	// row are another's, and stay.
	Known time.Time
}

// A Report is what a run of a cleaner removed.
type Report struct {
	Expired int   // uploads that no record came to name
	Spare   int   // files without a row
	Bytes   int64 // of those
}

// batch is how many names are asked about at a time.
const batch = 500

// Run removes temporary blobs that no record came to name, rows and files, and all files
// without a row but those from after Known. It goes on after an error, and returns the first
// few.
func (c *Cleaner) Run(ctx context.Context) (Report, error) {
	var report Report
	var failed []error
	note := func(err error) {
		if err != nil && len(failed) < 10 {
			failed = append(failed, err)
		}
	}
	note(c.expire(ctx, &report))
	until := c.Now()
	if !c.Known.IsZero() && c.Known.Before(until) {
		until = c.Known
	}
	old := until.Add(-or(c.Grace, time.Hour))
	sizes := make(map[Name]int64, batch)
	flush := func() {
		note(c.removeSpare(ctx, sizes, &report))
		clear(sizes)
	}
	for f, err := range c.Store.Files(ctx, "") {
		if err != nil {
			note(fmt.Errorf("list blobs: %w", err))
			break
		}
		if !f.Modified.Before(old) {
			continue
		}
		if sizes[f.Name] = f.Size; len(sizes) == batch {
			flush()
		}
	}
	flush()
	return report, errors.Join(failed...)
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// expire removes uploads that waited too long: rows first.
func (c *Cleaner) expire(ctx context.Context, report *Report) error {
	before := c.Now().Add(-or(c.TemporaryFor, 24*time.Hour))
	for {
		names, err := c.Rows.Expire(ctx, before, batch)
		if err != nil {
			return fmt.Errorf("expire temporary blobs: %w", err)
		}
		for _, name := range names {
			// A file that stays is one without a row from now on.
			if rerr := c.Store.Remove(ctx, name); rerr != nil {
				err = errors.Join(err, fmt.Errorf("remove %s: %w", name, rerr))
				continue
			}
			report.Expired++
		}
		if err != nil || len(names) < batch {
			return err
		}
	}
}

// removeSpare removes those of some files that have no row.
func (c *Cleaner) removeSpare(ctx context.Context, sizes map[Name]int64, report *Report) error {
	var names, spare []Name
	for name := range sizes {
		if name.Area == Partial {
			spare = append(spare, name)
		} else {
			names = append(names, name)
		}
	}
	var failed error
	if len(names) > 0 {
		unnamed, err := c.Rows.Unnamed(ctx, names)
		if err != nil {
			failed = fmt.Errorf("ask for rows of blobs: %w", err)
		}
		spare = append(spare, unnamed...)
	}
	for _, name := range spare {
		removed := true
		var err error
		if name.Area == Permanent || name.Area == Quarantine {
			var cid dagcbor.CID
			if cid, err = dagcbor.ParseCID(name.Key); err == nil {
				removed, err = c.discard(ctx, name.DID, cid)
			}
		} else {
			err = c.Store.Remove(ctx, name)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove %s: %w", name, err))
		} else if removed {
			report.Spare++
			report.Bytes += sizes[name]
		}
	}
	return failed
}

// Discard removes the files of blobs of an account that have lost their rows, after the
// COMMIT that took them. Those that have a row, perhaps a new one, stay. After an error
// the files are left to Run.
func (c *Cleaner) Discard(ctx context.Context, did syntax.DID, cids ...dagcbor.CID) error {
	var failed []error
	for _, cid := range cids {
		if _, err := c.discard(ctx, did, cid); err != nil {
			failed = append(failed, fmt.Errorf("discard blob %s: %w", cid, err))
		}
	}
	return errors.Join(failed...)
}

// discard removes the permanent and the quarantined file of a blob, under a claim.
func (c *Cleaner) discard(ctx context.Context, did syntax.DID, cid dagcbor.CID) (bool, error) {
	ok, err := c.Rows.Claim(ctx, did, cid)
	if err != nil || !ok {
		return false, err
	}
	// After an error the claim stays, until it lapses: a store that did not answer may
	// still carry out what it was asked for.
	if err := c.Store.Remove(ctx, PermanentName(did, cid)); err != nil {
		return false, err
	}
	if err := c.Store.Remove(ctx, QuarantineName(did, cid)); err != nil {
		return false, err
	}
	return true, c.Rows.Release(context.WithoutCancel(ctx), did, cid)
}
