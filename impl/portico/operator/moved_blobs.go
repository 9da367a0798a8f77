package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/repo/dagcbor"
)

// GetBlob gives the bytes of a blob, also of one that is taken down.
func (s *Service) GetBlob(ctx context.Context, p *api.GetBlobParams) (*xrpc.Body, error) {
	cid, err := dagcbor.ParseCID(p.CID.String())
	if err != nil {
		return nil, blobNotFound()
	}
	body, row, err := s.Blobs.OpenKept(ctx, p.DID, cid)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, blobNotFound()
	}
	if err != nil {
		return nil, err
	}
	// What it is, is the word of whoever uploaded it.
	h := xrpc.CallFrom(ctx).Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", `attachment; filename="`+cid.String()+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	return &xrpc.Body{ReadCloser: body, ContentType: row.MIME, Size: row.Size}, nil
}

func blobNotFound() error {
	return api.ErrGetBlobBlobNotFound.New(http.StatusBadRequest, "Blob not found")
}

// UploadBlob stores a blob of an account that moves here.
func (s *Service) UploadBlob(ctx context.Context, p *api.UploadBlobParams, in *xrpc.Body) (*api.UploadBlobOutput, error) {
	if m, err := s.DB.AccountMove(ctx, p.DID); errors.Is(err, db.ErrNotFound) || err == nil && !m.Comes() {
		return nil, api.ErrUploadBlobMoveRefused.New(http.StatusBadRequest, "The account is not on its way here")
	} else if err != nil {
		return nil, err
	}
	up, err := s.Blobs.Upload(ctx, p.DID, in, anySize, in.ContentType)
	if full, ok := errors.AsType[*rows.QuotaError](err); ok {
		return nil, api.ErrUploadBlobMoveRefused.New(http.StatusBadRequest, fmt.Sprintf("The blobs of an account may have %d bytes here", full.Bytes))
	}
	switch {
	case errors.Is(err, rows.ErrTakenDown):
		return nil, api.ErrUploadBlobMoveRefused.New(http.StatusBadRequest, "The blob is taken down here")
	case errors.Is(err, blob.ErrBusy), errors.Is(err, blob.ErrFull):
		return nil, xrpc.NotEnoughResources(uploadAgain).Because(err)
	case errors.Is(err, blob.ErrBody):
		return nil, xrpc.InvalidRequest("request body could not be read").Because(err)
	case errors.Is(err, db.ErrNotFound):
		return nil, api.ErrUploadBlobAccountNotFound.New(http.StatusBadRequest, "Account not found")
	case err != nil:
		return nil, err
	}
	return &api.UploadBlobOutput{CID: syntax.CID(up.CID.String()), Size: up.Size}, nil
}
