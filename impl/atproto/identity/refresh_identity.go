package identity

import (
	"context"

	api "portico/api/atproto/identity"
)

// RefreshIdentity is ResolveIdentity of what is published now.
func (s *Service) RefreshIdentity(ctx context.Context, in *api.RefreshIdentityInput) (*api.RefreshIdentityOutput, error) {
	return s.identity(ctx, in.Identifier, true, identityErrors{
		api.ErrRefreshIdentityHandleNotFound, api.ErrRefreshIdentityDIDNotFound, api.ErrRefreshIdentityDIDDeactivated,
	})
}
