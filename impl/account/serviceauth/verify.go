// Package serviceauth issues and verifies the signed tokens by which one service acts for an account at another.
//
// Such a token is signed with the account's own signing key, names the service it is for and usually the one method it may be
// used for, and lives for a minute. Verifying one means asking for its issuer's DID document, so everything that needs no
// network is checked first. A key is good for a minute after it has left that document, and no longer. There is no protection against replay within a token's life, as in the reference.
package serviceauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"

	"portico/impl/account/jws"
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
	// Others are what it may be beside them: names that the service had. Nil: none.
	Others   func() []string
	Resolver Resolver
	Now      func() time.Time
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
	c := claims{demand: demand{method, issuers}}
	parsed, err := parse(token, &c)
	if err != nil {
		return Claims{}, err
	}
	if err := v.validate(&c); err != nil {
		return Claims{}, err
	}
	did, service, _ := strings.Cut(c.Issuer, "#")
	said := Claims{DID: syntax.DID(did), Service: service, Audience: c.Audience, Method: c.Method}
	if err := v.verifySignature(ctx, said, parsed); err != nil {
		return Claims{}, err
	}
	if !slices.Contains(v.Audiences, said.Audience) && (v.Others == nil || !slices.Contains(v.Others(), said.Audience)) {
		return Claims{}, &Error{Name: "BadJwtAudience", Message: "jwt audience does not match service did"}
	}
	return said, nil
}

// parse reads a token into c, and no more: what is wrong with its claims is answered before anybody is asked for a key, and
// what is wrong with its alg or its signature, which leaves it without a method or a signature, after that.
func parse(token string, c *claims) (*jwt.Token, error) {
	// Other implementations pad, more or less.
	part := strings.Split(token, ".")
	for n := range part {
		part[n] = strings.TrimRight(part[n], "=")
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(strings.Join(part, "."), c)
	if parsed == nil || parsed.Claims == nil { // not three parts, or no header
		return nil, poorlyFormatted(err)
	}
	if _, ok := parsed.Header["alg"].(string); !ok {
		return nil, poorlyFormatted(err)
	}
	// Tokens that a server like ours issues for itself, or binds to a key, are not for showing to others.
	switch typ := parsed.Header["typ"]; typ {
	case "at+jwt", "refresh+jwt", "dpop+jwt":
		return nil, &Error{Name: "BadJwtType", Message: fmt.Sprintf("Invalid jwt type \"%s\"", typ)}
	}
	if parsed.Method == nil && errors.Is(err, jwt.ErrTokenMalformed) || c.Expires == nil {
		return nil, poorlyFormatted(err)
	}
	parsed.Raw = token // as it was signed, padding included
	return parsed, nil
}

// validate checks everything in the claims that can be checked before the signature.
func (v *Verifier) validate(c *claims) error {
	err := jwt.NewValidator(
		jwt.WithTimeFunc(func() time.Time { return v.Now().Truncate(time.Millisecond) }),
		// A token is good at the very time of its exp, too; a number of seconds is as exact as this.
		jwt.WithLeeway(time.Microsecond),
	).Validate(c)
	if errors.Is(err, jwt.ErrTokenExpired) {
		return &Error{Name: "JwtExpired", Message: "jwt expired"}
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return err
}

// verifySignature returns nil when the issuer signed the token. The issuer may have changed its key, be it for one of
// another kind, since its document was fetched: what that one does not bear out is tried with one fetched for this token.
func (v *Verifier) verifySignature(ctx context.Context, c Claims, token *jwt.Token) error {
	began := v.Now()
	doc, fetched, err := v.Resolver.Within(ctx, c.DID, maxAge)
	if err != nil {
		return unresolved(err)
	}
	failure := check(doc, c.Service, token)
	if failure == nil || !fetched.Before(began) {
		return failure
	}
	if doc, _, err = v.Resolver.Within(ctx, c.DID, 0); err != nil {
		return unresolved(err)
	}
	return check(doc, c.Service, token)
}

// check returns nil when the key that doc has for a service of the account, "" for the account, signed the token.
func check(doc *resolve.Document, service string, token *jwt.Token) error {
	name := "atproto"
	if service == "atproto_labeler" {
		name = "atproto_label"
	}
	key, err := doc.Key(name)
	if err != nil {
		return &Error{Name: "AuthenticationRequired", Message: "missing or bad key in did doc", Cause: err}
	}
	method := jws.MethodOf(key)
	if method == nil || token.Method != method {
		return &Error{Name: "BadJwtSignature", Message: "could not verify jwt signature"}
	}
	text := token.Raw[:strings.LastIndexByte(token.Raw, '.')]
	if err := method.Verify(text, token.Signature, key); err != nil {
		return &Error{Name: "BadJwtSignature", Message: "jwt signature does not match jwt issuer", Cause: err}
	}
	return nil
}
