package repo

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/repo"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/repo/store"
)

// ListMissingBlobs lists what the caller's records mention and was not uploaded, in the
// order of the CIDs' bytes.
func (s *Service) ListMissingBlobs(ctx context.Context, params *api.ListMissingBlobsParams) (*api.ListMissingBlobsOutput, error) {
	after, err := answer.AfterCID(params.Cursor)
	if err != nil {
		return nil, err
	}
	did := auth.Caller(ctx).DID
	missing, err := s.DB.MissingBlobs(ctx, did, after, int(params.Limit))
	if err != nil {
		return nil, err
	}
	out := &api.ListMissingBlobsOutput{Blobs: make([]api.ListMissingBlobsRecordBlob, len(missing))}
	for i, m := range missing {
		cid := store.CID(m.CID).String()
		out.Blobs[i] = api.ListMissingBlobsRecordBlob{CID: syntax.CID(cid), RecordURI: newURI(did, m.Path)}
		out.Cursor = &cid
	}
	return out, nil
}
