package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// FeedGetActorLikes shows the caller as the author of liked posts as it is now.
func (s *Service) FeedGetActorLikes(ctx context.Context, _ *api.FeedGetActorLikesParams) (*api.FeedGetActorLikesOutput, error) {
	return nil, s.readAfterWrite(ctx, (*api.FeedGetActorLikesOutput)(nil).Schema(), patchActorLikes)
}

func patchActorLikes(_ context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	v.patchAuthors(answer.Member("feed"), e)
	return nil
}
