package identity

import (
	"context"
	"errors"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// UpdateHandle gives the caller's account another handle, or the same once more.
func (s *Service) UpdateHandle(ctx context.Context, in *api.UpdateHandleInput) error {
	caller := auth.Caller(ctx)
	err := s.Identities.GiveHandle(ctx, caller.DID, in.Handle.String(), caller.Payer(), false)
	if errors.Is(err, db.ErrNotFound) {
		return xrpc.InvalidRequest("Account not found") // deleted since the token was checked
	}
	return answer.Handle(err, in.Handle)
}
