package servertest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/budget"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/oauthtest"
)

// letIn are the apps of [Server.LetIn].
type letIn struct {
	key  *oauthtest.Key // of all of them
	apps map[access]*App
}

type access struct {
	did   syntax.DID
	scope string
}

// LetIn is an app that was let into the account of u with a scope, without its asking: the same
// each time. The account has to be active the first time.
func (s *Server) LetIn(u User, scope string) *App {
	s.Helper()
	if s.letIn.key == nil {
		s.letIn = letIn{oauthtest.NewKey(s, "ES256"), map[access]*App{}}
	}
	if a := s.letIn.apps[access{u.DID, scope}]; a != nil {
		return a
	}
	a := &App{s: s, ID: "https://app.example/client.json", Redirect: "https://app.example/back", Scope: scope, Key: s.letIn.key, DID: u.DID}
	ctx, key, browser := s.Context(), a.Key.Thumbprint(s), []byte(rand.Text())
	a.Verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(a.Verifier))
	uri, err := s.Grants.Push(ctx, budget.Payer{}, grant.Request{ClientID: a.ID, DPoPKey: key, Parameters: grant.Parameters{
		RedirectURI: a.Redirect, Scope: scope, CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:]),
	}})
	s.Check(err)
	r, err := s.Grants.Open(ctx, uri, a.ID, browser)
	s.Check(err)
	proved := s.Now()
	if valid := s.Account(u.DID).TokensValidFrom; proved.Before(valid) {
		proved = valid
	}
	code, err := s.Grants.Approve(ctx, r, browser, grant.Answer{DID: u.DID, ProvedAt: proved, Scope: scope, Granted: scope})
	s.Check(err)
	tokens, err := s.Grants.Redeem(ctx, grant.Exchange{ClientID: a.ID, DPoPKey: key, Refreshes: true}, code, a.Redirect, a.Verifier)
	s.Check(err)
	a.Access, a.Refresh, a.Granted = tokens.Access, tokens.Refresh, tokens.Scope
	s.letIn.apps[access{u.DID, scope}] = a
	return a
}

// ProofWith is a proof for a request to a method, in which claims take the place of the usual
// ones, or take them away where they are nil.
func (a *App) ProofWith(verb, method string, claims map[string]any) string {
	a.s.Helper()
	all := map[string]any{"nonce": a.s.Proofs.Nonces.Next()}
	maps.Copy(all, claims)
	return a.Key.Proof(a.s, a.s.Now(), verb, Endpoint+"/xrpc/"+method, "", a.Access, all)
}

// Credential is [App.Credentials] as one text, which [Server.Call] takes.
func (a *App) Credential(verb, method string) string {
	a.s.Helper()
	return strings.Join(a.Credentials(verb, method), "\n")
}
