// Package token issues and verifies session tokens: the short-lived access token and the long-lived refresh token
// that createAccount, createSession and refreshSession hand out.
//
// It promises the reference's wire format byte for byte (header and claim order included) and its order of checks: each
// failure is one sentinel error, so that whoever answers the client can choose status, name and message by it. A token that
// verifies says what its bearer may do; whether the account still exists, is active, or has revoked the session is
// not looked at here.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"

	"portico/impl/account/jws"
)

// How long tokens live, counted from their issue time.
const (
	AccessLifetime  = 2 * time.Hour
	RefreshLifetime = 90 * 24 * time.Hour
)

// Errors of verification, in the order in which they are found. A token that fails several checks fails with the first.
var (
	// ErrMissing: there is no token.
	ErrMissing = errors.New("no token")
	// ErrUnverifiable: not a JWT, wrong signature, wrong type, not meant for this service, or not valid yet.
	ErrUnverifiable = errors.New("token could not be verified")
	// ErrExpired: genuine, but its time is over.
	ErrExpired = errors.New("token has expired")
	// ErrMalformed: genuine and live, but its claims are not those of a session token.
	ErrMalformed = errors.New("malformed token")
	// ErrScope: the scope is unknown or not among the allowed ones.
	ErrScope = errors.New("bad token scope")
	// ErrMissingID: a refresh token without jti.
	ErrMissingID = errors.New("missing refresh token id")
)

const (
	accessType  = "at+jwt"
	refreshType = "refresh+jwt"
)

// Issuer issues and verifies the session tokens of one service. All fields but Others are required; it may be used
// concurrently once they are set, provided that those which are called may.
type Issuer struct {
	Secret     []byte           // HMAC key
	ServiceDID string           // the aud claim
	Others     func() []string  // what aud may be beside it: names that the service had; nil: none
	Now        func() time.Time // the clock tokens are verified by
	Rand       io.Reader        // source of token ids

	hashes sync.Pool // of keyedHash
}

// Claims is what a verified token says.
type Claims struct {
	DID       syntax.DID // of the account
	Scope     Scope
	ID        string    // jti; always set for refresh tokens
	IssuedAt  time.Time // whole seconds; zero if the token does not say
	ExpiresAt time.Time // whole seconds; zero if the token does not say: it never expires
}

// Access returns a new access token, valid for [AccessLifetime] from issuedAt.
func (i *Issuer) Access(did syntax.DID, scope Scope, issuedAt time.Time) string {
	return i.sign(accessType, &claims{
		Scope:    scope,
		Audience: i.ServiceDID,
		Subject:  did.String(),
		Issued:   jwt.NewNumericDate(issuedAt),
		Expires:  jwt.NewNumericDate(issuedAt.Add(AccessLifetime)),
	})
}

// Refresh returns a new refresh token with the given id, valid for [RefreshLifetime] from issuedAt.
func (i *Issuer) Refresh(did syntax.DID, jti string, issuedAt time.Time) string {
	return i.sign(refreshType, &claims{
		Scope:    Refresh,
		Audience: i.ServiceDID,
		Subject:  did.String(),
		ID:       jti,
		Issued:   jwt.NewNumericDate(issuedAt),
		Expires:  jwt.NewNumericDate(issuedAt.Add(RefreshLifetime)),
	})
}

func (i *Issuer) sign(typ string, c *claims) string {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["typ"] = typ
	text, err := jws.Sign(t, i.Secret)
	if err != nil {
		panic(err) // strings and times of this age always marshal, and the key is []byte
	}
	return text
}

// NewID returns a fresh refresh token id: 32 random bytes as 43 characters of standard base64. It fails only if Rand does.
func (i *Issuer) NewID() (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(i.Rand, b[:]); err != nil {
		return "", fmt.Errorf("make refresh token id: %w", err)
	}
	return base64.RawStdEncoding.EncodeToString(b[:]), nil
}

// SuccessorID returns the id of the token that replaces the refresh token jti. It is the same every time, so parallel
// refreshes agree without anyone storing it, and nobody without the secret can tell it from a [Issuer.NewID].
func (i *Issuer) SuccessorID(jti string) string {
	return base64.RawStdEncoding.EncodeToString(i.mac("refresh token successor", jti))
}

// HashID returns the form in which a refresh token id is stored: 32 bytes that are useless without the secret.
func (i *Issuer) HashID(jti string) []byte {
	return i.mac("refresh token id", jti)
}

