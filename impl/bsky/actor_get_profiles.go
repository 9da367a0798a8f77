package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) ActorGetProfiles(context.Context, *api.ActorGetProfilesParams) (*api.ActorGetProfilesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
