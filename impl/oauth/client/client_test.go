package client_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"portico/impl/oauth/client"
	"portico/impl/oauth/oauthtest"
)

const (
	issuer = "https://pds.portico.dev"
	appID  = "https://app.stub.dev/client.json"
)

// A world is the server's view of clients, with a network that answers what a test says.
type world struct {
	*client.Clients
	mu      sync.Mutex
	now     time.Time
	paid    atomic.Int64
	fetched map[string]int
	answers map[string]func() *http.Response
	used    map[string]bool
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{
		now: time.Unix(1795383360, 0), fetched: make(map[string]int), answers: make(map[string]func() *http.Response), used: make(map[string]bool),
	}
	w.Clients = &client.Clients{
		Fetch: &http.Client{Transport: w}, Largest: 64 << 10, Issuer: issuer,
		Pay:     func(context.Context) error { w.paid.Add(1); return nil },
		Trusted: func() []string { return nil },
		Now:     w.clock,
		Once: func(_ context.Context, id []byte, until time.Time) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(id) < 16 || len(id) > 32 || !until.After(w.now) {
				tb.Errorf("id %x until %v", id, until)
			}
			defer func() { w.used[string(id)] = true }()
			return !w.used[string(id)], nil
		},
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.fetched[r.URL.String()]++
	answer := w.answers[r.URL.String()]
	w.mu.Unlock()
	if r.Method != "GET" || r.Header.Get("Accept") != "application/json" || r.Header.Get("Cookie") != "" {
		return nil, fmt.Errorf("%s %v", r.Method, r.Header)
	}
	if answer == nil {
		return response(404, "text/plain", "nothing"), nil
	}
	if res := answer(); res != nil {
		return res, nil
	}
	return nil, errors.New("dial tcp 10.0.0.1:443: address is not public")
}

func response(status int, kind, body string, header ...string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	if kind != "" {
		res.Header.Set("Content-Type", kind)
	}
	for i := 0; i < len(header); i += 2 {
		res.Header.Set(header[i], header[i+1])
	}
	return res
}

func (w *world) serve(uri string, status int, kind, body string, header ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[uri] = func() *http.Response { return response(status, kind, body, header...) }
}

func (w *world) asked(uri string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetched[uri]
}

