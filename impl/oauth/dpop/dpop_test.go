package dpop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"portico/impl/oauth/dpop"
	"portico/impl/oauth/oauthtest"
)

const origin = "https://pds.example.com"

var noon = time.Unix(1795383360, 0) // a full minute

// server is a verifier whose clock is now.
func server(now *time.Time) *dpop.Verifier {
	clock := func() time.Time { return *now }
	return &dpop.Verifier{URL: origin, Now: clock, Nonces: dpop.NewNonces([]byte("secret"), clock), Once: dpop.NewMemory(clock).Once}
}

// ask sends proofs with a request.
func ask(t testing.TB, v *dpop.Verifier, method, path, token string, proofs ...string) (*dpop.Proof, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://inside:3000"+path, nil)
	for _, proof := range proofs {
		r.Header.Add("DPoP", proof)
	}
	return v.Check(t.Context(), r, token)
}

// says fails unless err is an *Error that reads like want, "NAME: DESCRIPTION", or nil for "".
func says(t testing.TB, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%v", err)
		}
		return
	}
	var refused *dpop.Error
	if !errors.As(err, &refused) || refused.Error() != want {
		t.Errorf("%v, want %v", err, want)
	}
}

const broken = "invalid_dpop_proof: Failed to verify DPoP proof: "

func TestHeader(t *testing.T) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(t, "ES256")
	proof := func() string { return k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil) }
	for _, tt := range []struct {
		name   string
		proofs []string
		want   string
	}{
		{"good", []string{proof()}, ""},
		{"none", nil, "invalid_dpop_proof: DPoP proof required"},
		{"empty", []string{""}, "invalid_dpop_proof: DPoP header cannot be empty"},
		{"two", []string{proof(), proof()}, broken + "more than one was sent"},
		{"the same twice", []string{"x", "x"}, broken + "more than one was sent"},
		{"two in one", []string{proof() + ", " + proof()}, broken + "Invalid Compact JWS"},
		{"no JWT", []string{"x"}, broken + "Invalid Compact JWS"},
		{"four parts", []string{proof() + ".x"}, broken + "Invalid Compact JWS"},
		{"padded", []string{strings.Replace(proof(), ".", "=.", 1)}, broken + "Invalid Compact JWS"},
		{"another signature", []string{proof()[:20] + proof()[20:]}, broken + "signature verification failed"},
		{"too long", []string{k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": strings.Repeat("x", 8000)})}, broken + "Invalid Compact JWS"},
		{"as long as may be", []string{k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": strings.Repeat("x", 5500)})}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "another signature" {
				a, b := proof(), proof()
				tt.proofs = []string{a[:strings.LastIndex(a, ".")] + b[strings.LastIndex(b, "."):]}
			}
			p, err := ask(t, v, "POST", "/oauth/par", "", tt.proofs...)
			says(t, err, tt.want)
			if err == nil && p.Thumbprint != k.Thumbprint(t) {
				t.Errorf("thumbprint %s, want %s", p.Thumbprint, k.Thumbprint(t))
			}
		})
	}
}

