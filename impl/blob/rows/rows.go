// Package rows keeps the rows of blobs and their files in step: what an upload, a record
// that mentions a blob, a takedown and a deletion do to both, in the order of the rules
// of portico/impl/blob. A row is never without its bytes; files without a row are found
// by a [blob.Cleaner].
//
// A commit mentions blobs in three steps: [Blobs.Prepare] before its transaction,
// [Prepared.Apply] in it, [Prepared.Finish] after COMMIT.
package rows

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

var (
	// ErrNotFound says that an account has no such blob, or none that may be had.
	ErrNotFound = errors.New("no such blob")
	// ErrTakenDown says that a blob which is uploaded is taken down.
	ErrTakenDown = errors.New("blob is taken down")
	// ErrQuota says that an account has as many bytes as it may: a *QuotaError.
	ErrQuota = errors.New("account has no room for the blob")
)

// HeldBytes is how many bytes the blobs of an account in quarantine may have, temporary ones
// too, together with the values of its records.
const HeldBytes = 10_000_000

// A QuotaError is [ErrQuota].
type QuotaError struct {
	Bytes int64 // that the account may have
}

// Error is for logs.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: it may have %d bytes", ErrQuota, e.Bytes)
}

// Is makes it ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// Blobs are those of all accounts: a database and a store. It is safe for concurrent use.
type Blobs struct {
	DB    *db.DB
	Store blob.Store
	// Quota returns how many bytes the blobs of an account may have at the moment, temporary
	// ones too; 0, or where it is nil: any number.
	Quota func() int64
	Now   func() time.Time
	Log   *slog.Logger
	// Known is that of [blob.Cleaner].
	Known time.Time
	// Observe is told of each upload when it is over, with its bytes and what the caller gets. It
	// may be nil.
	Observe func(ctx context.Context, bytes int64, began time.Time, took time.Duration, err error)

	background sync.WaitGroup
}

// Cleaner removes the files that nobody needs any more.
func (b *Blobs) Cleaner() *blob.Cleaner {
	return &blob.Cleaner{Store: b.Store, Rows: cleaned{b}, Now: b.Now, Known: b.Known}
}

// later does what a client need not wait for, and what the cleaner does an hour later if
// it fails.
func (b *Blobs) later(ctx context.Context, what string, do func(ctx context.Context) error) {
	ctx = context.WithoutCancel(ctx)
	b.background.Go(func() {
		if err := do(ctx); err != nil {
			b.Log.WarnContext(ctx, "left to the cleaner of blobs", "what", what, "error", err)
		}
	})
}

// Wait returns when all files that were to be removed after a COMMIT are, or ctx is done.
func (b *Blobs) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		b.background.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Room returns ErrQuota when an account may not have so many bytes more.
func (b *Blobs) Room(ctx context.Context, did syntax.DID, size int64) error {
	return b.room(ctx, b.DB, did, size)
}

// HeldRoom returns ErrQuota when an account that is in quarantine has more by now than it
// may, nil for any other.
func HeldRoom(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	return heldRoom(ctx, tx, did, 0)
}

// sums is a *db.DB or a *db.Tx.
type sums interface {
	BlobSums(ctx context.Context, dids ...syntax.DID) (map[syntax.DID]db.BlobSum, error)
	HeldBytes(ctx context.Context, did syntax.DID) (int64, bool, error)
}

func heldRoom(ctx context.Context, r sums, did syntax.DID, size int64) error {
	bytes, held, err := r.HeldBytes(ctx, did)
	if size > 0 {
		size = max(size, 4096) // as they are counted
	}
	if err == nil && held && bytes+size > HeldBytes {
		err = &QuotaError{HeldBytes}
	}
	return err
}

func (b *Blobs) room(ctx context.Context, r sums, did syntax.DID, size int64) error {
	if err := heldRoom(ctx, r, did, size); err != nil {
		return err
	}
	var quota int64
	if b.Quota != nil {
		quota = b.Quota()
	}
	if quota == 0 {
		return nil
	}
	sums, err := r.BlobSums(ctx, did)
	if err != nil {
		return err
	}
	if sums[did].Bytes+size > quota {
		return &QuotaError{quota}
	}
	return nil
}

