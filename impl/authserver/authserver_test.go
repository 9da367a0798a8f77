package authserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/budget"
	"portico/impl/oauth/grant"
	"portico/impl/servertest"
)

const (
	par    = "/oauth/par"
	token  = "/oauth/token"
	revoke = "/oauth/revoke"
)

// What clients read before anything else, to the letter.
func TestMetadata(t *testing.T) {
	s := servertest.New(t)
	const algorithms = `["RS256","RS384","RS512","PS256","PS384","PS512","ES256","ES256K","ES384","ES512"]`
	want := map[string]any{}
	if err := json.Unmarshal([]byte(`{
		"issuer": "https://pds.test",
		"request_parameter_supported": true, "request_uri_parameter_supported": true, "require_request_uri_registration": true,
		"scopes_supported": ["atproto", "transition:email", "transition:generic", "transition:chat.bsky"],
		"subject_types_supported": ["public"],
		"response_types_supported": ["code"],
		"response_modes_supported": ["query", "fragment", "form_post"],
		"grant_types_supported": ["authorization_code", "refresh_token"],
		"code_challenge_methods_supported": ["S256"],
		"ui_locales_supported": ["en-US"],
		"display_values_supported": ["page", "popup", "touch"],
		"prompt_values_supported": ["none", "login", "consent", "select_account", "create"],
		"authorization_response_iss_parameter_supported": true,
		"request_object_signing_alg_values_supported": ["RS256","RS384","RS512","PS256","PS384","PS512","ES256","ES256K","ES384","ES512","none"],
		"request_object_encryption_alg_values_supported": [],
		"request_object_encryption_enc_values_supported": [],
		"jwks_uri": "https://pds.test/oauth/jwks",
		"authorization_endpoint": "https://pds.test/oauth/authorize",
		"token_endpoint": "https://pds.test/oauth/token",
		"token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
		"token_endpoint_auth_signing_alg_values_supported": `+algorithms+`,
		"revocation_endpoint": "https://pds.test/oauth/revoke",
		"pushed_authorization_request_endpoint": "https://pds.test/oauth/par",
		"require_pushed_authorization_requests": true,
		"dpop_signing_alg_values_supported": `+algorithms+`,
		"protected_resources": ["https://pds.test"],
		"client_id_metadata_document_supported": true
	}`), &want); err != nil {
		t.Fatal(err)
	}
	a := s.Accepted(s.Send("GET", "/.well-known/oauth-authorization-server", ""))
	if diff := cmp.Diff(want, a.Fields(t)); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	has(t, a, map[string]string{"Content-Type": "application/json", "Cache-Control": "max-age=300", "Access-Control-Allow-Origin": "*", "DPoP-Nonce": ""})
	a = s.Accepted(s.Send("GET", "/oauth/jwks", ""))
	if a.Body != `{"keys":[]}` {
		t.Errorf("keys %s", a.Body)
	}
	has(t, a, map[string]string{"Content-Type": "application/json", "Cache-Control": "max-age=300", "Access-Control-Allow-Origin": "*"})
}

// has checks headers; "" is none.
func has(t *testing.T, a servertest.Answer, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := a.Header.Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

// Pages of other origins may call what knows nobody by a cookie, and the verbs of each path are
// few.
func TestVerbs(t *testing.T) {
	s := servertest.New(t)
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/oauth/jwks", par, token, revoke} {
		a := s.Send("OPTIONS", path, "", "Origin: https://app.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: dpop")
		if a.Status != 200 || a.Body != "" {
			t.Errorf("OPTIONS %s: %d %s", path, a.Status, a.Body)
		}
		has(t, a, map[string]string{
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "Content-Type,DPoP",
			"Access-Control-Max-Age": "86400",
		})
	}
	for _, tt := range []struct {
		verb, path string
		status     int
	}{
		{"HEAD", "/.well-known/oauth-authorization-server", 200},
		{"POST", "/.well-known/oauth-authorization-server", 404},
		{"HEAD", "/oauth/jwks", 200},
		{"POST", "/oauth/jwks", 404},
		{"GET", par, 405},
		{"PUT", par, 405},
		{"DELETE", par, 405},
		{"GET", token, 404},
		{"PUT", token, 404},
		{"GET", revoke, 404},
		{"GET", "/oauth/introspect", 404},
		{"POST", "/oauth/introspect", 404},
		{"GET", "/oauth/userinfo", 404},
		{"POST", "/oauth/register", 404},
		{"GET", "/oauth", 404},
	} {
		a := s.Send(tt.verb, tt.path, "", "Origin: https://app.example")
		if a.Status != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.verb, tt.path, a.Status, a.Body, tt.status)
		}
		if tt.status == 405 {
			has(t, a, map[string]string{"Allow": "POST, OPTIONS", "Access-Control-Allow-Origin": "*", "DPoP-Nonce": s.Proofs.Nonces.Next(), "Cache-Control": "no-store"})
			if a.Body != "" {
				t.Errorf("%s %s: %q", tt.verb, tt.path, a.Body)
			}
		}
		if tt.status == 404 {
			has(t, a, map[string]string{"Access-Control-Allow-Origin": ""})
		}
	}
}

