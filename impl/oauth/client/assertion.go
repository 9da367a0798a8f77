package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"portico/impl/oauth/jose"
)

// How old what a client signed for this server may be, in seconds, and how long it is remembered.
const (
	assertionAge = 60
	requestAge   = 59
	remembered   = 66 * time.Second
)

// maxAudiences is how many servers a token of a client may be for.
const maxAudiences = 16

// Authenticate checks how the client says who it is in a form, and returns what its
// session is to be bound to: "" for public clients, else "KID ALG THUMBPRINT" of its key. It
// returns an [*Error], or what Pay or Once do.
func (c *Clients) Authenticate(ctx context.Context, to *Client, form url.Values) (key string, err error) {
	if !to.Confidential() {
		return "", nil
	}
	invalid := func(reason string) *Error {
		return refuse("invalid_client", `Validation of "client_assertion" failed: %s`, reason)
	}
	const kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	token, err := jose.ParseToken(form.Get("client_assertion"))
	if form.Get("client_assertion_type") != kind || errors.Is(err, jose.ErrMalformed) {
		return "", refuse("invalid_request", `client authentication method "private_key_jwt" required a "client_assertion"`)
	}
	if err != nil {
		return "", invalid(err.Error())
	}
	if token.KeyID == "" {
		return "", refuse("invalid_client", `"kid" required in client_assertion`)
	}
	signer, claims, reason, err := c.signer(ctx, to, token)
	if err != nil {
		return "", err
	}
	if reason == "" {
		reason = c.check(to, claims, assertionAge)
	}
	if subject, _ := claims.Text("sub"); reason == "" && subject != to.ID {
		reason = unexpected(claims, "sub")
	}
	id, _ := claims.Text("jti")
	if reason == "" && id == "" {
		reason = unexpected(claims, "jti")
	}
	if reason != "" {
		return "", invalid(reason)
	}
	switch unused, err := c.once(ctx, "assertion", to, id, claims); {
	case err != nil:
		return "", err
	case !unused:
		return "", refuse("invalid_grant", "private_key_jwt jti reused")
	}
	return token.KeyID + " " + token.Algorithm + " " + signer.Thumbprint(), nil
}

// once notes that a token was used. It is remembered for longer than it is good.
func (c *Clients) once(ctx context.Context, what string, of *Client, id string, claims jose.Object) (bool, error) {
	sum := sha256.Sum256([]byte(what + "\x00" + of.ID + "\x00" + id))
	issued, _ := claims.Number("iat")
	return c.Once(ctx, sum[:], time.Unix(int64(issued)+1, 0).Add(remembered))
}

// signer returns the key of a client that signed a token, and what the token says; or the reason why
// there is none. The keys are fetched again when none of those that are known fits: the client may
// have a new one.
func (c *Clients) signer(ctx context.Context, of *Client, token *jose.Token) (*jose.Key, jose.Object, string, error) {
	var fitting []*jose.Key
	for _, anew := range []bool{false, true} {
		keys, err := c.keys(ctx, of, anew)
		if err != nil {
			return nil, nil, "", err
		}
		fitting = nil
		for _, key := range keys {
			if key.Takes(token.Algorithm) && (!token.HasKeyID || key.ID == token.KeyID) {
				fitting = append(fitting, key)
			}
		}
		if len(fitting) > 0 {
			break
		}
	}
	switch {
	case !slices.Contains(jose.Algorithms, token.Algorithm):
		return nil, nil, jose.ErrAlgorithm.Error(), nil
	case len(fitting) == 0:
		return nil, nil, "no applicable key found in the JSON Web Key Set", nil
	case len(fitting) > 1:
		return nil, nil, "multiple matching keys found in the JSON Web Key Set", nil
	}
	claims, err := token.Verify(fitting[0])
	if err != nil {
		return nil, nil, err.Error(), nil
	}
	return fitting[0], claims, "", nil
}

// keys are those of a client, as they are published; with anew, as they were half a minute ago
// at most. It returns an [*Error], or what Pay does.
func (c *Clients) keys(ctx context.Context, of *Client, anew bool) ([]*jose.Key, error) {
	if of.Loopback {
		return nil, nil
	}
	c.start()
	if of.Metadata.JWKSURI != "" {
		return c.keySets.get(ctx, of.Metadata.JWKSURI, anew)
	}
	if !anew {
		return of.keys, nil
	}
	now, err := c.find(ctx, of.ID, true)
	if err != nil {
		return nil, err
	}
	return now.keys, nil
}