func TestClaims(t *testing.T) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(t, "ES256")
	unix := now.Unix()
	for _, tt := range []struct {
		name   string
		claims map[string]any
		want   string
	}{
		{"iat missing", map[string]any{"iat": nil}, broken + `missing required "iat" claim`},
		{"iat a string", map[string]any{"iat": "1795383360"}, broken + `"iat" claim must be a number`},
		{"iat 190 s ago", map[string]any{"iat": unix - 190}, ""},
		{"iat 191 s ago", map[string]any{"iat": unix - 191}, broken + `"iat" claim timestamp check failed (too far in the past)`},
		{"iat a moment before that", map[string]any{"iat": float64(unix) - 190.5}, broken + `"iat" claim timestamp check failed (too far in the past)`},
		{"iat in 180 s", map[string]any{"iat": unix + 180}, ""},
		{"iat in 181 s", map[string]any{"iat": unix + 181}, broken + `"iat" claim timestamp check failed (it should be in the past)`},
		{"iat in milliseconds", map[string]any{"iat": unix * 1000}, broken + `"iat" claim timestamp check failed (it should be in the past)`},
		{"exp 179 s ago", map[string]any{"exp": unix - 179}, ""},
		{"exp 180 s ago", map[string]any{"exp": unix - 180}, broken + `"exp" claim timestamp check failed`},
		{"exp a string", map[string]any{"exp": "x"}, broken + `"exp" claim must be a number`},
		{"nbf in 180 s", map[string]any{"nbf": unix + 180}, ""},
		{"nbf in 181 s", map[string]any{"nbf": unix + 181}, broken + `"nbf" claim timestamp check failed`},
		{"nonce a number", map[string]any{"nonce": 1}, `invalid_dpop_proof: Invalid DPoP "nonce" type`},
		{"nonce missing", map[string]any{"nonce": nil}, "use_dpop_nonce: Authorization server requires nonce in DPoP proof"},
		{"nonce empty", map[string]any{"nonce": ""}, "use_dpop_nonce: Authorization server requires nonce in DPoP proof"},
		{"nonce of somebody else", map[string]any{"nonce": "x"}, `use_dpop_nonce: DPoP "nonce" mismatch`},
		{"jti missing", map[string]any{"jti": nil}, `invalid_dpop_proof: DPoP "jti" missing`},
		{"jti empty", map[string]any{"jti": ""}, `invalid_dpop_proof: DPoP "jti" missing`},
		{"jti a number", map[string]any{"jti": 1}, `invalid_dpop_proof: DPoP "jti" missing`},
		{"htm missing", map[string]any{"htm": nil}, `invalid_dpop_proof: DPoP "htm" mismatch`},
		{"htm another", map[string]any{"htm": "GET"}, `invalid_dpop_proof: DPoP "htm" mismatch`},
		{"htm in small letters", map[string]any{"htm": "post"}, `invalid_dpop_proof: DPoP "htm" mismatch`},
		{"htu missing", map[string]any{"htu": nil}, `invalid_dpop_proof: DPoP "htu" mismatch`},
		{"htu no URL", map[string]any{"htu": "/oauth/par"}, `invalid_dpop_proof: DPoP "htu" is not a valid URL`},
		{"htu broken", map[string]any{"htu": "https://%zz"}, `invalid_dpop_proof: DPoP "htu" is not a valid URL`},
		{"htu with credentials", map[string]any{"htu": "https://a:b@pds.example.com/oauth/par"}, `invalid_dpop_proof: DPoP "htu" must not contain credentials`},
		{"ath without a token", map[string]any{"ath": "x"}, `invalid_dpop_proof: DPoP "ath" claim not allowed`},
		// Of several faults the first in this order counts.
		{"jti and htm", map[string]any{"jti": nil, "htm": nil}, `invalid_dpop_proof: DPoP "jti" missing`},
		{"htu and nonce", map[string]any{"htu": nil, "nonce": nil}, `invalid_dpop_proof: DPoP "htu" mismatch`},
		{"nonce and ath", map[string]any{"nonce": nil, "ath": "x"}, "use_dpop_nonce: Authorization server requires nonce in DPoP proof"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ask(t, v, "POST", "/oauth/par", "", k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", tt.claims))
			says(t, err, tt.want)
		})
	}
}

