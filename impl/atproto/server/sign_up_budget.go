package server

import (
	"context"

	"portico/impl/answer"
	"portico/impl/budget"
)

// spendSignUp lets the caller's address pay for a sign-up before its answer can tell
// whether a handle, an address or a phone number is somebody's. An invite makes no
// difference to that: whoever has one could ask about everybody with it.
func (s *Service) spendSignUp(ctx context.Context) error {
	return answer.Spent(s.Budgets.Spend(ctx, budget.SignUps, s.caller(ctx)))
}

// forgiveSignUp gives back what an invited account cost its address: a room full of
// invited people signs up from one.
func (s *Service) forgiveSignUp(ctx context.Context) {
	// The account is there, whatever becomes of this.
	if err := s.Budgets.Refund(context.WithoutCancel(ctx), budget.SignUps, s.caller(ctx)); err != nil {
		s.Log.WarnContext(ctx, "invited sign-up counted against its address", "error", err)
	}
}
