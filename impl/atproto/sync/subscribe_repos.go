package sync

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/repo/firehose"
)

// SubscribeRepos streams the events of all accounts, from a cursor on or from now.
func (s *Service) SubscribeRepos(ctx context.Context, p *api.SubscribeReposParams, out *xrpc.Stream[api.SubscribeReposMessage]) error {
	address := ""
	if c := xrpc.CallFrom(ctx); c != nil && c.IP.IsValid() {
		address = c.IP.String()
	}
	err := s.Firehose.FollowFrom(ctx, address, p.Cursor, out.SendFrame)
	switch {
	case errors.Is(err, firehose.ErrFutureCursor):
		return api.ErrSubscribeReposFutureCursor.New(http.StatusBadRequest, "Cursor in the future.")
	case errors.Is(err, firehose.ErrConsumerTooSlow):
		return api.ErrSubscribeReposConsumerTooSlow.New(http.StatusBadRequest, "Stream consumer too slow")
	}
	return err
}
