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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"
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

// The headers of our own tokens, encoded: what every client sends back, so worth recognising without parsing.
var (
	accessHeader  = encodeHeader(accessType)
	refreshHeader = encodeHeader(refreshType)
)

func encodeHeader(typ string) string {
	// golang-jwt would sort the keys; typ comes first on the wire.
	return base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"` + typ + `","alg":"HS256"}`))
}

// Issuer issues and verifies the session tokens of one service. All fields are required; it may be used
// concurrently once they are set, provided that Now and Rand may.
type Issuer struct {
	Secret     []byte           // HMAC key
	ServiceDID string           // the aud claim
	Now        func() time.Time // the clock tokens are verified by
	Rand       io.Reader        // source of token ids
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
	return i.sign(accessHeader, payload{
		Scope:    scope,
		Audience: i.ServiceDID,
		Subject:  did.String(),
		Issued:   issuedAt.Unix(),
		Expires:  issuedAt.Add(AccessLifetime).Unix(),
	})
}

// Refresh returns a new refresh token with the given id, valid for [RefreshLifetime] from issuedAt.
func (i *Issuer) Refresh(did syntax.DID, jti string, issuedAt time.Time) string {
	return i.sign(refreshHeader, payload{
		Scope:    Refresh,
		Audience: i.ServiceDID,
		Subject:  did.String(),
		ID:       jti,
		Issued:   issuedAt.Unix(),
		Expires:  issuedAt.Add(RefreshLifetime).Unix(),
	})
}

// payload has the claims in wire order.
type payload struct {
	Scope    Scope  `json:"scope"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	ID       string `json:"jti,omitempty"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

func (i *Issuer) sign(header string, p payload) string {
	claims, err := json.Marshal(p)
	if err != nil {
		panic(err) // strings and integers always marshal
	}
	text := header + "." + base64.RawURLEncoding.EncodeToString(claims)
	signature, err := jwt.SigningMethodHS256.Sign(text, i.Secret)
	if err != nil {
		panic(err) // only for a key that is not []byte
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
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
	return i.verify(token, accessHeader, accessType, allowed, false)
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
	c, err := i.verify(token, refreshHeader, refreshType, Scopes{Refresh}, anyTime)
	if err == nil && c.ID == "" {
		return Claims{}, ErrMissingID
	}
	return c, err
}

func (i *Issuer) verify(token, ownHeader, typ string, allowed Scopes, anyTime bool) (Claims, error) {
	if token == "" {
		return Claims{}, ErrMissing
	}
	header, rest, _ := strings.Cut(token, ".")
	body, signature, ok := strings.Cut(rest, ".")
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	// The signature comes before anything in the claims is believed, or even parsed.
	method := jwt.SigningMethodHS256
	if header != ownHeader {
		if method, ok = readHeader(header, typ); !ok {
			return Claims{}, ErrUnverifiable
		}
	}
	mac, ok := decode(signature)
	if !ok || method.Verify(token[:len(header)+1+len(body)], mac, i.Secret) != nil {
		return Claims{}, ErrUnverifiable
	}
	raw, ok := decode(body)
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	if c, ok := i.readOwnClaims(string(raw), allowed, anyTime); ok {
		return c, nil
	}
	return i.readClaims(raw, allowed, anyTime)
}

// readOwnClaims accepts claims laid out exactly as sign writes them, at a fraction of the cost of a JSON decoder: nearly
// every request carries them. It only ever accepts. Whatever it is not sure of goes to readClaims, which would accept the
// same tokens.
func (i *Issuer) readOwnClaims(raw string, allowed Scopes, anyTime bool) (Claims, bool) {
	rest, ok := strings.CutPrefix(raw, `{"scope":"`)
	if !ok {
		return Claims{}, false
	}
	scope, rest, ok := strings.Cut(rest, `","aud":"`)
	if !ok || !allowed.Has(Scope(scope)) {
		return Claims{}, false
	}
	rest, ok = strings.CutPrefix(rest, i.ServiceDID+`","sub":"`)
	if !ok || !strings.HasPrefix(i.ServiceDID, "did:") {
		return Claims{}, false
	}
	subject, rest, ok := strings.Cut(rest, `","`)
	if !ok {
		return Claims{}, false
	}
	var id string
	if after, ok := strings.CutPrefix(rest, `jti":"`); ok {
		// base64: nothing in it that JSON would escape.
		if id, rest, ok = strings.Cut(after, `","`); !ok || strings.IndexFunc(id, notBase64) >= 0 {
			return Claims{}, false
		}
	}
	rest, ok = strings.CutPrefix(rest, `iat":`)
	if !ok {
		return Claims{}, false
	}
	iat, rest, ok := strings.Cut(rest, `,"exp":`)
	if !ok {
		return Claims{}, false
	}
	exp, ok := strings.CutSuffix(rest, "}")
	if !ok {
		return Claims{}, false
	}
	issued, ok := digits(iat)
	if !ok {
		return Claims{}, false
	}
	expires, ok := digits(exp)
	if !ok || !anyTime && expires <= i.Now().Unix() {
		return Claims{}, false
	}
	did, err := syntax.ParseDID(subject)
	if err != nil {
		return Claims{}, false
	}
	return Claims{
		DID:       did,
		Scope:     Scope(scope),
		ID:        id,
		IssuedAt:  time.Unix(issued, 0).UTC(),
		ExpiresAt: time.Unix(expires, 0).UTC(),
	}, true
}

