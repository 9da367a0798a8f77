package temp

import (
	"context"

	api "portico/api/atproto/temp"
	"portico/impl/account/auth"
)

// CheckSignupQueue tells a caller whose account is in quarantine how many were there before
// it and still are, and how long it will be, where that is up to the server alone.
func (s *Service) CheckSignupQueue(ctx context.Context) (*api.CheckSignupQueueOutput, error) {
	a := auth.Caller(ctx).Account
	if a == nil || !a.Held() {
		return &api.CheckSignupQueueOutput{Activated: true}, nil
	}
	waiting, err := s.Accounts.Waiting(ctx, a)
	if err != nil {
		return nil, err
	}
	if waiting == nil { // released just now
		return &api.CheckSignupQueueOutput{Activated: true}, nil
	}
	out := &api.CheckSignupQueueOutput{PlaceInQueue: new(int64(waiting.Place))}
	if waiting.Estimate > 0 {
		out.EstimatedTimeMs = new(waiting.Estimate.Milliseconds())
	}
	return out, nil
}
