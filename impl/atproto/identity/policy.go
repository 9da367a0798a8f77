package identity

import (
	"context"
	"time"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
	"portico/impl/oauth/scope"
)

// Policy says who may call each method of com.atproto.identity, and how often
// where the operator switched request limits on.
type Policy struct{ Gate *auth.Gate }

var _ api.Policy = Policy{}

// Anyone, and of an account in quarantine itself and the operator alone.

func (p Policy) ResolveHandle() xrpc.Policy[api.ResolveHandleParams] {
	return unlimited[api.ResolveHandleParams](p.Gate.Anybody(reading, auth.AnyApp))
}
func (p Policy) ResolveDID() xrpc.Policy[api.ResolveDIDParams] {
	return unlimited[api.ResolveDIDParams](p.Gate.Anybody(reading, auth.AnyApp))
}
func (p Policy) ResolveIdentity() xrpc.Policy[api.ResolveIdentityParams] {
	return unlimited[api.ResolveIdentityParams](p.Gate.Anybody(reading, auth.AnyApp))
}

// Any session.

func (p Policy) GetRecommendedDIDCredentials() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Standard, auth.AnyApp, auth.Exists))
}

// SubmitPLCOperation is open to a taken-down account too: what it submits names
// this server, or is refused.
func (p Policy) SubmitPLCOperation() xrpc.Policy[api.SubmitPLCOperationInput] {
	return unlimited[api.SubmitPLCOperationInput](p.Gate.Session(token.Standard, wholeIdentity, auth.Exists, auth.NotHeld))
}

// UpdateHandle makes the server ask strangers and write to the directory.
func (p Policy) UpdateHandle() xrpc.Policy[api.UpdateHandleInput] {
	return perAccount[api.UpdateHandleInput](p.Gate.Session(token.Standard, auth.AppWith(scope.Identity{Attr: "handle"}), auth.NotTakenDown, auth.NotHeld))
}

// RefreshIdentity goes past every cache, so it is for those whom this server knows.
func (p Policy) RefreshIdentity() xrpc.Policy[api.RefreshIdentityInput] {
	return perAccount[api.RefreshIdentityInput](p.Gate.Session(token.Standard, auth.AnyApp, auth.NotTakenDown, auth.NotHeld))
}

// Sessions with the account password only, be it that of a taken-down account, and apps that
// were given the whole identity: these two are how one moves away.

func (p Policy) RequestPLCOperationSignature() xrpc.Policy[xrpc.None] {
	return unlimited[xrpc.None](p.Gate.Session(token.Full.With(token.Takendown), wholeIdentity, auth.NotHeld))
}
func (p Policy) SignPLCOperation() xrpc.Policy[api.SignPLCOperationInput] {
	return unlimited[api.SignPLCOperationInput](p.Gate.Session(token.Full.With(token.Takendown), wholeIdentity, auth.Exists, auth.NotHeld))
}

var wholeIdentity = auth.AppWith(scope.Identity{Attr: "*"})

// reading is what sessions read with: any.
var reading = token.Standard.With(token.Takendown)

// unlimited has no limit of its own beside the global one.
func unlimited[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}

// perAccount allows each account 10 calls in five minutes and 50 in a day.
func perAccount[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	account := func(ctx context.Context, _ *In) string { return auth.Caller(ctx).DID.String() }
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.Limits[In]{
		{Points: 10, Per: 5 * time.Minute, Key: account},
		{Points: 50, Per: 24 * time.Hour, Key: account},
	}}
}
