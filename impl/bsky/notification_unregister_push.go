package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) NotificationUnregisterPush(context.Context, *api.NotificationUnregisterPushInput) error {
	return xrpc.MethodNotImplemented()
}
