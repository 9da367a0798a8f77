package bsky

import (
	"context"

	api "portico/api/bsky"
)

// NotificationRegisterPush passes the wish on to the service for push messages that it names.
func (s *Service) NotificationRegisterPush(ctx context.Context, in *api.NotificationRegisterPushInput) error {
	return s.push(ctx, in.ServiceDID)
}
