package operator

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/portico/operator"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
)

// UpdateArrival ends the arrival of an account.
func (s *Service) UpdateArrival(ctx context.Context, in *api.UpdateArrivalInput) error {
	end := s.Transfers.Finish
	if in.Action == api.UpdateArrivalInputActionAbandon {
		end = s.Transfers.AbandonArrival
	}
	err := end(ctx, in.DID)
	if refused, ok := errors.AsType[*account.TransferRefusal](err); ok {
		return api.ErrUpdateArrivalMoveRefused.New(http.StatusBadRequest, refused.Message)
	}
	if errors.Is(err, db.ErrNotFound) {
		return api.ErrUpdateArrivalAccountNotFound.New(http.StatusBadRequest, "Account not found")
	}
	return answer.DID(err)
}
