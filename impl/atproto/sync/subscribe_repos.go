package sync

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/audit"
	"portico/impl/repo/firehose"
)

// SubscribeRepos streams the events of all accounts, from a cursor on or from now.
func (s *Service) SubscribeRepos(ctx context.Context, p *api.SubscribeReposParams, out *xrpc.Stream[api.SubscribeReposMessage]) error {
	err := s.Firehose.Follow(auth.Acting(ctx, audit.Stranger), p.Cursor, out.SendFrame)
	switch {
	case errors.Is(err, firehose.ErrFutureCursor):
		return api.ErrSubscribeReposFutureCursor.New(http.StatusBadRequest, "Cursor in the future.")
	case errors.Is(err, firehose.ErrConsumerTooSlow):
		return api.ErrSubscribeReposConsumerTooSlow.New(http.StatusBadRequest, "Stream consumer too slow")
	}
	return err
}
