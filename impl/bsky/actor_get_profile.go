package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) ActorGetProfile(context.Context, *api.ActorGetProfileParams) (*api.ActorGetProfileOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
