package server

import (
	"context"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account/auth"
)

// GetSession tells a client whose session it holds. To a taken-down account it
// does not say so: that is what clients of the reference know.
func (s *Service) GetSession(ctx context.Context) (*api.GetSessionOutput, error) {
	caller := auth.Caller(ctx)
	a := caller.Account
	if a == nil || a.TakenDown() {
		return nil, xrpc.InvalidRequest("Could not find user info for account: " + caller.DID.String())
	}
	return &api.GetSessionOutput{
		DID: a.DID, Handle: shownHandle(a), DIDDoc: s.sessionDocument(ctx, a),
		Email: shownEmail(a), EmailConfirmed: new(a.EmailConfirmedAt != nil), EmailAuthFactor: xrpc.NonZero(a.EmailAuthFactor),
		Active: new(a.Active()), Status: shownStatus(a),
	}, nil
}
