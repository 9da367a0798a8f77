package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) FeedGetActorLikes(context.Context, *api.FeedGetActorLikesParams) (*api.FeedGetActorLikesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
