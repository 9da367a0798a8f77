package server

import (
	"context"
	"errors"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/answer"
)

// ActivateAccount switches the caller's account on, once its DID names this
// server. It tells the network so also when the account was on already. One that was
// brought while the operator approves accounts waits for that.
func (s *Service) ActivateAccount(ctx context.Context) error {
	caller := auth.Caller(ctx)
	if caller.Account == nil {
		return auth.AccountNotFound()
	}
	if err := s.Accounts.MayActivate(ctx, caller.Account); err != nil {
		return answer.Activation(err)
	}
	if err := s.Accounts.PayForChange(ctx, caller.Payer()); err != nil {
		return answer.Spent(err)
	}
	if err := s.DIDs.Verify(ctx, caller.DID); err != nil {
		return didError(err)
	}
	if err := s.Accounts.Activate(ctx, caller.DID); err != nil {
		return answer.Activation(err)
	}
	if caller.Account.Held() {
		return nil // nobody is asked about it
	}
	// The cached document may still name the server that the account came from,
	// and clients go to the one that their session's document names.
	if _, err := s.Resolve.Resolve(ctx, caller.DID, true); err != nil {
		s.Log.InfoContext(ctx, "DID document of an activated account may be an old one", "did", caller.DID, "error", err)
	}
	return nil
}

// didError is the answer to a DID that does not fit the account, or that nobody
// could tell of.
func didError(err error) error {
	if wrong, ok := errors.AsType[*account.DIDError](err); ok {
		return xrpc.InvalidRequest(wrong.Message)
	}
	if errors.Is(err, db.ErrNotFound) {
		return auth.AccountNotFound() // deleted since the token was checked
	}
	return answer.Directory(err)
}
