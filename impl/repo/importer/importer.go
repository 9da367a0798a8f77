// Package importer brings repositories that were made elsewhere into the database.
//
// The archive, of any size, is spooled to a file and checked whole before anything is
// written: its tree has to be the one tree of its keys, and every record a record. Then the
// tree is compared with what is stored, in the order in which both are at hand, and what
// differs is written. What is the same keeps its rows. Nodes that the archive lacks may be
// stored, as may records, where they are to stay what they are.
//
// A few differences are written in one transaction. Many would keep all other writers
// waiting, so they are written in batches, which the last one makes the repository: before
// it the rows are neither the old repository nor the new one, and a mark says so, see
// [db.Tx.BeginImport]. Only an account that is deactivated is imported to like that, and it
// is not activated while the mark is there. What a crash leaves is mended by importing
// again.
package importer

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

var (
	// ErrRoots says that an archive has not one root.
	ErrRoots = errors.New("archive has not one root")
	// ErrNoCommit says that an archive does not have the block of its root.
	ErrNoCommit = errors.New("commit is not in the archive")
	// ErrFutureRev says that the rev of a commit is ahead of the time.
	ErrFutureRev = errors.New("rev is in the future")
	// ErrTooMany says that an archive changes more than can be changed of an active account.
	ErrTooMany = errors.New("too many changes for an active account")
	// ErrBusy says that there are as many imports under way as there may be.
	ErrBusy = errors.New("too many imports")
	// ErrQuota says that a repository has more records than an account may have.
	ErrQuota = errors.New("too many records")
)

// A RecordError says that a block of an archive is not a record, or not there.
type RecordError struct {
	Path string
	Err  error
}

func (e *RecordError) Error() string { return fmt.Sprintf("record %s: %v", e.Path, e.Err) }

// Unwrap returns why.
func (e *RecordError) Unwrap() error { return e.Err }

// ahead is how much later than the time the rev of an import may be. The next commit is
// later still, and readers of events drop what is more than five minutes ahead.
const ahead = time.Minute

const (
	// atOnce and batch are the defaults of Bounds; the bytes go with them. While a batch is
	// written nobody else writes to SQLite: that is some ten milliseconds.
	atOnce, bytesAtOnce = 10_000, 16 << 20
	batch, batchBytes   = 1500, 1536 << 10
	// maxMoved is how many bytes of stored nodes, which an archive lacks and which stand
	// elsewhere in its tree, are held.
	maxMoved = 16 << 20
)

// An Importer imports repositories. It is safe for concurrent use.
type Importer struct {
	DB *db.DB
	// Dir is where archives are spooled, a folder that is there.
	Dir string
	Now func() time.Time
	// Finish ends an import in the transaction that ends it, which has locked the
	// repository and changed its rows. It says what of them is to be the repository.
	Finish func(ctx context.Context, tx *db.Tx, did syntax.DID, now time.Time, i Imported) error
	// MaxRecords returns how many records a repository may have at the moment; 0, or where it
	// is nil: any number.
	MaxRecords func() int
	Bounds     Bounds

	queue queue
}

// Imported is what became of an archive.
type Imported struct {
	Commit car.Block // as it was received
	Parsed *repo.Commit
	Root   tree.Root
	// Rev is that of the rows that were written, greater than any before.
	Rev            syntax.TID
	Nodes, Records int  // that the tree has
	Changed        bool // whether there were differences
}

// A Condition returns an error where an import must not take place.
type Condition func(ctx context.Context, tx *db.Tx, did syntax.DID, i Imported) error

// Import makes an archive the repository of did, which is there. It reads the archive to
// its end, or to where it is of no use. Its commit may be of anybody: some begin anew with
// the records of a DID that they have lost.
//
// It takes place on conditions, of which each is asked, with the account locked, before anything is
// changed, and again at the end. Their errors are returned.
//
// It returns the rows of blobs that no record mentions any more, which are removed: their
// files may go.
//
// Errors that the archive is to blame for are ErrRoots, ErrNoCommit, ErrFutureRev,
// ErrTooMany, ErrQuota, *RecordError, those of [car.NewSpool], [repo.ParseCommit] and
// [tree.Walk]. Others are ErrBusy; db.ErrStale when somebody else
// has written to the repository meanwhile, again and again, or imports to it, too; and
// db.ErrNotFound.
func (i *Importer) Import(ctx context.Context, did syntax.DID, archive io.Reader, on ...Condition) (lost []db.Blob, err error) {
	leave, err := i.queue.enter(ctx, i.Bounds, did)
	if err != nil {
		return nil, err
	}
	defer leave()
	spool, err := car.NewSpool(ctx, i.queue.count(i.Bounds, did, archive), i.Dir)
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	// What the client waits for no longer is done nevertheless: half of it helps nobody.
	ctx = context.WithoutCancel(ctx)
	done := i.queue.work()
	defer done()
	commit, parsed, err := i.commit(spool)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		lost, err := i.attempt(ctx, did, spool, commit, parsed, on)
		if attempt == 3 || !errors.Is(err, db.ErrStale) {
			return lost, err
		}
	}
}

// commit reads the root of an archive.
func (i *Importer) commit(spool *car.Spool) (car.Block, *repo.Commit, error) {
	if len(spool.Roots) != 1 {
		return car.Block{}, nil, ErrRoots
	}
	block := car.Block{CID: spool.Roots[0]}
	var err error
	if block.Data, err = spool.Get(block.CID); errors.Is(err, car.ErrNotFound) {
		return car.Block{}, nil, ErrNoCommit
	}
	if err != nil {
		return car.Block{}, nil, err
	}
	parsed, err := repo.ParseCommit(block.Data)
	switch {
	case err != nil:
		return car.Block{}, nil, err
	case parsed.Rev > syntax.NewTIDFromTime(i.Now().Add(ahead), 0):
		return car.Block{}, nil, fmt.Errorf("%w: %s", ErrFutureRev, parsed.Rev)
	}
	return block, parsed, nil
}

