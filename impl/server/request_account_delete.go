package server

import (
	"context"

	"portico/impl/auth"
)

// RequestAccountDelete mails the code that, with the password, deletes the
// account.
func (s *Service) RequestAccountDelete(ctx context.Context) error {
	return mailError(s.mailCode(ctx, auth.Caller(ctx).DID, purposeDeleteAccount))
}
