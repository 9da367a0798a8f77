package auth

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/token"
)

// Reader lets anybody call, and finds out by an access token with one of the scopes, by that
// of an app, or by the admin password, whose repositories they read also while others may not, see [Owns].
// Credentials that do not hold are refused.
func (g *Gate) Reader(scopes token.Scopes, apps Apps) xrpc.Authenticator {
	return &reader{owner: session{gate: g, scopes: scopes, apps: apps}, operator: admin{gate: g}}
}

type reader struct {
	owner    session
	operator admin
}

func (r *reader) String() string { return "anonymous, " + r.owner.String() + " or admin" }

// A reading is who calls a method of a [Gate.Reader].
type reading struct {
	did      syntax.DID // "" for none
	operator bool
}

func (r *reader) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	c.Private() // of a header that can't be read too
	kind, _, err := credential(c)
	if err != nil {
		return nil, err
	}
	var who reading
	switch kind {
	case none:
	case basic:
		if ctx, err = r.operator.Authenticate(ctx, c); err != nil {
			return nil, err
		}
		who.operator = true
	default:
		if ctx, err = r.owner.Authenticate(ctx, c); err != nil {
			return nil, err
		}
		who.did = Caller(ctx).DID
	}
	return context.WithValue(ctx, readingKey, who), nil
}

// Owns reports whether the caller of a method whose policy is a [Gate.Reader] is signed in
// as did, or is the operator.
func Owns(ctx context.Context, did syntax.DID) bool {
	who := must[reading](ctx, readingKey)
	return who.operator || who.did == did
}
