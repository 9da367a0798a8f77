package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// FeedGetTimeline shows what the caller posted since among what others did.
func (s *Service) FeedGetTimeline(ctx context.Context, _ *api.FeedGetTimelineParams) (*api.FeedGetTimelineOutput, error) {
	return nil, s.readAfterWrite(ctx, (*api.FeedGetTimelineOutput)(nil).Schema(), patchTimeline)
}

func patchTimeline(ctx context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	return v.patchFeed(ctx, answer.Member("feed"), e)
}
