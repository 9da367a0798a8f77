package admin

import (
	"context"

	api "portico/api/atproto/admin"
)

// DeleteAccount removes an account for good, and is content when there is none. The
// DID stays as it is.
func (s *Service) DeleteAccount(ctx context.Context, in *api.DeleteAccountInput) error {
	return s.Accounts.Remove(ctx, in.DID)
}
