package jose_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"portico/impl/oauth/jose"
	"portico/impl/oauth/oauthtest"
)

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// The example of RFC 7638, section 3.1.
func TestThumbprint(t *testing.T) {
	k, err := jose.ParseKey([]byte(`{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`))
	if err != nil || k.ID != "2011-04-29" || k.Algorithm != "RS256" || k.Thumbprint() != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestKeyOfEachAlgorithm(t *testing.T) {
	fits := map[string][]string{
		"ES256": {"ES256"}, "ES384": {"ES384"}, "ES512": {"ES512"}, "ES256K": {"ES256K"}, "RS256": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
	}
	for made, takes := range fits {
		key := oauthtest.NewKey(t, made)
		raw, err := json.Marshal(key.Public)
		if err != nil {
			t.Fatal(err)
		}
		k, err := jose.ParseKey(raw)
		if err != nil || k.Thumbprint() != key.Thumbprint(t) {
			t.Fatalf("%s: %v", made, err)
		}
		for _, alg := range append([]string{"none", "HS256", "EdDSA", ""}, jose.Algorithms...) {
			if k.Takes(alg) != slices.Contains(takes, alg) {
				t.Errorf("a key for %s takes %q: %v", made, alg, k.Takes(alg))
			}
		}
		raw, err = json.Marshal(key.JWK())
		if err != nil {
			t.Fatal(err)
		}
		if k, err = jose.ParseKey(raw); err != nil || !k.Takes(made) || k.Takes("PS512") {
			t.Errorf("%s with alg: %v", made, err)
		}
		token, err := jose.ParseToken(key.Sign(t, map[string]any{"kid": "x"}, map[string]any{"a": "b"}))
		if err != nil {
			t.Fatal(err)
		}
		claims, err := token.Verify(k)
		if a, _ := claims.Text("a"); err != nil || a != "b" || token.KeyID != "x" {
			t.Errorf("%s: %v, %v", made, claims, err)
		}
		other, err := jose.ParseKey([]byte(mustJSON(t, oauthtest.NewKey(t, made).Public)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(other); !errors.Is(err, jose.ErrSignature) {
			t.Errorf("%s by another key: %v", made, err)
		}
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A signature over each bit is one: any change of it, or of what was signed, is found.
func TestSignatureChanged(t *testing.T) {
	key := oauthtest.NewKey(t, "ES256")
	k, err := jose.ParseKey([]byte(mustJSON(t, key.Public)))
	if err != nil {
		t.Fatal(err)
	}
	good := key.Sign(t, nil, map[string]any{"a": "b"})
	head, signature := good[:strings.LastIndex(good, ".")+1], good[strings.LastIndex(good, ".")+1:]
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 64)
	one := append(make([]byte, 31), 1)
	flipped := append([]byte{raw[0] ^ 1}, raw[1:]...)
	for name, sig := range map[string][]byte{
		"none": nil, "short": raw[:63], "long": append(slices.Clone(raw), 0), "zeros": zero, "half zeros": append(slices.Clone(raw[:32]), zero[:32]...),
		"ones": append(slices.Clone(one), one...), "flipped": flipped, "swapped": append(slices.Clone(raw[32:]), raw[:32]...),
	} {
		token, err := jose.ParseToken(head + encode(sig))
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := token.Verify(k); !errors.Is(err, jose.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The last letter has bits that mean nothing: they have to be zero.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", signature[len(signature)-1])
	for _, bad := range []string{
		head + signature[:len(signature)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1]), head + signature + "==", head + signature + "\n", head + "\r\n" + signature, " " + good,
		strings.Replace(good, ".", "\n.", 1),
	} {
		if _, err := jose.ParseToken(bad); !errors.Is(err, jose.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestKeyRefused(t *testing.T) {
	n := new(big.Int).SetBit(big.NewInt(1), 2047, 1)
	rsa := func(n *big.Int, e int64, more string) string {
		return fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s"%s}`, encode(n.Bytes()), encode(big.NewInt(e).Bytes()), more)
	}
	bits := func(n int) *big.Int { return new(big.Int).SetBit(big.NewInt(1), n-1, 1) }
	k := oauthtest.NewKey(t, "ES256").Public
	x, y := k["x"].(string), k["y"].(string)
	ec := func(more string) string {
		return `{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `"` + more + `}`
	}
	for _, tt := range []struct{ name, jwk, want string }{
		{"RSA", rsa(n, 65537, ""), ""},
		{"RSA of 8192 bits", rsa(bits(8192), 3, ""), ""},
		{"RSA of 8193 bits", rsa(bits(8193), 3, ""), "numbers are invalid"},
		{"RSA of 2047 bits", rsa(bits(2047), 3, ""), "modulus is invalid"},
		{"RSA that is even", rsa(new(big.Int).Add(n, big.NewInt(1)), 3, ""), "modulus is invalid"},
		{"RSA with exponent 1", rsa(n, 1, ""), "exponent is invalid"},
		{"RSA with exponent 4", rsa(n, 4, ""), "exponent is invalid"},
		{"RSA with exponent 2^31-1", rsa(n, 1<<31-1, ""), ""},
		{"RSA with exponent 2^31+1", rsa(n, 1<<31+1, ""), "exponent is invalid"},
		{"RSA with exponent 2^32+1", rsa(n, 1<<32+1, ""), "numbers are invalid"},
		{"RSA without exponent", `{"kty":"RSA","n":"` + encode(n.Bytes()) + `"}`, "numbers are invalid"},
		{"RSA with zeros before", `{"kty":"RSA","n":"` + encode(append([]byte{0}, n.Bytes()...)) + `","e":"AQAB"}`, "numbers are invalid"},
		{"RSA with zeros before the exponent", `{"kty":"RSA","n":"` + encode(n.Bytes()) + `","e":"AAEAAQ"}`, "numbers are invalid"},
		{"RSA for a curve", rsa(n, 3, `,"alg":"ES256"`), `key of another kind, or for another use: "alg" does not fit the key`},
		{"RSA for encryption", rsa(n, 3, `,"alg":"RSA-OAEP"`), `key of another kind, or for another use: "alg" does not fit the key`},
		{"RSA for PSS", rsa(n, 3, `,"alg":"PS384"`), ""},
		{"RSA with its other numbers", rsa(n, 3, `,"p":"AA"`), "key is not public"},
		{"EC", ec(""), ""},
		{"EC with unknown members", ec(`,"x5c":["x"],"y2":null,"X":1`), ""},
		{"EC on another curve", strings.Replace(ec(""), "P-256", "P-384", 1), "coordinates are invalid"},
		{"EC on the other curve of that size", strings.Replace(ec(""), "P-256", "secp256k1", 1), "point is not on the curve"},
		{"EC on an unknown curve", strings.Replace(ec(""), "P-256", "P-192", 1), `key of another kind, or for another use: "crv"`},
		{"EC without curve", strings.Replace(ec(""), "crv", "curve", 1), `key of another kind, or for another use: "crv"`},
		{"EC at infinity", `{"kty":"EC","crv":"P-256","x":"` + encode(make([]byte, 32)) + `","y":"` + encode(make([]byte, 32)) + `"}`, "point is not on the curve"},
		{"EC beyond the field", `{"kty":"EC","crv":"P-256","x":"` + encode([]byte(strings.Repeat("\xff", 32))) + `","y":"` + y + `"}`, "point is not on the curve"},
		{"EC shortened", `{"kty":"EC","crv":"P-256","x":"` + x[:40] + `","y":"` + y + `"}`, "coordinates are invalid"},
		{"EC padded", `{"kty":"EC","crv":"P-256","x":"` + x + `=","y":"` + y + `"}`, "coordinates are invalid"},
		{"EC with a newline", `{"kty":"EC","crv":"P-256","x":"` + x + `\n","y":"` + y + `"}`, "coordinates are invalid"},
		{"EC as a number", `{"kty":"EC","crv":"P-256","x":1,"y":"` + y + `"}`, "coordinates are invalid"},
		{"EC with its private part", ec(`,"d":""`), "key is not public"},
		{"EC with its private part hidden", ec(`,"\u0064":"AA"`), "key is not public"},
		{"twice", ec(`,"\u0078":"AA"`), "a JSON object has a member twice"},
		{"use", ec(`,"use":1`), `key of another kind, or for another use: "use"`},
		{"key_ops to sign and verify", ec(`,"key_ops":["sign","verify"]`), ""},
		{"key_ops none", ec(`,"key_ops":[]`), `key of another kind, or for another use: "key_ops"`},
		{"kid a number", ec(`,"kid":1`), `"kid" is invalid`},
		{"kid empty", ec(`,"kid":""`), `"kid" is invalid`},
		{"kid with a zero byte", ec(`,"kid":"a\u0000"`), `"kid" is invalid`},
		{"kid too long", ec(`,"kid":"` + strings.Repeat("x", 257) + `"`), `"kid" is invalid`},
		{"alg a number", ec(`,"alg":1`), `"alg" is invalid`},
		{"Ed25519", `{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`, "key of another kind, or for another use"},
		{"a secret", `{"kty":"oct","k":"AA"}`, "key is not public"},
		{"no kty", `{"crv":"P-256"}`, `"kty" is missing`},
		{"too long", ec(`,"x5c":"` + strings.Repeat("x", 9000) + `"`), "key is too long"},
		{"too many members", ec(more(70)), "a JSON object has too many members"},
		{"a list", `[]`, "not a JSON object"},
		{"nothing", ``, "not a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := jose.ParseKey([]byte(tt.jwk))
			if tt.want == "" && (err != nil || len(k.Thumbprint()) != 43) || tt.want != "" && (err == nil || err.Error() != tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

func more(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":1`, i)
	}
	return b.String()
}

func TestPSSSalt(t *testing.T) {
	// golang-jwt signs with a salt as long as the hash, which is what RFC 7518 wants.
	key := oauthtest.NewKey(t, "PS256")
	k, err := jose.ParseKey([]byte(mustJSON(t, key.Public)))
	if err != nil {
		t.Fatal(err)
	}
	for _, salt := range []int{32, 20, 64} {
		token, err := jose.ParseToken(key.SignSalted(t, map[string]any{}, salt))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(k); (err == nil) != (salt == 32) {
			t.Errorf("salt of %d: %v", salt, err)
		}
	}
}

func TestObject(t *testing.T) {
	o, err := jose.ParseObject([]byte(" {\t\"a\" : \"x\\\"}\" , \"b\":-1.5e1,\"c\":[ 1 ,\"y\",{\"d\":[]}, [ ] ],\"\":null,\"t\":true,\"l\":[\"x\",\"\\u0079\"],\"e\":{ },\"E\":[\n]}\n"), 10)
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := o.Text("a"); a != `x"}` || !ok {
		t.Errorf("a is %q", a)
	}
	if b, ok := o.Number("b"); b != -15 || !ok {
		t.Errorf("b is %v", b)
	}
	c, _ := o.Raw("c")
	parts, ok := jose.Elements(c, 4)
	if !ok || fmt.Sprintf("%s", parts) != `[1 "y" {"d":[]} [ ]]` {
		t.Errorf("c is %s", parts)
	}
	if _, ok := jose.Elements(c, 3); ok {
		t.Error("too many elements")
	}
	if l, ok := o.Texts("l", 2); !ok || !reflect.DeepEqual(l, []string{"x", "y"}) {
		t.Errorf("l is %v", l)
	}
	if l, ok := o.Texts("E", 2); !ok || len(l) != 0 {
		t.Errorf("E is %v", l)
	}
	for _, name := range []string{"b", "c", "", "t", "e", "A", "z"} {
		if s, ok := o.Text(name); ok {
			t.Errorf("%q is the text %q", name, s)
		}
	}
	for _, name := range []string{"a", "c", "", "t", "z"} {
		if n, ok := o.Number(name); ok {
			t.Errorf("%q is the number %v", name, n)
		}
	}
	for _, name := range []string{"a", "c", "", "z"} {
		if l, ok := o.Texts(name, 9); ok {
			t.Errorf("%q is the list %v", name, l)
		}
	}
	if huge, err := jose.ParseObject([]byte(`{"n":1e999}`), 1); err != nil {
		t.Error(err)
	} else if _, ok := huge.Number("n"); ok {
		t.Error("a number that is none")
	}
	for _, bad := range []string{"", " ", "[]", "1", `"x"`, "null", "{", `{"a"}`, `{"a":1,}`, `{"a":1}{}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, "{\"a\":\"\xff\"}", "\ufeff{}", `{"a":01}`} {
		if _, err := jose.ParseObject([]byte(bad), 9); err == nil {
			t.Errorf("%q is an object", bad)
		}
	}
}

// What encoding/json understands is understood alike, or not at all.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":"x","b":[1,{"c":"]"}],"d":-1.5,"e":{"f":{}}}`))
	f.Add([]byte(" {\t\"\\u0061\" : [ ] } "))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := jose.ParseObject(raw, 64)
		var want map[string]json.RawMessage
		if jsonErr := json.Unmarshal(raw, &want); err != nil {
			return
		} else if jsonErr != nil || want == nil {
			t.Fatalf("%q: %v", raw, jsonErr)
		}
		got := make(map[string]json.RawMessage)
		for name, value := range o.All() {
			got[name] = value
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %s, want %s", raw, got, want)
		}
		for name, value := range want {
			var text string
			isText := json.Unmarshal(value, &text) == nil && value[0] == '"'
			if s, ok := o.Text(name); ok != isText || s != text {
				t.Errorf("%q: %q is %q", raw, name, s)
			}
			var list []json.RawMessage
			isList := json.Unmarshal(value, &list) == nil && value[0] == '['
			parts, ok := jose.Elements(value, 1000)
			if ok != isList && len(list) <= 1000 || ok && len(parts) != len(list) {
				t.Errorf("%q: %q has %s", raw, name, parts)
			}
			for i := range parts {
				if string(parts[i]) != string(list[i]) {
					t.Errorf("%q: %q has %s", raw, name, parts)
				}
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, alg := range []string{"ES256", "ES256K", "RS256"} {
		f.Add([]byte(mustJSON(f, oauthtest.NewKey(f, alg).Public)))
	}
	f.Add([]byte(`{"kty":"EC","crv":"P-521","x":"","y":""}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := jose.ParseKey(raw)
		if err != nil {
			return
		}
		if len(k.Thumbprint()) != 43 || strings.Contains(string(raw), `"d":`) && !strings.Contains(string(raw), `\`) {
			var members map[string]any
			if json.Unmarshal(raw, &members); members["d"] != nil {
				t.Errorf("%q is a key", raw)
			}
		}
		token, err := jose.ParseToken(encode([]byte(`{"alg":"ES256"}`)) + "." + encode([]byte(`{}`)) + "." + encode(make([]byte, 64)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(k); err == nil {
			t.Errorf("%q verifies nothing", raw)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(oauthtest.NewKey(f, "ES256").Sign(f, map[string]any{"kid": "x"}, map[string]any{"a": 1}))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jose.ParseToken(text)
		if err != nil {
			return
		}
		if strings.Count(text, ".") != 2 || len(text) > 8<<10 || token.Algorithm == "" && !strings.Contains(text, ".") {
			t.Errorf("%q is a token", text)
		}
		if claims, err := token.Unverified(); err == nil {
			claims.Text("jti")
			claims.Number("iat")
		}
	})
}
