package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) FeedGetTimeline(context.Context, *api.FeedGetTimelineParams) (*api.FeedGetTimelineOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
