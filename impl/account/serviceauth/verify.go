// Package serviceauth issues and verifies the signed tokens by which one service acts for an account at another.
//
// Such a token is signed with the account's own signing key, names the service it is for and usually the one method it may be
// used for, and lives for a minute. Verifying one means asking for its issuer's DID document, so everything that needs no
// network is checked first. A key is good for a minute after it has left that document, and no longer. There is no protection against replay within a token's life, as in the reference.
package serviceauth

import (
	"context"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/resolve"
)

// Error is the reason why a token was refused, in the words that a client gets. All of them are answered with status 401.
type Error struct {
	Name    string
	Message string
	Cause   error // not for the client; may be nil
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Name, e.Message, e.Cause)
	}
	return e.Name + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

func poorlyFormatted(cause error) *Error {
	return &Error{Name: "BadJwt", Message: "poorly formatted jwt", Cause: cause}
}

func unresolved(cause error) *Error {
	return &Error{Name: "AuthenticationRequired", Message: "could not resolve iss did", Cause: cause}
}

// Resolver finds DID documents; *resolve.Cache is one.
type Resolver interface {
	// Within returns the document of did as it was fetched less than age ago, and when that was. With no age it is fetched now.
	Within(ctx context.Context, did syntax.DID, age time.Duration) (*resolve.Document, time.Time, error)
}

// maxAge is how old a document may be whose key lets somebody in: as long as a token lives that says no time.
const maxAge = time.Minute

// Verifier verifies tokens that other services send. It may be used concurrently if Resolver and Now may.
type Verifier struct {
	Audiences []string // what aud may be: our service DID (and the entryway's)
	Resolver  Resolver
	Now       func() time.Time
}

// Claims is what a verified token says.
type Claims struct {
	DID      syntax.DID // the issuer
	Service  string     // the fragment behind the issuer's DID, "" if none
	Audience string
	Method   string // "" if none
}

// Verify checks token for a call of method, an NSID as written in the request's path; the empty method stands for any. issuers,
// if there are any, are the only ones accepted, fragment included. A refused token gives an [*Error].
func (v *Verifier) Verify(ctx context.Context, token, method string, issuers ...string) (Claims, error) {
	if token == "" {
		return Claims{}, &Error{Name: "MissingJwt", Message: "missing jwt"}
	}
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return Claims{}, poorlyFormatted(nil)
	}
	alg, err := readHeader(part[0])
	if err != nil {
		return Claims{}, err
	}
	c, err := v.readClaims(part[1], method)
	if err != nil {
		return Claims{}, err
	}
	iss := c.DID.String()
	if c.Service != "" {
		iss += "#" + c.Service
	}
	if len(issuers) > 0 && !slices.Contains(issuers, iss) {
		return Claims{}, &Error{Name: "UntrustedIss", Message: "Untrusted issuer"}
	}

	if err := v.verifySignature(ctx, c, alg, token[:len(part[0])+1+len(part[1])], part[2]); err != nil {
		return Claims{}, err
	}
	if !slices.Contains(v.Audiences, c.Audience) {
		return Claims{}, &Error{Name: "BadJwtAudience", Message: "jwt audience does not match service did"}
	}
	return c, nil
}

// readHeader returns the signature algorithm.
func readHeader(segment string) (alg string, err error) {
	header, err := decode(segment)
	if err != nil {
		return "", poorlyFormatted(err)
	}
	alg, ok := header["alg"].(string)
	if !ok {
		return "", poorlyFormatted(nil)
	}
	// Tokens that a server like ours issues for itself, or binds to a key, are not for showing to others.
	switch header["typ"] {
	case "at+jwt", "refresh+jwt", "dpop+jwt":
		return "", &Error{Name: "BadJwtType", Message: fmt.Sprintf("Invalid jwt type \"%s\"", header["typ"])}
	}
	return alg, nil
}

