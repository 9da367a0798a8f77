package records

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob/rows"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// prepareBlobs makes sure that the blobs which writes mention can be had. It returns nil
// for a server that has none.
func (w *Writer) prepareBlobs(ctx context.Context, did syntax.DID, writes []Write) (*rows.Prepared, error) {
	var all []rows.Mention
	for _, write := range writes {
		all = append(all, mentions(write)...)
	}
	if w.Blobs == nil {
		if len(all) > 0 {
			return nil, &rows.MentionError{Err: rows.ErrNotFound, CID: all[0].CID}
		}
		return nil, nil
	}
	return w.Blobs.Prepare(ctx, did, all)
}

func mentions(w Write) []rows.Mention {
	if w.Record == nil {
		return nil
	}
	all := make([]rows.Mention, len(w.Record.Blobs))
	for i, b := range w.Record.Blobs {
		all[i] = rows.Mention{Path: w.Path(), Blob: b}
	}
	return all
}

// applyBlobs stores which blobs the records of a commit mention and no longer do.
func applyBlobs(ctx context.Context, tx *db.Tx, d *store.Draft, blobs *rows.Prepared, writes []Write) error {
	if blobs == nil {
		return nil
	}
	last := make(map[string]Write, len(writes))
	for _, w := range writes {
		last[w.Path()] = w
	}
	var forget []string
	var now []rows.Mention
	for _, op := range d.Event.Ops {
		if op.Action != tree.Create {
			forget = append(forget, op.Path)
		}
		if op.Action != tree.Delete {
			now = append(now, mentions(last[op.Path])...)
		}
	}
	return blobs.Apply(ctx, tx, forget, now)
}
