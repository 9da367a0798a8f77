package server

import (
	"context"

	"portico/impl/auth"
)

// RequestEmailConfirmation mails the code that confirms the account's address,
// also when it is confirmed already.
func (s *Service) RequestEmailConfirmation(ctx context.Context) error {
	return mailError(s.mailCode(ctx, auth.Caller(ctx).DID, purposeConfirmEmail))
}
