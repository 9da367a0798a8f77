package auth

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/serviceauth"
	"portico/impl/budget"
)

// ServiceOptional accepts a service token, or nobody at all.
func (g *Gate) ServiceOptional() xrpc.Authenticator { return &service{gate: g, optional: true} }

// Service accepts a service token that its issuer signed for this very method.
func (g *Gate) Service() xrpc.Authenticator { return &service{gate: g} }

type service struct {
	gate     *Gate
	optional bool
}

func (s *service) String() string {
	if s.optional {
		return "service token or anonymous"
	}
	return "service token"
}

func (s *service) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	kind, text, err := credential(c)
	if err != nil {
		return nil, err
	}
	c.Private()
	switch {
	case kind == none && s.optional:
		return context.WithValue(ctx, issuerKey, syntax.DID("")), nil
	case kind != bearer && s.optional:
		return nil, xrpc.AuthenticationRequired("Invalid authorization header")
	case kind != bearer:
		return nil, errMissingJWT.New(http.StatusUnauthorized, "missing jwt")
	}
	claims, err := s.gate.Services.Verify(ctx, text, c.NSID)
	if spent, ok := errors.AsType[*budget.Spent](err); ok {
		return nil, xrpc.RateLimitExceeded(spent.Wait).Because(err)
	}
	if refused, ok := errors.AsType[*serviceauth.Error](err); ok {
		return nil, serviceError(refused)
	}
	if err != nil {
		return nil, err
	}
	// A service of an account signs with a key of its own: it is not the account.
	issuer := claims.DID
	if claims.Service != "" {
		issuer += syntax.DID("#" + claims.Service)
	}
	return context.WithValue(ctx, issuerKey, issuer), nil
}

// serviceErrors are the names that a refused service token answers with.
var serviceErrors = map[string]*xrpc.DeclaredError{
	"AuthenticationRequired": xrpc.Undeclared("AuthenticationRequired"),
	"BadJwt":                 xrpc.Undeclared("BadJwt"),
	"BadJwtAudience":         xrpc.Undeclared("BadJwtAudience"),
	"BadJwtIss":              xrpc.Undeclared("BadJwtIss"),
	"BadJwtLexiconMethod":    xrpc.Undeclared("BadJwtLexiconMethod"),
	"BadJwtSignature":        xrpc.Undeclared("BadJwtSignature"),
	"BadJwtType":             xrpc.Undeclared("BadJwtType"),
	"JwtExpired":             xrpc.Undeclared("JwtExpired"),
	"MissingJwt":             errMissingJWT,
}

func serviceError(e *serviceauth.Error) error {
	name, ok := serviceErrors[e.Name]
	if !ok {
		return e // an unknown name is ours to mend, not the caller's to see
	}
	return name.Wrap(http.StatusUnauthorized, e.Message, e)
}
