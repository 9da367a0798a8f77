package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/budget"
)

// RepairAccount mends what of an account can be mended, and says what is left.
func (s *Service) RepairAccount(ctx context.Context, in *api.RepairAccountInput) (*api.RepairAccountOutput, error) {
	if err := s.Identities.Accounts.PayForChange(ctx, budget.Operator(in.DID)); err != nil {
		return nil, answer.Spent(err)
	}
	repaired, remaining, err := s.Identities.Repair(ctx, in.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrRepairAccountAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return nil, err
	}
	return &api.RepairAccountOutput{Repaired: findings(repaired), Remaining: findings(remaining)}, nil
}