// Every answer of an endpoint has the next nonce, and is kept by nobody.
func TestHeadersOfEndpoints(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto")
	check := func(a servertest.Answer, status int, exposed string) {
		t.Helper()
		if a.Status != status {
			t.Errorf("answer %d %s, want %d", a.Status, a.Body, status)
		}
		has(t, a, map[string]string{
			"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache", "DPoP-Nonce": s.Proofs.Nonces.Next(),
			"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": exposed,
		})
	}
	check(app.Push(nil), 201, "DPoP-Nonce")
	check(app.Push(map[string]string{"scope": "openid"}), 400, "DPoP-Nonce")
	check(app.PostWith(token, app.Form(map[string]string{"grant_type": "refresh_token", "refresh_token": "x"})), 401, "DPoP-Nonce, WWW-Authenticate")
	check(app.PostWith(revoke, url.Values{}), 400, "DPoP-Nonce")
	check(s.Send("POST", par, "x", "Content-Type: text/plain"), 415, "DPoP-Nonce")
	check(app.Post(revoke, map[string]string{"token": "x"}), 200, "DPoP-Nonce")
}

// Bodies are forms or JSON, neither large nor anything else.
func TestBodies(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto")
	app.Nonce = s.Proofs.Nonces.Next()
	const form = "application/x-www-form-urlencoded"
	escaped := url.QueryEscape(app.ID)
	asked := "client_id=" + escaped + "&response_type=code&scope=atproto&code_challenge_method=S256&code_challenge=" + strings.Repeat("a", 43)
	object := func(more string) string {
		return fmt.Sprintf(`{"client_id":%q,"response_type":"code","scope":"atproto","code_challenge_method":"S256","code_challenge":%q,"redirect_uri":%q%s}`,
			app.ID, strings.Repeat("a", 43), app.Redirect, more)
	}
	for _, tt := range []struct {
		name, kind, body   string
		status             int
		error, description string
	}{
		{"form", form, asked, 201, "", ""},
		{"form with a charset", form + "; charset=utf-8", asked, 201, "", ""},
		{"type in capitals", "Application/X-WWW-Form-URLEncoded", asked, 201, "", ""},
		{"object", "application/json", object(""), 201, "", ""},
		{"object with a charset", "application/json; charset=utf-8", object(""), 201, "", ""},
		{"object with what nobody knows", "application/json", object(`,"other":[1,{"a":null}],"state":null`), 201, "", ""},
		{"object with a number", "application/json", object(`,"max_age":60`), 201, "", ""},
		{"text", "text/plain", asked, 415, "invalid_request", "Unsupported content-type: text/plain"},
		{"no type", "", asked, 415, "invalid_request", "Unsupported content-type: "},
		{"multipart", "multipart/form-data; boundary=x", asked, 415, "invalid_request", "Unsupported content-type: multipart/form-data; boundary=x"},
		{"type without end", strings.Repeat("x", 5000), asked, 415, "invalid_request", "Unsupported content-type: " + strings.Repeat("x", 200) + "…"},
		{"empty", form, "", 400, "invalid_client", "Client credentials missing: client_id is required"},
		{"repeated: the last counts", form, "client_id=other&" + asked, 201, "", ""},
		{"empty ones are left out", form, asked + "&state=&prompt=&nonce=", 201, "", ""},
		{"bad escape", form, asked + "&state=%zz", 400, "invalid_request", "Malformed form"},
		{"semicolon", form, asked + "&state=a;b=c", 400, "invalid_request", "Malformed form"},
		{"NUL", form, asked + "&state=a%00b", 400, "invalid_request", "Invalid authorization request: Invalid characters at body.state"},
		{"line feed", form, asked + "&state=a%0ab", 400, "invalid_request", "Invalid authorization request: Invalid characters at body.state"},
		{"no UTF-8", form, asked + "&state=%ff", 400, "invalid_request", "Invalid authorization request: Invalid characters at body.state"},
		{"NUL in JSON", "application/json", object(`,"state":"a\u0000b"`), 400, "invalid_request", "Invalid authorization request: Invalid characters at body.state"},
		{"NUL in a name", form, asked + "&a%00b=%00", 400, "invalid_request", "Invalid authorization request: Invalid characters at body.ab"},
		{"array", "application/json", object(`,"prompt":["login"]`), 400, "invalid_request", "Invalid authorization request: Expected string at body.prompt"},
		{"object in it", "application/json", object(`,"state":{"a":1}`), 400, "invalid_request", "Invalid authorization request: Expected string at body.state"},
		{"boolean", "application/json", object(`,"state":true`), 400, "invalid_request", "Invalid authorization request: Expected string at body.state"},
		{"array of all", "application/json", "[" + object("") + "]", 400, "invalid_request", "Malformed JSON"},
		{"null", "application/json", "null", 400, "invalid_request", "Malformed JSON"},
		{"half", "application/json", object("")[:50], 400, "invalid_request", "Malformed JSON"},
		{"two", "application/json", object("") + "{}", 400, "invalid_request", "Malformed JSON"},
		{"deep", "application/json", strings.Repeat("[", 100_000), 400, "invalid_request", "Malformed JSON"},
		{"too large", form, asked + "&x=" + strings.Repeat("x", 100<<10), 413, "invalid_request", "Payload too large"},
		{"state as long as may be", form, asked + "&state=" + strings.Repeat("s", 2048), 201, "", ""},
		{"state that is longer", form, asked + "&state=" + strings.Repeat("s", 2049), 400, "invalid_request", "Invalid authorization request: String too long at body.state"},
		{"state of other letters", form, asked + "&state=" + url.QueryEscape("žluťoučký 🐎"), 201, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			a := s.Send("POST", par, tt.body, "Content-Type: "+tt.kind, app.Proof("POST", par, ""))
			if tt.status == 201 {
				if a.Status != 201 {
					t.Errorf("answer %d %s", a.Status, a.Body)
				}
				return
			}
			s.OAuthRefused(a, tt.status, tt.error, tt.description)
		})
	}
	s.TB = t
	s.OAuthRefused(s.Send("POST", par, asked, "Content-Type: "+form, "Content-Encoding: gzip", app.Proof("POST", par, "")),
		415, "invalid_request", "Unsupported content-encoding: gzip")
}

