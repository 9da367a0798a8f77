package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/serviceauth"
	"portico/impl/audit"
)

// Acting says in ctx who the caller turned out to be, for the record. Authenticators
// say so themselves.
func Acting(ctx context.Context, actor string) context.Context {
	return acting(ctx, xrpc.CallFrom(ctx), actor)
}

func acting(ctx context.Context, c *xrpc.Call, actor string) context.Context {
	address := ""
	if c != nil && c.IP.IsValid() {
		address = c.IP.String()
	}
	return audit.With(ctx, audit.Who{Actor: actor, Address: address})
}

// acting says in ctx that the caller turned out to be p.
func (p Principal) acting(ctx context.Context, c *xrpc.Call) context.Context {
	ctx = acting(ctx, c, p.DID.String())
	if p.App != nil {
		ctx = audit.ByApp(ctx, p.App.ClientID)
	}
	return ctx
}

var errUntrustedIssuer = xrpc.Undeclared("UntrustedIss")

// Moderator accepts a service token of the moderation service, or else the
// operator's password.
func (g *Gate) Moderator() xrpc.Authenticator { return &moderator{gate: g} }

type moderator struct{ gate *Gate }

func (*moderator) String() string { return "moderation service or admin" }

func (m *moderator) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	kind, text, err := credential(c)
	if err != nil {
		return nil, err
	}
	if kind != bearer {
		return m.gate.Admin().Authenticate(ctx, c)
	}
	c.Private()
	did := m.gate.ModService
	if did == "" {
		return nil, errUntrustedIssuer.New(http.StatusUnauthorized, "Untrusted issuer")
	}
	claims, err := m.gate.Services.Verify(ctx, text, c.NSID, did.String(), did.String()+"#atproto_labeler")
	if refused, ok := errors.AsType[*serviceauth.Error](err); ok {
		if refused.Name == errUntrustedIssuer.Name() {
			return nil, errUntrustedIssuer.Wrap(http.StatusUnauthorized, refused.Message, refused)
		}
		return nil, serviceError(refused)
	}
	if err != nil {
		return nil, err
	}
	actor := claims.DID
	if claims.Service != "" {
		actor += syntax.DID("#" + claims.Service)
	}
	return acting(ctx, c, actor.String()), nil
}
