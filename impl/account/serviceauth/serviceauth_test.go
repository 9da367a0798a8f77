package serviceauth

import (
	"bytes"
	"context"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/resolve"
)

const (
	alice  = syntax.DID("did:plc:gnme2elp3bnvqq53n6oc6qgx")
	us     = "did:web:pds.example.com"
	method = "com.atproto.server.createAccount"
)

var now = time.Unix(1795383345, 0)

// resolver is a function: (did, fresh) to document.
type resolver func(did syntax.DID, fresh bool) (*resolve.Document, error)

func (r resolver) Within(_ context.Context, did syntax.DID, age time.Duration) (*resolve.Document, time.Time, error) {
	doc, err := r(did, age <= 0)
	if age <= 0 {
		return doc, now, err
	}
	return doc, now.Add(-age / 2), err
}

func k256(tb testing.TB) atcrypto.PrivateKeyExportable {
	tb.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func p256(tb testing.TB) atcrypto.PrivateKeyExportable {
	tb.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func document(tb testing.TB, did syntax.DID, keys map[string]atcrypto.PrivateKeyExportable) *resolve.Document {
	tb.Helper()
	doc := &resolve.Document{DID: did}
	for name, key := range keys {
		pub, err := key.PublicKey()
		if err != nil {
			tb.Fatal(err)
		}
		doc.Keys = append(doc.Keys, resolve.VerificationMethod{ID: "#" + name, Type: "Multikey", Multibase: pub.Multibase()})
	}
	return doc
}

// sign signs any header and payload text.
func sign(tb testing.TB, key atcrypto.PrivateKey, header, payload string) string {
	tb.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(header)) + "." + enc([]byte(payload))
	sig, err := key.HashAndSign([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return text + "." + enc(sig)
}

const (
	header  = `{"typ":"JWT","alg":"ES256K"}`
	payload = `{"iat":1795383345,"iss":"did:plc:gnme2elp3bnvqq53n6oc6qgx","aud":"did:web:pds.example.com","exp":1795383345,"lxm":"com.atproto.server.createAccount","jti":"00"}`
)

func TestVerify(t *testing.T) {
	key, label, nist := k256(t), k256(t), p256(t)
	v := &Verifier{
		Audiences: []string{us},
		Now:       func() time.Time { return now },
		Resolver: resolver(func(did syntax.DID, fresh bool) (*resolve.Document, error) {
			switch did {
			case alice:
				return document(t, did, map[string]atcrypto.PrivateKeyExportable{"atproto": key, "atproto_label": label}), nil
			case "did:web:nist.example.com":
				return document(t, did, map[string]atcrypto.PrivateKeyExportable{"atproto": nist}), nil
			case "did:web:keyless.example.com":
				return document(t, did, nil), nil
			case "did:web:bad.example.com":
				doc := document(t, did, nil)
				doc.Keys = []resolve.VerificationMethod{{ID: "#atproto", Type: "Multikey", Multibase: "zz"}}
				return doc, nil
			}
			return nil, resolve.ErrNotFound
		}),
	}
	with := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in the payload", old)
		}
		return sign(t, key, header, strings.Replace(payload, old, new, 1))
	}
	good := sign(t, key, header, payload)
	resign := func(f func(sig []byte) []byte) string {
		i := strings.LastIndexByte(good, '.') + 1
		sig, err := base64.RawURLEncoding.DecodeString(good[i:])
		if err != nil {
			t.Fatal(err)
		}
		return good[:i] + base64.RawURLEncoding.EncodeToString(f(sig))
	}
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	highS := func(sig []byte) []byte {
		s := new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:]))
		return append(bytes.Clone(sig[:32]), s.FillBytes(make([]byte, 32))...)
	}
	der := func(sig []byte) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// onNist is a good token of the account with the P-256 key, its signature put as f does.
	onNist := func(f func(sig []byte) []byte) string {
		token := sign(t, nist, `{"alg":"ES256"}`, strings.Replace(payload, alice.String(), "did:web:nist.example.com", 1))
		i := strings.LastIndexByte(token, '.') + 1
		sig, err := base64.RawURLEncoding.DecodeString(token[i:])
		if err != nil {
			t.Fatal(err)
		}
		return token[:i] + base64.RawURLEncoding.EncodeToString(f(sig))
	}
	paddedText := strings.Replace(good[:strings.LastIndexByte(good, '.')], ".", "==.", 1) + "="
	paddedSig, err := key.HashAndSign([]byte(paddedText))
	if err != nil {
		t.Fatal(err)
	}
	padded := paddedText + "." + base64.RawURLEncoding.EncodeToString(paddedSig) + "="
	expired := with(`"exp":1795383345`, `"exp":1`)
	const mismatch = "BadJwtSignature: jwt signature does not match jwt issuer"
	const lexicon = `BadJwtLexiconMethod: %s jwt lexicon method ("lxm"). must match: com.atproto.server.createAccount`

	for _, tt := range []struct{ name, token, want string }{
		{"good", good, ""},
		{"none", "", "MissingJwt: missing jwt"},
		{"two parts", "a.b", "BadJwt: poorly formatted jwt"},
		{"four parts", good + ".", "BadJwt: poorly formatted jwt"},

		{"header no base64", "!" + good, "BadJwt: poorly formatted jwt"},
		{"header no JSON", sign(t, key, `x`, payload), "BadJwt: poorly formatted jwt"},
		{"header null", sign(t, key, `null`, payload), "BadJwt: poorly formatted jwt"},
		{"header an array", sign(t, key, `[]`, payload), "BadJwt: poorly formatted jwt"},
		{"no alg", sign(t, key, `{"typ":"JWT"}`, payload), "BadJwt: poorly formatted jwt"},
		{"alg no string", sign(t, key, `{"alg":1}`, payload), "BadJwt: poorly formatted jwt"},
		{"alg null", sign(t, key, `{"alg":null}`, payload), "BadJwt: poorly formatted jwt"},
		{"ALG alone", sign(t, key, `{"ALG":"ES256K"}`, payload), "BadJwt: poorly formatted jwt"},
		{"header with more behind it", sign(t, key, header+`{}`, payload), "BadJwt: poorly formatted jwt"},
		{"header with a number too large to read", sign(t, key, `{"alg":"ES256K","typ":"at+jwt","x":1e999}`, payload), "BadJwt: poorly formatted jwt"},
		{"header empty", sign(t, key, ``, payload), "BadJwt: poorly formatted jwt"},
		{"no alg, typ at+jwt", sign(t, key, `{"typ":"at+jwt"}`, payload), "BadJwt: poorly formatted jwt"},
		{"alg unknown, typ at+jwt", sign(t, key, `{"alg":"x","typ":"at+jwt"}`, payload), `BadJwtType: Invalid jwt type "at+jwt"`},
		{"typ in capitals", sign(t, key, `{"alg":"ES256K","typ":"AT+JWT"}`, payload), ""},
		{"crit", sign(t, key, `{"alg":"ES256K","crit":["b64"],"b64":false}`, payload), ""},
		{"no typ", sign(t, key, `{"alg":"ES256K"}`, payload), ""},
		{"typ of another kind", sign(t, key, `{"alg":"ES256K","typ":"x"}`, payload), ""},
		{"typ a number", sign(t, key, `{"alg":"ES256K","typ":5}`, payload), ""},
		{"typ at+jwt", sign(t, key, `{"alg":"ES256K","typ":"at+jwt"}`, payload), `BadJwtType: Invalid jwt type "at+jwt"`},
		{"typ refresh+jwt", sign(t, key, `{"alg":"ES256K","typ":"refresh+jwt"}`, payload), `BadJwtType: Invalid jwt type "refresh+jwt"`},
		{"typ dpop+jwt", sign(t, key, `{"alg":"ES256K","typ":"dpop+jwt"}`, `x`), `BadJwtType: Invalid jwt type "dpop+jwt"`},

		{"payload no JSON", sign(t, key, header, `x`), "BadJwt: poorly formatted jwt"},
		{"payload null", sign(t, key, header, `null`), "BadJwt: poorly formatted jwt"},
		{"payload an array", sign(t, key, header, `[]`), "BadJwt: poorly formatted jwt"},
		{"payload empty", sign(t, key, header, ``), "BadJwt: poorly formatted jwt"},
		{"payload with more behind it", sign(t, key, header, payload+`{}`), "BadJwt: poorly formatted jwt"},
		{"payload with blanks behind it", sign(t, key, header, payload+" \n"), ""},
		{"payload no base64", strings.Replace(good, ".", ".!", 1), "BadJwt: poorly formatted jwt"},
		{"payload with a number too large to read", with(`{`, `{"x":1e999,`), "BadJwt: poorly formatted jwt"},
		{"iss null", with(`"did:plc:gnme2elp3bnvqq53n6oc6qgx"`, `null`), "BadJwt: poorly formatted jwt"},
		{"ISS alone", with(`"iss"`, `"ISS"`), "BadJwt: poorly formatted jwt"},
		{"ISS beside iss", with(`{`, `{"ISS":"did:web:nobody.example.com",`), ""},
		{"iss twice", with(`"aud"`, `"iss":"did:web:nobody.example.com","aud"`), "AuthenticationRequired: could not resolve iss did: not found"},
		{"aud null", with(`"did:web:pds.example.com"`, `null`), "BadJwt: poorly formatted jwt"},
		{"exp null", with(`"exp":1795383345`, `"exp":null`), "BadJwt: poorly formatted jwt"},
		{"iat and nbf of any kind", with(`"iat":1795383345`, `"iat":"x","nbf":{}`), ""},
		{"nbf in the future", with(`"iat":1795383345`, `"nbf":1999999999`), ""},
		{"sub, jti of any kind", with(`"jti":"00"`, `"jti":[0],"sub":5`), ""},
		{"lxm true", with(`"com.atproto.server.createAccount"`, `true`), "BadJwt: poorly formatted jwt"},
		{"lxm an array", with(`"com.atproto.server.createAccount"`, `["com.atproto.server.createAccount"]`), "BadJwt: poorly formatted jwt"},
		{"no iss", with(`"iss"`, `"x"`), "BadJwt: poorly formatted jwt"},
		{"aud a number", with(`"did:web:pds.example.com"`, `5`), "BadJwt: poorly formatted jwt"},
		{"aud an array", with(`"did:web:pds.example.com"`, `["did:web:pds.example.com"]`), "BadJwt: poorly formatted jwt"},
		{"exp a string", with(`"exp":1795383345`, `"exp":"1795383345"`), "BadJwt: poorly formatted jwt"},
		{"no exp", with(`"exp":1795383345,`, ``), "BadJwt: poorly formatted jwt"},
		{"lxm a number", with(`"com.atproto.server.createAccount"`, `5`), "BadJwt: poorly formatted jwt"},
		{"nonce a number", with(`{`, `{"nonce":5,`), "BadJwt: poorly formatted jwt"},
		{"nonce null", with(`{`, `{"nonce":null,`), ""},

		{"expired a second ago", with(`"exp":1795383345`, `"exp":1795383344`), "JwtExpired: jwt expired"},
		{"expired by a fraction", with(`"exp":1795383345`, `"exp":1795383344.999`), "JwtExpired: jwt expired"},
		{"valid for a fraction more", with(`"exp":1795383345`, `"exp":1795383345.001`), ""},
		{"exp in other digits", with(`"exp":1795383345`, `"exp":1.795383345e9`), ""},
		{"exp zero", with(`"exp":1795383345`, `"exp":0`), "JwtExpired: jwt expired"},
		{"exp negative", with(`"exp":1795383345`, `"exp":-1e300`), "JwtExpired: jwt expired"},
		{"exp twice", with(`"exp":1795383345`, `"exp":1795383345,"exp":1`), "JwtExpired: jwt expired"},
		{"expired, of an unknown alg", sign(t, key, `{"alg":"x"}`, strings.Replace(payload, `"exp":1795383345`, `"exp":1`, 1)), "JwtExpired: jwt expired"},
		{"expired, signature no base64", expired[:strings.LastIndexByte(expired, '.')+1] + "!!!", "JwtExpired: jwt expired"},
		{"expired and without lxm", with(`"exp":1795383345,"lxm"`, `"exp":1,"x"`), "JwtExpired: jwt expired"},
		{"expired and for another method", with(`"exp":1795383345,"lxm":"com`, `"exp":1,"lxm":"org`), "JwtExpired: jwt expired"},
		{"valid for ever", with(`"exp":1795383345`, `"exp":1e300`), ""},
		{"another method", with(`createAccount`, `getSession`), fmt.Sprintf(lexicon, "bad")},
		{"method in other case", with(`createAccount`, `createaccount`), fmt.Sprintf(lexicon, "bad")},
		{"lxm empty", with(`"com.atproto.server.createAccount"`, `""`), fmt.Sprintf(lexicon, "bad")},
		{"lxm null", with(`"com.atproto.server.createAccount"`, `null`), fmt.Sprintf(lexicon, "bad")},
		{"lxm zero", with(`"com.atproto.server.createAccount"`, `0`), fmt.Sprintf(lexicon, "bad")},
		{"no lxm", with(`"lxm"`, `"x"`), fmt.Sprintf(lexicon, "missing")},

		{"another method and iss no DID", with(`"iss":"did:plc:gnme2elp3bnvqq53n6oc6qgx","aud":"did:web:pds.example.com","exp":1795383345,"lxm":"com`, `"iss":"x","aud":"did:web:pds.example.com","exp":1795383345,"lxm":"org`), fmt.Sprintf(lexicon, "bad")},
		{"lxm twice", with(`"lxm"`, `"lxm":"com.atproto.server.getSession","lxm"`), ""},
		{"LXM alone", with(`"lxm"`, `"LXM"`), fmt.Sprintf(lexicon, "missing")},
		{"iss no DID", with(alice.String(), `alice.test`), "BadJwtIss: jwt iss is not a valid did"},
		{"iss empty", with(alice.String(), ``), "BadJwtIss: jwt iss is not a valid did"},
		{"iss with empty fragment", with(alice.String(), alice.String()+"#"), "BadJwtIss: jwt iss is not a valid did"},
		{"iss with two fragments", with(alice.String(), alice.String()+"#a#b"), "BadJwtIss: jwt iss is not a valid did"},
		{"iss with fragment", with(alice.String(), alice.String()+"#bsky_fg"), ""},
		{"labeler with the account's key", with(alice.String(), alice.String()+"#atproto_labeler"), mismatch},
		{"labeler", sign(t, label, header, strings.Replace(payload, `qgx"`, `qgx#atproto_labeler"`, 1)), ""},
		{"unknown issuer", with(alice.String(), "did:web:nobody.example.com"), "AuthenticationRequired: could not resolve iss did: not found"},
		{"no key", with(alice.String(), "did:web:keyless.example.com"), "AuthenticationRequired: missing or bad key in did doc: missing or bad key in DID document: no #atproto"},

		{"other alg", sign(t, key, `{"alg":"ES256"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg HS256", sign(t, key, `{"alg":"HS256"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg in small letters", sign(t, key, `{"alg":"es256k"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg none", sign(t, key, `{"alg":"none"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg unknown", sign(t, key, `{"alg":"x"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg empty", sign(t, key, `{"alg":""}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"alg unknown, of an unknown issuer", sign(t, key, `{"alg":"x"}`, strings.Replace(payload, alice.String(), "did:web:nobody.example.com", 1)), "AuthenticationRequired: could not resolve iss did: not found"},
		{"alg unknown, without a key", sign(t, key, `{"alg":"x"}`, strings.Replace(payload, alice.String(), "did:web:keyless.example.com", 1)), "AuthenticationRequired: missing or bad key in did doc"},
		{"alg twice", sign(t, key, `{"alg":"ES256K","alg":"none"}`, payload), "BadJwtSignature: could not verify jwt signature"},
		{"P-256 key, alg ES256K", sign(t, nist, header, strings.Replace(payload, alice.String(), "did:web:nist.example.com", 1)), "BadJwtSignature: could not verify jwt signature"},
		{"P-256 in DER", onNist(der), ""},
		{"P-256, short", onNist(func(sig []byte) []byte { return sig[:63] }), mismatch},
		{"P-256", sign(t, nist, `{"alg":"ES256"}`, strings.Replace(payload, alice.String(), "did:web:nist.example.com", 1)), ""},
		{"other key", sign(t, label, header, payload), mismatch},
		{"high S", resign(highS), ""},
		{"DER", resign(der), ""},
		{"DER with high S", resign(func(sig []byte) []byte { return der(highS(sig)) }), ""},
		{"DER with more behind it", resign(func(sig []byte) []byte { return append(der(sig), 0) }), mismatch},
		{"DER of a negative", resign(func(sig []byte) []byte { return []byte{0x30, 6, 2, 1, 0xff, 2, 1, 1} }), mismatch},
		{"DER of a number too long", resign(func(sig []byte) []byte { return der(append(append(bytes.Clone(sig[:32]), 1), sig[32:]...)) }), mismatch},
		{"S zero", resign(func(sig []byte) []byte { return append(bytes.Clone(sig[:32]), make([]byte, 32)...) }), mismatch},
		{"S beyond the order", resign(func(sig []byte) []byte { return append(bytes.Clone(sig[:32]), bytes.Repeat([]byte{0xff}, 32)...) }), mismatch},
		{"signature empty", good[:strings.LastIndexByte(good, '.')+1], mismatch},
		{"padded", good + "==", ""},
		{"padded too much", good + "=====", ""},
		{"padded within", good[:len(good)-2] + "=" + good[len(good)-2:], mismatch},
		{"padded and signed so", padded, ""},
		{"padding before the signature", strings.Replace(good, ".", "=.", 2), mismatch},
		{"short", resign(func(sig []byte) []byte { return sig[:63] }), mismatch},
		{"long", resign(func(sig []byte) []byte { return append(sig, 1) }), mismatch},
		{"zero", resign(func(sig []byte) []byte { return make([]byte, 64) }), mismatch},
		{"flipped bit", resign(func(sig []byte) []byte { sig[63] ^= 1; return sig }), mismatch},
		{"no base64", good[:strings.LastIndexByte(good, '.')+1] + "!!!", mismatch},

		{"other audience", with(us, "did:web:other.example.com"), "BadJwtAudience: jwt audience does not match service did"},
		{"audience with fragment", with(us, us+"#atproto_pds"), "BadJwtAudience: jwt audience does not match service did"},
		{"other audience, other key", sign(t, label, header, strings.Replace(payload, us, "did:web:x", 1)), mismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := v.Verify(t.Context(), tt.token, method)
			if tt.want == "" {
				if err != nil || c.Audience != us || !strings.HasPrefix(c.DID.String(), "did:") || c.Method != method {
					t.Errorf("%+v, %v", c, err)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || !strings.HasPrefix(e.Error(), tt.want) || c != (Claims{}) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}

	t.Run("any method", func(t *testing.T) {
		if c, err := v.Verify(t.Context(), with(`"lxm"`, `"x"`), ""); err != nil || c.Method != "" {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("bad key", func(t *testing.T) {
		_, err := v.Verify(t.Context(), with(alice.String(), "did:web:bad.example.com"), method)
		if e, ok := errors.AsType[*Error](err); !ok || e.Name != "AuthenticationRequired" || e.Message != "missing or bad key in did doc" {
			t.Error(err)
		}
	})
}

func TestVerifyIssuers(t *testing.T) {
	key := k256(t)
	asked := false
	v := &Verifier{
		Audiences: []string{us},
		Now:       func() time.Time { return now },
		Resolver: resolver(func(did syntax.DID, fresh bool) (*resolve.Document, error) {
			asked = true
			return document(t, did, map[string]atcrypto.PrivateKeyExportable{"atproto": key, "atproto_label": key}), nil
		}),
	}
	token := sign(t, key, header, payload)
	for _, tt := range []struct {
		name   string
		issuer string
		ok     bool
	}{
		{"trusted", alice.String(), true},
		{"other", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", false},
		{"other service", alice.String() + "#atproto_labeler", false},
	} {
		asked = false
		_, err := v.Verify(t.Context(), token, method, tt.issuer)
		if tt.ok {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Name != "UntrustedIss" || e.Message != "Untrusted issuer" {
			t.Errorf("%s: %v", tt.name, err)
		}
		if asked {
			t.Errorf("%s: a stranger's document was asked for", tt.name)
		}
	}
}

// A key that changed since the document was cached is found; one that did not is not tried twice.
func TestVerifyAfterKeyChange(t *testing.T) {
	before, after := k256(t), k256(t)
	var asked []bool
	v := &Verifier{
		Audiences: []string{us},
		Now:       func() time.Time { return now },
		Resolver: resolver(func(did syntax.DID, fresh bool) (*resolve.Document, error) {
			asked = append(asked, fresh)
			key := before
			if fresh {
				key = after
			}
			return document(t, did, map[string]atcrypto.PrivateKeyExportable{"atproto": key}), nil
		}),
	}
	for _, tt := range []struct {
		name string
		key  atcrypto.PrivateKey
		ok   bool
		want string
	}{
		{"cached key", before, true, "[false]"},
		{"new key", after, true, "[false true]"},
		{"neither", k256(t), false, "[false true]"},
	} {
		asked = nil
		if _, err := v.Verify(t.Context(), sign(t, tt.key, header, payload), method); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := fmt.Sprint(asked); got != tt.want {
			t.Errorf("%s: asked %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestIssue(t *testing.T) {
	key := k256(t)
	random := bytes.NewReader(bytes.Repeat([]byte{0xab}, 100))
	parts := func(r Request, key atcrypto.PrivateKey) (string, string, string) {
		t.Helper()
		token, err := Issue(r, key, random)
		if err != nil {
			t.Fatal(err)
		}
		p := strings.Split(token, ".")
		h, _ := base64.RawURLEncoding.DecodeString(p[0])
		c, _ := base64.RawURLEncoding.DecodeString(p[1])
		return string(h), string(c), token
	}
	h, c, token := parts(Request{alice, us + "#a&b", method, now, 1795383405}, key)
	if want := `{"typ":"JWT","alg":"ES256K"}`; h != want {
		t.Errorf("header %s", h)
	}
	if want := `{"iat":1795383345,"iss":"did:plc:gnme2elp3bnvqq53n6oc6qgx","aud":"did:web:pds.example.com#a&b","exp":1795383405,"lxm":"com.atproto.server.createAccount","jti":"abababababababababababababababab"}`; c != want {
		t.Errorf("claims %s\nwant   %s", c, want)
	}
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	text, sig, _ := cutLast(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || len(raw) != 64 || pub.HashAndVerify([]byte(text), raw) != nil { // strict: low S
		t.Errorf("signature %x, %v", raw, err)
	}

	_, c, _ = parts(Request{Issuer: alice, Audience: us, IssuedAt: now}, key)
	if want := `{"iat":1795383345,"iss":"did:plc:gnme2elp3bnvqq53n6oc6qgx","aud":"did:web:pds.example.com","exp":0,"jti":"abababababababababababababababab"}`; c != want {
		t.Errorf("claims without lxm %s", c)
	}
	if h, _, _ = parts(Request{Issuer: alice, Audience: us, IssuedAt: now}, p256(t)); h != `{"typ":"JWT","alg":"ES256"}` {
		t.Errorf("header %s", h)
	}
	if _, err := Issue(Request{}, key, strings.NewReader("")); err == nil {
		t.Error("issued without randomness")
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func TestValidAudience(t *testing.T) {
	for aud, want := range map[string]bool{
		"did:plc:gnme2elp3bnvqq53n6oc6qgx":         true,
		"did:plc:gnme2elp3bnvqq53n6oc6qgx#bsky_fg": true,
		"did:plc:abc":                               false,
		"did:plc:ABCDEFGHIJKLMNOPQRSTUVWX":          false,
		"did:plc:abcdefghijklmnopqrstuv01":          false,
		"did:web:example.com":                       true,
		"did:web:example.com#atproto_pds":           true,
		"did:web:example.com#a/b?c&d":               true,
		"did:web:example.com#%41":                   true,
		"did:web:example.com#":                      false,
		"did:web:example.com#a#b":                   false,
		"did:web:example.com#a b":                   false,
		"did:web:example.com#a%zz":                  false,
		"did:web:example.com#ä":                     false,
		"did:web:example.com#a|b":                   false,
		"did:web:example.com:path":                  false,
		"did:web:example.com%3A443":                 false,
		"did:web:localhost":                         true,
		"did:web:localhost%3A2583":                  true,
		"did:web:localhost%3A99999":                 false,
		"did:web:localhost%3A99999999999999999999":  false,
		"did:web:localhost%3a2583":                  false,
		"did:web:x.localhost%3A2583":                false,
		"did:web:1.2.3.4":                           true,
		"did:web:foo.123":                           false,
		"did:web:":                                  false,
		"did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r": false,
		"example.com":                               false,
		"":                                          false,
	} {
		if got := ValidAudience(aud); got != want {
			t.Errorf("%q: %v", aud, got)
		}
	}
}

func TestMethodSets(t *testing.T) {
	for _, tt := range []struct {
		method                                string
		protected, privileged, administrative bool
	}{
		{"com.atproto.server.createAccount", false, true, false},
		{"com.atproto.server.CREATEACCOUNT", false, true, false},
		{"chat.bsky.convo.getLog", false, true, false},
		{"Chat.Bsky.Actor.exportAccountData", false, true, false},
		{"chat.bsky.toCome", false, true, false},
		{"chat.bskyx.convo.getLog", false, false, false},
		{"com.atproto.server.getSession", true, false, false},
		{"COM.ATPROTO.identity.updatehandle", true, false, false},
		{"com.atproto.admin.sendEmail", true, false, true},
		{"com.atproto.Admin.GETACCOUNTINFO", false, false, true},
		{"com.atproto.administration.x", false, false, false},
		{"com.atproto.server.getServiceAuth", false, false, false},
		{"app.bsky.feed.getTimeline", false, false, false},
		{"", false, false, false},
	} {
		if Protected(tt.method) != tt.protected || Privileged(tt.method) != tt.privileged || Administrative(tt.method) != tt.administrative {
			t.Errorf("%s: protected %v, privileged %v, administrative %v", tt.method,
				Protected(tt.method), Privileged(tt.method), Administrative(tt.method))
		}
	}
	if len(protected) != 16 {
		t.Errorf("%d protected methods", len(protected))
	}
}

func FuzzVerify(f *testing.F) {
	key := k256(f)
	doc := document(f, alice, map[string]atcrypto.PrivateKeyExportable{"atproto": key})
	v := &Verifier{
		Audiences: []string{us},
		Now:       func() time.Time { return now },
		Resolver: resolver(func(did syntax.DID, fresh bool) (*resolve.Document, error) {
			return &resolve.Document{DID: did, Keys: doc.Keys}, nil
		}),
	}
	f.Add(header, payload, []byte("sig"))
	f.Add(`{"alg":"ES256K"}`, `{"iss":"did:web:a#b","aud":"x","exp":9e99,"lxm":0}`, []byte{0x30, 6, 2, 1, 1, 2, 1, 1})
	f.Fuzz(func(t *testing.T, header, payload string, sig []byte) {
		enc := base64.RawURLEncoding.EncodeToString
		for _, token := range []string{sign(t, key, header, payload), enc([]byte(header)) + "." + enc([]byte(payload)) + "." + enc(sig), payload} {
			c, err := v.Verify(t.Context(), token, method)
			if _, ok := errors.AsType[*Error](err); err != nil && !ok {
				t.Errorf("an error without an answer: %v", err)
			}
			if err == nil && (c.Audience != us || c.Method != method) {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}

func FuzzValidAudience(f *testing.F) {
	f.Add("did:web:localhost%3A80#a%20b")
	f.Fuzz(func(t *testing.T, aud string) {
		did, _, _ := strings.Cut(aud, "#")
		if _, err := syntax.ParseDID(did); ValidAudience(aud) && err != nil && !strings.HasSuffix(did, "%3A") {
			t.Errorf("%q: %v", aud, err)
		}
	})
}