// What an authorization request may ask, and what not.
func TestPush(t *testing.T) {
	s := servertest.New(t)
	s.PublishSet("com.example.basic", `{"lexicon":1,"id":"com.example.basic","defs":{"main":{"type":"permission-set","permissions":[]}}}`)
	s.PublishSet("com.example.record", `{"lexicon":1,"id":"com.example.record","defs":{"main":{"type":"record"}}}`)
	app := s.NewApp("atproto transition:generic repo:%zz unknown:thing blob:*/* include:com.example.basic include:com.example.record include:com.example.none openid")
	app.Scope = "atproto"
	for _, tt := range []struct {
		name, parameter, value string
		error, description     string // "" for none
	}{
		{"all", "scope", "atproto transition:generic blob:*/*", "", ""},
		{"set", "scope", "atproto include:com.example.basic", "", ""},
		{"twice the same", "scope", "atproto atproto", "", ""},
		{"what nobody understands", "scope", "atproto unknown:thing", "", ""},
		{"what cannot be decoded", "scope", "atproto repo:%zz", "", ""},
		{"no scope", "scope", "", "invalid_scope", `The "atproto" scope is required`},
		{"not atproto", "scope", "transition:generic", "invalid_scope", `The "atproto" scope is required`},
		{"not declared", "scope", "atproto transition:email", "invalid_scope", `Scope "transition:email" is not declared in the client metadata`},
		{"OpenID", "scope", "atproto openid", "invalid_scope", "OpenID Connect is not compatible with atproto"},
		{"two spaces", "scope", "atproto  transition:generic", "invalid_request", "Invalid authorization request: Expected values with single spaces between at body.scope"},
		{"space before", "scope", " atproto", "invalid_request", "Invalid authorization request: Expected values with single spaces between at body.scope"},
		{"quotes", "scope", `atproto "x"`, "invalid_request", "Invalid authorization request: Expected values with single spaces between at body.scope"},
		{"other letters", "scope", "atproto ä", "invalid_request", "Invalid authorization request: Expected values with single spaces between at body.scope"},
		{"set that is none", "scope", "atproto include:com.example.record", "invalid_scope", "*"},
		{"set that is nowhere", "scope", "atproto include:com.example.none", "invalid_scope", "nobody publishes this permission set"},

		{"no response_type", "response_type", "", "invalid_request", "Invalid authorization request: Required at body.response_type"},
		{"token", "response_type", "token", "unsupported_response_type", `Unsupported response_type "token"`},
		{"code and token", "response_type", "code token", "unsupported_response_type", `Unsupported response_type "code token"`},

		{"the redirect URI of another", "redirect_uri", "https://evil.example/callback", "invalid_request", "Invalid redirect_uri https://evil.example/callback"},
		{"one that begins alike", "redirect_uri", app.Redirect + "/..", "invalid_request", "Invalid redirect_uri " + app.Redirect + "/.."},
		{"none, as there is but one", "redirect_uri", "", "", ""},

		{"plain challenge", "code_challenge_method", "plain", "invalid_request", `atproto requires use of "S256" code_challenge_method`},
		{"method left out", "code_challenge_method", "", "invalid_request", `atproto requires use of "S256" code_challenge_method`},
		{"method in other letters", "code_challenge_method", "s256", "invalid_request", `atproto requires use of "S256" code_challenge_method`},
		{"challenge left out", "code_challenge", "", "invalid_request", "code_challenge is required when code_challenge_method is provided"},
		{"challenge that is none", "code_challenge", "x", "invalid_request", "Invalid authorization request: Expected a SHA-256 in base64url at body.code_challenge"},

		{"no state", "state", "", "", ""},
		{"fragment", "response_mode", "fragment", "", ""},
		{"form", "response_mode", "form_post", "", ""},
		{"response_mode", "response_mode", "web_message", "invalid_request", "Invalid authorization request: Expected one of query, fragment, form_post at body.response_mode"},
		{"prompt", "prompt", "create", "", ""},
		{"no prompt for a public client", "prompt", "none", "invalid_request", "Public clients are not allowed to use silent-sign-on"},
		{"two prompts", "prompt", "login consent", "invalid_request", "Invalid authorization request: Expected one of none, login, consent, select_account, create at body.prompt"},
		{"handle", "login_hint", "Alice.Test", "", ""},
		{"DID", "login_hint", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "", ""},
		{"e-mail address", "login_hint", "alice@example.com", "invalid_request", `Invalid login_hint "alice@example.com"`},
		{"no name", "login_hint", "a b", "invalid_request", `Invalid login_hint "a b"`},
		{"name without end", "login_hint", strings.Repeat("ä", 500), "invalid_request", `Invalid login_hint "` + strings.Repeat("ä", 100) + `…"`},
		{"display", "display", "popup", "", ""},
		{"display of no kind", "display", "poster", "invalid_request", "Invalid authorization request: Expected one of page, popup, touch, wap at body.display"},
		{"languages", "ui_locales", "de-AT de", "", ""},
		{"too many languages", "ui_locales", strings.Repeat("de ", 34), "invalid_request", "Invalid authorization request: String too long at body.ui_locales"},
		{"max_age", "max_age", "0", "", ""},
		{"negative max_age", "max_age", "-1", "invalid_request", "Invalid authorization request: Expected a number of seconds at body.max_age"},
		{"max_age without end", "max_age", "99999999999999999999", "invalid_request", "Invalid authorization request: Expected a number of seconds at body.max_age"},
		{"nonce", "nonce", "n", "invalid_request", `Unsupported "nonce" parameter`},
		{"claims", "claims", "{}", "invalid_request", `Unsupported "claims" parameter`},
		{"id_token_hint", "id_token_hint", "x", "invalid_request", `Unsupported "id_token_hint" parameter`},
		{"authorization_details", "authorization_details", "[]", "invalid_request", `Unsupported "authorization_details" parameter`},
		{"secret", "client_secret", "x", "", ""},
		{"request_uri", "request_uri", "urn:x", "", ""},
		{"what nobody knows", "other", "x", "", ""},
		{"no client", "client_id", "", "invalid_client", "Client credentials missing: client_id is required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			a := app.Push(map[string]string{tt.parameter: tt.value})
			if tt.error == "" {
				var body struct {
					URI string `json:"request_uri"`
					In  int    `json:"expires_in"`
				}
				if a.Decode(t, &body); a.Status != 201 || body.In != 299 || !strings.HasPrefix(body.URI, "urn:ietf:params:oauth:request_uri:req-") {
					t.Errorf("answer %d %s", a.Status, a.Body)
				}
				return
			}
			if tt.description == "*" {
				tt.description = a.Text(t, "error_description")
			}
			s.OAuthRefused(a, 400, tt.error, tt.description)
		})
	}
}

