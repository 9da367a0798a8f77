package operator

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/blob/rows"
	"portico/impl/repo/store"
)

// ListBlobs lists the blobs of an account, or those that it lacks.
func (s *Service) ListBlobs(ctx context.Context, p *api.ListBlobsParams) (*api.ListBlobsOutput, error) {
	after, err := answer.AfterCID(p.Cursor)
	if err != nil {
		return nil, err
	}
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.ListBlobsOutput, error) { return s.listBlobs(ctx, r, p, after) })
}

func (s *Service) listBlobs(ctx context.Context, r *db.Reader, p *api.ListBlobsParams, after []byte) (*api.ListBlobsOutput, error) {
	_, err := r.AccountByDID(ctx, p.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrListBlobsAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return nil, err
	}
	out := new(api.ListBlobsOutput)
	if xrpc.ValueOf(p.Missing) {
		out.Blobs, err = missingBlobs(ctx, r, p.DID, after, int(p.Limit))
	} else {
		out.Blobs, err = s.blobs(ctx, r, p.DID, after, int(p.Limit), xrpc.ValueOf(p.Verify))
	}
	if n := len(out.Blobs); n == int(p.Limit) {
		out.Cursor = new(out.Blobs[n-1].CID.String())
	}
	return out, err
}

func missingBlobs(ctx context.Context, r *db.Reader, did syntax.DID, after []byte, limit int) ([]api.ListBlobsBlob, error) {
	missing, err := r.MissingBlobs(ctx, did, after, limit)
	list := make([]api.ListBlobsBlob, len(missing))
	for i, m := range missing {
		list[i] = api.ListBlobsBlob{
			CID: syntax.CID(store.CID(m.CID).String()), State: api.ListBlobsBlobStateMissing,
			Record: new(syntax.ATURI("at://" + did.String() + "/" + m.Path)),
		}
	}
	return list, err
}

func (s *Service) blobs(ctx context.Context, r *db.Reader, did syntax.DID, after []byte, limit int, verify bool) ([]api.ListBlobsBlob, error) {
	blobs, err := r.Blobs(ctx, did, after, limit)
	if err != nil {
		return nil, err
	}
	list := make([]api.ListBlobsBlob, len(blobs))
	for i := range blobs {
		b := &blobs[i]
		list[i] = api.ListBlobsBlob{
			CID: syntax.CID(store.CID(b.CID).String()), State: blobState(b), MimeType: &b.MIME, Size: &b.Size,
			UploadedAt: new(answer.Datetime(b.CreatedAt)),
		}
		if !verify {
			continue
		}
		switch err := s.Blobs.Verify(ctx, did, b); {
		case errors.Is(err, rows.ErrNoBytes):
			list[i].Problem = new(rows.ErrNoBytes.Error())
		case errors.Is(err, rows.ErrOtherBytes):
			list[i].Problem = new(rows.ErrOtherBytes.Error())
		case err != nil:
			return nil, err
		}
	}
	return list, nil
}

func blobState(b *db.Blob) string {
	switch {
	case b.TakenDown():
		return api.ListBlobsBlobStateTakendown
	case b.TempKey != "":
		return api.ListBlobsBlobStateTemporary
	}
	return api.ListBlobsBlobStatePermanent
}
