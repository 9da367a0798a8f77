package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) FeedGetFeed(context.Context, *api.FeedGetFeedParams) (*api.FeedGetFeedOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