func notBase64(r rune) bool {
	return !('A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '+' || r == '/')
}

// digits reads a time of this age: exactly ten digits, without sign or leading zero.
func digits(s string) (int64, bool) {
	if len(s) != 10 || s[0] == '0' {
		return 0, false
	}
	var n int64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// readHeader checks a header that is not byte for byte our own: another HMAC, another spelling.
func readHeader(segment, typ string) (*jwt.SigningMethodHMAC, bool) {
	raw, ok := decode(segment)
	if !ok {
		return nil, false
	}
	fields, ok := object(raw)
	if !ok {
		return nil, false
	}
	// RFC 7515 §4.1.11: extensions that must be understood, and we understand none.
	if _, ok := fields["crit"]; ok {
		return nil, false
	}
	got, ok := text(fields["typ"])
	if !ok || strings.TrimPrefix(strings.ToLower(got), "application/") != typ {
		return nil, false
	}
	alg, _ := text(fields["alg"])
	// Only HMACs: "none" and the public-key methods, where the secret would be taken for a public key, stay out.
	switch alg {
	case "HS256":
		return jwt.SigningMethodHS256, true
	case "HS384":
		return jwt.SigningMethodHS384, true
	case "HS512":
		return jwt.SigningMethodHS512, true
	}
	return nil, false
}

func (i *Issuer) readClaims(raw []byte, allowed Scopes, anyTime bool) (Claims, error) {
	// A map, not a struct: encoding/json would take "SUB" for "sub".
	fields, ok := object(raw)
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	audience, single := text(fields["aud"])
	if single {
		if audience != i.ServiceDID {
			return Claims{}, ErrUnverifiable
		}
	} else if several, ok := texts(fields["aud"]); !ok || !slices.Contains(several, i.ServiceDID) {
		return Claims{}, ErrUnverifiable
	}
	issued, ok := seconds(fields, "iat")
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	notBefore, ok := seconds(fields, "nbf")
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	expires, ok := seconds(fields, "exp")
	if !ok {
		return Claims{}, ErrUnverifiable
	}
	if !anyTime {
		now := float64(i.Now().Unix())
		if notBefore != nil && *notBefore > now {
			return Claims{}, ErrUnverifiable
		}
		if expires != nil && *expires <= now {
			return Claims{}, ErrExpired
		}
	}

	// A service token has lxm, a token bound to a client's key has cnf: neither is a session of ours.
	if _, ok := fields["lxm"]; ok {
		return Claims{}, ErrMalformed
	}
	if _, ok := fields["cnf"]; ok {
		return Claims{}, ErrMalformed
	}
	subject, ok := text(fields["sub"])
	if !ok {
		return Claims{}, ErrMalformed
	}
	did, err := syntax.ParseDID(subject)
	if err != nil {
		return Claims{}, ErrMalformed
	}
	if !single || !strings.HasPrefix(audience, "did:") {
		return Claims{}, ErrMalformed
	}
	var id string
	if v, ok := fields["jti"]; ok {
		if id, ok = text(v); !ok {
			return Claims{}, ErrMalformed
		}
	}

	scope, ok := text(fields["scope"])
	if !ok || !allowed.Has(Scope(scope)) {
		return Claims{}, ErrScope
	}
	return Claims{
		DID:       did,
		Scope:     Scope(scope),
		ID:        id,
		IssuedAt:  instant(issued),
		ExpiresAt: instant(expires),
	}, nil
}

// decode reads one segment. Go's decoder skips line breaks; here they are an error, so that a token has one spelling.
func decode(segment string) ([]byte, bool) {
	if strings.ContainsAny(segment, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	return b, err == nil
}

func object(raw []byte) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	err := json.Unmarshal(raw, &m)
	return m, err == nil && m != nil
}

// text reads a JSON string; null, absent and anything else are none.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	// Claims are plain ASCII but for a forger's: no need for the general decoder.
	if inner := raw[1 : len(raw)-1]; !slices.ContainsFunc(inner, func(b byte) bool { return b == '\\' || b >= 0x80 }) {
		return string(inner), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

func texts(raw json.RawMessage) ([]string, bool) {
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		return nil, false
	}
	var out []string
	for _, e := range elements {
		if s, ok := text(e); ok {
			out = append(out, s)
		}
	}
	return out, true
}

// seconds reads a time claim: nil when absent, not ok when it is there and no number.
func seconds(fields map[string]json.RawMessage, name string) (*float64, bool) {
	raw, ok := fields[name]
	if !ok {
		return nil, true
	}
	if string(raw) == "null" {
		return nil, false
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil {
		return nil, false
	}
	return &f, true
}

// instant is a time claim as a time. Beyond the year 9999, where no arithmetic with it is safe, it stays there.
func instant(seconds *float64) time.Time {
	if seconds == nil {
		return time.Time{}
	}
	const last = 253402300799
	return time.Unix(int64(min(max(*seconds, -last), last)), 0).UTC()
}
