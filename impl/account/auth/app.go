package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"portico/api/xrpc"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/scope"
)

// app returns whose access token a text is that an app sent by the scheme DPoP, with a proof
// that it is the app's (RFC 9449). The proof is looked at first, but noted as used only once
// the token was found good: anybody can make proofs.
func (s *session) app(ctx context.Context, c *xrpc.Call, text string) (Principal, error) {
	g := s.gate
	if g.Grants == nil {
		return Principal{}, xrpc.InvalidToken("Unexpected authorization type")
	}
	c.Header()["Dpop-Nonce"] = []string{g.Proofs.Nonces.Next()}
	proof, err := g.Proofs.Read(c.Request, text)
	if err != nil {
		return Principal{}, challenge(err)
	}
	of, err := g.Grants.Verify(ctx, text, proof.Thumbprint)
	if err != nil {
		return Principal{}, challenge(err)
	}
	if err := g.Proofs.Use(ctx, proof); err != nil {
		return Principal{}, challenge(err)
	}
	p := Principal{DID: of.DID, App: &App{ClientID: of.ClientID, Permissions: g.permissions(of.Granted)}, issued: g.Now()}
	if p.Account, err = g.account(ctx, of.DID); err != nil {
		return Principal{}, err
	}
	if p.Account == nil || p.Account.TakenDown() || !p.App.Permissions.Has(scope.ATProto) {
		return Principal{}, challenge(&grant.Error{Name: "invalid_token", Description: "Invalid token"})
	}
	for _, check := range s.checks {
		if err := check.Verify(p.Account); err != nil {
			return Principal{}, err
		}
	}
	return p, s.apps.verify(p.App)
}

const (
	// keptScopes is how many scopes are kept, of at most so many bytes each. Apps ask all
	// their users for the same.
	keptScopes   = 1000
	maxKeptScope = 8 << 10
)

// permissions reads the scope of a token.
func (g *Gate) permissions(text string) scope.Set {
	if len(text) > maxKeptScope {
		return scope.Parse(text)
	}
	g.once.Do(func() { g.scopes, _ = lru.New[string, scope.Set](keptScopes) }) // fails for a size of 0 alone
	set, ok := g.scopes.Get(text)
	if !ok {
		set = scope.Parse(text)
		g.scopes.Add(text, set)
	}
	return set
}

// Names of OAuth (RFC 6750, RFC 9449).
var oauthErrors = map[string]*xrpc.DeclaredError{
	"invalid_dpop_proof": xrpc.Undeclared("invalid_dpop_proof"),
	"invalid_token":      xrpc.Undeclared("invalid_token"),
	"use_dpop_nonce":     xrpc.Undeclared("use_dpop_nonce"),
}

// challenge is the answer to a token or a proof that is refused: clients read the header.
// Other errors stay what they are.
func challenge(err error) error {
	if errors.Is(err, dpop.ErrFull) {
		return xrpc.NotEnoughResources(time.Minute).Because(err)
	}
	var name, description string
	if refused, ok := errors.AsType[*dpop.Error](err); ok {
		name, description = refused.Name, refused.Description
	} else if refused, ok := errors.AsType[*grant.Error](err); ok {
		name, description = refused.Name, refused.Description
	}
	declared := oauthErrors[name]
	if declared == nil {
		return err
	}
	x := declared.New(http.StatusUnauthorized, description)
	x.Header = http.Header{"Www-Authenticate": {dpop.Challenge(name, description)}}
	return x
}
