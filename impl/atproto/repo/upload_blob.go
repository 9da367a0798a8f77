package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atdata"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/oauth/scope"
	"portico/impl/repo/dagcbor"
)

// UploadBlob stores the body as a blob of the caller, to be mentioned in a record within
// a day.
func (s *Service) UploadBlob(ctx context.Context, in *xrpc.Body) (*api.UploadBlobOutput, error) {
	did := auth.Caller(ctx).DID
	kind, _, _ := strings.Cut(in.ContentType, ";")
	if err := auth.Permit(ctx, scope.Blob{MIME: strings.TrimSpace(kind)}); err != nil {
		return nil, err
	}
	// A body that there is no room for is not read to the end of it.
	if err := s.Blobs.Room(ctx, did, max(in.Size, 0)); err != nil {
		return nil, uploadError(err)
	}
	// How many bytes there may be, reading the body tells.
	up, err := s.Blobs.Upload(ctx, did, in, anySize, in.ContentType)
	if err != nil {
		return nil, uploadError(err)
	}
	ref, err := link(up.CID)
	if err != nil {
		return nil, err
	}
	return &api.UploadBlobOutput{Blob: atdata.Blob{Ref: ref, MimeType: up.Type, Size: up.Size}}, nil
}

// uploadError is the answer to an upload that failed.
func uploadError(err error) error {
	if refused, ok := errors.AsType[*xrpc.Error](err); ok {
		return refused // in reading the body
	}
	if full, ok := errors.AsType[*rows.QuotaError](err); ok {
		return xrpc.InvalidRequest(fmt.Sprintf("The blobs of an account may have %d bytes together, and this one is too much", full.Bytes))
	}
	switch {
	case errors.Is(err, rows.ErrTakenDown):
		return xrpc.InvalidRequest("Blob has been takendown, cannot re-upload")
	case errors.Is(err, blob.ErrBody):
		return xrpc.InvalidRequest("request body could not be read").Because(err)
	case errors.Is(err, db.ErrNotFound):
		return auth.AccountNotFound() // deleted since the token was checked
	}
	return answer.Blobs(err)
}

func link(cid dagcbor.CID) (l atdata.CIDLink, err error) {
	err = l.UnmarshalJSON([]byte(`{"$link":"` + cid.String() + `"}`))
	return l, err
}
