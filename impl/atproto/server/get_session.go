package server

import (
	"context"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/oauth/scope"
)

// GetSession tells a client whose session it holds. To a taken-down account it
// does not say so: that is what clients of the reference know. Apps that may not read the
// address are not told anything of it.
func (s *Service) GetSession(ctx context.Context) (*api.GetSessionOutput, error) {
	caller := auth.Caller(ctx)
	a := caller.Account
	if a == nil || a.TakenDown() {
		return nil, xrpc.InvalidRequest("Could not find user info for account: " + caller.DID.String())
	}
	out := &api.GetSessionOutput{
		DID: a.DID, Handle: shownHandle(a), DIDDoc: s.sessionDocument(ctx, a),
		Active: new(a.Active()), Status: shownStatus(a),
	}
	if auth.Permit(ctx, scope.Account{Attr: "email", Action: "read"}) == nil {
		out.Email, out.EmailConfirmed = shownEmail(a), new(a.EmailConfirmedAt != nil)
		out.EmailAuthFactor = xrpc.NonZero(a.EmailAuthFactor)
	}
	return out, nil
}
