package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"portico/impl/oauth/client"
	"portico/impl/oauth/oauthtest"
)

const keysURI = "https://keys.stub.dev/jwks.json"

// publish makes the app a confidential one that has these keys, at keysURI or in its document.
func (w *world) publish(apart bool, keys ...*oauthtest.Key) {
	list := []any{map[string]any{"kty": "OKP", "crv": "X25519", "x": "AA"}} // of another kind
	for _, key := range keys {
		list = append(list, key.JWK())
	}
	changes := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256"}
	if set := map[string]any{"keys": list}; apart {
		raw, err := json.Marshal(set)
		if err != nil {
			panic(err)
		}
		changes["jwks_uri"] = keysURI
		w.serve(keysURI, 200, "application/json", string(raw))
	} else {
		changes["jwks"] = set
	}
	w.serve(appID, 200, "application/json", document(changes))
}

func newKey(t testing.TB, id, algorithm string) *oauthtest.Key {
	t.Helper()
	key := oauthtest.NewKey(t, algorithm)
	key.ID = id
	return key
}

func assertion(token string) url.Values {
	return url.Values{
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {token},
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	k, other := newKey(t, "k 1", "ES256"), newKey(t, "k 1", "ES256")
	nameless, double := newKey(t, "", "ES256"), newKey(t, "double", "ES256")
	w.publish(false, k, nameless, double, double)
	now := w.now.Unix()
	const failed = `400 invalid_client: Validation of "client_assertion" failed: `
	const required = `400 invalid_request: client authentication method "private_key_jwt" required a "client_assertion"`
	sign := func(claims map[string]any) string { return k.Assertion(t, w.now, appID, issuer, claims) }
	unknown := newKey(t, "k2", "ES256")
	for _, tt := range []struct {
		name, token, want string
	}{
		{"good", sign(nil), ""},
		{"aud in a list", sign(map[string]any{"aud": []string{"https://other.dev", issuer}}), ""},
		{"missing", "", required},
		{"no JWT", "x", required},
		{"iss another", sign(map[string]any{"iss": "https://app.stub.dev/other.json"}), failed + `unexpected "iss" claim value`},
		{"iss missing", sign(map[string]any{"iss": nil}), failed + `missing required "iss" claim`},
		{"sub another", sign(map[string]any{"sub": "https://app.stub.dev/other.json"}), failed + `unexpected "sub" claim value`},
		{"sub missing", sign(map[string]any{"sub": nil}), failed + `missing required "sub" claim`},
		{"aud the token endpoint", sign(map[string]any{"aud": issuer + "/oauth/token"}), failed + `unexpected "aud" claim value`},
		{"aud with a slash", sign(map[string]any{"aud": issuer + "/"}), failed + `unexpected "aud" claim value`},
		{"aud another server", sign(map[string]any{"aud": "https://other.dev"}), failed + `unexpected "aud" claim value`},
		{"aud missing", sign(map[string]any{"aud": nil}), failed + `missing required "aud" claim`},
		{"aud of all", sign(map[string]any{"aud": append(make([]string, 16), issuer)}), failed + `unexpected "aud" claim value`},
		{"jti missing", sign(map[string]any{"jti": nil}), failed + `missing required "jti" claim`},
		{"jti empty", sign(map[string]any{"jti": ""}), failed + `unexpected "jti" claim value`},
		{"iat missing", sign(map[string]any{"iat": nil}), failed + `missing required "iat" claim`},
		{"iat 60 s ago", sign(map[string]any{"iat": now - 60}), ""},
		{"iat 61 s ago", sign(map[string]any{"iat": now - 61}), failed + `"iat" claim timestamp check failed (too far in the past)`},
		{"iat in a second", sign(map[string]any{"iat": now + 1}), failed + `"iat" claim timestamp check failed (it should be in the past)`},
		{"iat a text", sign(map[string]any{"iat": "x"}), failed + `"iat" claim must be a number`},
		{"exp now", sign(map[string]any{"exp": now}), failed + `"exp" claim timestamp check failed`},
		{"exp later", sign(map[string]any{"exp": now + 1}), ""},
		{"nbf later", sign(map[string]any{"nbf": now + 1}), failed + `"nbf" claim timestamp check failed`},
		{"no kid", nameless.Assertion(t, w.now, appID, issuer, nil), `400 invalid_client: "kid" required in client_assertion`},
		{"kid unknown", unknown.Assertion(t, w.now, appID, issuer, nil), failed + "no applicable key found in the JSON Web Key Set"},
		{"kid of two keys", double.Assertion(t, w.now, appID, issuer, nil), failed + "multiple matching keys found in the JSON Web Key Set"},
		{"signed by another", other.Assertion(t, w.now, appID, issuer, nil), failed + "signature verification failed"},
		{"unsigned", other.Sign(t, map[string]any{"kid": "k 1", "alg": "none"}, map[string]any{}), failed + `"alg" (Algorithm) Header Parameter value not allowed`},
		{"signed with a secret", other.Sign(t, map[string]any{"kid": "k 1", "alg": "HS256"}, map[string]any{}), failed + `"alg" (Algorithm) Header Parameter value not allowed`},
		{"critical", k.Sign(t, map[string]any{"kid": "k 1", "crit": []string{"x"}}, map[string]any{}), failed + `"crit" (Header Parameter) is not supported`},
		{"its own key", other.Sign(t, map[string]any{"kid": "x", "jwk": other.Public}, map[string]any{}), failed + "no applicable key found in the JSON Web Key Set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := w.Find(t.Context(), appID)
			says(t, err, "")
			got, err := w.Authenticate(t.Context(), c, assertion(tt.token))
			says(t, err, tt.want)
			if want := "k 1 ES256 " + k.Thumbprint(t); err == nil && got != want {
				t.Errorf("key %q, want %q", got, want)
			}
		})
	}
	c, err := w.Find(t.Context(), appID)
	says(t, err, "")
	form := assertion(sign(nil))
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")
	_, err = w.Authenticate(t.Context(), c, form)
	says(t, err, required)
	form = assertion(sign(nil))
	_, err = w.Authenticate(t.Context(), c, form)
	says(t, err, "")
	w.pass(59 * time.Second)
	_, err = w.Authenticate(t.Context(), c, form)
	says(t, err, "400 invalid_grant: private_key_jwt jti reused")
}

