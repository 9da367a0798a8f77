// Package records writes the records of accounts: into the tree of their repository, into
// its commit and the network's log, in one transaction, or nowhere at all.
//
// Whatever can be done before a repository is locked is. On SQLite, where one writes at a
// time, tree and signature are made outside of the transaction, which then begins by
// looking whether the commit that they follow still is the last; on Postgres, where other
// processes write too, they are made under the lock of the repository's row.
package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob/rows"
	"portico/impl/keyring"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// Max is how many writes one commit may have.
const Max = 200

var (
	// ErrSwap says that something is not as a condition wants it: a *SwapError.
	ErrSwap = errors.New("not as it was")
	// ErrQuota says that an account has as many records as it may.
	ErrQuota = errors.New("account may have no more records")
)

// HeldRecords is how many records an account in quarantine may have.
const HeldRecords = 50

// A SwapError is a condition that did not hold.
type SwapError struct {
	Of string // "Commit" or "Record"
	At string // CID of what there is; empty for nothing
}

// Error is for logs.
func (e *SwapError) Error() string { return fmt.Sprintf("%s was at %q", e.Of, e.At) }

// Is makes it ErrSwap.
func (e *SwapError) Is(target error) bool { return target == ErrSwap }

// An Action is what a write does.
type Action int

// Those of the last two may find that they have nothing to do.
const (
	Create Action = iota // a record that is not there
	Update               // one that is
	Delete               // one that is
	Put                  // one that is there or not; none that is there already as it is
	Remove               // one, if it is there
)

// A Write is what becomes of one record.
type Write struct {
	Action     Action
	Collection syntax.NSID
	Key        syntax.RecordKey
	Record     *record.Record // nil for Delete and Remove
	// Was, unless nil, is the CID that the record must have before; empty: there must be
	// none.
	Was *string
	// Replace deletes before, in the same commit, what else there is in the collection
	// that points where the record points.
	Replace bool
}

// Path is that of the record in the tree.
func (w Write) Path() string { return w.Collection.String() + "/" + w.Key.String() }

// A Result is where a repository stands afterwards.
type Result struct {
	Commit dagcbor.CID
	Rev    syntax.TID
	// Changed says that this is a new commit. Without a change there is none.
	Changed bool
}

// A Writer writes to the repositories of a server. It is safe for concurrent use, and one
// process has one: those who write to the same repository wait for each other in it.
type Writer struct {
	DB    *db.DB
	Keys  *keyring.Ring
	Cache *tree.Cache // of the nodes of all repositories; may be nil
	Blobs *rows.Blobs // nil: there are none
	// Quota returns how many records an account may have at the moment; 0, or where it is nil:
	// any number.
	Quota func() int
	Now   func() time.Time

	turns turns
	heads heads
}

// attempts bounds how often a commit is made again because something else came between.
const attempts = 10

// Write makes one commit of some writes, one after the other, to the repository of did.
// Where swap is not nil, the last commit must have that CID. When there are writes, but
// none of them has anything to do, conditions are not looked at.
//
// It returns db.ErrNotFound when there is no repository or its account is deactivated, a *SwapError, ErrQuota, errors of
// [tree.Tree.Apply] (tree.ErrExists, tree.ErrNotFound, tree.ErrTooWide), repo.ErrTooLarge,
// or a *rows.MentionError.
func (w *Writer) Write(ctx context.Context, did syntax.DID, swap *string, writes ...Write) (*Result, error) {
	return w.turn(ctx, job{did, swap, writes, w.quota(), false})
}

func (w *Writer) quota() int {
	if w.Quota == nil {
		return 0
	}
	return w.Quota()
}

// WriteHeld is Write for an account that is held in quarantine: it may have [HeldRecords],
// and no more bytes than [rows.HeldBytes]; beyond those it returns a *rows.QuotaError.
func (w *Writer) WriteHeld(ctx context.Context, did syntax.DID, swap *string, writes ...Write) (*Result, error) {
	quota := HeldRecords
	if others := w.quota(); others > 0 {
		quota = min(quota, others)
	}
	return w.turn(ctx, job{did, swap, writes, quota, true})
}

