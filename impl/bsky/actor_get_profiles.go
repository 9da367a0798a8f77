package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

// ActorGetProfiles shows the caller its own profile, where it is among them, as it is now.
func (s *Service) ActorGetProfiles(ctx context.Context, _ *api.ActorGetProfilesParams) (*api.ActorGetProfilesOutput, error) {
	return nil, s.readAfterWrite(ctx, (*api.ActorGetProfilesOutput)(nil).Schema(), patchProfiles)
}

func patchProfiles(ctx context.Context, v *viewer, answer xrpc.Node, e *edits) error {
	for p := range answer.Member("profiles").Items() {
		if err := patchProfile(ctx, v, p, e); err != nil {
			return err
		}
	}
	return nil
}
