package auth

import (
	"context"
	"errors"

	"portico/api/xrpc"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
)

// OwnerOrModerator accepts access tokens and apps as [Gate.Session] does, of the account that a
// method is about, and service tokens that the moderation service has signed for this very
// method, which is about any account then: see [Moderates]. A service token that is not
// such a one is refused like any token that is no session's.
func (g *Gate) OwnerOrModerator(scopes token.Scopes, apps Apps, checks ...Check) xrpc.Authenticator {
	return &ownerOrModerator{session{g, scopes, apps, checks}}
}

type ownerOrModerator struct{ owner session }

func (o *ownerOrModerator) String() string { return "moderation service or " + o.owner.String() }

func (o *ownerOrModerator) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	kind, text, err := credential(c)
	if err == nil && kind == bearer && o.owner.gate.ModService != "" && claims(text, "lxm") {
		moderating, err := (&moderator{o.owner.gate}).Authenticate(ctx, c)
		if _, refused := errors.AsType[*serviceauth.Error](err); !refused {
			if err != nil {
				return nil, err
			}
			return context.WithValue(moderating, moderatesKey, true), nil
		}
	}
	ctx, err = o.owner.Authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, moderatesKey, false), nil
}

// Moderates reports whether the caller of a method whose policy is a
// [Gate.OwnerOrModerator] is the moderation service. If it is not, [Caller] is the account.
func Moderates(ctx context.Context) bool { return must[bool](ctx, moderatesKey) }
