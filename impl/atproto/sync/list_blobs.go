package sync

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/repo/store"
)

// ListBlobs lists what the records of a repository mention, or those that were written
// after a rev, in the order of the CIDs' bytes.
func (s *Service) ListBlobs(ctx context.Context, params *api.ListBlobsParams) (*api.ListBlobsOutput, error) {
	after, err := answer.AfterCID(params.Cursor)
	if err != nil {
		return nil, err
	}
	cids, err := db.ReadPublic(ctx, s.DB, func(r *db.Reader) ([][]byte, error) {
		if err := available(ctx, r, params.DID); err != nil {
			return nil, err
		}
		return r.NamedBlobsAfter(ctx, params.DID, xrpc.ValueOf(params.Since).String(), after, int(params.Limit))
	})
	if err != nil {
		return nil, err
	}
	out := &api.ListBlobsOutput{CIDs: make([]syntax.CID, len(cids))}
	for i, cid := range cids {
		last := store.CID(cid).String()
		out.CIDs[i], out.Cursor = syntax.CID(last), &last
	}
	return out, nil
}