func TestAddress(t *testing.T) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(t, "ES256")
	const mismatch = `invalid_dpop_proof: DPoP "htu" mismatch`
	for _, tt := range []struct{ path, htu, want string }{
		{"/oauth/par", "https://pds.example.com/oauth/par", ""},
		{"/oauth/par?a=b", "https://pds.example.com/oauth/par", ""},
		{"/oauth/par", "https://pds.example.com/oauth/par?x=y#z", ""},
		{"/oauth/par", "HTTPS://PDS.Example.COM/oauth/par", ""},
		{"/oauth/par", "https://pds.example.com:443/oauth/par", ""},
		{"/oauth/par", "https://pds.example.com/a/../oauth/./par", ""},
		{"/oauth/par", "https://pds.example.com/../oauth/par", ""},
		{"/oauth/par", "https://pds.example.com/a/%2e%2E/oauth/par", ""},
		{"/oauth/par", "https://pds.example.com/%6fauth/par", ""},
		{"/a%3ab", "https://pds.example.com/a%3Ab", ""},
		{"/", "https://pds.example.com", ""},
		{"/xrpc/com.atproto.server.getSession", "https://pds.example.com/xrpc/com.atproto.server.getSession?x", ""},
		{"/oauth/par", "https://pds.example.com/oauth/PAR", mismatch},
		{"/oauth/par", "https://pds.example.com/oauth/par/", mismatch},
		{"/oauth/par", "https://pds.example.com/oauth/par/.", mismatch},
		{"/oauth/par", "https://pds.example.com/oauth%2Fpar", mismatch},
		{"/oauth/par", "https://pds.example.com//oauth/par", mismatch},
		{"/oauth/par", "https://pds.example.com/oauth/par%00", mismatch},
		{"/oauth/par", "http://pds.example.com/oauth/par", mismatch},
		{"/oauth/par", "https://pds.example.com:3000/oauth/par", mismatch},
		{"/oauth/par", "https://inside:3000/oauth/par", mismatch},
		{"/oauth/par", "http://inside:3000/oauth/par", mismatch},
		{"/oauth/par", "https://pds.example.com.evil.example/oauth/par", mismatch},
		{"/oauth/par", "ftp://pds.example.com/oauth/par", mismatch},
		{"/oauth/par", "https:pds.example.com/oauth/par", `invalid_dpop_proof: DPoP "htu" is not a valid URL`},
	} {
		t.Run(tt.path+" "+tt.htu, func(t *testing.T) {
			_, err := ask(t, v, "POST", tt.path, "", k.Proof(t, now, "POST", tt.htu, v.Nonces.Next(), "", nil))
			says(t, err, tt.want)
		})
	}
}

func TestAccessToken(t *testing.T) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(t, "ES256")
	const path = "/xrpc/com.atproto.server.getSession"
	for _, tt := range []struct {
		name, sent, proved string
		want               string
	}{
		{"the same", "token", "token", ""},
		{"another", "token", "tokem", `invalid_dpop_proof: DPoP "ath" mismatch`},
		{"none in the proof", "token", "", `invalid_dpop_proof: DPoP "ath" mismatch`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ask(t, v, "GET", path, tt.sent, k.Proof(t, now, "GET", origin+path, v.Nonces.Next(), tt.proved, nil))
			says(t, err, tt.want)
		})
	}
}

