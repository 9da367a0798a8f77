package admin

import (
	"context"
	"errors"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
	"portico/impl/budget"
)

// UpdateAccountSigningKey makes the DID of an account name another signing key, and
// the account use it. The private key must be here: one that was reserved, or the
// one that the account has, which mends a DID that names another.
func (s *Service) UpdateAccountSigningKey(ctx context.Context, in *api.UpdateAccountSigningKeyInput) error {
	if err := s.Accounts.PayForChange(ctx, budget.Operator(in.DID)); err != nil {
		return answer.Spent(err)
	}
	err := s.Identities.ChangeSigningKey(ctx, in.DID, in.SigningKey.String())
	switch {
	case errors.Is(err, db.ErrNotFound):
		return accountNotFound()
	case errors.Is(err, account.ErrKeyUnknown):
		return xrpc.InvalidRequest("Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	}
	return answer.DID(err)
}
