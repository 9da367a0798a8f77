// Package jose reads what clients of OAuth sign: tokens in the compact form (RFC 7515, RFC 7519)
// and the keys that verify them (RFC 7517, RFC 7518).
//
// All of it is sent by strangers. So what could be read in two ways is refused, nothing is looked
// up that a token names, what it costs has a bound, and only a key that fits an algorithm is
// ever asked. The signatures are golang-jwt's and indigo's.
//
// Ours because golang-jwt has no keys, finds methods in one registry for the whole process, where
// those of the AT Protocol's keys are, and takes PSS signatures with any salt.
package jose

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"
)

// Algorithms are those of signatures that clients may use, as metadata and challenges name them.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512"}

// methods are what verifies, by algorithm.
var methods = map[string]interface {
	Verify(text string, signature []byte, key any) error
}{
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": pss(jwt.SigningMethodPS256), "PS384": pss(jwt.SigningMethodPS384), "PS512": pss(jwt.SigningMethodPS512),
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
	"ES256K": es256k{},
}

// pss returns a method that wants a salt as long as the hash, as RFC 7518 does.
func pss(m *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	strict := *m
	strict.VerifyOptions = nil // those of signing count then
	return &strict
}

type es256k struct{}

// Verify takes both of the signatures that a key can make of one: RFC 8812 does not ask for the
// low S of the AT Protocol.
func (es256k) Verify(text string, signature []byte, key any) error {
	k, ok := key.(*atcrypto.PublicKeyK256)
	if !ok || len(signature) != 64 {
		return jwt.ErrSignatureInvalid
	}
	return k.HashAndVerifyLenient([]byte(text), signature)
}

// Errors of tokens, in words for the developer of the client. None has anything of the token in
// it.
var (
	ErrMalformed = errors.New("Invalid Compact JWS") //lint:ignore ST1005 sent as is
	ErrSignature = errors.New("signature verification failed")
	ErrAlgorithm = errors.New(`"alg" (Algorithm) Header Parameter value not allowed`)
)

// MaxToken is how long a token may be.
const MaxToken = 8 << 10

// maxMembers bounds the header and the claims of a token, and a key.
const maxMembers = 64

// A Token is a JWT whose signature nobody has looked at yet.
type Token struct {
	Type      string // typ, "" for none
	Algorithm string // any, not only one of Algorithms
	KeyID     string // kid
	HasKeyID  bool
	Key       []byte // jwk, as it stands there; nil for none

	signed    string
	signature []byte
	payload   string
}

var encoding = base64.RawURLEncoding.Strict()

// decode reads base64url, of which each text has but one form.
func decode(s string) ([]byte, error) {
	// The decoder would pass over these.
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrMalformed
	}
	return encoding.DecodeString(s)
}

// ParseToken reads the header of a token, and no more.
func ParseToken(compact string) (*Token, error) {
	if len(compact) > MaxToken {
		return nil, ErrMalformed
	}
	header, rest, ok1 := strings.Cut(compact, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || strings.Contains(signature, ".") {
		return nil, ErrMalformed
	}
	raw, err := decode(header)
	if err != nil {
		return nil, ErrMalformed
	}
	o, err := ParseObject(raw, maxMembers)
	if err != nil {
		return nil, ErrMalformed
	}
	t := &Token{signed: compact[:len(header)+1+len(payload)], payload: payload}
	if t.signature, err = decode(signature); err != nil {
		return nil, ErrMalformed
	}
	// None is understood, and b64 would change what is signed.
	for _, name := range []string{"crit", "b64"} {
		if _, has := o.Raw(name); has {
			return nil, fmt.Errorf("%q (Header Parameter) is not supported", name)
		}
	}
	var ok bool
	if t.Algorithm, ok = o.Text("alg"); !ok {
		return nil, errors.New(`missing "alg" (Algorithm) in JWS Header`)
	}
	if _, has := o.Raw("typ"); has {
		if t.Type, ok = o.Text("typ"); !ok {
			return nil, ErrMalformed
		}
	}
	if _, t.HasKeyID = o.Raw("kid"); t.HasKeyID {
		if t.KeyID, ok = o.Text("kid"); !ok {
			return nil, ErrMalformed
		}
	}
	t.Key, _ = o.Raw("jwk")
	return t, nil
}

// Verify checks the signature by k, and returns the claims. The algorithm has to be one of
// [Algorithms], to fit k, and to be the one that k names, if it does.
func (t *Token) Verify(k *Key) (Object, error) {
	method, known := methods[t.Algorithm]
	if !known {
		return nil, ErrAlgorithm
	}
	if !k.Takes(t.Algorithm) {
		return nil, ErrSignature
	}
	if err := method.Verify(t.signed, t.signature, k.public); err != nil {
		return nil, ErrSignature
	}
	return t.Unverified()
}

// Unverified returns the claims, whoever made them.
func (t *Token) Unverified() (Object, error) {
	raw, err := decode(t.payload)
	if err != nil {
		return nil, ErrMalformed
	}
	claims, err := ParseObject(raw, maxMembers)
	if err != nil {
		return nil, errors.New("JWT Claims Set must be a top-level JSON object")
	}
	return claims, nil
}

// Signed says whether there is a signature at all: tokens of the algorithm "none" have none.
func (t *Token) Signed() bool { return len(t.signature) != 0 }
