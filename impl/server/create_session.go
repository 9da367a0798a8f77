package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/password"
	"portico/impl/session"
)

// CreateSession signs in with a handle, an email address or a DID. Nothing in
// the answer or in its time tells a wrong password from an unknown account.
func (s *Service) CreateSession(ctx context.Context, in *api.CreateSessionInput) (*api.CreateSessionOutput, error) {
	if password.Length(in.Password) > password.MaxLogin {
		return nil, xrpc.AuthenticationRequired("Password too long. Consider resetting your password.")
	}
	login, err := s.login(ctx, in.Identifier, in.Password)
	if err != nil {
		return nil, loginError(err, "Invalid identifier or password")
	}
	if err := s.checkAuthFactor(ctx, login, deref(in.AuthFactorToken)); err != nil {
		return nil, err
	}
	tokens, err := s.startSession(ctx, login, in)
	if errors.Is(err, session.ErrStale) {
		// Somebody changed the password while this one was being checked.
		return nil, xrpc.AuthenticationRequired("Invalid identifier or password")
	}
	if err != nil {
		return nil, err
	}
	a := login.account
	return &api.CreateSessionOutput{
		AccessJWT: tokens.Access, RefreshJWT: tokens.Refresh,
		DID: a.DID, Handle: shownHandle(a), DIDDoc: s.sessionDocument(ctx, a.DID),
		Email: shownEmail(a), EmailConfirmed: new(a.EmailConfirmedAt != nil), EmailAuthFactor: new(a.EmailAuthFactor),
		Active: new(a.Active()), Status: shownStatus(a),
	}, nil
}

func (s *Service) startSession(ctx context.Context, login *login, in *api.CreateSessionInput) (*session.Tokens, error) {
	if !login.account.TakenDown() {
		return s.Sessions.Start(ctx, login.account, login.app)
	}
	if in.AllowTakendown != nil && *in.AllowTakendown {
		return s.Sessions.Restricted(login.account)
	}
	return nil, api.ErrCreateSessionAccountTakedown.New(http.StatusUnauthorized, "Account has been taken down")
}