// What a client asks for is kept as it was asked.
func TestPushKeepsParameters(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto unknown:thing transition:generic")
	a := app.Push(map[string]string{
		"scope": "atproto unknown:thing atproto", "state": "ä state", "prompt": "login", "login_hint": "Alice.TEST", "response_mode": "fragment", "max_age": "0",
	})
	r, err := s.Grants.Open(t.Context(), a.Text(t, "request_uri"), app.ID, []byte("a browser"))
	if err != nil {
		t.Fatal(err)
	}
	p := r.Parameters
	if p.Scope != "atproto unknown:thing" || p.State != "ä state" || p.Prompt != "login" || p.LoginHint != "alice.test" || p.ResponseMode != "fragment" ||
		p.RedirectURI != app.Redirect || p.MaxAge == nil || *p.MaxAge != 0 || r.DPoPKey != app.Key.Thumbprint(t) || r.ClientKey != "" {
		t.Errorf("kept %+v", r)
	}
}

// A request without a proof is none: what comes of it would belong to whoever has the code.
func TestPushDemandsProof(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto")
	form := func() url.Values {
		return app.Form(map[string]string{
			"response_type": "code", "scope": "atproto", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
		})
	}
	a := app.PostWith(par, form())
	s.OAuthRefused(a, 401, "invalid_dpop_proof", "DPoP proof required")
	has(t, a, map[string]string{
		"WWW-Authenticate": `DPoP algs="RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES256K ES384 ES512", error="invalid_dpop_proof", error_description="DPoP proof required"`,
	})
	app.Nonce = ""
	a = app.PostWith(par, form(), app.Proof("POST", par, ""))
	s.OAuthRefused(a, 400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof")
	has(t, a, map[string]string{"WWW-Authenticate": ""})
	proof := app.Proof("POST", par, "")
	if a = app.PostWith(par, form(), proof); a.Status != 201 {
		t.Fatalf("answer %d %s", a.Status, a.Body)
	}
	s.OAuthRefused(app.PostWith(par, form(), proof), 401, "invalid_dpop_proof", "DPoP proof replayed")
	s.OAuthRefused(app.PostWith(par, form(), app.Proof("POST", token, "")), 401, "invalid_dpop_proof", `DPoP "htu" mismatch`)
	s.Advance(10 * time.Minute)
	s.OAuthRefused(app.PostWith(par, form(), app.Proof("POST", par, "")), 400, "use_dpop_nonce", `DPoP "nonce" mismatch`)

	other := s.NewApp("atproto")
	a = app.Push(map[string]string{"dpop_jkt": other.Key.Thumbprint(t)})
	s.OAuthRefused(a, 401, "invalid_token", "Invalid DPoP key binding")
	if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "DPoP ") {
		t.Errorf("challenge %q", a.Header.Get("WWW-Authenticate"))
	}
	if a = app.Push(map[string]string{"dpop_jkt": app.Key.Thumbprint(t)}); a.Status != 201 {
		t.Errorf("answer %d %s", a.Status, a.Body)
	}
}