func TestReplay(t *testing.T) {
	now := noon
	v := server(&now)
	k, other := oauthtest.NewKey(t, "ES256"), oauthtest.NewKey(t, "ES256")
	const replayed = "invalid_dpop_proof: DPoP proof replayed"
	proof := k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": "one", "iat": now.Unix() + 180})
	_, err := ask(t, v, "POST", "/oauth/par", "", proof)
	says(t, err, "")
	// As long as anything else would let it pass.
	for range 21 {
		_, err := ask(t, v, "POST", "/oauth/par", "", proof)
		if now.Sub(noon) < 3*time.Minute {
			says(t, err, replayed)
		} else {
			says(t, err, `use_dpop_nonce: DPoP "nonce" mismatch`)
		}
		now = now.Add(10 * time.Second)
	}
	now = noon
	_, err = ask(t, v, "POST", "/oauth/par", "", k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": "two"}))
	says(t, err, "")
	now = now.Add(time.Minute)
	_, err = ask(t, v, "POST", "/oauth/par", "", k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": "two"}))
	says(t, err, replayed)
	_, err = ask(t, v, "POST", "/oauth/par", "", other.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", map[string]any{"jti": "two"}))
	says(t, err, "")
	// A proof that was refused is not used up.
	proof = k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil)
	_, err = ask(t, v, "GET", "/oauth/par", "", proof)
	says(t, err, `invalid_dpop_proof: DPoP "htm" mismatch`)
	_, err = ask(t, v, "POST", "/oauth/par", "", proof)
	says(t, err, "")
}

// What a process with its own secret took before it ended, the next one does not take.
func TestReplayAfterRestart(t *testing.T) {
	now := noon
	clock := func() time.Time { return now }
	k := oauthtest.NewKey(t, "ES256")
	v := server(&now)
	proof := k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil)
	_, err := ask(t, v, "POST", "/oauth/par", "", proof)
	says(t, err, "")
	next := server(&now)
	next.Nonces = dpop.NewNonces([]byte("secret of the next process"), clock)
	_, err = ask(t, next, "POST", "/oauth/par", "", proof)
	says(t, err, `use_dpop_nonce: DPoP "nonce" mismatch`)
}

func TestOnceFails(t *testing.T) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(t, "ES256")
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"forgotten", dpop.ErrForgotten, `use_dpop_nonce: DPoP "nonce" mismatch`},
		{"full", dpop.ErrFull, ""},
		{"broken", errors.New("broken"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v.Once = func(_ context.Context, id []byte, until time.Time) (bool, error) {
				if len(id) != 32 || until.Before(now.Add(2*time.Minute)) || until.After(now.Add(4*time.Minute)) {
					t.Errorf("id %x until %v", id, until)
				}
				return false, tt.err
			}
			_, err := ask(t, v, "POST", "/oauth/par", "", k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil))
			if tt.want != "" {
				says(t, err, tt.want)
			} else if !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	now := noon
	v := server(&now)
	claims := func() string {
		return `{"jti":"` + oauthtest.ID() + `","htm":"POST","htu":"` + origin + `/oauth/par","iat":1795383360,"nonce":"` + v.Nonces.Next() + `"}`
	}
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES256K", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			k := oauthtest.NewKey(t, alg)
			p, err := ask(t, v, "POST", "/oauth/par", "", k.Proof(t, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil))
			says(t, err, "")
			if err == nil && p.Thumbprint != k.Thumbprint(t) {
				t.Errorf("thumbprint %s, want %s", p.Thumbprint, k.Thumbprint(t))
			}
		})
	}
	k := oauthtest.NewKey(t, "ES256")
	x, y := k.Public["x"].(string), k.Public["y"].(string)
	jwk := `{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `"`
	const header = `{"typ":"dpop+jwt","alg":"ES256","jwk":`
	const unfit = broken + `"jwk" (JSON Web Key) Header Parameter must be a public key: `
	for _, tt := range []struct{ name, header, want string }{
		{"good", header + jwk + `}}`, ""},
		{"typ in capitals", `{"typ":"DPoP+JWT","alg":"ES256","jwk":` + jwk + `}}`, ""},
		{"key with what browsers export", header + jwk + `,"ext":true,"key_ops":["verify"],"kid":"a","alg":"ES256","use":"sig"}}`, ""},
		{"no typ", `{"alg":"ES256","jwk":` + jwk + `}}`, broken + `unexpected "typ" JWT header value`},
		{"typ of a token", `{"typ":"JWT","alg":"ES256","jwk":` + jwk + `}}`, broken + `unexpected "typ" JWT header value`},
		{"no alg", `{"typ":"dpop+jwt","jwk":` + jwk + `}}`, broken + `missing "alg" (Algorithm) in JWS Header`},
		{"alg none", `{"typ":"dpop+jwt","alg":"none","jwk":` + jwk + `}}`, broken + `"alg" (Algorithm) Header Parameter value not allowed`},
		{"alg HS256", `{"typ":"dpop+jwt","alg":"HS256","jwk":` + jwk + `}}`, broken + `"alg" (Algorithm) Header Parameter value not allowed`},
		{"alg EdDSA", `{"typ":"dpop+jwt","alg":"EdDSA","jwk":` + jwk + `}}`, broken + `"alg" (Algorithm) Header Parameter value not allowed`},
		{"alg of another curve", `{"typ":"dpop+jwt","alg":"ES384","jwk":` + jwk + `}}`, broken + "signature verification failed"},
		{"alg of the other curve of that size", `{"typ":"dpop+jwt","alg":"ES256K","jwk":` + jwk + `}}`, broken + "signature verification failed"},
		{"alg of the key another", header + jwk + `,"alg":"ES384"}}`, unfit + `key of another kind, or for another use: "alg" does not fit the key`},
		{"alg twice", `{"typ":"dpop+jwt","alg":"none","alg":"ES256","jwk":` + jwk + `}}`, broken + "Invalid Compact JWS"},
		{"crit", `{"typ":"dpop+jwt","alg":"ES256","crit":["x"],"jwk":` + jwk + `}}`, broken + `"crit" (Header Parameter) is not supported`},
		{"b64", `{"typ":"dpop+jwt","alg":"ES256","b64":true,"jwk":` + jwk + `}}`, broken + `"b64" (Header Parameter) is not supported`},
		{"no key", `{"typ":"dpop+jwt","alg":"ES256"}`, broken + `"jwk" (JSON Web Key) Header Parameter must be a JSON object`},
		{"private key", header + jwk + `,"d":"AA"}}`, unfit + "key is not public"},
		{"secret", header + `{"kty":"oct","k":"AA"}}`, unfit + "key is not public"},
		{"key for encryption", header + jwk + `,"use":"enc"}}`, unfit + `key of another kind, or for another use: "use"`},
		{"key that signs", header + jwk + `,"key_ops":["sign"]}}`, unfit + `key of another kind, or for another use: "key_ops"`},
		{"key off the curve", header + `{"kty":"EC","crv":"P-256","x":"` + y + `","y":"` + x + `"}}`, unfit + "point is not on the curve"},
		{"key with a member twice", header + jwk + `,"x":"` + x + `"}}`, unfit + "a JSON object has a member twice"},
		{"Ed25519", header + `{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}}`, unfit + "key of another kind, or for another use"},
		{"key a list", header + `[]}`, unfit + "not a JSON object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ask(t, v, "POST", "/oauth/par", "", k.SignRaw(t, tt.header, claims()))
			says(t, err, tt.want)
		})
	}
	for _, claims := range []string{`[]`, `1`, `{"a":1,"a":1}`, "\xff", `{"jti":"\xff"}`} {
		_, err := ask(t, v, "POST", "/oauth/par", "", k.SignRaw(t, header+jwk+`}}`, claims))
		says(t, err, broken+"JWT Claims Set must be a top-level JSON object")
	}
}

