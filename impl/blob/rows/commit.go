package rows

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

var (
	// ErrMIME says that a record gives a new blob another type than it has, ErrSize
	// another size.
	ErrMIME = errors.New("type is not that of the blob")
	ErrSize = errors.New("size is not that of the blob")
)

// A MentionError says why a record may not mention a blob: ErrNotFound, ErrMIME or
// ErrSize.
type MentionError struct {
	Err         error
	CID         string
	Stored, Got string // the type or size of the blob, and that of the mention
}

// Error is for logs.
func (e *MentionError) Error() string { return fmt.Sprintf("mention of blob %s: %s", e.CID, e.Err) }

// Unwrap is the reason.
func (e *MentionError) Unwrap() error { return e.Err }

// A Mention is a record's of a blob.
type Mention struct {
	Path string // of the record
	record.Blob
}

// Prepared are the blobs that a commit may mention, permanent files of them made.
type Prepared struct {
	blobs *Blobs
	did   syntax.DID
	keys  map[dagcbor.CID]string // temporary keys of those that have no record yet
	kept  []string               // those of the last run of Apply
	lost  []db.Blob              // by the last run of Apply
}

// Prepare looks at the blobs that a commit may mention, before its transaction, and lets
// those be had as permanent ones that no record mentioned before. Errors are
// *MentionError, and those of the store.
func (b *Blobs) Prepare(ctx context.Context, did syntax.DID, mentions []Mention) (*Prepared, error) {
	p := &Prepared{blobs: b, did: did}
	if len(mentions) == 0 {
		return p, nil
	}
	for range attempts {
		rows, err := check(ctx, b.DB, did, mentions)
		if err != nil {
			return nil, err
		}
		p.keys = make(map[dagcbor.CID]string)
		for cid, row := range rows {
			if row.TempKey == "" {
				continue
			}
			if err = b.makePermanent(ctx, did, cid, row.TempKey); err != nil {
				break
			}
			p.keys[cid] = row.TempKey
		}
		if !errors.Is(err, db.ErrStale) {
			return p, err
		}
	}
	return nil, fmt.Errorf("prepare blobs of %s: %w", did, db.ErrStale)
}

// check returns the rows of all blobs that are mentioned, if they may be.
func check(ctx context.Context, r interface {
	BlobsByCIDs(context.Context, syntax.DID, [][]byte) ([]db.Blob, error)
}, did syntax.DID, mentions []Mention,
) (map[dagcbor.CID]*db.Blob, error) {
	cids := make([][]byte, 0, len(mentions))
	for _, m := range mentions {
		cid, err := dagcbor.ParseCID(m.CID)
		if err != nil {
			return nil, &MentionError{Err: ErrNotFound, CID: m.CID}
		}
		cids = append(cids, cid[:])
	}
	found, err := r.BlobsByCIDs(ctx, did, cids)
	if err != nil {
		return nil, err
	}
	rows := make(map[dagcbor.CID]*db.Blob, len(found))
	for i := range found {
		rows[dagcbor.CID(found[i].CID)] = &found[i]
	}
	for i, m := range mentions {
		row := rows[dagcbor.CID(cids[i])]
		switch {
		case row == nil || row.TakenDown():
			return nil, &MentionError{Err: ErrNotFound, CID: m.CID}
		case row.TempKey == "": // a record mentions it already, rightly or not
		case row.MIME != m.MimeType:
			return nil, &MentionError{Err: ErrMIME, CID: m.CID, Stored: row.MIME, Got: m.MimeType}
		case row.Size != m.Size:
			return nil, &MentionError{Err: ErrSize, CID: m.CID, Stored: strconv.FormatInt(row.Size, 10), Got: strconv.FormatInt(m.Size, 10)}
		}
	}
	return rows, nil
}

// Apply stores what a commit does to the mentions of blobs, in its transaction, which has
// locked the repository: the records with the paths of forget are updated or deleted, those
// of mentions, each of which was given to Prepare, are as they are from now on. It returns
// db.ErrStale when a blob was uploaded anew meanwhile, which wants another Prepare, and
// *MentionError.
func (p *Prepared) Apply(ctx context.Context, tx *db.Tx, forget []string, mentions []Mention) error {
	p.kept, p.lost = nil, nil
	lost, err := tx.DeleteRecordBlobs(ctx, p.did, forget)
	if err != nil {
		return err
	}
	if len(mentions) > 0 {
		if err := p.name(ctx, tx, mentions); err != nil {
			return err
		}
	}
	p.lost, err = tx.DeleteBlobs(ctx, p.did, lost)
	return err
}

func (p *Prepared) name(ctx context.Context, tx *db.Tx, mentions []Mention) error {
	rows, err := check(ctx, tx, p.did, mentions)
	if err != nil {
		return err
	}
	stored := make([]db.RecordBlob, len(mentions))
	for i, m := range mentions {
		cid, err := dagcbor.ParseCID(m.CID)
		if err != nil {
			return err
		}
		stored[i] = db.RecordBlob{Path: m.Path, CID: cid[:]}
	}
	if err := tx.PutRecordBlobs(ctx, p.did, stored); err != nil {
		return err
	}
	for cid, row := range rows {
		if row.TempKey == "" {
			continue
		}
		if p.keys[cid] != row.TempKey {
			return fmt.Errorf("blob %s: %w", cid, db.ErrStale)
		}
		if err := tx.KeepBlob(ctx, p.did, cid[:], row.TempKey); err != nil {
			return err
		}
		p.kept = append(p.kept, row.TempKey)
	}
	return nil
}

// Finish removes, after COMMIT, the files that are not needed any more. It does not wait
// for that.
func (p *Prepared) Finish(ctx context.Context) {
	if len(p.kept) > 0 {
		kept := p.kept
		p.blobs.later(ctx, "uploads that a record mentions", func(ctx context.Context) error {
			var failed []error
			for _, key := range kept {
				failed = append(failed, p.blobs.Store.Remove(ctx, blob.TemporaryName(p.did, key)))
			}
			return errors.Join(failed...)
		})
	}
	p.blobs.Discard(ctx, p.did, p.lost)
}