// Upload stores what r gives as a blob of did, temporary until a record mentions it, or
// permanent at once when one does. See [blob.Store] for limit, declared and errors; others
// are ErrQuota, ErrTakenDown, and db.ErrNotFound when there is no account.
func (b *Blobs) Upload(ctx context.Context, did syntax.DID, r io.Reader, limit int64, declared string) (up blob.Upload, err error) {
	if b.Observe != nil {
		began := time.Now()
		defer func() { b.Observe(ctx, up.Size, began, time.Since(began), err) }()
	}
	up, err = b.Store.Upload(ctx, did, r, limit, declared)
	if err != nil {
		return up, err
	}
	in, err := b.insertWhenFree(ctx, did, up)
	for n := 1; err == nil && in.kept && n < attempts; n++ {
		// What the file of a permanent blob has lost comes back with an upload.
		if err = b.Store.MakePermanent(ctx, did, up.Key, up.CID); !errors.Is(err, blob.ErrNotFound) {
			break
		}
		// The last record that mentioned it went just now, and its file with it.
		in, err = b.insertWhenFree(ctx, did, up)
	}
	spare := up.Key
	switch {
	case errors.Is(err, ErrQuota), errors.Is(err, ErrTakenDown), errors.Is(err, db.ErrBlobClaimed):
	case err != nil && !in.kept:
		// Whether there was a COMMIT is not known: the file may have a row.
		return up, fmt.Errorf("store upload: %w", err)
	case !in.kept:
		spare = in.replaced
	}
	if spare != "" {
		b.later(ctx, "an upload", func(ctx context.Context) error { return b.Store.Remove(ctx, blob.TemporaryName(did, spare)) })
	}
	if errors.Is(err, db.ErrBlobClaimed) {
		err = fmt.Errorf("%w: %w", blob.ErrBusy, err)
	}
	if err == nil && in.named && !in.kept {
		err = b.keep(ctx, did, up.CID)
	}
	return up, err
}

// An inserted upload has a row.
type inserted struct {
	kept     bool   // it is permanent already
	replaced string // the key of an upload before
	named    bool   // by a record
}

// insertWhenFree waits a little for a file of the same name to be removed.
func (b *Blobs) insertWhenFree(ctx context.Context, did syntax.DID, up blob.Upload) (in inserted, err error) {
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		err = b.DB.Write(ctx, func(tx *db.Tx) error {
			in, err = b.insert(ctx, tx, did, up)
			return err
		})
		if !errors.Is(err, db.ErrBlobClaimed) || wait > 2*time.Second {
			return in, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return in, err
		}
	}
}

func (b *Blobs) insert(ctx context.Context, tx *db.Tx, did syntax.DID, up blob.Upload) (in inserted, err error) {
	if _, err := tx.LockRepo(ctx, did); err != nil {
		return in, err
	}
	row, err := tx.Blob(ctx, did, up.CID[:])
	switch {
	case errors.Is(err, db.ErrNotFound):
		if err := b.room(ctx, tx, did, up.Size); err != nil {
			return in, err
		}
		err = tx.InsertBlob(ctx, did, db.Blob{CID: up.CID[:], MIME: up.Type, Size: up.Size, TempKey: up.Key, CreatedAt: b.Now()})
	case err != nil:
	case row.TakenDown():
		return in, ErrTakenDown
	case row.TempKey == "":
		in.kept = true
		return in, nil
	default:
		in.replaced = row.TempKey
		err = tx.ReplaceUpload(ctx, did, up.CID[:], row.TempKey, up.Key, b.Now())
	}
	if err != nil {
		return in, err
	}
	named, err := tx.NamedBlobs(ctx, did, [][]byte{up.CID[:]})
	in.named = len(named) > 0
	return in, err
}

// keep makes a blob permanent that a record mentions already.
func (b *Blobs) keep(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	for range attempts {
		row, err := b.DB.Blob(ctx, did, cid[:])
		if errors.Is(err, db.ErrNotFound) || err == nil && (row.TempKey == "" || row.TakenDown()) {
			return nil
		}
		if err == nil {
			err = b.makePermanent(ctx, did, cid, row.TempKey)
		}
		if err == nil {
			err = b.DB.Write(ctx, func(tx *db.Tx) error {
				if _, err := tx.LockRepo(ctx, did); err != nil {
					return err
				}
				return tx.KeepBlob(ctx, did, cid[:], row.TempKey)
			})
		}
		if errors.Is(err, db.ErrStale) {
			continue // another upload took its place
		}
		if err == nil {
			b.later(ctx, "an upload", func(ctx context.Context) error { return b.Store.Remove(ctx, blob.TemporaryName(did, row.TempKey)) })
		}
		return err
	}
	return fmt.Errorf("keep blob %s of %s: %w", cid, did, db.ErrStale)
}