// attempt imports once. It returns db.ErrStale when the repository was written to.
func (i *Importer) attempt(
	ctx context.Context, did syntax.DID, spool *car.Spool, commit car.Block, parsed *repo.Commit, on []Condition,
) (lost []db.Blob, err error) {
	row, err := i.DB.Repo(ctx, did)
	if err != nil {
		return nil, err
	}
	unfinished, err := i.DB.UnfinishedImport(ctx, did)
	if err != nil {
		return nil, err
	}
	now := i.Now()
	rev, err := repo.NextRev(now, max(syntax.TID(row.Rev), parsed.Rev))
	if err != nil {
		return nil, err
	}
	// First all is looked at; what is written is kept as long as it is little.
	all := &difference{db: i.DB, did: did, spool: spool, row: row, rev: rev, now: now, moved: make(map[dagcbor.CID][]byte)}
	few := new(changes)
	all.emit = func(c change) error {
		if few != nil {
			few.add(c)
			if few.rows > cmp.Or(i.Bounds.AtOnce, atOnce) || few.bytes > bytesAtOnce {
				few = nil
			}
		}
		return nil
	}
	done := Imported{Commit: commit, Parsed: parsed, Rev: rev}
	if done.Root, err = all.walk(ctx, parsed.Data); err != nil {
		return nil, err
	}
	done.Nodes, done.Records, done.Changed = all.nodes, all.records, all.changed
	if i.MaxRecords != nil && i.MaxRecords() > 0 && all.records > i.MaxRecords() && all.records > row.Records {
		return nil, fmt.Errorf("%w: %d", ErrQuota, all.records)
	}
	before := state{row.CommitCID, unfinished, on}
	if few != nil {
		return i.finish(ctx, did, before, now, few, nil, done)
	}
	return i.inBatches(ctx, all, before, done)
}

// inBatches writes the differences that all has found, which are many.
func (i *Importer) inBatches(ctx context.Context, all *difference, before state, done Imported) ([]db.Blob, error) {
	did := all.did
	mark := rand.Text()
	err := i.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if !acct.Deactivated() {
			return ErrTooMany
		}
		if _, err := before.lock(ctx, tx, did); err != nil {
			return err
		}
		if err := before.allows(ctx, tx, did, done); err != nil {
			return err
		}
		return tx.BeginImport(ctx, did, mark)
	})
	if err != nil {
		return nil, err
	}
	before.unfinished = mark
	next, unnamed := new(changes), [][]byte(nil) // blobs
	again := &difference{db: i.DB, did: did, spool: all.spool, row: all.row, rev: all.rev, now: all.now, moved: all.moved, again: true}
	again.emit = func(c change) error {
		next.add(c)
		if next.rows < cmp.Or(i.Bounds.Batch, batch) && next.bytes < batchBytes {
			return nil
		}
		var more [][]byte
		err := i.DB.WriteAlone(ctx, func(tx *db.Tx) error {
			if _, err := before.lock(ctx, tx, did); err != nil {
				return err
			}
			var err error
			more, err = next.write(ctx, tx, did)
			return err
		})
		next, unnamed = new(changes), append(unnamed, more...)
		return err
	}
	if _, err := again.walk(ctx, done.Root.CID); err != nil {
		return nil, err
	}
	return i.finish(ctx, did, before, all.now, next, unnamed, done)
}

// finish writes the last differences and ends the import. Blobs of unnamed have lost
// the records that mentioned them.
func (i *Importer) finish(
	ctx context.Context, did syntax.DID, before state, now time.Time, last *changes, unnamed [][]byte, done Imported,
) (lost []db.Blob, err error) {
	err = i.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		if _, err := before.lock(ctx, tx, did); err != nil {
			return err
		}
		if err := before.allows(ctx, tx, did, done); err != nil {
			return err
		}
		more, err := last.write(ctx, tx, did)
		if err != nil {
			return err
		}
		if err := i.Finish(ctx, tx, did, now, done); err != nil {
			return err
		}
		lost, err = tx.DeleteBlobs(ctx, did, append(unnamed[:len(unnamed):len(unnamed)], more...))
		if err != nil || before.unfinished == "" {
			return err
		}
		return tx.EndImport(ctx, did)
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// A state is what an import finds and what must still be so when it writes.
type state struct {
	commit     []byte
	unfinished string
	on         []Condition
}

// allows returns the error of the first condition that is not met.
func (s state) allows(ctx context.Context, tx *db.Tx, did syntax.DID, i Imported) error {
	for _, met := range s.on {
		if err := met(ctx, tx, did, i); err != nil {
			return err
		}
	}
	return nil
}

// lock locks the repository and returns db.ErrStale if it is in another state.
func (s state) lock(ctx context.Context, tx *db.Tx, did syntax.DID) (*db.Repo, error) {
	row, err := tx.LockRepo(ctx, did)
	if err != nil {
		return nil, err
	}
	unfinished, err := tx.UnfinishedImport(ctx, did)
	if err == nil && (string(row.CommitCID) != string(s.commit) || unfinished != s.unfinished) {
		err = fmt.Errorf("import to %s: %w", did, db.ErrStale)
	}
	return row, err
}
