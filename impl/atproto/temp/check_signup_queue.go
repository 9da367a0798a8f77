package temp

import (
	"context"

	api "portico/api/atproto/temp"
)

// CheckSignupQueue tells that nobody waits: this server has no queue.
func (s *Service) CheckSignupQueue(context.Context) (*api.CheckSignupQueueOutput, error) {
	return &api.CheckSignupQueueOutput{Activated: true}, nil
}
