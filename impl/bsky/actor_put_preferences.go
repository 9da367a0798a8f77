package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) ActorPutPreferences(context.Context, *api.ActorPutPreferencesInput) error {
	return xrpc.MethodNotImplemented()
}
