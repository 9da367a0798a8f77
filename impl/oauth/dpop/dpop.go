// Package dpop checks the proofs by which clients show that a token is theirs (RFC 9449).
//
// A proof is a JWT that a client's key signed for one request, with a nonce of this server in it.
// Each is good once: [Verifier.Once] remembers them. [Memory] does for a server of one process;
// several have to remember together. All that is parsed is strangers', and costs one signature
// that is verified at most.
package dpop

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"portico/impl/oauth/jose"
)

// Algorithms are those of proofs, as metadata and challenges name them.
var Algorithms = jose.Algorithms

// An Error refuses a proof: Name is invalid_dpop_proof or use_dpop_nonce. Both go to the client.
type Error struct{ Name, Description string }

func (e *Error) Error() string { return e.Name + ": " + e.Description }

// Challenge is the WWW-Authenticate header of an answer that refuses a request with an error.
func Challenge(name, description string) string {
	challenge := `DPoP algs="` + strings.Join(Algorithms, " ") + `", error="` + name + `"`
	// A header has no room for what would have to be escaped; the body says it.
	for _, c := range []byte(description) {
		if c == '"' || c == '\\' || c < ' ' || c > '~' {
			return challenge
		}
	}
	return challenge + `, error_description="` + description + `"`
}

// A Proof is one that was found good.
type Proof struct {
	Thumbprint string // of the key

	id    []byte
	until time.Time
}

// A Verifier checks proofs. It is safe for concurrent use.
type Verifier struct {
	// URL is the origin of this server as clients see it. What a proof names is compared with it, and with
	// no header of the request.
	URL string
	Now func() time.Time
	// Nonces are what proofs have to have.
	Nonces *Nonces
	// Once notes that the proof with this id was used, and says false if it had been before. An id
	// is to be remembered until then. It may return [ErrForgotten].
	Once func(ctx context.Context, id []byte, until time.Time) (bool, error)
}

// How far the clock of a client may be from ours, in seconds.
const (
	behind = 190
	ahead  = 180
)

// Check looks at the proof of a request: token is the access token that comes with it, "" at the
// endpoints of the authorization server. A missing proof, and every fault of one, is an [*Error];
// the first counts, in this order: form and signature, time, what it is for, nonce, access
// token, use before. Other errors are those of Once.
func (v *Verifier) Check(ctx context.Context, r *http.Request, token string) (*Proof, error) {
	p, err := v.Read(r, token)
	if err == nil {
		err = v.Use(ctx, p)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Read is Check without a look at whether the proof was used before, which [Verifier.Use] has.
// Where the access token has to be good too, that is looked at in between: anybody can sign
// proofs, and what nobody else answers for is not remembered.
func (v *Verifier) Read(r *http.Request, token string) (*Proof, error) {
	key, claims, err := open(r.Header.Values("DPoP"))
	if err != nil {
		return nil, err
	}
	if reason := untimely(claims, v.Now()); reason != "" {
		return nil, unverified(reason)
	}
	nonce, text := claims.Text("nonce")
	if _, has := claims.Raw("nonce"); has && !text {
		return nil, invalid(`Invalid DPoP "nonce" type`)
	}
	id, _ := claims.Text("jti")
	if id == "" {
		return nil, invalid(`DPoP "jti" missing`)
	}
	if method, _ := claims.Text("htm"); method != r.Method {
		return nil, invalid(`DPoP "htm" mismatch`)
	}
	address, _ := claims.Text("htu")
	if fault := elsewhere(address, v.URL, r.URL.EscapedPath()); fault != "" {
		return nil, invalid(fault)
	}
	if nonce == "" {
		return nil, &Error{"use_dpop_nonce", "Authorization server requires nonce in DPoP proof"}
	}
	until, good := v.Nonces.until(nonce)
	if !good {
		return nil, stale()
	}
	if fault := unbound(claims, token); fault != "" {
		return nil, invalid(fault)
	}
	p := &Proof{Thumbprint: key.Thumbprint(), until: until}
	// The same jti by another key is another proof: nobody uses up what others will send.
	sum := sha256.Sum256([]byte(p.Thumbprint + id))
	p.id = sum[:]
	return p, nil
}

// Use notes that a proof was used, and refuses one that had been before.
func (v *Verifier) Use(ctx context.Context, p *Proof) error {
	switch fresh, err := v.Once(ctx, p.id, p.until); {
	case errors.Is(err, ErrForgotten):
		return stale()
	case err != nil:
		return err
	case !fresh:
		return invalid("DPoP proof replayed")
	}
	return nil
}

func invalid(description string) *Error { return &Error{"invalid_dpop_proof", description} }

func unverified(reason string) *Error { return invalid("Failed to verify DPoP proof: " + reason) }

func stale() *Error { return &Error{"use_dpop_nonce", `DPoP "nonce" mismatch`} }

// open returns what a proof says, and the key in it, which has signed that.
func open(headers []string) (*jose.Key, jose.Object, error) {
	switch {
	case len(headers) == 0:
		return nil, nil, invalid("DPoP proof required")
	case len(headers) > 1:
		return nil, nil, unverified("more than one was sent")
	case headers[0] == "":
		return nil, nil, invalid("DPoP header cannot be empty")
	}
	t, err := jose.ParseToken(headers[0])
	if err != nil {
		return nil, nil, unverified(err.Error())
	}
	if !strings.EqualFold(t.Type, "dpop+jwt") {
		return nil, nil, unverified(`unexpected "typ" JWT header value`)
	}
	if !slices.Contains(Algorithms, t.Algorithm) {
		return nil, nil, unverified(jose.ErrAlgorithm.Error())
	}
	if t.Key == nil {
		return nil, nil, unverified(`"jwk" (JSON Web Key) Header Parameter must be a JSON object`)
	}
	key, err := jose.ParseKey(t.Key)
	if err != nil {
		return nil, nil, unverified(`"jwk" (JSON Web Key) Header Parameter must be a public key: ` + err.Error())
	}
	claims, err := t.Verify(key)
	if err != nil {
		return nil, nil, unverified(err.Error())
	}
	return key, claims, nil
}

// untimely says what is wrong with the times of a proof, "" for nothing.
func untimely(claims jose.Object, at time.Time) string {
	now := float64(at.Unix())
	if _, has := claims.Raw("iat"); !has {
		return `missing required "iat" claim`
	}
	issued, ok := claims.Number("iat")
	switch {
	case !ok:
		return `"iat" claim must be a number`
	case issued < now-behind:
		return `"iat" claim timestamp check failed (too far in the past)`
	case issued > now+ahead:
		return `"iat" claim timestamp check failed (it should be in the past)`
	}
	for _, limit := range []struct {
		name string
		good func(seconds float64) bool
	}{
		{"nbf", func(seconds float64) bool { return seconds <= now+ahead }},
		{"exp", func(seconds float64) bool { return seconds > now-ahead }},
	} {
		if _, has := claims.Raw(limit.name); !has {
			continue
		}
		switch seconds, ok := claims.Number(limit.name); {
		case !ok:
			return `"` + limit.name + `" claim must be a number`
		case !limit.good(seconds):
			return `"` + limit.name + `" claim timestamp check failed`
		}
	}
	return ""
}

// unbound says what is wrong with the hash of the access token in a proof, "" for nothing.
func unbound(claims jose.Object, token string) string {
	if token == "" {
		if _, has := claims.Raw("ath"); has {
			return `DPoP "ath" claim not allowed`
		}
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	if hash, _ := claims.Text("ath"); hash != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return `DPoP "ath" mismatch`
	}
	return ""
}
