package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) FeedGetAuthorFeed(context.Context, *api.FeedGetAuthorFeedParams) (*api.FeedGetAuthorFeedOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