// The examples of RFC 9449, sections 4.1 and 7.1.
func TestExamples(t *testing.T) {
	for _, tt := range []struct{ name, method, url, token, proof string }{
		{"token request", "POST", "https://server.example.com/token", "",
			"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"},
		{"protected resource", "GET", "https://resource.example.org/protectedresource", "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
			"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1562262617, 0)
			v := server(&now)
			origin, path, _ := strings.Cut(strings.TrimPrefix(tt.url, "https://"), "/")
			v.URL = "https://" + origin
			r := httptest.NewRequestWithContext(t.Context(), tt.method, tt.url, nil)
			r.Header.Set("DPoP", tt.proof)
			if r.URL.Path != "/"+path {
				t.Fatal(r.URL.Path)
			}
			// They have no nonce, which is asked for after all else about them is right.
			_, err := v.Check(t.Context(), r, tt.token)
			says(t, err, "use_dpop_nonce: Authorization server requires nonce in DPoP proof")
		})
	}
}

// Known values, as another process with the same secret makes them.
func TestNonces(t *testing.T) {
	now := noon.Add(7 * time.Second)
	n := dpop.NewNonces([]byte("0123456789abcdef0123456789abcdef"), func() time.Time { return now })
	first := n.Next()
	if want := "XBZIGv7KBO2UtHJvlVPdD6_eRYzhiPzr2kTTS0LUgJI"; first != want {
		t.Errorf("nonce %s, want %s", first, want)
	}
	for _, tt := range []struct {
		after time.Duration
		good  bool
	}{
		{0, true}, {50 * time.Second, true}, {53 * time.Second, true}, {2*time.Minute + 52*time.Second, true}, {2*time.Minute + 53*time.Second, false},
		{time.Hour, false}, {-7 * time.Second, true}, {-8 * time.Second, false},
	} {
		now = noon.Add(7 * time.Second).Add(tt.after)
		if n.Good(first) != tt.good {
			t.Errorf("after %v: good %v", tt.after, !tt.good)
		}
	}
	if n.Good("") {
		t.Error("none is good")
	}
}

