package sync

import (
	"context"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/repo/export"
)

// GetRepo gives out a repository, or what is new in it since a rev.
func (s *Service) GetRepo(ctx context.Context, p *api.GetRepoParams) (*xrpc.Body, error) {
	return s.whole(ctx, p.DID, xrpc.ValueOf(p.Since))
}

// GetCheckout gives out a repository, in the way of before GetRepo.
func (s *Service) GetCheckout(ctx context.Context, p *api.GetCheckoutParams) (*xrpc.Body, error) {
	return s.whole(ctx, p.DID, "")
}

func (s *Service) whole(ctx context.Context, did syntax.DID, since syntax.TID) (*xrpc.Body, error) {
	if err := s.available(ctx, did); err != nil {
		return nil, err
	}
	r, err := s.Exports.Open(ctx, address(ctx), func(ctx context.Context, state *db.Snapshot, w io.Writer) error {
		return export.Archive(ctx, state, did, since, w)
	})
	return archive(did, r, err)
}
