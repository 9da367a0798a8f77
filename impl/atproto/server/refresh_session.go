package server

import (
	"context"
	"errors"
	"net/http"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/session"
)

// RefreshSession exchanges a refresh token for its successor.
func (s *Service) RefreshSession(ctx context.Context) (*api.RefreshSessionOutput, error) {
	old := auth.RefreshToken(ctx)
	a, tokens, err := s.Sessions.Refresh(ctx, old.DID, old.ID)
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, xrpc.InvalidRequest("Could not find user info for account: " + old.DID.String())
	case errors.Is(err, session.ErrTakenDown):
		return nil, api.ErrRefreshSessionAccountTakedown.New(http.StatusUnauthorized, "Account has been taken down")
	case errors.Is(err, session.ErrRevoked):
		return nil, xrpc.ExpiredToken("Token has been revoked")
	case err != nil:
		return nil, err
	}
	return &api.RefreshSessionOutput{
		AccessJWT: tokens.Access, RefreshJWT: tokens.Refresh,
		DID: a.DID, Handle: shownHandle(a), DIDDoc: s.sessionDocument(ctx, a),
		Email: shownEmail(a), EmailConfirmed: new(a.EmailConfirmedAt != nil), EmailAuthFactor: xrpc.NonZero(a.EmailAuthFactor),
		Active: new(a.Active()), Status: shownStatus(a),
	}, nil
}
