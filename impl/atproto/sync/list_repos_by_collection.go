package sync

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
)

// ListReposByCollection lists the active accounts here that have records of a collection,
// in the order of their DIDs. A page may be shorter than asked for.
func (s *Service) ListReposByCollection(
	ctx context.Context, p *api.ListReposByCollectionParams,
) (*api.ListReposByCollectionOutput, error) {
	after := syntax.DID(xrpc.ValueOf(p.Cursor))
	dids, err := s.DB.AccountsByCollection(ctx, p.Collection.String(), after, int(p.Limit))
	if err != nil {
		return nil, err
	}
	accounts, err := s.DB.AccountsByDIDs(ctx, dids...)
	if err != nil {
		return nil, err
	}
	active := make(map[syntax.DID]bool, len(accounts))
	for i := range accounts {
		active[accounts[i].DID] = accounts[i].Active()
	}
	out := &api.ListReposByCollectionOutput{}
	for _, did := range dids {
		if active[did] {
			out.Repos = append(out.Repos, api.ListReposByCollectionRepo{DID: did})
		}
		out.Cursor = new(did.String())
	}
	return out, nil
}
