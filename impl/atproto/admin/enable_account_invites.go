package admin

import (
	"context"

	api "portico/api/atproto/admin"
)

// EnableAccountInvites lets an account earn codes again. Those that it earned in
// between stay disabled.
func (s *Service) EnableAccountInvites(ctx context.Context, in *api.EnableAccountInvitesInput) error {
	return s.setInvitesDisabled(ctx, in.Account, false)
}