// readClaims checks everything in the claims that can be checked before the signature.
func (v *Verifier) readClaims(segment, method string) (Claims, error) {
	claims, err := decode(segment)
	if err != nil {
		return Claims{}, poorlyFormatted(err)
	}
	iss, ok1 := claims["iss"].(string)
	aud, ok2 := claims["aud"].(string)
	exp, ok3 := claims["exp"].(float64)
	lxm, ok4 := optional(claims["lxm"])
	_, ok5 := optional(claims["nonce"])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return Claims{}, poorlyFormatted(nil)
	}
	if float64(v.Now().UnixMilli())/1000 > exp {
		return Claims{}, &Error{Name: "JwtExpired", Message: "jwt expired"}
	}
	if method != "" && lxm != method {
		word := "missing"
		if _, ok := claims["lxm"]; ok {
			word = "bad"
		}
		return Claims{}, &Error{Name: "BadJwtLexiconMethod", Message: word + ` jwt lexicon method ("lxm"). must match: ` + method}
	}
	name, fragment, found := strings.Cut(iss, "#")
	did, err := syntax.ParseDID(name)
	if err != nil || found && fragment == "" || strings.Contains(fragment, "#") {
		return Claims{}, &Error{Name: "BadJwtIss", Message: "jwt iss is not a valid did"}
	}
	return Claims{DID: did, Service: fragment, Audience: aud, Method: lxm}, nil
}

// optional reads a claim that must be a string unless it is something that means nothing in JavaScript.
func optional(claim any) (string, bool) {
	switch claim {
	case nil, false, 0.0:
		return "", true
	}
	s, ok := claim.(string)
	return s, ok
}

func decode(segment string) (map[string]any, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(segment, "="))
	if err != nil {
		return nil, err
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("null")
	}
	return m, nil
}

// verifySignature returns nil when sig is the issuer's signature of text. The issuer may have changed its key, be it for one of
// another kind, since its document was fetched: what that one does not bear out is tried with one fetched for this token.
func (v *Verifier) verifySignature(ctx context.Context, c Claims, alg, text, sig string) error {
	began := v.Now()
	doc, fetched, err := v.Resolver.Within(ctx, c.DID, maxAge)
	if err != nil {
		return unresolved(err)
	}
	failure := check(doc, c.Service, alg, text, sig)
	if failure == nil || !fetched.Before(began) {
		return failure
	}
	if doc, _, err = v.Resolver.Within(ctx, c.DID, 0); err != nil {
		return unresolved(err)
	}
	return check(doc, c.Service, alg, text, sig)
}

// check returns nil when sig is the signature of text by the key that doc has for a service of the account, "" for the account.
func check(doc *resolve.Document, service, alg, text, sig string) error {
	name := "atproto"
	if service == "atproto_labeler" {
		name = "atproto_label"
	}
	key, err := doc.Key(name)
	if err != nil {
		return &Error{Name: "AuthenticationRequired", Message: "missing or bad key in did doc", Cause: err}
	}
	if alg != algorithm(key) {
		return &Error{Name: "BadJwtSignature", Message: "could not verify jwt signature"}
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(sig, "="))
	// Other implementations sign with high S, or in DER.
	if err != nil || key.HashAndVerifyLenient([]byte(text), compact(raw)) != nil {
		return &Error{Name: "BadJwtSignature", Message: "jwt signature does not match jwt issuer", Cause: err}
	}
	return nil
}

// compact turns a DER signature into r‖s; what is not DER stays as it is.
func compact(sig []byte) []byte {
	var point struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(sig, &point); err != nil || len(rest) != 0 {
		return sig
	}
	if point.R.Sign() <= 0 || point.S.Sign() <= 0 || point.R.BitLen() > 256 || point.S.BitLen() > 256 {
		return sig
	}
	out := make([]byte, 64)
	point.R.FillBytes(out[:32])
	point.S.FillBytes(out[32:])
	return out
}