// A client without a key is not asked, whatever it sends.
func TestAuthenticatePublic(t *testing.T) {
	w := newWorld(t)
	w.serve(appID, 200, "application/json", document(nil))
	c, err := w.Find(t.Context(), appID)
	says(t, err, "")
	key, err := w.Authenticate(t.Context(), c, assertion("x"))
	says(t, err, "")
	if key != "" || c.Confidential() {
		t.Errorf("key %q", key)
	}
}

// A new key is found at once, and one that was removed is gone within ten minutes; nobody makes
// this server fetch more than twice a minute.
func TestRotation(t *testing.T) {
	for _, apart := range []bool{false, true} {
		t.Run(fmt.Sprint(apart), func(t *testing.T) {
			w := newWorld(t)
			uri := map[bool]string{false: appID, true: keysURI}[apart]
			old, next, never := newKey(t, "old", "ES256"), newKey(t, "next", "ES256K"), newKey(t, "never", "ES256")
			w.publish(apart, old)
			try := func(key *oauthtest.Key, want string, asked int) {
				t.Helper()
				c, err := w.Find(t.Context(), appID)
				says(t, err, "")
				_, err = w.Authenticate(t.Context(), c, assertion(key.Assertion(t, w.now, appID, issuer, nil)))
				says(t, err, want)
				if n := w.asked(uri); n != asked {
					t.Errorf("%s: fetched %d times, want %d", key.ID, n, asked)
				}
			}
			const none = `400 invalid_client: Validation of "client_assertion" failed: no applicable key found in the JSON Web Key Set`
			try(old, "", 1)
			w.publish(apart, next)
			try(next, none, 1)
			w.pass(30 * time.Second)
			try(next, "", 2)
			for range 10 {
				try(never, none, 2)
			}
			// What was refused is not used up.
			w.pass(29 * time.Second)
			try(never, none, 2)
			w.pass(time.Second)
			try(never, none, 3)
			paid := w.paid.Load()
			try(old, none, 3)
			if w.paid.Load() != paid {
				t.Error("paid for nothing")
			}
			// While the server of the client is away, what was fetched last counts to its end.
			w.serve(uri, 500, "", "")
			w.pass(time.Minute)
			try(next, "", 3)
			try(never, none, 4)
			try(next, "", 4)
		})
	}
}

