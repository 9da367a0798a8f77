package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
)

// RepairAccount mends what of an account can be mended, and says what is left.
func (s *Service) RepairAccount(ctx context.Context, in *api.RepairAccountInput) (*api.RepairAccountOutput, error) {
	repaired, remaining, err := s.Identities.Repair(ctx, in.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, api.ErrRepairAccountAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	if err != nil {
		return nil, err
	}
	return &api.RepairAccountOutput{Repaired: findings(repaired), Remaining: findings(remaining)}, nil
}