// document is one of a public web app, with changes; nil takes away.
func document(changes map[string]any) string {
	doc := map[string]any{
		"client_id": appID, "client_name": "App", "redirect_uris": []string{"https://app.stub.dev/cb"}, "scope": "atproto transition:generic",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none", "application_type": "web", "dpop_bound_access_tokens": true,
	}
	for name, value := range changes {
		if value == nil {
			delete(doc, name)
		} else {
			doc[name] = value
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// says fails unless err is an *Error that reads like want, "STATUS NAME: DESCRIPTION", or nil for "".
func says(t testing.TB, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%v", err)
		}
		return
	}
	var refused *client.Error
	if !errors.As(err, &refused) {
		t.Errorf("%v, want %v", err, want)
	} else if got := fmt.Sprintf("%d %v", refused.Status, refused); got != want {
		t.Errorf("%v, want\n%v", got, want)
	}
}

func TestClientID(t *testing.T) {
	w := newWorld(t)
	const tld = "400 invalid_client_id: The client_id's TLD must not be a local hostname"
	for _, tt := range []struct{ id, want string }{
		{"http://localhost", ""},
		{"http://localhost/", ""},
		{"http://localhost?", ""},
		{"http://localhost?scope=atproto%20transition%3Ageneric", ""},
		{"http://localhost/?redirect_uri=http%3A%2F%2F127.0.0.1%3A3000%2Fcb&redirect_uri=http%3A%2F%2F%5B%3A%3A1%5D%2Fcb", ""},
		{"http://localhost?scope=transition:generic", `400 invalid_client_metadata: Invalid loopback client id "ID": ATProto Loopback ClientID must include "atproto" scope`},
		{"http://localhost?scope=", "invalid"},
		{"http://localhost?scope=atproto&scope=atproto", "invalid"},
		{"http://localhost?scope=atproto%20%20x", "invalid"},
		{"http://localhost?client_name=Bluesky", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2Flocalhost%2F", "invalid"},
		{"http://localhost?redirect_uri=https%3A%2F%2F127.0.0.1%2F", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1.evil.dev%2F", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%40evil.dev%2F", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.2%2F", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F%23x", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%3A99999%2F", "invalid"},
		{"http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F%0d%0aX", "invalid"},
		{"http://localhost?redirect_uri=javascript%3Aalert(1)", "invalid"},
		{"http://localhost?a=%zz", "invalid"},
		{"http://localhost?scope=atproto;x", "invalid"},
		{"http://localhost#", "invalid"},
		{"http://localhost/?#x", "invalid"},
		{"http://localhost/x", "invalid"},
		{"http://localhost:3000", "invalid"},
		{"http://localhost?" + strings.Repeat("redirect_uri=http%3A%2F%2F127.0.0.1%2F&", 101), "invalid"},
		{"http://127.0.0.1/", "invalid"},
		{"http://app.stub.dev/client.json", "invalid"},
		{"https://app.stub.dev", "invalid"},
		{"https://app.stub.dev/", "invalid"},
		{"https://app.stub.dev/a/", "invalid"},
		{"https://app.stub.dev/a/../client.json", "invalid"},
		{"https://app.stub.dev/a/%2E./client.json", "invalid"},
		{"https://app.stub.dev/./client.json", "invalid"},
		{"https://app.stub.dev/client.json#", "invalid"},
		{"https://app.stub.dev/client.json#x", "invalid"},
		{"https://APP.stub.dev/client.json", "invalid"},
		{"HTTPS://app.stub.dev/client.json", "invalid"},
		{"https://app.stub.dev:443/client.json", "invalid"},
		{"https://app.stub.dev:0/client.json", "invalid"},
		{"https://app.stub.dev:/client.json", "invalid"},
		{"https://app.stub.dev./client.json", "invalid"},
		{"https://user@app.stub.dev/client.json", "invalid"},
		{"https://app.stub.dev/client json", "invalid"},
		{"https://app.stub.dev/client\\json", "invalid"},
		{"https://app.stub.dev/%zz", "400 invalid_client_metadata: Unable to obtain client metadata for \"ID\": Invalid URL"},
		{"https://äpp.stub.dev/client.json", "invalid"},
		{"https://1.2.3.4/client.json", "invalid"},
		{"https://0x7f.1/client.json", "invalid"},
		{"https://2130706433/client.json", "invalid"},
		{"https://[2606:4700::1]/client.json", "invalid"},
		{"https://localhost/client.json", "invalid"},
		{"https://app.local/client.json", "invalid"},
		{"https:/app.stub.dev/client.json", "invalid"},
		{"https:app.stub.dev/client.json", "invalid"},
		{"https://app.stub.dev/" + strings.Repeat("x", 2100), "long"},
		{"https://app.test/client.json", tld},
		{"https://app.localhost/client.json", tld},
		{"https://app.invalid/client.json", tld},
		{"https://app.example/client.json", tld},
		{"did:web:app.stub.dev", "invalid"},
		{"foo", `400 invalid_client_metadata: Unable to obtain client metadata for "ID": Invalid URL`},
		{"", `400 invalid_client_metadata: Unable to obtain client metadata for "ID": Invalid URL`},
		{"https://app.stub.dev/client.json?x=y", `400 invalid_client_metadata: Unable to obtain client metadata for "ID": Not Found`},
		{"https://app.stub.dev:8443/client.json", `400 invalid_client_metadata: Unable to obtain client metadata for "ID": Not Found`},
		{"https://app.stub.dev/client", `400 invalid_client_metadata: Unable to obtain client metadata for "ID": Not Found`},
	} {
		t.Run(tt.id, func(t *testing.T) {
			want := strings.Replace(tt.want, "ID", tt.id, 1)
			switch {
			case tt.want == "invalid" && len(tt.id) > 300:
				want = `400 invalid_client_metadata: Invalid client ID "` + tt.id[:300] + `"`
			case tt.want == "invalid":
				want = `400 invalid_client_metadata: Invalid client ID "` + tt.id + `"`
			case tt.want == "long":
				want = `400 invalid_client_metadata: Invalid client ID "` + tt.id[:300] + `"`
			case strings.HasPrefix(tt.want, "400 invalid_client_id"):
				want = tt.want
			}
			c, err := w.Find(t.Context(), tt.id)
			says(t, err, want)
			if err == nil && (!c.Loopback || c.ID != tt.id || c.Metadata.ClientID != tt.id) {
				t.Errorf("%+v", c)
			}
		})
	}
	if n := w.paid.Load(); n != 3 {
		t.Errorf("paid %d times, want 3", n)
	}
}

func TestLoopback(t *testing.T) {
	w := newWorld(t)
	c, err := w.Find(t.Context(), "http://localhost")
	says(t, err, "")
	m := c.Metadata
	if fmt.Sprint(m.RedirectURIs) != "[http://127.0.0.1/ http://[::1]/]" || m.Scope != "atproto" || m.ApplicationType != "native" || m.AuthMethod != "none" ||
		fmt.Sprint(m.GrantTypes) != "[authorization_code refresh_token]" || fmt.Sprint(m.ResponseTypes) != "[code]" || !m.BoundTokens || c.Confidential() || c.Trusted {
		t.Errorf("%+v", c)
	}
	c, err = w.Find(t.Context(), "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%3A3000%2Fcb&scope=atproto+transition:generic")
	says(t, err, "")
	if fmt.Sprint(c.Metadata.RedirectURIs) != "[http://127.0.0.1:3000/cb]" || c.Metadata.Scope != "atproto transition:generic" {
		t.Errorf("%+v", c)
	}
	if w.paid.Load() != 0 {
		t.Error("a loopback client was paid for")
	}
}

func TestFetch(t *testing.T) {
	for _, tt := range []struct {
		name, kind, body string
		status           int
		header           []string
		want             string
	}{
		{"good", "application/json", document(nil), 200, nil, ""},
		{"another success", "application/json", document(nil), 203, nil, ""},
		{"with a charset", "application/json; charset=utf-8", document(nil), 200, nil, ""},
		{"in capitals", "Application/JSON", document(nil), 200, nil, ""},
		{"missing", "application/json", document(nil), 404, nil, "Not Found"},
		{"broken", "application/json", document(nil), 500, nil, "Internal Server Error"},
		{"strange status", "application/json", document(nil), 599, nil, "Unexpected status"},
		{"redirect", "", "", 302, []string{"Location", "https://app.stub.dev/other"}, "unexpected redirect"},
		{"redirect inside", "", "", 307, []string{"Location", "http://169.254.169.254/"}, "unexpected redirect"},
		{"not modified", "", "", 304, nil, "unexpected redirect"},
		{"HTML", "text/html", document(nil), 200, nil, "Unexpected response Content-Type (text/html)"},
		{"linked data", "application/ld+json", document(nil), 200, nil, "Unexpected response Content-Type (application/ld+json)"},
		{"no type", "", document(nil), 200, nil, "Unexpected response Content-Type ()"},
		{"hostile type", "text/\u202e" + strings.Repeat("x", 1000), document(nil), 200, nil, "Unexpected response Content-Type (text/ " + strings.Repeat("x", 94) + ")"},
		{"no JSON", "application/json", "<html>", 200, nil, "Unable to parse response as JSON"},
		{"a list", "application/json", "[]", 200, nil, "Unable to parse response as JSON"},
		{"a member twice", "application/json", `{"client_id":"a",` + document(nil)[1:], 200, nil, "Unable to parse response as JSON"},
		{"not UTF-8", "application/json", `{"x":"` + "\xff" + `",` + document(nil)[1:], 200, nil, "Unable to parse response as JSON"},
		{"deep", "application/json", `{"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `,` + document(nil)[1:], 200, nil, "Unable to parse response as JSON"},
		{"too many fields", "application/json", document(many(300)), 200, nil, "Unable to parse response as JSON"},
		{"as long as may be", "application/json", document(map[string]any{"x": ""}) + strings.Repeat(" ", 64<<10-len(document(map[string]any{"x": ""}))), 200, nil, ""},
		{"too long", "application/json", document(nil) + strings.Repeat(" ", 64<<10), 200, nil, "Response too large"},
		{"no way there", "", "", 0, nil, "Failed to fetch"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.status != 0 {
				w.serve(appID, tt.status, tt.kind, tt.body, tt.header...)
			} else {
				w.answers[appID] = func() *http.Response { return nil }
			}
			want := tt.want
			if want != "" {
				want = `400 invalid_client_metadata: Unable to obtain client metadata for "https://app.stub.dev/client.json": ` + want
			}
			_, err := w.Find(t.Context(), appID)
			says(t, err, want)
			if w.asked(appID) != 1 || len(w.fetched) != 1 || w.paid.Load() != 1 {
				t.Errorf("fetched %v, paid %d", w.fetched, w.paid.Load())
			}
		})
	}
}

func many(n int) map[string]any {
	out := make(map[string]any)
	for i := range n {
		out[fmt.Sprint("x", i)] = i
	}
	return out
}

func TestContents(t *testing.T) {
	key := oauthtest.NewKey(t, "ES256")
	key.ID = "k"
	set := map[string]any{"keys": []any{key.JWK()}}
	confidential := func(changes map[string]any) map[string]any {
		out := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks": set}
		for name, value := range changes {
			out[name] = value
		}
		return out
	}
	const m = "400 invalid_client_metadata: "
	const form = m + `Unable to obtain client metadata for "https://app.stub.dev/client.json": Validation of `
	for _, tt := range []struct {
		name    string
		changes map[string]any
		want    string
	}{
		{"client_id missing", map[string]any{"client_id": nil}, m + "client_id is required for discoverable clients"},
		{"client_id another", map[string]any{"client_id": "https://app.stub.dev/other.json"}, m + "client_id does not match"},
		{"client_id a number", map[string]any{"client_id": 1}, form + `"client_id" failed with error: Expected string`},
		{"scope missing", map[string]any{"scope": nil}, m + "Missing scope property"},
		{"scope without atproto", map[string]any{"scope": "transition:generic"}, m + `Missing "atproto" scope`},
		{"scope empty", map[string]any{"scope": ""}, m + `Missing "atproto" scope`},
		{"scope twice", map[string]any{"scope": "atproto x x"}, m + `Duplicate scope "x"`},
		{"scope unknown", map[string]any{"scope": "atproto openid foo:bar"}, ""},
		{"scope with blanks", map[string]any{"scope": "atproto  x"}, form + `"scope" failed with error: Invalid`},
		{"scope too long", map[string]any{"scope": "atproto " + strings.Repeat("x", 17<<10)}, form + `"scope" failed with error: Too long`},
		{"grant_types left out", map[string]any{"grant_types": nil}, ""},
		{"grant_types implicit", map[string]any{"grant_types": []string{"authorization_code", "implicit"}}, m + `Grant type "implicit" is not allowed`},
		{"grant_types password", map[string]any{"grant_types": []string{"authorization_code", "password"}}, m + `Grant type "password" is not supported`},
		{"grant_types without code", map[string]any{"grant_types": []string{"refresh_token"}}, m + `The "code" response type requires that "grant_types" contains "authorization_code"`},
		{"grant_types twice", map[string]any{"grant_types": []string{"authorization_code", "authorization_code"}}, m + `Duplicate grant type "authorization_code"`},
		{"grant_types empty", map[string]any{"grant_types": []string{}}, form + `"grant_types" failed with error: Expected array of strings, with at least one and not too many`},
		{"response_types left out", map[string]any{"response_types": nil}, ""},
		{"response_types token", map[string]any{"response_types": []string{"token"}}, m + `response_types must include "code"`},
		{"method left out", map[string]any{"token_endpoint_auth_method": nil}, m + `Unsupported client authentication method "client_secret_basic". Make sure "token_endpoint_auth_method" is set to one of: "none", "private_key_jwt"`},
		{"method another", map[string]any{"token_endpoint_auth_method": "client_secret_post"}, m + `Unsupported client authentication method "client_secret_post". Make sure "token_endpoint_auth_method" is set to one of: "none", "private_key_jwt"`},
		{"algorithm with none", map[string]any{"token_endpoint_auth_signing_alg": "ES256"}, m + `"token_endpoint_auth_signing_alg" must not be set with the "none" method`},
		{"confidential", confidential(nil), ""},
		{"confidential by jwks_uri", confidential(map[string]any{"jwks": nil, "jwks_uri": "https://app.stub.dev/jwks.json"}), ""},
		{"confidential without keys", confidential(map[string]any{"jwks": nil}), m + `The "private_key_jwt" method requires one of "jwks" and "jwks_uri"`},
		{"confidential with both", confidential(map[string]any{"jwks_uri": "https://app.stub.dev/jwks.json"}), m + `The "private_key_jwt" method requires one of "jwks" and "jwks_uri"`},
		{"confidential without algorithm", confidential(map[string]any{"token_endpoint_auth_signing_alg": nil}), m + `The "private_key_jwt" method requires "token_endpoint_auth_signing_alg"`},
		{"no keys", confidential(map[string]any{"jwks": map[string]any{"keys": []any{}}}), form + `"jwks" failed with error: Expected array of keys, with at least one and not too many`},
		{"too many keys", confidential(map[string]any{"jwks": map[string]any{"keys": make([]int, 65)}}), form + `"jwks" failed with error: Expected array of keys, with at least one and not too many`},
		{"a private key", confidential(map[string]any{"jwks": map[string]any{"keys": []any{map[string]any{"kty": "EC", "d": "AA"}}}}), form + `"jwks" failed with error: Private key`},
		{"both with none", map[string]any{"jwks": set, "jwks_uri": "https://app.stub.dev/jwks.json"}, m + `"jwks" and "jwks_uri" exclude each other`},
		{"native confidential", confidential(map[string]any{"application_type": "native"}), m + `Native clients must authenticate using "none" method`},
		{"type left out", map[string]any{"application_type": nil}, ""},
		{"type another", map[string]any{"application_type": "desktop"}, form + `"application_type" failed with error: Expected "web" or "native"`},
		{"tokens unbound", map[string]any{"dpop_bound_access_tokens": false}, m + `"dpop_bound_access_tokens" must be true`},
		{"tokens left out", map[string]any{"dpop_bound_access_tokens": nil}, m + `"dpop_bound_access_tokens" must be true`},
		{"tokens by a text", map[string]any{"dpop_bound_access_tokens": "true"}, m + `"dpop_bound_access_tokens" must be true`},
		{"client_uri", map[string]any{"client_uri": "https://app.stub.dev"}, ""},
		{"client_uri elsewhere", map[string]any{"client_uri": "https://stub.dev"}, m + "client_uri must be a parent URL of the client_id"},
		{"client_uri beside", map[string]any{"client_uri": "https://app.stub.dev/cl"}, m + "client_uri must be a parent URL of the client_id"},
		{"client_uri on another port", map[string]any{"client_uri": "https://app.stub.dev:8443"}, m + "client_uri must be a parent URL of the client_id"},
		{"client_uri local", map[string]any{"client_uri": "http://localhost/"}, m + "client_uri hostname is invalid"},
		{"client_uri a script", map[string]any{"client_uri": "javascript:alert(1)"}, form + `"client_uri" failed with error: Invalid URL`},
		{"logo_uri", map[string]any{"logo_uri": "https://cdn.stub.dev/logo.png"}, ""},
		{"logo_uri of http", map[string]any{"logo_uri": "http://cdn.stub.dev/logo.png"}, form + `"logo_uri" failed with error: Invalid URL`},
		{"logo_uri of data", map[string]any{"logo_uri": "data:image/png;base64,AA"}, form + `"logo_uri" failed with error: Invalid URL`},
		{"logo_uri with quotes", map[string]any{"logo_uri": `https://cdn.stub.dev/"onerror=x`}, form + `"logo_uri" failed with error: Invalid URL`},
		{"tos_uri on loopback", map[string]any{"tos_uri": "http://127.0.0.1:3000/tos"}, ""},
		{"policy_uri empty", map[string]any{"policy_uri": ""}, form + `"policy_uri" failed with error: Invalid URL`},
		{"jwks_uri inside", confidential(map[string]any{"jwks": nil, "jwks_uri": "https://10.0.0.1/"}), form + `"jwks_uri" failed with error: Invalid URL`},
		{"jwks_uri of a file", confidential(map[string]any{"jwks": nil, "jwks_uri": "file:///etc/passwd"}), form + `"jwks_uri" failed with error: Invalid URL`},
		{"default_max_age", map[string]any{"default_max_age": 1}, m + `"default_max_age" is not supported`},
		{"userinfo", map[string]any{"userinfo_signed_response_alg": "ES256"}, m + `"userinfo_signed_response_alg" is not supported`},
		{"id_token", map[string]any{"id_token_signed_response_alg": "ES256"}, m + `"id_token_signed_response_alg" is not supported`},
		{"encryption", map[string]any{"authorization_encrypted_response_enc": "A128GCM"}, m + `"authorization_encrypted_response_enc" is not supported`},
		{"details", map[string]any{"authorization_details_types": []string{"x"}}, m + `"authorization_details_types" is not supported`},
		{"tls", map[string]any{"tls_client_certificate_bound_access_tokens": true}, m + `"tls_client_certificate_bound_access_tokens" is not supported`},
		{"not tls", map[string]any{"tls_client_certificate_bound_access_tokens": false}, ""},
		{"subject_type", map[string]any{"subject_type": "public"}, ""},
		{"subject_type pairwise", map[string]any{"subject_type": "pairwise"}, m + `Only "public" subject_type is supported`},
		{"unknown", map[string]any{"x": map[string]any{"y": 1}, "SCOPE": "x"}, ""},
		{"redirect_uris missing", map[string]any{"redirect_uris": nil}, form + `"redirect_uris" failed with error: Required`},
		{"redirect_uris none", map[string]any{"redirect_uris": []string{}}, form + `"redirect_uris" failed with error: Expected array of strings, with at least one and not too many`},
		{"redirect_uris numbers", map[string]any{"redirect_uris": []int{1}}, form + `"redirect_uris" failed with error: Expected array of strings, with at least one and not too many`},
		{"redirect_uris too many", map[string]any{"redirect_uris": make([]string, 101)}, form + `"redirect_uris" failed with error: Expected array of strings, with at least one and not too many`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(appID, 200, "application/json", document(tt.changes))
			_, err := w.Find(t.Context(), appID)
			says(t, err, tt.want)
		})
	}
}

func TestName(t *testing.T) {
	for name, want := range map[string]string{
		"App":                            "App",
		" Über  App\r\n\x00\x1b[31m x ":  "Über App [31m x",
		"\u202eyksulB\u202c\u200b\ufeff": "yksulB",
		"":                               "",
		strings.Repeat("é", 300):         strings.Repeat("é", 100),
		"<script>alert(1)</script>":      "<script>alert(1)</script>",
	} {
		w := newWorld(t)
		w.serve(appID, 200, "application/json", document(map[string]any{"client_name": name}))
		c, err := w.Find(t.Context(), appID)
		says(t, err, "")
		if err == nil && c.Metadata.Name != want {
			t.Errorf("%q, want %q", c.Metadata.Name, want)
		}
	}
}

func TestTrusted(t *testing.T) {
	w := newWorld(t)
	w.serve(appID, 200, "application/json", document(nil))
	trusted := []string{"https://other.stub.dev/client.json"}
	w.Trusted = func() []string { return trusted }
	for _, want := range []bool{false, true} {
		c, err := w.Find(t.Context(), appID)
		says(t, err, "")
		if c.Trusted != want {
			t.Errorf("trusted %v", c.Trusted)
		}
		trusted = append(trusted, appID)
	}
}

func TestRegisteredRedirects(t *testing.T) {
	const bad = "400 invalid_redirect_uri: "
	const form = `400 invalid_client_metadata: Unable to obtain client metadata for "https://app.stub.dev/client.json": Validation of "redirect_uris" failed with error: Invalid URL`
	const fqdn = bad + "Private-Use URI Scheme redirect URI, for discoverable client metadata, must be the fully qualified domain name (FQDN) of the client_id, in reverse order (dev.stub.app)"
	for _, tt := range []struct{ kind, uri, want string }{
		{"web", "https://app.stub.dev/cb", ""},
		{"web", "https://app.stub.dev/cb?x=y#z", ""},
		{"web", "https://app.stub.dev", ""},
		{"web", "https://other.stub.dev/cb", bad + `Redirect URI "https://other.stub.dev/cb" of a web app must be on the origin of its client_id`},
		{"web", "https://app.stub.dev:8443/cb", bad + `Redirect URI "https://app.stub.dev:8443/cb" of a web app must be on the origin of its client_id`},
		{"web", "https://app.stub.dev.evil.dev/cb", bad + `Redirect URI "https://app.stub.dev.evil.dev/cb" of a web app must be on the origin of its client_id`},
		{"native", "https://other.stub.dev/cb", ""},
		{"native", "https://other.local/cb", bad + `Redirect URI "https://other.local/cb" must not be on a local hostname`},
		{"native", "https://other.test/cb", bad + `Redirect URI "https://other.test/cb" must not be on a local hostname`},
		{"native", "https://1.2.3.4/cb", bad + `Redirect URI "https://1.2.3.4/cb" must not be on a local hostname`},
		{"native", "https://127.0.0.1/cb", bad + `Redirect URI "https://127.0.0.1/cb" must not be on a local hostname`},
		{"native", "http://127.0.0.1/cb", ""},
		{"native", "http://127.0.0.1:3000/cb", ""},
		{"native", "http://[::1]/cb", ""},
		{"native", "http://127.0.0.2/cb", bad + `Redirect URI "http://127.0.0.2/cb" must use https`},
		{"web", "http://127.0.0.1/cb", bad + "Loopback redirect URIs are only allowed for native apps"},
		{"web", "http://[::1]:3000/cb", bad + "Loopback redirect URIs are only allowed for native apps"},
		{"native", "http://localhost/cb", bad + `Redirect URI "http://localhost/cb" must have the address 127.0.0.1 or [::1] instead of "localhost"`},
		{"web", "http://app.stub.dev/cb", bad + `Redirect URI "http://app.stub.dev/cb" must use https`},
		{"native", "dev.stub.app:/cb", ""},
		{"native", "dev.stub.app:/", ""},
		{"web", "dev.stub.app:/cb", bad + "Private-Use URI Scheme redirect URIs are only allowed for native apps"},
		{"native", "dev.stub.app://cb", bad + "Private-Use URI Scheme redirect URIs have one slash behind the scheme"},
		{"native", "dev.stub.app:cb", bad + "Private-Use URI Scheme redirect URIs have one slash behind the scheme"},
		{"native", "app.stub.dev:/cb", fqdn},
		{"native", "dev.stub:/cb", fqdn},
		{"native", "dev.stub.app.x:/cb", fqdn},
		{"native", "myapp:/cb", bad + `Redirect URI "myapp:/cb" has a scheme that is not allowed`},
		{"native", "javascript:alert(1)", bad + `Redirect URI "javascript:alert(1)" has a scheme that is not allowed`},
		{"native", "JavaScript:alert(1)", bad + `Redirect URI "JavaScript:alert(1)" has a scheme that is not allowed`},
		{"native", "data:text/html,x", bad + `Redirect URI "data:text/html,x" has a scheme that is not allowed`},
		{"native", "intent:/x", bad + `Redirect URI "intent:/x" has a scheme that is not allowed`},
		{"native", "urn:ietf:wg:oauth:2.0:oob", bad + `Redirect URI "urn:ietf:wg:oauth:2.0:oob" has a scheme that is not allowed`},
		{"web", "https://user:pass@app.stub.dev/cb", form},
		{"web", "https://app.stub.dev\\@evil.dev/cb", form},
		{"web", "https://app.stub.dev/cb x", form},
		{"web", "https://app.stub.dev/\r\nSet-Cookie: x", form},
		{"web", "https:app.stub.dev/cb", form},
		{"web", "https:///cb", form},
		{"web", "HTTPS://app.stub.dev/cb", bad + `Private-Use URI Scheme`},
		{"web", "/cb", form},
		{"web", "", form},
	} {
		t.Run(tt.kind+" "+tt.uri, func(t *testing.T) {
			w := newWorld(t)
			w.serve(appID, 200, "application/json", document(map[string]any{"application_type": tt.kind, "redirect_uris": []string{tt.uri}}))
			_, err := w.Find(t.Context(), appID)
			if tt.uri == "HTTPS://app.stub.dev/cb" {
				tt.want = bad + `Redirect URI "HTTPS://app.stub.dev/cb" has a scheme that is not allowed`
			}
			says(t, err, tt.want)
		})
	}
}

func TestRedirect(t *testing.T) {
	for _, tt := range []struct {
		registered  []string
		asked, want string
	}{
		{[]string{"https://app.stub.dev/cb"}, "", ""},
		{[]string{"https://app.stub.dev/cb"}, "https://app.stub.dev/cb", ""},
		{[]string{"https://app.stub.dev/cb", "https://app.stub.dev/cb2"}, "https://app.stub.dev/cb2", ""},
		{[]string{"https://app.stub.dev/cb", "https://app.stub.dev/cb2"}, "", "redirect_uri is required"},
		{[]string{"https://app.stub.dev/cb"}, "https://app.stub.dev/cb/", "no"},
		{[]string{"https://app.stub.dev/cb"}, "https://app.stub.dev/cb?x", "no"},
		{[]string{"https://app.stub.dev/cb"}, "https://APP.stub.dev/cb", "no"},
		{[]string{"https://app.stub.dev/cb"}, "https://app.stub.dev:443/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:3000/cb", ""},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1/cb", ""},
		{[]string{"http://127.0.0.1"}, "http://127.0.0.1:3000/", ""},
		{[]string{"http://127.0.0.1/"}, "http://127.0.0.1:3000", ""},
		{[]string{"http://127.0.0.1/?x=y"}, "http://127.0.0.1:3000/?x=y", ""},
		{[]string{"http://[::1]/cb"}, "http://[::1]:65535/cb", ""},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:3000/other", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:3000/cb?x", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://[::1]:3000/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://localhost:3000/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "https://127.0.0.1:3000/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:3000@evil.dev/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:99999/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:0/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1.evil.dev/cb", "no"},
		{[]string{"http://127.0.0.1/cb"}, "http://127.0.0.1:3000/cb\r\n", "no"},
		{[]string{"http://127.0.0.1:3000/cb"}, "http://127.0.0.1:3000/cb", ""},
		{[]string{"http://127.0.0.1:3000/cb"}, "http://127.0.0.1:3001/cb", "no"},
		{[]string{"http://127.0.0.1:3000/cb"}, "http://127.0.0.1/cb", "no"},
		{[]string{"dev.stub.app:/cb"}, "dev.stub.app:/cb", ""},
		{[]string{"dev.stub.app:/cb"}, "dev.stub.app:/cb2", "no"},
	} {
		t.Run(fmt.Sprint(tt.registered, tt.asked), func(t *testing.T) {
			c := &client.Client{Metadata: client.Metadata{RedirectURIs: tt.registered}}
			got, err := c.Redirect(tt.asked)
			want := ""
			switch tt.want {
			case "":
			case "no":
				want = "400 invalid_request: Invalid redirect_uri " + strings.TrimSpace(tt.asked)
			default:
				want = "400 invalid_request: " + tt.want
			}
			says(t, err, want)
			if err == nil && got != cmp.Or(tt.asked, tt.registered[0]) {
				t.Errorf("%s", got)
			}
		})
	}
}

// What is good counts for ten minutes, what is bad for ten seconds.
func TestKept(t *testing.T) {
	w := newWorld(t)
	w.serve(appID, 200, "application/json", document(nil))
	find := func(want string, asked int) {
		t.Helper()
		_, err := w.Find(t.Context(), appID)
		says(t, err, want)
		if n := w.asked(appID); n != asked || w.paid.Load() != int64(asked) {
			t.Errorf("fetched %d times, paid %d, want %d", n, w.paid.Load(), asked)
		}
	}
	const gone = `400 invalid_client_metadata: Unable to obtain client metadata for "https://app.stub.dev/client.json": Gone`
	find("", 1)
	w.serve(appID, 410, "", "")
	w.pass(10*time.Minute - time.Second)
	find("", 1)
	w.pass(time.Second)
	find(gone, 2)
	w.pass(9 * time.Second)
	find(gone, 2)
	w.serve(appID, 200, "application/json", document(nil))
	find(gone, 2)
	w.pass(time.Second)
	find("", 3)
	w.pass(-time.Hour) // a clock that was wrong
	find("", 4)
}

// Those who ask together get one answer, and who leaves takes it from nobody.
func TestTogether(t *testing.T) {
	w := newWorld(t)
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.answers[appID] = func() *http.Response {
		once.Do(func() { close(begun) })
		<-release
		return response(200, "application/json", document(nil))
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := w.Find(ctx, appID)
		left <- err
	}()
	<-begun
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := w.Find(t.Context(), appID); err != nil {
				t.Error(err)
			}
		})
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(release)
	all.Wait()
	if n := w.asked(appID); n != 1 || w.paid.Load() != 1 {
		t.Errorf("fetched %d times, paid %d", n, w.paid.Load())
	}
}

// Who has nothing to pay with keeps nobody else from it.
func TestPayTogether(t *testing.T) {
	w := newWorld(t)
	w.serve(appID, 200, "application/json", document(nil))
	spent := errors.New("spent")
	type poor struct{}
	asking, release := make(chan struct{}), make(chan struct{})
	w.Pay = func(ctx context.Context) error {
		if ctx.Value(poor{}) == nil {
			return nil
		}
		close(asking)
		<-release
		return spent
	}
	refused := make(chan error, 1)
	go func() {
		_, err := w.Find(context.WithValue(t.Context(), poor{}, true), appID)
		refused <- err
	}()
	<-asking
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := w.Find(t.Context(), appID); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	all.Wait()
	if err := <-refused; !errors.Is(err, spent) || w.asked(appID) != 1 {
		t.Errorf("%v, fetched %d times", err, w.asked(appID))
	}
}

func TestPay(t *testing.T) {
	w := newWorld(t)
	spent := errors.New("spent")
	w.Pay = func(context.Context) error { return spent }
	if _, err := w.Find(t.Context(), appID); !errors.Is(err, spent) || w.asked(appID) != 0 {
		t.Errorf("%v, fetched %d times", err, w.asked(appID))
	}
}

// Whoever has a server name thousands of clients makes it keep no more than its share.
func TestManyClients(t *testing.T) {
	w := newWorld(t)
	w.Fetch = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		return response(200, "application/json", document(map[string]any{
			"client_id": r.URL.String(), "scope": "atproto " + strings.Repeat("x", 15_000),
		})), nil
	})}
	for n := range 3000 {
		if _, err := w.Find(t.Context(), fmt.Sprintf("https://app.stub.dev/%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	if n, bytes := client.Kept(w.Clients); n > 1100 || n < 900 || bytes > 16<<20 {
		t.Errorf("%d clients of %d bytes are kept", n, bytes)
	}
}

// A server that takes its time, before its answer or in the middle of it, gets ten seconds.
func TestSlow(t *testing.T) {
	for _, begins := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Fetch = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				if !begins {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				res := response(200, "application/json", "")
				res.Body = io.NopCloser(waiting{r.Context()})
				return res, nil
			})}
			began := time.Now()
			_, err := w.Find(t.Context(), appID)
			says(t, err, `400 invalid_client_metadata: Unable to obtain client metadata for "https://app.stub.dev/client.json": Failed to fetch`)
			if took := time.Since(began); took != 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

type waiting struct{ ctx context.Context }

func (w waiting) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Through a real server: what net/http would do by itself is what has to be kept from doing it.
func TestHTTP(t *testing.T) {
	var inside atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/moved", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/inside", http.StatusFound) })
	mux.HandleFunc("/inside", func(http.ResponseWriter, *http.Request) { inside.Add(1) })
	mux.HandleFunc("/client", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		io.WriteString(rw, document(map[string]any{"client_id": "https://app.stub.dev/client"}))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	w := newWorld(t)
	w.Fetch = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(server.URL, "http://")
		return http.DefaultTransport.RoundTrip(r)
	})}
	_, err := w.Find(t.Context(), "https://app.stub.dev/client")
	says(t, err, "")
	_, err = w.Find(t.Context(), "https://app.stub.dev/moved")
	says(t, err, `400 invalid_client_metadata: Unable to obtain client metadata for "https://app.stub.dev/moved": unexpected redirect`)
	if inside.Load() != 0 {
		t.Error("a redirect was followed")
	}
}
