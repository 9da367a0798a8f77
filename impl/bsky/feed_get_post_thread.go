package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) FeedGetPostThread(context.Context, *api.FeedGetPostThreadParams) (*api.FeedGetPostThreadOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
