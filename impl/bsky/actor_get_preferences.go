package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) ActorGetPreferences(context.Context) (*api.ActorGetPreferencesOutput, error) {
	return nil, xrpc.MethodNotImplemented()
}
