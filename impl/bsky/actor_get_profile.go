package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// ActorGetProfile shows the caller its profile as it is now.
func (s *Service) ActorGetProfile(ctx context.Context, _ *api.ActorGetProfileParams) (*api.ActorGetProfileOutput, error) {
	return nil, s.readAfterWrite(ctx, (*api.ActorGetProfileOutput)(nil).Schema(), patchProfile)
}

func patchProfile(_ context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	if v.since.profile != nil && v.isOwn(answer) {
		e.replace(answer, v.inDetail(answer))
	}
	return nil
}
