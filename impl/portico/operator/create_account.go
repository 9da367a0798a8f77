package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/password"
	"portico/impl/answer"
	"portico/impl/identity/handle"
	"portico/impl/mail/email"
)

// CreateAccount makes an account for somebody. What sign-up asks of strangers, an
// invite code or a phone number, it does not ask of the operator, who spends no budget
// either; a code that is given is used up.
func (s *Service) CreateAccount(ctx context.Context, in *api.CreateAccountInput) (*api.CreateAccountOutput, error) {
	if err := answer.NewPassword(in.Password, s.PasswordMinLength()); err != nil {
		return nil, err
	}
	if !email.Valid(in.Email) {
		return nil, xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	}
	choice, err := s.choose(ctx, in.Handle, xrpc.ValueOf(in.AllowReserved))
	if err != nil {
		return nil, answer.Handle(err, in.Handle)
	}
	r := account.Request{
		Handle: choice.Handle, Email: email.Normalize(in.Email), InviteCode: xrpc.ValueOf(in.InviteCode),
		RecoveryKey: xrpc.ValueOf(in.RecoveryKey), NoSession: true,
		Hold: func(ctx context.Context, tx *db.Tx) error { return s.holdDomain(ctx, tx, choice) },
	}
	if err := s.DB.Available(ctx, r.Handle, r.Email); err != nil {
		return nil, creationError(err, in)
	}
	if r.PasswordHash, err = s.Passwords.Hash(ctx, password.Caller{Known: true}, in.Password); err != nil {
		return nil, answer.Spent(fmt.Errorf("hash password: %w", err))
	}
	created, err := s.Accounts.Create(ctx, r)
	if err != nil {
		return nil, creationError(err, in)
	}
	return &api.CreateAccountOutput{DID: created.Account.DID, Handle: created.Account.Handle}, nil
}

// choose applies the rules for handles: the operator may give away any under the
// server's domains, special ones if that is meant.
func (s *Service) choose(ctx context.Context, h syntax.Handle, special bool) (handle.Choice, error) {
	domains := s.Domains.Current(ctx)
	choice, err := s.Handles.Check(domains, h.String(), true)
	switch {
	case err != nil:
		return choice, err
	case !choice.Local:
		return choice, handle.ErrUnsupportedDomain // nobody could prove it yet
	case !special:
		return choice, s.Handles.Ordinary(domains, choice)
	}
	return choice, nil
}

// holdDomain makes sure that the domain of a handle is there when the handle is taken.
func (s *Service) holdDomain(ctx context.Context, tx *db.Tx, c handle.Choice) error {
	if c.Domain == "" {
		return nil // the server's own name
	}
	_, err := s.Domains.Hold(ctx, tx, c.Domain, c.Handle, "")
	return err
}

func creationError(err error, in *api.CreateAccountInput) error {
	switch {
	case errors.Is(err, db.ErrEmailTaken):
		return xrpc.InvalidRequest("Email already taken: " + in.Email)
	case errors.Is(err, db.ErrInviteUnavailable):
		return api.ErrCreateAccountInvalidInviteCode.New(http.StatusBadRequest, "Provided invite code not available")
	}
	return answer.Handle(err, in.Handle)
}