func TestChallenge(t *testing.T) {
	const algs = `DPoP algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512"`
	for _, tt := range []struct{ name, description, want string }{
		{"invalid_token", "Invalid token", algs + `, error="invalid_token", error_description="Invalid token"`},
		{"invalid_dpop_proof", `DPoP "htu" mismatch`, algs + `, error="invalid_dpop_proof"`},
		{"invalid_token", "a\nb", algs + `, error="invalid_token"`},
	} {
		if got := dpop.Challenge(tt.name, tt.description); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	now := noon
	v := server(&now)
	k := oauthtest.NewKey(f, "ES256")
	f.Add(k.Proof(f, now, "POST", origin+"/oauth/par", v.Nonces.Next(), "", nil))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, proof string) {
		r := &http.Request{Method: "POST", URL: httptest.NewRequest("POST", "/oauth/par", nil).URL, Header: http.Header{"Dpop": {proof}}}
		p, err := v.Check(t.Context(), r, "")
		var refused *dpop.Error
		if err != nil && (!errors.As(err, &refused) || len(refused.Description) > 300) {
			t.Errorf("%v", err)
		}
		if err == nil && len(p.Thumbprint) != 43 {
			t.Errorf("thumbprint %q", p.Thumbprint)
		}
	})
}

// What a proof cannot cost less than.
func BenchmarkSignatureAlone(b *testing.B) {
	k := oauthtest.NewKey(b, "ES256")
	x, y := coordinate(b, k, "x"), coordinate(b, k, "y")
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		b.Fatal(err)
	}
	text, signature, _ := strings.Cut(k.Sign(b, nil, map[string]any{"a": 1}), ".")
	claims, signature, _ := strings.Cut(signature, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		b.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text + "." + claims))
	r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
	b.ReportAllocs()
	for b.Loop() {
		if !ecdsa.Verify(key, sum[:], r, s) {
			b.Fatal("signature is bad")
		}
	}
}

func coordinate(tb testing.TB, k *oauthtest.Key, name string) []byte {
	tb.Helper()
	text, _ := k.Public[name].(string)
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func BenchmarkCheck(b *testing.B) {
	for _, alg := range []string{"ES256", "ES256K", "ES384", "ES512", "RS256", "PS256"} {
		b.Run(alg, func(b *testing.B) {
			now := noon
			v := server(&now)
			v.Once = func(context.Context, []byte, time.Time) (bool, error) { return true, nil }
			k := oauthtest.NewKey(b, alg)
			r := httptest.NewRequestWithContext(b.Context(), "GET", "/xrpc/com.atproto.server.getSession", nil)
			r.Header.Set("DPoP", k.Proof(b, now, "GET", origin+"/xrpc/com.atproto.server.getSession", v.Nonces.Next(), "token", nil))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Check(b.Context(), r, "token"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
