package server

import (
	"context"

	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/mail/emailcode"
)

// RequestAccountDelete mails the code that, with the password, deletes the
// account.
func (s *Service) RequestAccountDelete(ctx context.Context) error {
	caller := auth.Caller(ctx)
	return answer.Mail(s.Codes.Mail(ctx, caller.DID, emailcode.DeleteAccount, caller.Payer()))
}
