package identity

import (
	"context"

	"portico/impl/account/auth"
	"portico/impl/answer"
	"portico/impl/mail/emailcode"
)

// RequestPLCOperationSignature mails the code with which the server signs an
// operation for its owner.
func (s *Service) RequestPLCOperationSignature(ctx context.Context) error {
	caller := auth.Caller(ctx)
	return answer.Mail(s.Codes.Mail(ctx, caller.DID, emailcode.PLCOperation, caller.Payer()))
}
