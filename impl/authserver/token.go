package authserver

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"time"

	"portico/impl/budget"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
)

// verifierPattern is that of RFC 7636 §4.1.
var verifierPattern = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// elsewhere are grants that other servers know.
var elsewhere = []string{
	"password", "client_credentials", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer",
	"urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:device_code",
	"urn:ietf:params:oauth:grant-type:token-exchange",
}

// token exchanges codes and refresh tokens (RFC 6749 §4.1.3, §6). What the client fails at before
// its code or token is looked at leaves that as good as it was.
func (s *server) token(r *http.Request, sent form) (int, any, error) {
	ctx := r.Context()
	if sent["client_id"] == "" {
		return 0, nil, invalidGrant("Client credentials missing: client_id is required")
	}
	kind, err := sent.must("grant_type")
	if err != nil {
		return 0, nil, err
	}
	var code, redirect, verifier, refresh string
	switch {
	case kind == "authorization_code":
		verifier = sent["code_verifier"]
		if code, err = sent.must("code"); err != nil {
			return 0, nil, err
		}
		if redirect, err = sent.must("redirect_uri"); err != nil {
			return 0, nil, err
		}
		if verifier != "" && !verifierPattern.MatchString(verifier) {
			return 0, nil, invalid("Invalid format at body.code_verifier")
		}
	case kind == "refresh_token":
		if refresh, err = sent.must("refresh_token"); err != nil {
			return 0, nil, err
		}
	case slices.Contains(elsewhere, kind):
		return 0, nil, invalidGrant("Grant type " + quoted(kind) + " is not supported by the server")
	default:
		return 0, nil, invalid("Unknown value at body.grant_type")
	}
	proof, err := s.Proofs.Read(r, "")
	if err != nil {
		return 0, nil, err
	}
	from, key, err := s.client(r, sent, proof)
	if err != nil {
		return 0, nil, err
	}
	payer, pays := s.payer(ctx), guesses(key)
	// Neighbours of an address who make some up do not keep from others what is theirs.
	if spent := s.Budgets.Left(ctx, pays, payer); spent != nil {
		good, err := s.Grants.Good(ctx, code+refresh) // one of them is empty
		if err != nil {
			return 0, nil, err
		}
		if !good {
			return 0, nil, spent
		}
	}
	if err := s.Proofs.Use(ctx, proof); err != nil {
		return 0, nil, err
	}
	if !slices.Contains(from.Metadata.GrantTypes, kind) {
		return 0, nil, refuse("unauthorized_client", "The client did not register the grant type "+quoted(kind))
	}
	x := grant.Exchange{
		ClientID: from.ID, ClientKey: key, DPoPKey: proof.Thumbprint, Confidential: from.Confidential(),
		Refreshes: slices.Contains(from.Metadata.GrantTypes, "refresh_token"),
	}
	var got *grant.Tokens
	if kind == "authorization_code" {
		got, err = s.Grants.Redeem(ctx, x, code, redirect, verifier)
	} else {
		got, err = s.Grants.Refresh(ctx, x, refresh)
	}
	if _, refused := errors.AsType[*grant.Error](err); refused {
		if err := s.Budgets.Spend(context.WithoutCancel(ctx), pays, payer); err != nil {
			return 0, nil, err
		}
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		Access    string `json:"access_token"`
		Type      string `json:"token_type"`
		Refresh   string `json:"refresh_token,omitempty"`
		Scope     string `json:"scope"`
		ExpiresIn int64  `json:"expires_in"`
		Subject   string `json:"sub"`
	}{got.Access, "DPoP", got.Refresh, got.Scope, int64(got.ExpiresIn / time.Second), got.DID.String()}, nil
}

// guesses is what codes and tokens that nobody has are paid with. A client that proved who it
// is asks from one address for all of its users.
func guesses(key string) budget.Budget {
	if key != "" {
		return budget.KeyedRequests
	}
	return budget.WrongGrants
}

// client is the one that a request comes from, and what it proved itself with beside the proof.
func (s *server) client(r *http.Request, sent form, proof *dpop.Proof) (*client.Client, string, error) {
	from, err := s.Clients.Find(r.Context(), sent["client_id"])
	if err != nil {
		return nil, "", err
	}
	key, err := s.Clients.Authenticate(r.Context(), from, sent.values())
	if err == nil && client.SameKey(key, proof.Thumbprint) {
		err = invalidRequest("The DPoP key must not be the key of the client assertion")
	}
	return from, key, err
}

// revoke ends the session of a token (RFC 7009). A client learns nothing of tokens that are not
// its own, and needs no proof to be told that: without a good one nothing happens. A nonce that
// is over is told all the same, or the session of a client that signs out late would go on.
func (s *server) revoke(r *http.Request, sent form) (int, any, error) {
	for _, name := range []string{"client_id", "token"} {
		if _, err := sent.must(name); err != nil {
			return 0, nil, err
		}
	}
	done := struct{}{}
	ctx := r.Context()
	proof, err := s.Proofs.Read(r, "")
	if e, ok := err.(*dpop.Error); ok && e.Name != "use_dpop_nonce" {
		return http.StatusOK, done, nil
	}
	if err != nil {
		return 0, nil, err
	}
	from, key, err := s.client(r, sent, proof)
	if err != nil {
		return 0, nil, err
	}
	// Whether there was such a token shows in nothing, so each one counts.
	if err := s.Budgets.Spend(context.WithoutCancel(ctx), guesses(key), s.payer(ctx)); err != nil {
		return 0, nil, err
	}
	err = s.Proofs.Use(ctx, proof)
	if e, ok := err.(*dpop.Error); ok && e.Name != "use_dpop_nonce" {
		return http.StatusOK, done, nil
	}
	if err != nil {
		return 0, nil, err
	}
	x := grant.Exchange{ClientID: from.ID, ClientKey: key, DPoPKey: proof.Thumbprint, Confidential: from.Confidential()}
	if err := s.Grants.Revoke(ctx, x, sent["token"]); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, done, nil
}
