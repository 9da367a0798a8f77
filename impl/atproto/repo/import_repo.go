package repo

import (
	"context"

	"portico/api/xrpc"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// ImportRepo makes an archive the repository of the caller, who moves here.
func (s *Service) ImportRepo(ctx context.Context, in *xrpc.Body) error {
	if s.Imports == nil {
		return xrpc.InvalidRequest("Service is not accepting repo imports")
	}
	caller := auth.Caller(ctx)
	if caller.Account == nil {
		return auth.AccountNotFound()
	}
	if caller.Account.Active() { // the network is told
		if err := s.Accounts.PayForChange(ctx, caller.Payer()); err != nil {
			return answer.Spent(err)
		}
	}
	lost, err := s.Imports.Import(ctx, caller.DID, in, account.NotArriving)
	if err != nil {
		return answer.Import(err)
	}
	s.Blobs.Discard(ctx, caller.DID, lost)
	// Blobs may have come before the records that mention them.
	return s.Blobs.KeepNamed(context.WithoutCancel(ctx), caller.DID)
}
