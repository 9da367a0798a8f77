package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
)

// A survey reads all stores and keeps nothing of them but what is wrong.
type survey struct {
	*planner
	roots map[string]string // by DIDs: what account.sqlite has as their roots
	revs  map[string]string // by DIDs: what was announced last
	total figures
}

// stores reads the stores of all accounts, as they are read to be written.
func (p *planner) stores(ctx context.Context) error {
	s := &survey{planner: p, roots: make(map[string]string)}
	var err error
	if s.revs, err = p.Source.LastRevs(ctx); err != nil && !p.damaged(err) {
		return err
	}
	for row, err := range p.Source.RepoRoots(ctx) {
		if err != nil {
			return err
		}
		s.roots[row.DID] = row.CID
	}
	of := make(map[syntax.DID]planned, len(p.accounts))
	var dids []syntax.DID
	for _, one := range p.accounts {
		if !one.broken {
			of[one.did] = one
			dids = append(dids, one.did)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := int64(0)
	for reading := range p.read(ctx, dids) {
		if err := s.take(ctx, <-reading, of); err != nil {
			return err
		}
		done++
		p.progress("repositories", done, int64(len(dids)))
	}
	s.count()
	return ctx.Err()
}

// take looks at one store that was read.
func (s *survey) take(ctx context.Context, read readStore, of map[syntax.DID]planned) error {
	lost := 0
	if errors.Is(read.err, errLarge) {
		read.err = s.withStore(ctx, read.did, func(store *reference.Store) (err error) {
			read.repo, err = readLarge(ctx, store, read.did, func(some *batch) error {
				n, err := s.lost(read.did, some.blobs)
				lost += n
				return err
			})
			return err
		})
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if read.err != nil {
		s.found(storeFinding(read.did, read.err))
		return nil
	}
	n, err := s.lost(read.did, read.repo.rows.blobs)
	if err != nil {
		return err
	}
	if lost += n; lost > 0 {
		s.found(Finding{Name: "blob-missing", DID: read.did,
			Text: fmt.Sprintf("%d files of %d blobs are missing", lost, read.repo.figures.Blobs)})
	}
	for _, f := range read.repo.findings {
		s.found(f)
	}
	s.total.add(read.repo.figures)
	return s.compare(of[read.did], read.repo)
}

// compare compares a repository with what the two databases say about it. Of one that was
// moved in and not written to since, whose commit is still that of its old server,
// account.sqlite never had the root.
func (s *survey) compare(one planned, r *repository) error {
	did := one.did.String()
	commit, err := repo.ParseCommit(r.row.CommitBlock)
	if err != nil {
		return err
	}
	if root := dagcbor.CID(r.row.CommitCID).String(); s.roots[did] != root && commit.Rev.String() == r.row.Rev {
		s.found(Finding{Name: "root-lags", DID: one.did,
			Text: fmt.Sprintf("account.sqlite has the root %q, and the store has %s, which counts", s.roots[did], root)})
	}
	if rev := s.revs[did]; one.active && rev != "" && rev < r.row.Rev {
		s.found(Finding{Name: "event-missing", DID: one.did,
			Text: fmt.Sprintf("the repository stands at %s, and relays were told of %s last: they are told by a #sync", r.row.Rev, rev)})
	}
	return nil
}

// lost is how many of an account's blobs have no file where it belongs.
func (s *survey) lost(did syntax.DID, blobs []db.Blob) (n int, err error) {
	if s.Layout.Blobs == "" {
		return 0, nil
	}
	for _, b := range blobs {
		path := filepath.Join(s.Layout.Blobs, did.String(), dagcbor.CID(b.CID).String())
		switch {
		case b.TempKey != "":
			path = filepath.Join(s.Layout.Temporary, did.String(), filepath.Base(b.TempKey))
		case b.TakedownRef != "":
			path = filepath.Join(s.Layout.Quarantine, did.String(), dagcbor.CID(b.CID).String())
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			n++
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *survey) count() {
	f := s.total
	blocks := Count{Of: "blocks", Source: f.Blocks, Dropped: f.Dropped}
	if f.Dropped > 0 {
		blocks.Why = "no root leads to them"
	}
	blobs := Count{Of: "blobs", Source: f.Blobs, Dropped: f.BlobsDropped}
	if f.BlobsDropped > 0 {
		blobs.Why = "they have no name that a blob can have"
	}
	for _, c := range []Count{
		{Of: "repositories", Source: f.Repositories}, blocks, {Of: "records", Source: f.Records}, blobs, {Of: "preferences", Source: f.Preferences},
	} {
		s.Adoption.count(c)
	}
}