// attempts is how often what was uploaded anew meanwhile is read again.
const attempts = 10

// makePermanent returns db.ErrStale when the row has another key by now, or is gone.
func (b *Blobs) makePermanent(ctx context.Context, did syntax.DID, cid dagcbor.CID, key string) error {
	err := b.Store.MakePermanent(ctx, did, key, cid)
	if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	row, again := b.DB.Blob(ctx, did, cid[:])
	if again == nil && row.TempKey == key {
		return err // the bytes are lost
	}
	if again != nil && !errors.Is(again, db.ErrNotFound) {
		return again
	}
	return db.ErrStale
}

// KeepNamed makes permanent what was uploaded before the records of did came that mention
// it: an import stores mentions, and then calls this. Permanent blobs that no record
// mentions go: an import which did not come to its end left them.
func (b *Blobs) KeepNamed(ctx context.Context, did syntax.DID) error {
	const page = 500
	var after []byte
	for {
		blobs, err := b.DB.Blobs(ctx, did, after, page)
		if err != nil {
			return err
		}
		cids := make([][]byte, len(blobs))
		for i, row := range blobs {
			cids[i], after = row.CID, row.CID
		}
		list, err := b.DB.NamedBlobs(ctx, did, cids)
		if err != nil {
			return err
		}
		named := make(map[string]bool, len(list))
		for _, cid := range list {
			named[string(cid)] = true
		}
		var spare [][]byte
		for _, row := range blobs {
			switch temporary := row.TempKey != ""; {
			case temporary && named[string(row.CID)]:
				if err := b.keep(ctx, did, dagcbor.CID(row.CID)); err != nil {
					return err
				}
			case !temporary && !named[string(row.CID)]:
				spare = append(spare, row.CID)
			}
		}
		if err := b.dropUnnamed(ctx, did, spare); err != nil {
			return err
		}
		if len(blobs) < page {
			return nil
		}
	}
}

// dropUnnamed removes those of some blobs that are permanent and that no record mentions,
// unless an import is under way, which may still store what mentions them.
func (b *Blobs) dropUnnamed(ctx context.Context, did syntax.DID, cids [][]byte) error {
	if len(cids) == 0 {
		return nil
	}
	var lost []db.Blob
	err := b.DB.Write(ctx, func(tx *db.Tx) error {
		lost = nil
		if _, err := tx.LockRepo(ctx, did); err != nil {
			return err
		}
		unfinished, err := tx.UnfinishedImport(ctx, did)
		if err != nil || unfinished != "" {
			return err
		}
		rows, err := tx.BlobsByCIDs(ctx, did, cids)
		if err != nil {
			return err
		}
		var permanent [][]byte
		for _, row := range rows {
			if row.TempKey == "" { // and not uploaded anew
				permanent = append(permanent, row.CID)
			}
		}
		lost, err = tx.DeleteBlobs(ctx, did, permanent)
		return err
	})
	if err == nil {
		b.Discard(ctx, did, lost)
	}
	return err
}

