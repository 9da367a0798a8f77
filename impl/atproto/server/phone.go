package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account"
	"portico/impl/account/phone"
	"portico/impl/answer"
)

// errInvalidPhone is a name that the lexicon of createAccount does not declare.
var errInvalidPhone = xrpc.Undeclared("InvalidPhoneVerification")

// phoneNumber is the number that a sign-up is to prove, "" where none is asked for. A
// number is asked of everybody, invited or moving here with a DID of their own: codes
// are passed on, and DIDs are free.
func (s *Service) phoneNumber(ctx context.Context, in *api.CreateAccountInput) (phone.Number, error) {
	if s.Phones == nil {
		return "", nil
	}
	typed := xrpc.ValueOf(in.VerificationPhone)
	if typed == "" || xrpc.ValueOf(in.VerificationCode) == "" {
		return "", errInvalidPhone.New(http.StatusBadRequest,
			"Text verification is now required on this server. Please make sure you're using the latest version of the Bluesky app.")
	}
	number, err := phone.Parse(typed)
	if err == nil {
		err = s.Phones.Free(ctx, number, s.caller(ctx))
	}
	return number, s.phoneError(err)
}

// provePhone spends the code that was sent to number and notes in r whose account it is
// going to be. A sign-up that fails after it needs another code.
func (s *Service) provePhone(ctx context.Context, number phone.Number, in *api.CreateAccountInput, r *account.Request) error {
	if s.Phones == nil {
		return nil
	}
	err := s.Phones.Prove(ctx, number, xrpc.ValueOf(in.VerificationCode))
	if errors.Is(err, phone.ErrWrong) {
		return errInvalidPhone.New(http.StatusBadRequest, "Could not verify phone number. Please try again.")
	}
	r.Phone = s.Phones.Claim(number)
	return s.phoneError(err)
}

func (s *Service) phoneError(err error) error {
	if s.Phones == nil {
		return err
	}
	return answer.Phone(err, s.Phones.Max)
}