func TestKeySet(t *testing.T) {
	k := newKey(t, "k", "ES256")
	raw := func(v any) string {
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const failed = `400 invalid_client: Unable to obtain client keys from "https://keys.stub.dev/jwks.json": `
	for _, tt := range []struct {
		name, kind, body string
		status           int
		want             string
	}{
		{"good", "application/json", raw(map[string]any{"keys": []any{k.JWK()}}), 200, ""},
		{"with junk", "application/json", raw(map[string]any{"keys": []any{1, "x", nil, map[string]any{"kty": "EC"}, k.JWK()}}), 200, ""},
		{"missing", "application/json", "", 404, failed + "Not Found"},
		{"redirect", "application/json", "", 301, failed + "unexpected redirect"},
		{"HTML", "text/html", "", 200, failed + "Unexpected response Content-Type (text/html)"},
		{"no JSON", "application/json", "x", 200, failed + "Expected object"},
		{"no keys", "application/json", "{}", 200, failed + "Expected array of keys, with at least one and not too many"},
		{"a private key", "application/json", `{"keys":[{"kty":"EC","d":"AA"}]}`, 200, failed + "Private key"},
		{"nothing fits", "application/json", `{"keys":[{"kty":"oct"}]}`, 200, `400 invalid_client: Validation of "client_assertion" failed: no applicable key found in the JSON Web Key Set`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish(true, k)
			w.serve(keysURI, tt.status, tt.kind, tt.body)
			c, err := w.Find(t.Context(), appID)
			says(t, err, "")
			_, err = w.Authenticate(t.Context(), c, assertion(k.Assertion(t, w.now, appID, issuer, nil)))
			says(t, err, tt.want)
		})
	}
}

func TestSameKey(t *testing.T) {
	for _, tt := range []struct {
		key, thumbprint string
		want            bool
	}{
		{"k ES256 abc", "abc", true}, {"a k ES256 abc", "abc", true}, {"k ES256 abc", "abd", false}, {"", "", false}, {"", "abc", false}, {"abc ES256 abd", "abc", false},
	} {
		if client.SameKey(tt.key, tt.thumbprint) != tt.want {
			t.Errorf("%+v", tt)
		}
	}
}

func TestRequest(t *testing.T) {
	k := newKey(t, "k", "ES256")
	public := func(changes map[string]any) *world {
		w := newWorld(t)
		all := map[string]any{"jwks": map[string]any{"keys": []any{k.JWK()}}}
		for name, value := range changes {
			all[name] = value
		}
		w.serve(appID, 200, "application/json", document(all))
		return w
	}
	now := newWorld(t).now.Unix()
	object := func(changes map[string]any) map[string]any {
		claims := map[string]any{"iss": appID, "aud": issuer, "iat": now, "jti": oauthtest.ID(), "response_type": "code", "scope": "atproto", "max_age": 3600, "state": nil}
		for name, value := range changes {
			if value == nil {
				delete(claims, name)
			} else {
				claims[name] = value
			}
		}
		return claims
	}
	signed := func(changes map[string]any) string { return k.Sign(t, map[string]any{"kid": "k"}, object(changes)) }
	unsigned := func(changes map[string]any) string {
		token := k.Sign(t, map[string]any{"alg": "none"}, object(changes))
		return token[:strings.LastIndex(token, ".")+1]
	}
	const bad = `400 invalid_request: Invalid "request" object: `
	const disallowed = bad + `"alg" (Algorithm) Header Parameter value not allowed`
	none := map[string]any{"request_object_signing_alg": "none"}
	for _, tt := range []struct {
		name    string
		changes map[string]any
		object  string
		want    string
	}{
		{"good", nil, signed(nil), ""},
		{"algorithm registered", map[string]any{"request_object_signing_alg": "ES256"}, signed(nil), ""},
		{"another registered", map[string]any{"request_object_signing_alg": "ES384"}, signed(nil), disallowed},
		{"no kid", nil, k.Sign(t, nil, object(nil)), ""},
		{"none registered", none, unsigned(nil), ""},
		{"none registered, signed all the same", none, signed(nil), disallowed},
		{"none registered, with a signature", none, unsigned(nil) + "AA", disallowed},
		{"none not registered", nil, unsigned(nil), disallowed},
		{"iss another", nil, signed(map[string]any{"iss": "x"}), bad + `unexpected "iss" claim value`},
		{"aud missing", nil, signed(map[string]any{"aud": nil}), bad + `missing required "aud" claim`},
		{"iat 59 s ago", nil, signed(map[string]any{"iat": now - 59}), ""},
		{"iat 60 s ago", nil, signed(map[string]any{"iat": now - 60}), bad + `"iat" claim timestamp check failed (too far in the past)`},
		{"jti missing", nil, signed(map[string]any{"jti": nil}), `400 invalid_request: Request object payload must contain a "jti" claim`},
		{"client_id", nil, signed(map[string]any{"client_id": appID}), ""},
		{"client_id another", nil, signed(map[string]any{"client_id": "x"}), bad + `unexpected "client_id" claim value`},
		{"request inside", nil, signed(map[string]any{"request": "x"}), bad + `unexpected "request" claim value`},
		{"request_uri inside", nil, signed(map[string]any{"request_uri": "x"}), bad + `unexpected "request_uri" claim value`},
		{"no JWT", nil, "x", bad + "Invalid Compact JWS"},
		{"too long", nil, signed(map[string]any{"state": strings.Repeat("x", 9000)}), bad + "Invalid Compact JWS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := public(tt.changes)
			c, err := w.Find(t.Context(), appID)
			says(t, err, "")
			got, err := w.Clients.Request(t.Context(), c, tt.object)
			says(t, err, tt.want)
			if err != nil {
				return
			}
			got.Del("client_id")
			if got.Encode() != "max_age=3600&response_type=code&scope=atproto" {
				t.Errorf("%v", got)
			}
			_, err = w.Clients.Request(t.Context(), c, tt.object)
			says(t, err, "400 invalid_request: Request object was replayed")
		})
	}
}

