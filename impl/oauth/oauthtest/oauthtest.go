// Package oauthtest is what clients of OAuth do, for tests: it makes keys, and signs proofs and
// assertions, good ones and bad ones.
package oauthtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"
)

// A Key is one of a client.
type Key struct {
	ID        string // kid, "" for none
	Algorithm string
	Public    map[string]any // the JSON Web Key, without kid
	private   any
}

// NewKey makes a key for an algorithm.
func NewKey(tb testing.TB, algorithm string) *Key {
	tb.Helper()
	k := &Key{Algorithm: algorithm}
	var err error
	switch algorithm {
	case "ES256", "ES384", "ES512":
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[algorithm]
		var private *ecdsa.PrivateKey
		if private, err = ecdsa.GenerateKey(curve, rand.Reader); err == nil {
			var point []byte
			point, err = private.PublicKey.Bytes()
			k.private, k.Public = private, ec(curve.Params().Name, point)
		}
	case "ES256K":
		var private *atcrypto.PrivateKeyK256
		if private, err = atcrypto.GeneratePrivateKeyK256(); err == nil {
			var public atcrypto.PublicKey
			if public, err = private.PublicKey(); err == nil {
				k.private, k.Public = private, ec("secp256k1", public.UncompressedBytes())
			}
		}
	default:
		var private *rsa.PrivateKey
		if private, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			k.private, k.Public = private, map[string]any{
				"kty": "RSA", "n": encode(private.N.Bytes()), "e": encode(big.NewInt(int64(private.E)).Bytes()),
			}
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func ec(curve string, point []byte) map[string]any {
	x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
	return map[string]any{"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// JWK is the public key with its kid and alg, as documents of clients have it.
func (k *Key) JWK() map[string]any {
	out := map[string]any{"alg": k.Algorithm, "use": "sig"}
	if k.ID != "" {
		out["kid"] = k.ID
	}
	for name, value := range k.Public {
		out[name] = value
	}
	return out
}

// Thumbprint is that of RFC 7638.
func (k *Key) Thumbprint(tb testing.TB) string {
	tb.Helper()
	// encoding/json sorts the members of a map.
	text, err := json.Marshal(k.Public)
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return encode(sum[:])
}

// Sign makes a token. Of the header, alg is the key's unless it says another one.
func (k *Key) Sign(tb testing.TB, header, claims map[string]any) string {
	tb.Helper()
	head := map[string]any{"alg": k.Algorithm}
	for name, value := range header {
		head[name] = value
	}
	rawHeader, err1 := json.Marshal(head)
	rawClaims, err2 := json.Marshal(claims)
	if err1 != nil || err2 != nil {
		tb.Fatal(err1, err2)
	}
	return k.SignRaw(tb, string(rawHeader), string(rawClaims))
}

// SignRaw makes a token whose header and claims are any text.
func (k *Key) SignRaw(tb testing.TB, header, claims string) string {
	tb.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	var signature []byte
	var err error
	switch private := k.private.(type) {
	case *atcrypto.PrivateKeyK256:
		signature, err = private.HashAndSign([]byte(text))
	case *ecdsa.PrivateKey:
		signature, err = map[string]jwt.SigningMethod{
			"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
		}[k.Algorithm].Sign(text, private)
	case *rsa.PrivateKey:
		signature, err = jwt.GetSigningMethod(k.Algorithm).Sign(text, crypto.PrivateKey(private))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + encode(signature)
}

// SignSalted makes a token by PS256 whose salt has another length than it should.
func (k *Key) SignSalted(tb testing.TB, claims map[string]any, salt int) string {
	tb.Helper()
	rawClaims, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	text := encode([]byte(`{"alg":"PS256"}`)) + "." + encode(rawClaims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPSS(rand.Reader, k.private.(*rsa.PrivateKey), crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: salt})
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + encode(signature)
}

// ID is a new value for jti.
func ID() string { return rand.Text() }

// Proof makes a DPoP proof for a request. token is the access token that goes with it, "" for
// none; nonce may be "" too. Other claims replace those, or take them away where they are nil.
func (k *Key) Proof(tb testing.TB, now time.Time, method, url, nonce, token string, other map[string]any) string {
	tb.Helper()
	claims := map[string]any{"jti": ID(), "htm": method, "htu": url, "iat": now.Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		claims["ath"] = encode(sum[:])
	}
	change(claims, other)
	return k.Sign(tb, map[string]any{"typ": "dpop+jwt", "jwk": k.Public}, claims)
}

// Assertion makes a client assertion (private_key_jwt) for an issuer. Other claims are as those
// of Proof.
func (k *Key) Assertion(tb testing.TB, now time.Time, clientID, issuer string, other map[string]any) string {
	tb.Helper()
	claims := map[string]any{"iss": clientID, "sub": clientID, "aud": issuer, "jti": ID(), "iat": now.Unix()}
	change(claims, other)
	header := map[string]any{}
	if k.ID != "" {
		header["kid"] = k.ID
	}
	return k.Sign(tb, header, claims)
}

func change(claims, other map[string]any) {
	for name, value := range other {
		if value == nil {
			delete(claims, name)
		} else {
			claims[name] = value
		}
	}
}
