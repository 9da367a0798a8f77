package server

import (
	"context"

	"portico/impl/account/auth"
)

// DeleteSession signs out: the session ends with all of its refresh tokens. One
// that is already over is no error.
func (s *Service) DeleteSession(ctx context.Context) error {
	return s.Sessions.End(ctx, auth.RefreshToken(ctx).ID)
}