// Whoever pushes pays: an address has so many requests under way, and so many in an hour.
func TestPushIsPaidFor(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto")
	app.Nonce = s.Proofs.Nonces.Next()
	from := func(address string, other map[string]string) servertest.Answer {
		form := map[string]string{
			"response_type": "code", "scope": "atproto", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
		}
		for name, value := range other {
			form[name] = value
		}
		return app.PostWith(par, app.Form(form), app.Proof("POST", par, ""), "X-Forwarded-For: "+address)
	}
	var first string
	for i := range 100 {
		a := from("192.0.2.1", nil)
		if a.Status != 201 {
			t.Fatalf("request %d: %d %s", i, a.Status, a.Body)
		}
		if i == 0 {
			first = a.Text(t, "request_uri") // which nobody opens, so that another takes its place
		} else if _, err := s.Grants.Open(t.Context(), a.Text(t, "request_uri"), app.ID, []byte("browser")); err != nil {
			t.Fatal(err)
		}
	}
	s.Advance(5 * time.Second)
	last := from("192.0.2.1", nil)
	if _, err := s.Grants.Open(t.Context(), last.Text(t, "request_uri"), app.ID, []byte("browser")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Grants.Open(t.Context(), first, app.ID, []byte("browser")); !errors.Is(err, grant.ErrUnknown) {
		t.Errorf("one that nobody opened: %v", err)
	}
	a := from("192.0.2.1", nil)
	s.OAuthRefused(a, 429, "temporarily_unavailable", "Too many authorization requests are under way from this address")
	has(t, a, map[string]string{"Retry-After": "300"})
	if a := from("192.0.2.2", nil); a.Status != 201 {
		t.Errorf("from elsewhere: %d %s", a.Status, a.Body)
	}
	for range 1000 - 102 {
		from("192.0.2.1", map[string]string{"scope": "atproto openid"}) // refused, and paid for
	}
	s.Advance(6 * time.Minute)
	app.Nonce = s.Proofs.Nonces.Next()
	a = from("192.0.2.1", nil)
	s.OAuthRefused(a, 429, "temporarily_unavailable", "Too many requests from this address")
	has(t, a, map[string]string{"Retry-After": "3235"})
	if a := from("192.0.2.2", nil); a.Status != 201 {
		t.Errorf("from elsewhere: %d %s", a.Status, a.Body)
	}
}

// A nonce costs nothing, and whoever visits an app that has a server keeps none of its users
// out; but it does not ask without end either.
func TestPushIsCheapForAppsWithKeys(t *testing.T) {
	s := servertest.New(t)
	app := s.NewConfidentialApp("app.example.com", "atproto")
	push := func(app *servertest.App) servertest.Answer {
		return app.PostWith(par, app.Form(map[string]string{
			"response_type": "code", "scope": "atproto openid", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
		}), app.Proof("POST", par, ""), "X-Forwarded-For: 192.0.2.1")
	}
	payer, _ := budget.ParsePayer("192.0.2.1")
	spent := func() int {
		all, err := s.Budgets.Spendings(t.Context(), payer)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, one := range all {
			if one.Kind == "pushed-requests" {
				n += one.Spent
			}
		}
		return n
	}
	app.Nonce = ""
	if push(app); spent() != 0 {
		t.Error("a nonce is paid for")
	}
	s.OAuthRefused(push(app), 400, "invalid_scope", "OpenID Connect is not compatible with atproto")
	if spent() != 0 {
		t.Error("an app with a key pays")
	}
	other := s.NewApp("atproto")
	other.Nonce = app.Nonce
	if push(other); spent() != 1 {
		t.Error("an app without a key does not pay")
	}
	keyed := budget.KeyedRequests
	s.Write(func(tx *db.Tx) error {
		for range keyed.Points - 1 { // one was for the push above
			if err := s.Budgets.CountIn(t.Context(), tx, keyed, payer); err != nil {
				return err
			}
		}
		return nil
	})
	s.OAuthRefused(push(app), 429, "temporarily_unavailable", "Too many requests from this address")
	app.Assertion = s.NewConfidentialApp("other.example.com", "atproto").Assertion
	if push(app); spent() != 2 {
		t.Error("an app that has another key than it says does not pay")
	}
}

// Who makes codes and tokens up is told to wait.
func TestGuessesArePaidFor(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewApp("atproto").SignIn(alice)
	app.Nonce = s.Proofs.Nonces.Next()
	try := func(path string, form map[string]string, address string) servertest.Answer {
		return app.PostWith(path, app.Form(form), app.Proof("POST", path, ""), "X-Forwarded-For: "+address)
	}
	wrong := map[string]string{"grant_type": "refresh_token", "refresh_token": "ref-" + strings.Repeat("0", 64)}
	for i := range 999 {
		if a := try(token, wrong, "192.0.2.1"); a.Status != 400 {
			t.Fatalf("guess %d: %d %s", i, a.Status, a.Body)
		}
	}
	if a := try(revoke, map[string]string{"token": "x"}, "192.0.2.1"); a.Status != 200 {
		t.Errorf("answer %d %s", a.Status, a.Body)
	}
	right := map[string]string{"grant_type": "refresh_token", "refresh_token": app.Refresh}
	for _, a := range []servertest.Answer{try(token, wrong, "192.0.2.1"), try(revoke, map[string]string{"token": "x"}, "192.0.2.1")} {
		s.OAuthRefused(a, 429, "temporarily_unavailable", "Too many requests from this address")
		has(t, a, map[string]string{"Retry-After": "3600"})
	}
	if a := try(token, wrong, "192.0.2.2"); a.Status != 400 {
		t.Errorf("from elsewhere: %d %s", a.Status, a.Body)
	}
	// What somebody has is good all the same.
	if a := try(token, right, "192.0.2.1"); a.Status != 200 {
		t.Errorf("a token that is good: %d %s", a.Status, a.Body)
	}
}

// Documents of clients are asked for at the expense of who names them.
func TestClientDocumentsArePaidFor(t *testing.T) {
	s := servertest.New(t)
	app := s.NewApp("atproto")
	app.Nonce = s.Proofs.Nonces.Next()
	var last servertest.Answer
	for i := range 601 {
		app.ID = fmt.Sprintf("https://client-%d.example.com/client.json", i)
		last = app.PostWith(par, app.Form(map[string]string{
			"response_type": "code", "scope": "atproto", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
		}), app.Proof("POST", par, ""), "X-Forwarded-For: 192.0.2.1")
	}
	s.OAuthRefused(last, 429, "temporarily_unavailable", "Too many requests from this address")
	if n := len(s.Web.Asked()); n != 600 {
		t.Errorf("%d questions", n)
	}
}

// Codes become tokens once, for whom they were made.
func TestRedeem(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewApp("atproto transition:generic")
	code := func() string { return app.Approve(alice, app.Pushed()) }
	form := func(code string, other map[string]string) map[string]string {
		f := map[string]string{"grant_type": "authorization_code", "code": code, "redirect_uri": app.Redirect, "code_verifier": app.Verifier}
		for name, value := range other {
			f[name] = value
		}
		return f
	}
	first := code()
	a := s.Accepted(app.Redeem(first))
	var body map[string]any
	a.Decode(t, &body)
	if body["token_type"] != "DPoP" || body["scope"] != "atproto transition:generic" || body["expires_in"] != 1200.0 || body["sub"] != alice.DID.String() ||
		body["access_token"] == "" || !strings.HasPrefix(body["refresh_token"].(string), "ref-") || len(body) != 6 {
		t.Errorf("tokens %v", body)
	}
	s.Advance(time.Minute) // before, it may be the same client that asks twice
	s.OAuthRefused(app.Post(token, form(first, nil)), 400, "invalid_grant", "Invalid code")
	s.OAuthRefused(app.Renew(), 400, "invalid_grant", "Invalid refresh token") // whose code was stolen has nothing

	for _, tt := range []struct {
		name               string
		other              map[string]string
		status             int
		error, description string
		lives              bool // the code, after it
	}{
		{"no client", map[string]string{"client_id": ""}, 400, "invalid_grant", "Client credentials missing: client_id is required", true},
		{"no grant_type", map[string]string{"grant_type": ""}, 400, "invalid_request", "Invalid authorization request: Required at body.grant_type", true},
		{"password", map[string]string{"grant_type": "password"}, 400, "invalid_grant", `Grant type "password" is not supported by the server`, true},
		{"client_credentials", map[string]string{"grant_type": "client_credentials"}, 400, "invalid_grant", `Grant type "client_credentials" is not supported by the server`, true},
		{"what nobody knows", map[string]string{"grant_type": "x"}, 400, "invalid_request", "Invalid authorization request: Unknown value at body.grant_type", true},
		{"no code", map[string]string{"code": ""}, 400, "invalid_request", "Invalid authorization request: Required at body.code", true},
		{"no redirect_uri", map[string]string{"redirect_uri": ""}, 400, "invalid_request", "Invalid authorization request: Required at body.redirect_uri", true},
		{"verifier of no form", map[string]string{"code_verifier": "x"}, 400, "invalid_request", "Invalid authorization request: Invalid format at body.code_verifier", true},
		{"code of no form", map[string]string{"code": "x"}, 400, "invalid_grant", "Invalid code", true},
		{"another verifier", map[string]string{"code_verifier": strings.Repeat("v", 43)}, 400, "invalid_grant", "Invalid code_verifier", false},
		{"no verifier", map[string]string{"code_verifier": ""}, 400, "invalid_grant", "code_verifier is required", false},
		{"another redirect_uri", map[string]string{"redirect_uri": "http://127.0.0.1:8080/"}, 400, "invalid_grant",
			"The redirect_uri parameter must match the one used in the authorization request", false},
		{"another client", map[string]string{"client_id": "http://localhost"}, 400, "invalid_grant", "Token was not issued to this client", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			one := code()
			s.OAuthRefused(app.Post(token, form(one, tt.other)), tt.status, tt.error, tt.description)
			if a := app.Redeem(one); (a.Status == 200) != tt.lives {
				t.Errorf("then %d %s", a.Status, a.Body)
			}
		})
	}
	s.TB = t

	one := code()
	s.OAuthRefused(app.PostWith(token, app.Form(form(one, nil))), 401, "invalid_dpop_proof", "DPoP proof required")
	s.Accepted(app.Redeem(one))
	one = code()
	thief := *app
	thief.Key = s.NewApp("atproto").Key
	s.OAuthRefused(thief.Post(token, form(one, nil)), 400, "invalid_grant", "DPoP proof does not match the expected JKT")
	one = code()
	s.Advance(2 * time.Minute)
	s.OAuthRefused(app.Redeem(one), 400, "invalid_grant", "This code has expired")
}

