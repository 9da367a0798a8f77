// Package jws is what golang-jwt leaves to whoever makes and reads tokens of the AT Protocol: the signing methods ES256K and
// ES256 on the protocol's keys, the form that such tokens have on the wire, and times with fractions.
//
// Both methods are registered with golang-jwt where this package is linked in; its own ES256, which wants other keys, gives way.
package jws

import (
	"bytes"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"
)

// The signing methods of the protocol's two kinds of keys. Their keys are an [atcrypto.PrivateKey] to sign with and an
// [atcrypto.PublicKey] to verify with, of the kind that the method is for; others give [jwt.ErrInvalidKeyType].
//
// Signatures are made as RFC 7518 has them, r‖s with a low S. Those with a high S or in DER verify too: other
// implementations sign so.
var (
	ES256K jwt.SigningMethod = method("ES256K")
	ES256  jwt.SigningMethod = method("ES256")
)

func init() {
	for _, m := range []jwt.SigningMethod{ES256K, ES256} {
		jwt.RegisterSigningMethod(m.Alg(), func() jwt.SigningMethod { return m })
	}
}

// MethodOf returns the method of a private or public key, or nil when the protocol has none for it.
func MethodOf(key any) jwt.SigningMethod {
	switch key.(type) {
	case *atcrypto.PublicKeyK256, *atcrypto.PrivateKeyK256:
		return ES256K
	case *atcrypto.PublicKeyP256, *atcrypto.PrivateKeyP256:
		return ES256
	}
	return nil
}

type method string

func (m method) Alg() string { return string(m) }

func (m method) Sign(text string, key any) ([]byte, error) {
	private, ok := key.(atcrypto.PrivateKey)
	if !ok || MethodOf(key) != m {
		return nil, jwt.ErrInvalidKeyType
	}
	return private.HashAndSign([]byte(text))
}

func (m method) Verify(text string, signature []byte, key any) error {
	public, ok := key.(atcrypto.PublicKey)
	if !ok || MethodOf(key) != m {
		return jwt.ErrInvalidKeyType
	}
	if public.HashAndVerifyLenient([]byte(text), compact(signature)) != nil {
		return jwt.ErrSignatureInvalid
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

// Sign returns a token in the form that it has on the wire: typ before alg, and the claims in the order of their struct with
// nothing escaped that JSON does not want escaped. [jwt.Token.SignedString] would sort the header and write "&" as six letters.
// It fails only if the method, which takes key, does, or the claims cannot be encoded.
func Sign(t *jwt.Token, key any) (string, error) {
	header, err := segment(t, struct {
		Type      any `json:"typ"`
		Algorithm any `json:"alg"`
	}{t.Header["typ"], t.Header["alg"]})
	if err != nil {
		return "", fmt.Errorf("encode header of token: %w", err)
	}
	claims, err := segment(t, t.Claims)
	if err != nil {
		return "", fmt.Errorf("encode claims of token: %w", err)
	}
	text := header + "." + claims
	signature, err := t.Method.Sign(text, key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return text + "." + t.EncodeSegment(signature), nil
}

func segment(t *jwt.Token, v any) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return t.EncodeSegment(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// Date is a time as claims write it: seconds since 1970, with a fraction. Beyond the year 9999, where no arithmetic with it is
// safe, it stays there. ([jwt.NumericDate] drops fractions when it is decoded, and overflows.)
func Date(seconds float64) *jwt.NumericDate {
	const last = 253402300799
	whole, fraction := math.Modf(min(max(seconds, -last), last))
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(fraction*1e9)).UTC()}
}