// A job is what is to be written.
type job struct {
	did    syntax.DID
	swap   *string
	writes []Write
	quota  int  // of records; 0: any number
	held   bool // the account, in quarantine
}

// turn does a job when it is its turn.
func (w *Writer) turn(ctx context.Context, j job) (*Result, error) {
	leave, err := w.turns.take(ctx, j.did)
	if err != nil {
		return nil, err
	}
	defer leave()
	for attempt := 1; ; attempt++ {
		result, err := w.write(ctx, j)
		if !errors.Is(err, db.ErrStale) || attempt == attempts {
			return result, err
		}
	}
}

func (w *Writer) write(ctx context.Context, j job) (*Result, error) {
	blobs, err := w.prepareBlobs(ctx, j.did, j.writes)
	if err != nil {
		// What else is wrong with the writes comes first.
		if draft, result, wrong := w.draftOutside(ctx, j); draft == nil || wrong != nil {
			return result, wrong
		}
		return nil, err
	}
	var draft *store.Draft
	var result *Result
	if w.DB.Exclusive() {
		if draft, result, err = w.draftOutside(ctx, j); draft == nil || err != nil {
			return result, err
		}
		err = w.DB.Write(ctx, func(tx *db.Tx) error { return w.store(ctx, tx, j, draft, blobs) })
		if err != nil {
			w.heads.drop(j.did)
		} else {
			w.heads.put(j.did, draft.Row())
		}
	} else {
		err = w.DB.Write(ctx, func(tx *db.Tx) (err error) {
			row, key, err := tx.LockRepoAndKey(ctx, j.did, keyring.Repository)
			if err != nil {
				return err
			}
			if draft, result, err = w.draft(ctx, tx, j, row, key); draft == nil || err != nil {
				return err
			}
			return w.store(ctx, tx, j, draft, blobs)
		})
	}
	if err != nil {
		return nil, err
	}
	if draft != nil && blobs != nil {
		blobs.Finish(ctx)
	}
	return result, nil
}

// reader is a *db.DB or a *db.Tx.
type reader interface {
	store.Reader
	RecordsByLink(ctx context.Context, did syntax.DID, collection, link string, limit int) ([]db.Record, error)
	WritingKey(ctx context.Context, did syntax.DID, purpose string) (*db.SigningKey, error)
}

// draftOutside is draft outside of a transaction, after the commit that this process made
// last, if that is known. It returns db.ErrStale when no commit came of it because of what
// came in between: a draft is looked at again when it is stored.
func (w *Writer) draftOutside(ctx context.Context, j job) (*store.Draft, *Result, error) {
	row := w.heads.get(j.did)
	guessed := row != nil
	if !guessed {
		var err error
		if row, err = w.DB.Repo(ctx, j.did); err != nil {
			return nil, nil, err
		}
	}
	draft, result, err := w.draft(ctx, w.DB, j, row, nil)
	if err == nil && (draft != nil || !guessed) {
		return draft, result, nil
	}
	now, lost := w.DB.Repo(ctx, j.did)
	if lost == nil && now.Same(row) {
		return nil, result, err
	}
	w.heads.drop(j.did)
	return nil, nil, errors.Join(db.ErrStale, err)
}

// draft makes the commit, or none when nothing changes. The row of the repository was read
// before all else: whoever gives an account another key makes a commit, too. A key that is
// nil is read.
func (w *Writer) draft(ctx context.Context, r reader, j job, row *db.Repo, sealed *db.SigningKey) (*store.Draft, *Result, error) {
	result := &Result{Commit: store.CID(row.CommitCID), Rev: syntax.TID(row.Rev)}
	steps, err := w.steps(ctx, r, j, row)
	if err != nil || len(steps) == 0 {
		return nil, result, err
	}
	key, err := w.signingKey(ctx, r, j.did, sealed)
	if err != nil {
		return nil, nil, err
	}
	draft, err := store.Prepare(ctx, r, j.did, row, key, w.Now(), w.Cache, steps)
	if draft == nil || err != nil {
		return nil, result, err
	}
	if j.quota > 0 && draft.More > 0 && draft.Records > j.quota {
		return nil, nil, fmt.Errorf("%d records of %s: %w", draft.Records, j.did, ErrQuota)
	}
	return draft, &Result{draft.Event.Commit, draft.Event.Rev, true}, nil
}