// Refresh tokens are good once, and for whom they were made.
func TestRefresh(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewApp("atproto").SignIn(alice)
	first := app.Refresh
	s.Accepted(app.Renew())
	if app.Refresh == first || app.Granted != "atproto" {
		t.Errorf("got %q for %q, with %q", app.Refresh, first, app.Granted)
	}
	s.OAuthRefused(app.Post(token, map[string]string{"grant_type": "refresh_token"}), 400, "invalid_request", "Invalid authorization request: Required at body.refresh_token")
	s.OAuthRefused(app.PostWith(token, app.Form(map[string]string{"grant_type": "refresh_token", "refresh_token": app.Refresh})), 401, "invalid_dpop_proof", "DPoP proof required")
	s.OAuthRefused(app.Post(token, map[string]string{"grant_type": "refresh_token", "refresh_token": "x"}), 400, "invalid_grant", "Invalid refresh token")
	s.Accepted(app.Renew())
	s.Advance(time.Minute) // before, it may be the same client that asks twice
	second := *app
	second.Refresh = first
	s.OAuthRefused(second.Renew(), 400, "invalid_grant", "Refresh token replayed")
	s.OAuthRefused(app.Renew(), 400, "invalid_grant", "Invalid refresh token")

	app.SignIn(alice)
	s.Advance(25 * time.Hour)
	s.OAuthRefused(app.Renew(), 400, "invalid_grant", "Refresh token expired")
}

