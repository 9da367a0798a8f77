package identity

import (
	"context"

	api "portico/api/atproto/identity"
	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/budget"
)

// RefreshIdentity is ResolveIdentity of what is published now. Asking others for it is
// paid by the caller's account.
func (s *Service) RefreshIdentity(ctx context.Context, in *api.RefreshIdentityInput) (*api.RefreshIdentityOutput, error) {
	err := s.Accounts.Budgets.Spend(ctx, budget.IdentityChanges.For("refresh"), auth.Caller(ctx).Payer())
	if err != nil {
		return nil, answer.Spent(err)
	}
	return s.identity(ctx, in.Identifier, true, identityErrors{
		api.ErrRefreshIdentityHandleNotFound, api.ErrRefreshIdentityDIDNotFound, api.ErrRefreshIdentityDIDDeactivated,
	})
}