// Open gives the bytes and the row of a permanent blob, which the caller closes, or
// ErrNotFound, also for one that is temporary or taken down.
func (b *Blobs) Open(ctx context.Context, did syntax.DID, cid dagcbor.CID) (io.ReadCloser, *db.Blob, error) {
	row, err := db.ReadPublic(ctx, b.DB, func(r *db.Reader) (*db.Blob, error) { return r.Blob(ctx, did, cid[:]) })
	if errors.Is(err, db.ErrNotFound) || err == nil && (row.TempKey != "" || row.TakenDown()) {
		return nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	body, file, err := b.Store.Open(ctx, blob.PermanentName(did, cid))
	if errors.Is(err, blob.ErrNotFound) {
		b.Log.ErrorContext(ctx, "a blob has a row and no bytes", "did", did, "cid", cid.String())
		return nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	row.Size = file.Size // what is there
	return body, row, nil
}

// OpenKept is Open for the operator: it gives the bytes of one that is taken down, too.
func (b *Blobs) OpenKept(ctx context.Context, did syntax.DID, cid dagcbor.CID) (io.ReadCloser, *db.Blob, error) {
	row, err := b.DB.Blob(ctx, did, cid[:])
	if errors.Is(err, db.ErrNotFound) || err == nil && row.TempKey != "" {
		return nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	places := []blob.Name{blob.PermanentName(did, cid)}
	if row.TakenDown() {
		places = append(places, blob.QuarantineName(did, cid))
	}
	for _, name := range places {
		body, file, err := b.Store.Open(ctx, name)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		row.Size = file.Size
		return body, row, nil
	}
	return nil, nil, ErrNotFound
}

// TakeDown takes a blob down under a reference. It returns ErrNotFound when an account has
// no such blob. Doing so again puts the new reference in the place of the old one.
func (b *Blobs) TakeDown(ctx context.Context, did syntax.DID, cid dagcbor.CID, ref string) error {
	var temporary bool
	err := b.DB.Write(ctx, func(tx *db.Tx) error {
		row, err := b.locked(ctx, tx, did, cid)
		if err != nil {
			return err
		}
		temporary = row.TempKey != ""
		if err := tx.SetBlobTakedown(ctx, did, cid[:], ref); err != nil {
			return err
		}
		return audit.Record(ctx, tx, b.Now(), did, audit.BlobTakenDown, cid.String()+" "+ref)
	})
	if err != nil || temporary {
		return err
	}
	if err := b.Store.Quarantine(ctx, did, cid); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return nil
}

// Lift ends the takedown of a blob. What no record mentions any more goes with it. It
// returns ErrNotFound as TakeDown does.
func (b *Blobs) Lift(ctx context.Context, did syntax.DID, cid dagcbor.CID) error {
	row, err := b.DB.Blob(ctx, did, cid[:])
	if errors.Is(err, db.ErrNotFound) {
		return ErrNotFound
	}
	if err != nil || !row.TakenDown() {
		return err
	}
	if row.TempKey == "" {
		if err := b.Store.Restore(ctx, did, cid); err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	var lost []db.Blob
	err = b.DB.Write(ctx, func(tx *db.Tx) error {
		lost = nil
		row, err := b.locked(ctx, tx, did, cid)
		if err != nil {
			return err
		}
		if err := tx.SetBlobTakedown(ctx, did, cid[:], ""); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, b.Now(), did, audit.BlobTakedownLifted, cid.String()); err != nil || row.TempKey != "" {
			return err
		}
		lost, err = tx.DeleteBlobs(ctx, did, [][]byte{cid[:]})
		return err
	})
	if err == nil {
		b.Discard(ctx, did, lost)
	}
	return err
}

func (b *Blobs) locked(ctx context.Context, tx *db.Tx, did syntax.DID, cid dagcbor.CID) (*db.Blob, error) {
	var row *db.Blob
	_, err := tx.LockRepo(ctx, did)
	if err == nil {
		row, err = tx.Blob(ctx, did, cid[:])
	}
	if errors.Is(err, db.ErrNotFound) {
		err = ErrNotFound
	}
	return row, err
}

// Discard removes the files of rows that a transaction removed, after its COMMIT. It does
// not wait for that.
func (b *Blobs) Discard(ctx context.Context, did syntax.DID, lost []db.Blob) {
	if len(lost) == 0 {
		return
	}
	b.later(ctx, "blobs that records mentioned", func(ctx context.Context) error {
		var failed []error
		cleaner := b.Cleaner()
		for _, row := range lost {
			failed = append(failed, cleaner.Discard(ctx, did, dagcbor.CID(row.CID)))
			if row.TempKey != "" {
				failed = append(failed, b.Store.Remove(ctx, blob.TemporaryName(did, row.TempKey)))
			}
		}
		return errors.Join(failed...)
	})
}

// RemoveAccount removes all files of an account, after the COMMIT that deleted it. Whoever
// moves back here meanwhile keeps what they upload.
func (b *Blobs) RemoveAccount(ctx context.Context, did syntax.DID) {
	b.later(ctx, "blobs of an account", func(ctx context.Context) error {
		cleaner := b.Cleaner()
		for f, err := range b.Store.Files(ctx, did) {
			if err == nil && (f.Name.Area == blob.Permanent || f.Name.Area == blob.Quarantine) {
				var cid dagcbor.CID
				if cid, err = dagcbor.ParseCID(f.Name.Key); err == nil {
					err = cleaner.Discard(ctx, did, cid)
				}
			}
			if err != nil {
				return err
			}
		}
		// The rest takes no time, unless there is an account again: then the cleaner does it.
		if _, err := b.DB.AccountByDID(ctx, did); !errors.Is(err, db.ErrNotFound) {
			return err
		}
		return b.Store.RemoveAccount(ctx, did)
	})
}