// check says what is wrong with the claims that tokens of a client have in common, "" for
// nothing. There is no leeway.
func (c *Clients) check(from *Client, claims jose.Object, age float64) string {
	if issuer, _ := claims.Text("iss"); issuer != from.ID {
		return unexpected(claims, "iss")
	}
	if !c.audience(claims) {
		return unexpected(claims, "aud")
	}
	now := float64(c.Now().Unix())
	for _, limit := range []struct {
		name, reason string
		passed       func(seconds float64) bool
	}{
		{"iat", " (it should be in the past)", func(seconds float64) bool { return seconds > now }},
		{"iat", " (too far in the past)", func(seconds float64) bool { return seconds < now-age }},
		{"nbf", "", func(seconds float64) bool { return seconds > now }},
		{"exp", "", func(seconds float64) bool { return seconds <= now }},
	} {
		if _, has := claims.Raw(limit.name); !has {
			if limit.name == "iat" {
				return `missing required "iat" claim`
			}
			continue
		}
		switch seconds, ok := claims.Number(limit.name); {
		case !ok:
			return `"` + limit.name + `" claim must be a number`
		case limit.passed(seconds):
			return `"` + limit.name + `" claim timestamp check failed` + limit.reason
		}
	}
	return ""
}

// audience says whether a token is for this server.
func (c *Clients) audience(claims jose.Object) bool {
	if one, ok := claims.Text("aud"); ok {
		return one == c.Issuer
	}
	list, ok := claims.Texts("aud", maxAudiences)
	return ok && slices.Contains(list, c.Issuer)
}

func unexpected(claims jose.Object, name string) string {
	if _, has := claims.Raw(name); !has {
		return `missing required "` + name + `" claim`
	}
	return `unexpected "` + name + `" claim value`
}

// parts takes apart what Authenticate returned. A name may have blanks in it.
func parts(key string) (id, algorithm, thumbprint string) {
	if i := strings.LastIndexByte(key, ' '); i >= 0 {
		key, thumbprint = key[:i], key[i+1:]
	}
	if i := strings.LastIndexByte(key, ' '); i >= 0 {
		key, algorithm = key[:i], key[i+1:]
	}
	return key, algorithm, thumbprint
}

// SameKey says whether key, as Authenticate returned it, is the one that made a DPoP proof. It
// must not be: who takes one key would have the other as well.
func SameKey(key, thumbprint string) bool {
	_, _, own := parts(key)
	return own != "" && own == thumbprint
}

// Request reads a request object (RFC 9101): the parameters that it has. It returns an [*Error],
// or what Pay or Once do.
func (c *Clients) Request(ctx context.Context, of *Client, object string) (url.Values, error) {
	invalid := func(reason string) *Error {
		return refuse("invalid_request", `Invalid "request" object: %s`, reason)
	}
	token, err := jose.ParseToken(object)
	if err != nil {
		return nil, invalid(err.Error())
	}
	if want := of.Metadata.RequestAlg; want != "" && token.Algorithm != want {
		return nil, invalid(jose.ErrAlgorithm.Error())
	}
	var claims jose.Object
	reason := ""
	switch {
	case token.Algorithm != "none":
		_, claims, reason, err = c.signer(ctx, of, token)
	case of.Metadata.RequestAlg != "none" || token.Signed():
		reason = jose.ErrAlgorithm.Error()
	default:
		claims, err = token.Unverified()
		if err != nil {
			return nil, invalid(err.Error())
		}
	}
	if err != nil {
		return nil, err
	}
	if reason == "" {
		reason = c.check(of, claims, requestAge)
	}
	if reason != "" {
		return nil, invalid(reason)
	}
	parameters, reason := parameters(of, claims)
	if reason != "" {
		return nil, invalid(reason)
	}
	id, _ := claims.Text("jti")
	if id == "" {
		return nil, refuse("invalid_request", `Request object payload must contain a "jti" claim`)
	}
	switch unused, err := c.once(ctx, "request", of, id, claims); {
	case err != nil:
		return nil, err
	case !unused:
		return nil, refuse("invalid_request", "Request object was replayed")
	}
	return parameters, nil
}

// parameters are those of a request in the claims of an object.
func parameters(of *Client, claims jose.Object) (url.Values, string) {
	values := make(url.Values)
	for name, raw := range claims.All() {
		switch name {
		case "iss", "sub", "aud", "iat", "nbf", "exp", "jti":
			continue
		case "request", "request_uri": // RFC 9101, section 4
			return nil, unexpected(claims, name)
		}
		text, ok := claims.Text(name)
		if !ok {
			text = string(raw) // a number, or what has a form of its own
		}
		if text == "null" && !ok {
			continue
		}
		values.Set(name, text)
	}
	if values.Has("client_id") && values.Get("client_id") != of.ID {
		return nil, unexpected(claims, "client_id")
	}
	return values, ""
}