// What cannot be remembered is not let through.
func TestOnceFails(t *testing.T) {
	w := newWorld(t)
	k := newKey(t, "k", "ES256")
	w.publish(false, k)
	broken := errors.New("broken")
	w.Once = func(context.Context, []byte, time.Time) (bool, error) { return true, broken }
	c, err := w.Find(t.Context(), appID)
	says(t, err, "")
	if _, err := w.Authenticate(t.Context(), c, assertion(k.Assertion(t, w.now, appID, issuer, nil))); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := w.Clients.Request(t.Context(), c, k.Assertion(t, w.now, appID, issuer, nil)); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F&scope=atproto")
	f.Add(appID)
	f.Add("https://a.b/%2e")
	w := newWorld(f)
	w.Fetch = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return response(200, "application/json", document(map[string]any{"client_id": r.URL.String()})), nil
	})}
	f.Fuzz(func(t *testing.T, id string) {
		c, err := w.Find(t.Context(), id)
		if err != nil {
			var refused *client.Error
			if !errors.As(err, &refused) || refused.Status != 400 || len(refused.Description) > 2000 {
				t.Errorf("%v", err)
			}
			return
		}
		for i := range len(id) {
			if id[i] <= ' ' && !c.Loopback || id[i] > '~' {
				t.Errorf("%q is a client_id", id)
			}
		}
		if u, err := url.Parse(id); err != nil || c.ID != id || !c.Loopback && (u.String() != id && u.String()+"?" != id || u.User != nil) {
			t.Errorf("%q: %v", id, u)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(document(nil))
	f.Add(document(map[string]any{"redirect_uris": []string{"dev.stub.app:/cb", "http://127.0.0.1/"}, "application_type": "native"}))
	f.Add(document(map[string]any{"jwks": map[string]any{"keys": []any{map[string]any{"kty": "EC"}}}}))
	f.Fuzz(func(t *testing.T, text string) {
		w := newWorld(t)
		w.serve(appID, 200, "application/json", text)
		c, err := w.Find(t.Context(), appID)
		if err != nil {
			var refused *client.Error
			if !errors.As(err, &refused) || refused.Status != 400 || len(refused.Description) > 2000 {
				t.Errorf("%v", err)
			}
			return
		}
		m := c.Metadata
		if m.ClientID != appID || !m.BoundTokens || len(m.RedirectURIs) == 0 || m.AuthMethod != "none" && m.AuthMethod != "private_key_jwt" || len(m.Name) > 400 {
			t.Errorf("%+v", m)
		}
		for _, uri := range m.RedirectURIs {
			if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "http://127.0.0.1") && !strings.HasPrefix(uri, "http://[::1]") && !strings.HasPrefix(uri, "dev.stub.app:/") ||
				strings.ContainsAny(uri, " \"'<>\\\r\n\x00") && !strings.Contains(uri, "'") {
				t.Errorf("%q is a redirect URI", uri)
			}
			if got, err := c.Redirect(uri); err != nil || got != uri {
				t.Errorf("%q: %v", uri, err)
			}
		}
	})
}

func FuzzRedirect(f *testing.F) {
	f.Add("http://127.0.0.1/cb", "http://127.0.0.1:3000/cb")
	f.Add("http://[::1]", "http://[::1]:1/")
	f.Add("https://app.stub.dev/cb", "https://app.stub.dev/cb?")
	f.Fuzz(func(t *testing.T, registered, asked string) {
		c := &client.Client{Metadata: client.Metadata{RedirectURIs: []string{registered}}}
		got, err := c.Redirect(asked)
		if err != nil || asked == "" || asked == registered {
			return
		}
		a, err1 := url.Parse(registered)
		b, err2 := url.Parse(asked)
		if got != asked || err1 != nil || err2 != nil || a.Scheme != "http" || b.Scheme != "http" || a.Hostname() != b.Hostname() || a.Port() != "" ||
			a.Hostname() != "127.0.0.1" && a.Hostname() != "::1" || b.User != nil || a.RawQuery != b.RawQuery || strings.TrimPrefix(a.Path, "/") != strings.TrimPrefix(b.Path, "/") {
			t.Errorf("%q leads to %q", registered, asked)
		}
	})
}
