package server

import (
	"context"

	"portico/api/xrpc"
	"portico/impl/budget"
)

// spendSignUp lets the caller's address pay for a sign-up before its answer can tell
// whether a handle, an address or a phone number is somebody's. An invite makes no
// difference to that: whoever has one could ask about everybody with it.
func (s *Service) spendSignUp(ctx context.Context) error {
	payer := budget.Payer(xrpc.CallFrom(ctx).IP, s.Config.Exempt)
	if payer == "" {
		return nil
	}
	ok, err := budget.SignUps.Spend(ctx, s.DB, payer, s.Now())
	if err == nil && !ok {
		return xrpc.RateLimitExceeded("Rate Limit Exceeded")
	}
	return err
}

// forgiveSignUp gives back what an invited account cost its address: a room full of
// invited people signs up from one.
func (s *Service) forgiveSignUp(ctx context.Context) {
	payer := budget.Payer(xrpc.CallFrom(ctx).IP, s.Config.Exempt)
	if payer == "" {
		return
	}
	// The account is there, whatever becomes of this.
	if err := budget.SignUps.GiveBack(context.WithoutCancel(ctx), s.DB, payer, s.Now()); err != nil {
		s.Log.WarnContext(ctx, "invited sign-up counted against its address", "error", err)
	}
}
