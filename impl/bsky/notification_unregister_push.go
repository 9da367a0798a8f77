package bsky

import (
	"context"

	api "portico/api/bsky"
)

// NotificationUnregisterPush passes the wish on to the service for push messages that it names.
func (s *Service) NotificationUnregisterPush(ctx context.Context, in *api.NotificationUnregisterPushInput) error {
	return s.push(ctx, in.ServiceDID)
}