// mac is a keyed hash. The purpose keeps its uses, and the signatures of tokens, apart from one another: no token
// contains a NUL.
func (i *Issuer) mac(purpose, text string) []byte {
	h := hmac.New(sha256.New, i.Secret)
	io.WriteString(h, purpose)
	h.Write([]byte{0})
	io.WriteString(h, text)
	return h.Sum(nil)
}

// VerifyAccess verifies an access token whose scope must be one of allowed. It returns ErrMissing, ErrUnverifiable,
// ErrExpired, ErrMalformed or ErrScope.
func (i *Issuer) VerifyAccess(token string, allowed Scopes) (Claims, error) {
	return i.verify(token, accessType, allowed, false)
}

// VerifyRefresh verifies a refresh token. It returns the errors of [Issuer.VerifyAccess] or ErrMissingID.
func (i *Issuer) VerifyRefresh(token string) (Claims, error) {
	return i.verifyRefresh(token, false)
}

// VerifyRefreshAnyTime is VerifyRefresh without a look at the clock, for signing out: an expired session may be ended too.
func (i *Issuer) VerifyRefreshAnyTime(token string) (Claims, error) {
	return i.verifyRefresh(token, true)
}

func (i *Issuer) verifyRefresh(token string, anyTime bool) (Claims, error) {
	c, err := i.verify(token, refreshType, Scopes{Refresh}, anyTime)
	if err == nil && c.ID == "" {
		return Claims{}, ErrMissingID
	}
	return c, err
}

func (i *Issuer) verify(token, typ string, allowed Scopes, anyTime bool) (Claims, error) {
	if token == "" {
		return Claims{}, ErrMissing
	}
	if c, ok := i.readOwn(token, typ, allowed, anyTime); ok {
		return c, nil
	}
	return i.parse(token, typ, allowed, anyTime)
}

// parse verifies a token of any spelling.
func (i *Issuer) parse(token, typ string, allowed Scopes, anyTime bool) (Claims, error) {
	// Go's base64 skips line breaks; here they are an error, so that a token has one spelling.
	if strings.ContainsAny(token, "\r\n") {
		return Claims{}, ErrUnverifiable
	}
	parser := jwt.NewParser(
		// Only HMACs: "none" and the public-key methods, where the secret would be taken for a public key, stay out.
		jwt.WithValidMethods([]string{"HS256", "HS384", "HS512"}),
		jwt.WithStrictDecoding(),
		jwt.WithAudience(i.audiences()...),
		// Whole seconds, as tokens are issued.
		jwt.WithTimeFunc(func() time.Time { return i.Now().Truncate(time.Second) }),
	)
	c := claims{allowed: allowed, anyTime: anyTime}
	_, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		// RFC 7515 §4.1.11: extensions that must be understood, and we understand none.
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("critical extensions")
		}
		got, _ := t.Header["typ"].(string)
		if strings.TrimPrefix(strings.ToLower(got), "application/") != typ {
			return nil, errors.New("token of another type")
		}
		return i.Secret, nil
	})
	if err != nil {
		return Claims{}, refusal(err)
	}
	return Claims{
		DID:       syntax.DID(c.Subject),
		Scope:     c.Scope,
		ID:        c.ID,
		IssuedAt:  wholeSeconds(c.Issued),
		ExpiresAt: wholeSeconds(c.Expires),
	}, nil
}

// audiences are what aud may be.
func (i *Issuer) audiences() []string {
	if i.Others == nil {
		return []string{i.ServiceDID}
	}
	return append([]string{i.ServiceDID}, i.Others()...)
}

// Proof is the answer to a challenge of who wants to know whether a host leads to this service: nobody without the secret
// can give it.
func (i *Issuer) Proof(challenge string) []byte { return i.mac("proof of host", challenge) }

// refusal is the error of verification that the parser's comes to. Claims fail with all that is wrong with them; the first
// counts.
func refusal(err error) error {
	switch {
	case !errors.Is(err, jwt.ErrTokenInvalidClaims),
		errors.Is(err, jwt.ErrTokenInvalidAudience),
		errors.Is(err, jwt.ErrTokenRequiredClaimMissing),
		errors.Is(err, jwt.ErrTokenNotValidYet):
		return ErrUnverifiable
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrExpired
	case errors.Is(err, ErrMalformed):
		return ErrMalformed
	default:
		return ErrScope
	}
}

func wholeSeconds(date *jwt.NumericDate) time.Time {
	if date == nil {
		return time.Time{}
	}
	return date.Truncate(time.Second)
}
