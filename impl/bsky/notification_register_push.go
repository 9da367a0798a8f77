package bsky

import (
	"context"

	api "portico/api/bsky"
	"portico/api/xrpc"
)

func (s *Service) NotificationRegisterPush(context.Context, *api.NotificationRegisterPushInput) error {
	return xrpc.MethodNotImplemented()
}