// A client ends what is its own, and learns nothing of what is not.
func TestRevoke(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewApp("atproto").SignIn(alice)
	other := s.NewApp("atproto transition:generic").SignIn(alice)
	done := func(a servertest.Answer) {
		t.Helper()
		if a.Status != 200 || a.Body != "{}" {
			t.Errorf("answer %d %s", a.Status, a.Body)
		}
	}
	s.OAuthRefused(app.Post(revoke, nil), 400, "invalid_request", "Invalid authorization request: Required at body.token")
	s.OAuthRefused(app.Post(revoke, map[string]string{"client_id": "", "token": "x"}), 400, "invalid_request", "Invalid authorization request: Required at body.client_id")
	for _, text := range []string{"x", "ref-" + strings.Repeat("0", 64), other.Refresh, other.Access} {
		done(app.Post(revoke, map[string]string{"token": text}))
	}
	done(app.PostWith(revoke, app.Form(map[string]string{"token": app.Refresh})))                             // no proof
	done(app.PostWith(revoke, app.Form(map[string]string{"token": app.Refresh}), app.Proof("POST", par, ""))) // a wrong one
	app.Nonce = ""
	s.OAuthRefused(app.PostWith(revoke, app.Form(map[string]string{"token": app.Refresh}), app.Proof("POST", revoke, "")),
		400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof")
	s.Accepted(app.Renew())
	s.Accepted(other.Renew())
	done(app.Post(revoke, map[string]string{"token": app.Refresh}))
	s.OAuthRefused(app.Renew(), 400, "invalid_grant", "Invalid refresh token")
	done(other.Post(revoke, map[string]string{"token": other.Access}))
	s.OAuthRefused(other.Renew(), 400, "invalid_grant", "Invalid refresh token")
}

// A client with a key has to use it wherever it asks for something.
func TestConfidentialClients(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewConfidentialApp("app.example.com", "atproto").SignIn(alice)
	s.Accepted(app.Renew())

	const missing = `client authentication method "private_key_jwt" required a "client_assertion"`
	mute := *app
	mute.Assertion = nil
	s.OAuthRefused(mute.Push(nil), 400, "invalid_request", missing)
	s.OAuthRefused(mute.Renew(), 400, "invalid_request", missing)
	s.OAuthRefused(mute.Post(revoke, map[string]string{"token": app.Refresh}), 400, "invalid_request", missing)
	s.Accepted(app.Renew())

	// The two keys are for two things.
	same := *app
	same.Key = app.Assertion
	if a := same.Push(nil); a.Status != 400 {
		t.Errorf("one key for both: %d %s", a.Status, a.Body)
	}
	assertion := app.Form(nil)
	for i, want := range []int{201, 400} {
		form := app.Form(map[string]string{
			"response_type": "code", "scope": "atproto", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
			"client_assertion": assertion.Get("client_assertion"),
		})
		if a := app.PostWith(par, form, app.Proof("POST", par, "")); a.Status != want {
			t.Errorf("assertion for the %d. time: %d %s", i+1, a.Status, a.Body)
		}
	}
}

// A request object has all that the request is.
func TestRequestObjects(t *testing.T) {
	s := servertest.New(t)
	app := s.NewConfidentialApp("app.example.com", "atproto")
	object := func(change map[string]any) string {
		claims := map[string]any{
			"iss": app.ID, "aud": servertest.Endpoint, "iat": s.Now().Unix(), "jti": "one " + fmt.Sprint(len(change)), "client_id": app.ID,
			"response_type": "code", "redirect_uri": app.Redirect, "scope": "atproto", "code_challenge_method": "S256", "code_challenge": strings.Repeat("a", 43),
		}
		for name, value := range change {
			claims[name] = value
		}
		return app.Assertion.Sign(t, map[string]any{"kid": app.Assertion.ID}, claims)
	}
	send := func(object string) servertest.Answer { return app.Post(par, map[string]string{"request": object}) }
	good := object(nil)
	if a := send(good); a.Status != 201 {
		t.Fatalf("answer %d %s", a.Status, a.Body)
	}
	s.OAuthRefused(send(object(map[string]any{"response_type": "token"})), 400, "unsupported_response_type", `Unsupported response_type "token"`)
	for _, bad := range []string{good, "x", object(map[string]any{"iss": "https://other.example.com/x.json", "jti": "two"}), object(map[string]any{"state": "a\x00b", "jti": "three"})} {
		if a := send(bad); a.Status != 400 || a.Text(t, "error") != "invalid_request" {
			t.Errorf("answer %d %s", a.Status, a.Body)
		}
	}
}

// Nothing that opens anything is written down.
func TestLogHasNoSecrets(t *testing.T) {
	s := servertest.New(t)
	alice := s.SignUp("alice")
	app := s.NewApp("atproto")
	uri := app.Pushed()
	s.Send("GET", "/oauth/authorize?"+url.Values{"client_id": {app.ID}, "request_uri": {uri}}.Encode(), "")
	code := app.Approve(alice, uri)
	s.Accepted(app.Redeem(code))
	s.Accepted(app.Renew())
	for _, secret := range []string{strings.TrimPrefix(uri, "urn:ietf:params:oauth:request_uri:"), code, app.Access, app.Refresh, app.Verifier} {
		if strings.Contains(s.Logged.String(), secret) {
			t.Errorf("%q is logged", secret)
		}
	}
}
