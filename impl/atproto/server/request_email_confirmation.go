package server

import (
	"context"

	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/mail/emailcode"
)

// RequestEmailConfirmation mails the code that confirms the account's address,
// also when it is confirmed already.
func (s *Service) RequestEmailConfirmation(ctx context.Context) error {
	caller := auth.Caller(ctx)
	return answer.Mail(s.Codes.Mail(ctx, caller.DID, emailcode.ConfirmEmail, caller.Payer()))
}
