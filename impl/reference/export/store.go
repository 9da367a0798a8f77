package export

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/blob"
	"portico/impl/repo/store"
)

// storeWriter writes the store of an account, some rows at a time.
type storeWriter struct {
	*Export
	from  *db.Snapshot
	to    *reference.StoreTarget
	did   syntax.DID
	wants []blob.Want
}

// rowsAtATime and rowBytes bound a page of rows.
const (
	rowsAtATime = 500
	rowBytes    = 4 << 20
)

// tree writes the blocks of the commit and the tree.
func (w *storeWriter) tree(ctx context.Context, r *db.Repo) error {
	if err := w.block(ctx, r.CommitCID, r.Rev, r.CommitBlock); err != nil {
		return err
	}
	var after *db.Place
	for {
		page, err := w.from.Nodes(ctx, w.did, after, rowsAtATime)
		if err != nil {
			return err
		}
		for _, n := range page {
			if err := w.block(ctx, n.CID, n.Rev, n.Data); err != nil {
				return err
			}
		}
		if len(page) < rowsAtATime {
			return nil
		}
		last := page[len(page)-1].Place()
		after = &last
	}
}

func (w *storeWriter) block(ctx context.Context, cid []byte, rev string, content []byte) error {
	return reference.InsertRows(ctx, w.to, reference.Block{
		CID: store.CID(cid).String(), RepoRev: rev, Size: int64(len(content)), Content: content,
	})
}

// linkPaths is where in a record is what it points at, by its collection.
var linkPaths = map[string]string{
	"app.bsky.graph.follow": "subject", "app.bsky.graph.block": "subject",
	"app.bsky.feed.like": "subject.uri", "app.bsky.feed.repost": "subject.uri",
}

// records writes the records and their blocks.
func (w *storeWriter) records(ctx context.Context, _ *db.Repo) error {
	for in := (db.RecordRange{Limit: rowsAtATime, Bytes: rowBytes}); ; {
		page, err := w.from.Records(ctx, w.did, in)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			in.After = r.Path
			if err := w.record(ctx, r); err != nil {
				return err
			}
		}
		w.count("records", int64(len(page)), 0, "")
	}
}

func (w *storeWriter) uri(path string) string { return "at://" + w.did.String() + "/" + path }

func (w *storeWriter) record(ctx context.Context, r db.Record) error {
	if err := w.block(ctx, r.CID, r.Rev, r.Value); err != nil {
		return err
	}
	collection, key, _ := strings.Cut(r.Path, "/")
	err := reference.InsertRows(ctx, w.to, reference.Record{
		URI: w.uri(r.Path), CID: store.CID(r.CID).String(), Collection: collection, RKey: key, RepoRev: r.Rev,
		IndexedAt: reference.FormatTime(r.IndexedAt), TakedownRef: orNil(r.TakedownRef),
	})
	if path := linkPaths[collection]; err == nil && path != "" && r.LinkTo != "" {
		err = reference.InsertRows(ctx, w.to, reference.Backlink{URI: w.uri(r.Path), Path: path, LinkTo: r.LinkTo})
	}
	return err
}

func (w *storeWriter) blobs(ctx context.Context, _ *db.Repo) error {
	var after []byte
	for {
		page, err := w.from.Blobs(ctx, w.did, after, rowsAtATime)
		if err != nil {
			return err
		}
		for _, b := range page {
			after = b.CID
			w.wants = append(w.wants, blob.Want{CID: store.CID(b.CID), Size: b.Size, Key: b.TempKey})
			err := reference.InsertRows(ctx, w.to, reference.Blob{
				CID: store.CID(b.CID).String(), MimeType: b.MIME, Size: b.Size, TempKey: orNil(b.TempKey),
				CreatedAt: reference.FormatTime(b.CreatedAt), TakedownRef: orNil(b.TakedownRef),
			})
			if err != nil {
				return err
			}
		}
		w.count("blobs", int64(len(page)), 0, "")
		if len(page) < rowsAtATime {
			return nil
		}
	}
}

// mentions writes which records name which blobs.
func (w *storeWriter) mentions(ctx context.Context, _ *db.Repo) error {
	var after db.RecordBlob
	for {
		page, err := w.from.RecordBlobs(ctx, w.did, after, rowsAtATime)
		if err != nil {
			return err
		}
		for _, m := range page {
			after = m
			err := reference.InsertRows(ctx, w.to, reference.RecordBlob{BlobCID: store.CID(m.CID).String(), RecordURI: w.uri(m.Path)})
			if err != nil {
				return err
			}
		}
		if len(page) < rowsAtATime {
			return nil
		}
	}
}

func (w *storeWriter) preferences(ctx context.Context, _ *db.Repo) error {
	list, err := w.from.Preferences(ctx, w.did)
	if err != nil {
		return err
	}
	for i, text := range list {
		name, err := typeOf(text)
		if err == nil {
			err = reference.InsertRows(ctx, w.to, reference.Preference{ID: int64(i + 1), Name: name, ValueJSON: string(text)})
		}
		if err != nil {
			return err
		}
	}
	w.count("preferences", int64(len(list)), 0, "")
	return nil
}

// openFiles opens the folders of blobs of the target.
func (x *Export) openFiles() error {
	if x.Blobs == nil {
		return nil
	}
	var err error
	x.files, err = blob.OpenDisk(x.Target.Layout().Blobs, "", blob.Bounds{})
	return err
}

// takeFiles copies the files of an account's blobs: the reference writes to a file that is
// there already, so that it must be no second name of ours.
func (x *Export) takeFiles(ctx context.Context, did syntax.DID, wants []blob.Want) error {
	if x.files == nil || len(wants) == 0 {
		return nil
	}
	missing, err := x.files.TakeCopies(ctx, x.Blobs, did, wants)
	if err != nil {
		return err
	}
	x.count("files of blobs", int64(len(wants)-len(missing)), int64(len(missing)), "they are missing here too")
	for _, w := range missing {
		x.found("blob-missing", did, "there is no file of blob "+w.CID.String())
	}
	return nil
}

// closeFiles removes a folder that only we have.
func (x *Export) closeFiles(context.Context) error {
	if x.files == nil {
		return nil
	}
	return os.RemoveAll(filepath.Join(x.Target.Layout().Blobs, "partial"))
}