func (w *Writer) signingKey(ctx context.Context, r reader, did syntax.DID, row *db.SigningKey) (atcrypto.PrivateKey, error) {
	if row == nil {
		var err error
		if row, err = r.WritingKey(ctx, did, keyring.Repository); err != nil {
			return nil, err
		}
	}
	key, err := w.Keys.SigningKey(row.Purpose, did.String(), row.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open signing key of %s: %w", did, err)
	}
	return key, nil
}

// steps are what writes come to in the tree as it is, once their conditions hold.
func (w *Writer) steps(ctx context.Context, r reader, j job, row *db.Repo) ([]tree.Write, error) {
	stored := store.Tree(r, j.did, row, w.Cache)
	var left []tree.Write
	var wrong error // about a record
	for _, w := range j.writes {
		var was dagcbor.CID
		if w.Was != nil || w.Action >= Put {
			var err error
			if was, err = stored.Find(ctx, w.Path()); err != nil {
				return nil, err
			}
		}
		step, needed := w.step(was)
		if !needed {
			continue
		}
		if at := text(was); wrong == nil && w.Was != nil && *w.Was != at {
			wrong = &SwapError{"Record", at}
		}
		if w.Replace && w.Record.LinkTo != "" {
			others, err := r.RecordsByLink(ctx, j.did, w.Collection.String(), w.Record.LinkTo, Max-len(j.writes))
			if err != nil {
				return nil, err
			}
			for _, other := range others {
				left = append(left, tree.Write{Action: tree.Delete, Path: other.Path})
			}
		}
		left = append(left, step)
	}
	if len(left) == 0 && len(j.writes) > 0 {
		return nil, nil
	}
	if at := store.CID(row.CommitCID).String(); j.swap != nil && *j.swap != at {
		return nil, &SwapError{"Commit", at}
	}
	return left, wrong
}

// step is what the write does when the record has the CID was; zero: there is none.
func (w Write) step(was dagcbor.CID) (step tree.Write, needed bool) {
	exists := was != (dagcbor.CID{})
	step.Path = w.Path()
	if w.Record != nil {
		step.Record = car.Block{CID: w.Record.CID, Data: w.Record.Value}
	}
	switch w.Action {
	case Create:
		step.Action = tree.Create
	case Update:
		step.Action = tree.Update
	case Delete:
		step.Action = tree.Delete
	case Remove:
		step.Action = tree.Delete
		return step, exists
	case Put:
		step.Action = tree.Create
		if exists {
			step.Action = tree.Update
		}
		return step, was != w.Record.CID
	}
	return step, true
}

func text(c dagcbor.CID) string {
	if c == (dagcbor.CID{}) {
		return ""
	}
	return c.String()
}

// store stores the commit and tells the network of it.
func (w *Writer) store(ctx context.Context, tx *db.Tx, j job, d *store.Draft, blobs *rows.Prepared) error {
	if err := d.Store(ctx, tx); err != nil {
		return err
	}
	if err := applyBlobs(ctx, tx, d, blobs, j.writes); err != nil {
		return err
	}
	if j.held && slices.ContainsFunc(j.writes, func(w Write) bool { return w.Record != nil }) {
		if err := rows.HeldRoom(ctx, tx, j.did); err != nil {
			return err
		}
	}
	e := d.Event.Event()
	return tx.AppendEvents(ctx, db.Event{DID: j.did, Kind: e.Kind, Body: e.Body, Cut1: e.Cut1, Cut2: e.Cut2})
}
