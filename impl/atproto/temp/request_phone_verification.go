package temp

import (
	"context"

	api "portico/api/atproto/temp"
	"portico/api/xrpc"
	"portico/impl/account/phone"
	"portico/impl/answer"
)

// RequestPhoneVerification sends a code to a phone number, for createAccount to ask
// for.
func (s *Service) RequestPhoneVerification(ctx context.Context, in *api.RequestPhoneVerificationInput) error {
	if s.Phones == nil {
		return xrpc.InvalidRequest("phone verification not enabled")
	}
	number, err := phone.Parse(in.PhoneNumber)
	if err == nil {
		err = s.Phones.Request(ctx, number, s.Budgets.Caller(xrpc.CallFrom(ctx).IP))
	}
	return answer.Phone(err, s.Phones.Max)
}
