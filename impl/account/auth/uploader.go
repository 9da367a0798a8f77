package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"

	"portico/api/xrpc"
	"portico/impl/account/token"
)

// Uploader accepts access tokens with one of the scopes, and those of apps, of an account
// that is not taken down, and service tokens that an account here has signed for this very method: other
// services put blobs into it, as one that processes videos. [Caller] is the account,
// without a scope for a service.
func (g *Gate) Uploader(scopes token.Scopes, apps Apps) xrpc.Authenticator {
	return &uploader{owner: session{g, scopes, apps, []Check{NotTakenDown}}, service: service{gate: g}}
}

type uploader struct {
	owner   session
	service service
}

func (u *uploader) String() string { return "service token or " + u.owner.String() }

func (u *uploader) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	kind, text, err := credential(c)
	if err != nil || kind != bearer || !claims(text, "lxm") {
		return u.owner.Authenticate(ctx, c)
	}
	if ctx, err = u.service.Authenticate(ctx, c); err != nil {
		return nil, err
	}
	did := Issuer(ctx)
	p := Principal{DID: did}
	if p.Account, err = u.owner.gate.account(ctx, did); err != nil {
		return nil, err
	}
	if p.Account == nil {
		return nil, AccountNotFound()
	}
	return &signedIn{acting(ctx, c, did.String()), p}, nil
}

// claims reports whether a token has a claim, such as lxm, which those have that one service
// gives another. Nobody has looked yet at who signed it.
func claims(token, name string) bool {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	if !ok {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(payload, "="))
	if err != nil {
		return false
	}
	var said map[string]json.RawMessage
	return json.Unmarshal(raw, &said) == nil && said[name] != nil
}
