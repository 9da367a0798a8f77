package admin

import (
	"context"
	"errors"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/budget"
)

// UpdateAccountHandle gives an account another handle, in its DID and here. Reserved
// names, closed domains and the server's own name are the operator's to give away.
func (s *Service) UpdateAccountHandle(ctx context.Context, in *api.UpdateAccountHandleInput) error {
	a, err := s.DB.AccountByDID(ctx, in.DID)
	if errors.Is(err, db.ErrNotFound) || err == nil && a.TakenDown() {
		return accountNotFound()
	}
	if err != nil {
		return err
	}
	err = s.Identities.GiveHandle(ctx, in.DID, in.Handle.String(), budget.Operator(in.DID), true)
	if errors.Is(err, db.ErrNotFound) {
		return accountNotFound()
	}
	return answer.Handle(err, in.Handle)
}

func accountNotFound() error { return xrpc.InvalidRequest("Account not found") }
