package server

import (
	"context"
	"errors"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/budget"
)

// spendSignUp lets the caller's address pay for a sign-up before its answer can tell
// whether a handle, an address or a phone number is somebody's. An invite makes no
// difference to that: whoever has one could ask about everybody with it.
func (s *Service) spendSignUp(ctx context.Context, code string) error {
	if err := s.Budgets.Spend(ctx, budget.SignUps, s.caller(ctx)); err != nil {
		return answer.Spent(err)
	}
	if !s.capped(code) {
		return nil
	}
	return dayIsFull(s.Budgets.Left(ctx, budget.SignUpsADay(s.Config().SignUpsPerDay), budget.Server()))
}

// capped reports whether a sign-up counts among those of the day.
func (s *Service) capped(code string) bool { return s.Config().SignUpsPerDay > 0 && code == "" }

// dayIsFull answers that all accounts of a day are made. That is nobody's fault in
// particular, so it is said as by a server that has too much to do.
func dayIsFull(err error) error {
	if spent, ok := errors.AsType[*budget.Spent](err); ok {
		return xrpc.NotEnoughResources(spent.Wait).Because(err)
	}
	return err
}

// forgiveSignUp gives back what an invited account cost its address: a room full of
// invited people signs up from one.
func (s *Service) forgiveSignUp(ctx context.Context) {
	// The account is there, whatever becomes of this.
	if err := s.Budgets.Refund(context.WithoutCancel(ctx), budget.SignUps, s.caller(ctx)); err != nil {
		s.Log.WarnContext(ctx, "invited sign-up counted against its address", "error", err)
	}
}

// countSignUp counts an account that is made without an invite among those of the day,
// where the operator has set a number.
func (s *Service) countSignUp(ctx context.Context, tx *db.Tx, code string) error {
	if !s.capped(code) {
		return nil
	}
	return dayIsFull(s.Budgets.SpendIn(ctx, tx, budget.SignUpsADay(s.Config().SignUpsPerDay), budget.Server()))
}
