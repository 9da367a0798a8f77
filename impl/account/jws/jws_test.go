package jws

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/golang-jwt/jwt/v5"
)

// keys are a fresh pair of each kind.
func keys(tb testing.TB) (k256, p256 atcrypto.PrivateKey) {
	tb.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		tb.Fatal(err)
	}
	p, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		tb.Fatal(err)
	}
	return k, p
}

func public(tb testing.TB, key atcrypto.PrivateKey) atcrypto.PublicKey {
	tb.Helper()
	pub, err := key.PublicKey()
	if err != nil {
		tb.Fatal(err)
	}
	return pub
}

func TestMethods(t *testing.T) {
	k256, p256 := keys(t)
	for _, tt := range []struct {
		alg        string
		key, other atcrypto.PrivateKey
	}{
		{"ES256K", k256, p256},
		{"ES256", p256, k256},
	} {
		t.Run(tt.alg, func(t *testing.T) {
			m := jwt.GetSigningMethod(tt.alg)
			if m == nil || m.Alg() != tt.alg || m != MethodOf(tt.key) || m != MethodOf(public(t, tt.key)) {
				t.Fatalf("method %v, of the keys %v, %v", m, MethodOf(tt.key), MethodOf(public(t, tt.key)))
			}
			sig, err := m.Sign("text", tt.key)
			if err != nil || len(sig) != 64 || public(t, tt.key).HashAndVerify([]byte("text"), sig) != nil { // strict: low S
				t.Fatalf("signature %x, %v", sig, err)
			}
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []struct {
				name, text string
				sig        []byte
				key        any
				want       error
			}{
				{"good", "text", sig, public(t, tt.key), nil},
				{"DER", "text", der, public(t, tt.key), nil},
				{"another text", "test", sig, public(t, tt.key), jwt.ErrSignatureInvalid},
				{"none", "text", nil, public(t, tt.key), jwt.ErrSignatureInvalid},
				{"short", "text", sig[:63], public(t, tt.key), jwt.ErrSignatureInvalid},
				{"DER with more behind it", "text", append(der, 0), public(t, tt.key), jwt.ErrSignatureInvalid},
				{"key of the other kind", "text", sig, public(t, tt.other), jwt.ErrInvalidKeyType},
				{"private key", "text", sig, tt.key, jwt.ErrInvalidKeyType},
				{"no key", "text", sig, nil, jwt.ErrInvalidKeyType},
				{"a secret", "text", sig, []byte("secret"), jwt.ErrInvalidKeyType},
			} {
				if err := m.Verify(v.text, v.sig, v.key); !errors.Is(err, v.want) {
					t.Errorf("%s: %v, want %v", v.name, err, v.want)
				}
			}
			for name, key := range map[string]any{"key of the other kind": tt.other, "public key": public(t, tt.key), "none": nil} {
				if _, err := m.Sign("text", key); !errors.Is(err, jwt.ErrInvalidKeyType) {
					t.Errorf("signing with %s: %v", name, err)
				}
			}
		})
	}
	if m := MethodOf("key"); m != nil {
		t.Errorf("a text has the method %v", m)
	}
}

// Whatever else reads a token of ours finds it good, and in the order of its struct.
func TestSign(t *testing.T) {
	k256, _ := keys(t)
	token, err := Sign(jwt.NewWithClaims(ES256K, struct {
		jwt.MapClaims `json:"-"`
		Subject       string `json:"sub"`
		Audience      string `json:"aud"`
	}{nil, "<x>", "a&b"}), k256)
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Split(token, ".")
	for n, want := range []string{`{"typ":"JWT","alg":"ES256K"}`, `{"sub":"<x>","aud":"a&b"}`} {
		if got, err := base64.RawURLEncoding.DecodeString(part[n]); err != nil || string(got) != want {
			t.Errorf("part %d: %s, %v", n, got, err)
		}
	}
	claims := jwt.MapClaims{}
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"ES256K"}), jwt.WithAudience("a&b")).ParseWithClaims(token, claims,
		func(*jwt.Token) (any, error) { return public(t, k256), nil })
	if err != nil || claims["sub"] != "<x>" {
		t.Errorf("%v, %v", claims, err)
	}
	if _, err := Sign(jwt.NewWithClaims(ES256, jwt.MapClaims{}), k256); !errors.Is(err, jwt.ErrInvalidKeyType) {
		t.Errorf("signed with a key of the other kind: %v", err)
	}
	if _, err := Sign(jwt.NewWithClaims(ES256K, jwt.MapClaims{"x": func() {}}), k256); err == nil {
		t.Error("signed what cannot be encoded")
	}
}

func TestDate(t *testing.T) {
	for seconds, want := range map[float64]string{
		0:            "1970-01-01T00:00:00Z",
		1795383345:   "2026-11-22T21:35:45Z",
		1795383345.5: "2026-11-22T21:35:45.5Z",
		-1.5:         "1969-12-31T23:59:58.5Z",
		1e300:        "9999-12-31T23:59:59Z",
	} {
		if got := Date(seconds).Format(time.RFC3339Nano); got != want {
			t.Errorf("%v: %s, want %s", seconds, got, want)
		}
	}
	if !Date(-1e300).Before(Date(-1).Time) {
		t.Error("long ago is not before 1970")
	}
}

func FuzzVerify(f *testing.F) {
	k256, p256 := keys(f)
	f.Add([]byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, sig []byte) {
		if len(compact(sig)) > max(64, len(sig)) {
			t.Errorf("%x is compact as %x", sig, compact(sig))
		}
		for _, key := range []atcrypto.PrivateKey{k256, p256} {
			if err := MethodOf(key).Verify("text", sig, public(t, key)); !errors.Is(err, jwt.ErrSignatureInvalid) {
				t.Errorf("%x: %v", sig, err)
			}
		}
	})
}
