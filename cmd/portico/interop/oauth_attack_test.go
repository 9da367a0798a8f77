//go:build interop

package interop

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/oauth/oauthtest"
)

// A wire is an app that does by hand what the official clients do, and what they would not.
// The endpoints are asked at base, which is the origin that all the world knows, or that of
// a node.
type wire struct {
	s        *appStage
	http     *http.Client
	base     string
	id       string // client_id
	back     string // redirect_uri
	scope    string
	key      *oauthtest.Key // of its proofs
	verifier string
	nonce    string
}

// newWire is an app under development that asks for that.
func (s *appStage) newWire(scope ...string) *wire {
	s.t.Helper()
	client, err := s.front.Client()
	if err != nil {
		s.t.Fatal(err)
	}
	all := strings.Join(scope, " ")
	if all == "" {
		all = fullScope
	}
	metadata := s.loopbackApp(all)
	return &wire{
		s: s, http: client, base: "https://" + stageHost, id: metadata["client_id"].(string), back: metadata["redirect_uris"].([]string)[0],
		scope: all, key: oauthtest.NewKey(s.t, "ES256"), verifier: rand.Text() + rand.Text(),
	}
}

// by is the same app with something else about it.
func (w wire) by(change func(*wire)) *wire {
	change(&w)
	return &w
}

// heard is what a wire was answered.
type heard struct {
	status int
	header http.Header
	text   string
	fields map[string]any
}

func (r heard) String() string { return fmt.Sprintf("%d %s", r.status, r.text) }

// is says whether an answer is a refusal, as "STATUS NAME".
func (r heard) is(refusal string) bool {
	return fmt.Sprintf("%d %v", r.status, r.fields["error"]) == refusal
}

// send sends a request with a header, as it is.
func (w *wire) send(method, at, kind, body string, header map[string]string) heard {
	w.s.t.Helper()
	r, err := http.NewRequestWithContext(w.s.t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		w.s.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	client := w.http
	if strings.HasPrefix(at, "http://") {
		client = &http.Client{CheckRedirect: client.CheckRedirect}
	}
	resp, err := client.Do(r)
	if err != nil {
		w.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.s.t.Fatal(err)
	}
	out := heard{status: resp.StatusCode, header: resp.Header, text: string(text)}
	json.Unmarshal(text, &out.fields) // or there are none
	if nonce := resp.Header.Get("DPoP-Nonce"); nonce != "" {
		w.nonce = nonce
	}
	return out
}

// post sends a form to an endpoint, with a proof, once more where that lacks a nonce.
func (w *wire) post(endpoint string, form url.Values) heard {
	w.s.t.Helper()
	for {
		proof := w.key.Proof(w.s.t, time.Now(), "POST", "https://"+stageHost+endpoint, w.nonce, "", nil)
		got := w.send("POST", w.base+endpoint, "application/x-www-form-urlencoded", form.Encode(), map[string]string{"DPoP": proof})
		if !got.is("400 use_dpop_nonce") {
			return got
		}
	}
}

// call calls a method, once more where the proof lacks a nonce. It returns the proof too.
func (w *wire) call(method, path, body, token string) (got heard, proof string) {
	w.s.t.Helper()
	kind := ""
	if body != "" {
		kind = "application/json"
	}
	for {
		at, _, _ := strings.Cut(path, "?")
		proof = w.key.Proof(w.s.t, time.Now(), method, "https://"+stageHost+"/xrpc/"+at, w.nonce, token, nil)
		got = w.send(method, w.base+"/xrpc/"+path, kind, body, map[string]string{"DPoP": proof, "Authorization": "DPoP " + token})
		if !got.is("401 use_dpop_nonce") {
			return got, proof
		}
	}
}

// asks are the parameters of a request that is in order. Others replace those, or take them
// away where they are "-".
func (w *wire) asks(other ...string) url.Values {
	sum := sha256.Sum256([]byte(w.verifier))
	form := url.Values{
		"client_id": {w.id}, "response_type": {"code"}, "redirect_uri": {w.back}, "scope": {w.scope}, "state": {"as it was"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(other); i += 2 {
		if form.Set(other[i], other[i+1]); other[i+1] == "-" {
			form.Del(other[i])
		}
	}
	return form
}

// push pushes a request, with a verifier of its own, and returns the address of its page.
func (w *wire) push(other ...string) string {
	w.s.t.Helper()
	w.verifier = rand.Text() + rand.Text()
	got := w.post("/oauth/par", w.asks(other...))
	uri, _ := got.fields["request_uri"].(string)
	if got.status != http.StatusCreated || uri == "" {
		w.s.t.Fatalf("push: %v", got)
	}
	return "https://" + stageHost + "/oauth/authorize?" + url.Values{"client_id": {w.id}, "request_uri": {uri}}.Encode()
}

// codeFor has somebody allow a request, and returns the code.
func (w *wire) codeFor(name string) string {
	w.s.t.Helper()
	told := w.s.allow(w.push(), name)
	if told.Get("code") == "" {
		w.s.t.Fatalf("the app is told %v", told)
	}
	return told.Get("code")
}

// redeem exchanges a code. Other parameters are as those of asks.
func (w *wire) redeem(code string, other ...string) heard {
	w.s.t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "client_id": {w.id}, "code": {code}, "redirect_uri": {w.back}, "code_verifier": {w.verifier}}
	for i := 0; i < len(other); i += 2 {
		if form.Set(other[i], other[i+1]); other[i+1] == "-" {
			form.Del(other[i])
		}
	}
	return w.post("/oauth/token", form)
}

func (w *wire) refresh(token string) heard {
	w.s.t.Helper()
	return w.post("/oauth/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {w.id}, "refresh_token": {token}})
}

// letIn is an app that somebody let in: its tokens.
func (w *wire) letIn(name string) (access, refresh string) {
	w.s.t.Helper()
	return w.tokens(w.redeem(w.codeFor(name)))
}

func (w *wire) tokens(got heard) (access, refresh string) {
	w.s.t.Helper()
	access, _ = got.fields["access_token"].(string)
	refresh, _ = got.fields["refresh_token"].(string)
	if got.status != http.StatusOK || access == "" || refresh == "" {
		w.s.t.Fatalf("tokens: %v", got)
	}
	return access, refresh
}

// TestOAuthWithstands does to OAuth what somebody would try who wants to be let in where
// nobody let him in. There are two nodes on one Postgres, and Alice uses a browser.
func TestOAuthWithstands(t *testing.T) {
	s := newAppStage(t, append(onPostgres(t), "PDS_OAUTH_TRUSTED_CLIENTS="+markedApp)...)
	s.addNode()
	s.member("alice", "alice@example.com", "")
	s.member("mallory", "mallory@example.com", "")
	for _, attack := range []struct {
		name string
		do   func(*appStage)
	}{
		{"code stolen", (*appStage).stolenCode},
		{"tokens stolen", (*appStage).stolenTokens},
		{"proof replayed", (*appStage).replayedProof},
		{"PKCE downgraded", (*appStage).downgradedPKCE},
		{"mix-up", (*appStage).mixUp},
		{"open redirect", (*appStage).openRedirect},
		{"odd schemes", (*appStage).oddSchemes},
		{"frames", (*appStage).framedConsent},
		{"forged forms", (*appStage).forgedConsent},
		{"session fixation", (*appStage).fixedSession},
		{"markup", (*appStage).markedRequests},
		{"brute force", (*appStage).bruteForce},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s.t, s.browser.t, s.services.T = t, t, t
			s.forgetCookies()
			attack.do(s)
			if len(s.dialogs) > 0 {
				t.Errorf("a page said %q", s.dialogs)
			}
			if hits := s.pwned(); len(hits) > 0 {
				t.Errorf("scripts ran: %q", hits)
			}
		})
		s.t, s.browser.t, s.services.T = t, t, t
	}
}

// stolenCode has somebody know a code that Alice's app was to have.
func (s *appStage) stolenCode() {
	app := s.newWire()
	thief := app.by(func(w *wire) { w.key = oauthtest.NewKey(s.t, "ES256") })
	other := s.newWire() // an app of the thief's own
	for _, theft := range []struct {
		name   string
		redeem func(code string) heard
	}{
		{"by another app", func(code string) heard {
			return other.redeem(code, "redirect_uri", app.back, "code_verifier", app.verifier)
		}},
		{"by another app with its own address", func(code string) heard { return other.redeem(code, "code_verifier", app.verifier) }},
		{"with another key", func(code string) heard { return thief.redeem(code, "code_verifier", app.verifier) }},
		{"without the verifier", func(code string) heard { return app.redeem(code, "code_verifier", "-") }},
		{"with an empty verifier", func(code string) heard { return app.redeem(code, "code_verifier", "") }},
		{"with another verifier", func(code string) heard { return app.redeem(code, "code_verifier", rand.Text()+rand.Text()) }},
		{"with the challenge for a verifier", func(code string) heard { return app.redeem(code, "code_verifier", app.asks().Get("code_challenge")) }},
		{"for another address", func(code string) heard { return app.redeem(code, "redirect_uri", other.back) }},
		{"for no address", func(code string) heard { return app.redeem(code, "redirect_uri", "-") }},
		{"as a refresh token", func(code string) heard { return app.refresh(code) }},
	} {
		got := theft.redeem(app.codeFor("alice"))
		if got.status != http.StatusBadRequest || got.fields["access_token"] != nil || got.fields["refresh_token"] != nil {
			s.t.Errorf("%s: %v", theft.name, got)
		}
	}
	// A code is good once, and for a while the one who comes second ends nothing.
	code := app.codeFor("alice")
	access, _ := app.tokens(app.redeem(code))
	for name, got := range map[string]heard{"by its app": app.redeem(code), "by a thief": thief.redeem(code, "code_verifier", app.verifier)} {
		if !got.is("400 invalid_grant") {
			s.t.Errorf("a code that was used, %s: %v", name, got)
		}
	}
	if got, _ := app.call("GET", "com.atproto.server.getSession", "", access); got.status != http.StatusOK {
		s.t.Errorf("the app that was let in: %v", got)
	}
}

// stolenTokens has somebody know the tokens of Alice's app, but not its key.
func (s *appStage) stolenTokens() {
	app := s.newWire()
	access, refresh := app.letIn("alice")
	thief := app.by(func(w *wire) { w.key = oauthtest.NewKey(s.t, "ES256") })
	const method = "com.atproto.server.getSession"
	for name, got := range map[string]heard{
		"as a Bearer":   app.send("GET", app.base+"/xrpc/"+method, "", "", map[string]string{"Authorization": "Bearer " + access}),
		"without proof": app.send("GET", app.base+"/xrpc/"+method, "", "", map[string]string{"Authorization": "DPoP " + access}),
		"refresh token as an access token": func() heard {
			got, _ := app.call("GET", method, "", refresh)
			return got
		}(),
		"with another key": func() heard {
			got, _ := thief.call("GET", method, "", access)
			return got
		}(),
		"as the token of refreshSession": app.send("POST", app.base+"/xrpc/com.atproto.server.refreshSession", "", "", map[string]string{"Authorization": "Bearer " + refresh}),
	} {
		if got.status != http.StatusUnauthorized && got.status != http.StatusBadRequest || strings.Contains(got.text, "alice") {
			s.t.Errorf("%s: %v", name, got)
		}
	}
	if got, _ := app.call("GET", method, "", access); got.status != http.StatusOK || !strings.Contains(got.text, "alice") {
		s.t.Errorf("the app itself: %v", got)
	}
	// Revoking it for others is not a thief's either.
	thief.post("/oauth/revoke", url.Values{"client_id": {app.id}, "token": {access}})
	other := s.newWire()
	other.post("/oauth/revoke", url.Values{"client_id": {other.id}, "token": {refresh}})
	if got, _ := app.call("GET", method, "", access); got.status != http.StatusOK {
		s.t.Errorf("the app, after others revoked its tokens: %v", got)
	}
	for name, got := range map[string]heard{"with another key": thief.refresh(refresh), "by another app": other.refresh(refresh)} {
		if !got.is("400 invalid_grant") {
			s.t.Errorf("refreshed %s: %v", name, got)
		}
	}
	// Each is good once, also for who has the key.
	access, refresh = app.letIn("alice")
	newer, _ := app.tokens(app.refresh(refresh))
	if got, _ := app.call("GET", method, "", access); !got.is("401 invalid_token") {
		s.t.Errorf("an access token after a refresh: %v", got)
	}
	if got := app.refresh(refresh); !got.is("400 invalid_grant") {
		s.t.Errorf("a refresh token that was used: %v", got)
	}
	if got, _ := app.call("GET", method, "", newer); got.status != http.StatusOK {
		s.t.Errorf("the access token that came of it: %v", got)
	}
}

// replayedProof has somebody see requests on the wire, and send them again: to the same node, to
// the other, and after both were started anew.
func (s *appStage) replayedProof() {
	app := s.newWire()
	access, _ := app.letIn("alice")
	const method = "com.atproto.server.getSession"
	got, proof := app.call("GET", method, "", access)
	if got.status != http.StatusOK {
		s.t.Fatalf("the call itself: %v", got)
	}
	post := func() (string, url.Values) {
		app.post("/oauth/par", app.asks()) // has the nonce of now
		return app.key.Proof(s.t, time.Now(), "POST", "https://"+stageHost+"/oauth/par", app.nonce, "", nil), app.asks()
	}
	pushed, form := post()
	push := func(base string) heard {
		return app.send("POST", base+"/oauth/par", "application/x-www-form-urlencoded", form.Encode(), map[string]string{"DPoP": pushed})
	}
	if got := push(s.server.URL); got.status != http.StatusCreated {
		s.t.Fatalf("the request itself: %v", got)
	}
	again := func(when string) {
		s.t.Helper()
		for _, base := range []string{"https://" + stageHost, s.server.URL, s.second.URL} {
			header := map[string]string{"DPoP": proof, "Authorization": "DPoP " + access}
			if got := app.send("GET", base+"/xrpc/"+method, "", "", header); !got.is("401 invalid_dpop_proof") && !got.is("401 use_dpop_nonce") {
				s.t.Errorf("%s, at %s: %v", when, base, got)
			}
			if got := push(base); !got.is("401 invalid_dpop_proof") && !got.is("400 use_dpop_nonce") {
				s.t.Errorf("a pushed request, %s, at %s: %v", when, base, got)
			}
			// Nor is it a proof of anything else.
			if got := app.send("GET", base+"/xrpc/com.atproto.server.checkAccountStatus", "", "", header); got.status != http.StatusUnauthorized {
				s.t.Errorf("for another method, %s, at %s: %v", when, base, got)
			}
		}
	}
	again("at once")
	for _, node := range []**launch.Server{&s.server, &s.second} {
		if err := (*node).Stop(); err != nil {
			s.t.Fatal(err)
		}
		started, err := (*node).Again(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		*node = started
	}
	again("after a restart")
	if got, _ := app.call("GET", method, "", access); got.status != http.StatusOK {
		s.t.Errorf("a call with a proof of its own: %v", got)
	}
}

// downgradedPKCE leaves out what ties a code to who asked for it.
func (s *appStage) downgradedPKCE() {
	app := s.newWire()
	for name, other := range map[string][]string{
		"no challenge":         {"code_challenge", "-", "code_challenge_method", "-"},
		"no challenge, S256":   {"code_challenge", "-"},
		"empty challenge":      {"code_challenge", ""},
		"plain":                {"code_challenge_method", "plain"},
		"no method":            {"code_challenge_method", "-"},
		"empty method":         {"code_challenge_method", ""},
		"another method":       {"code_challenge_method", "s256"},
		"verifier as it is":    {"code_challenge", app.verifier, "code_challenge_method", "plain"},
		"hash of nothing":      {"code_challenge", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "code_challenge_method", "none"},
		"challenge of a space": {"code_challenge", " "},
	} {
		if got := app.post("/oauth/par", app.asks(other...)); !got.is("400 invalid_request") {
			s.t.Errorf("%s: %v", name, got)
		}
	}
	// By way of the browser nothing can be asked for otherwise.
	at := app.push() + "&code_challenge=" + url.QueryEscape(app.verifier) + "&code_challenge_method=plain"
	code := s.allow(at, "alice").Get("code")
	if got := app.redeem(code, "code_verifier", app.asks().Get("code_challenge")); got.status != http.StatusBadRequest {
		s.t.Errorf("a challenge that is the verifier: %v", got)
	}
}

// mixUp has an app take an answer for that of another server. It cannot, where every one says
// whose it is.
func (s *appStage) mixUp() {
	app := s.newWire()
	is := func(what string, told url.Values, field, value string) {
		s.t.Helper()
		if told.Get("iss") != "https://"+stageHost || len(told["iss"]) != 1 || told.Get("state") != "as it was" || value != "" && told.Get(field) != value || told.Get(field) == "" {
			s.t.Errorf("%s: the app is told %v", what, told)
		}
	}
	is("allowed", s.allow(app.push(), "alice"), "code", "")
	is("in the fragment", s.allow(app.push("response_mode", "fragment"), "alice"), "code", "")
	request := app.push()
	is("denied", s.deny(request, "alice"), "error", "access_denied")
	s.open(request)
	is("without a page", s.told(), "error", "access_denied")

	var posted url.Values
	s.mu.Lock()
	s.pages[appHost+"/posted"] = func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() == nil {
			s.mu.Lock()
			posted = r.PostForm
			s.mu.Unlock()
		}
		io.WriteString(w, "<title>posted</title>")
	}
	s.mu.Unlock()
	web := app.by(func(w *wire) { w.id, w.back = "https://"+appHost+"/posts.json", "https://"+appHost+"/posted" })
	s.putJSON("/posts.json", map[string]any{
		"client_id": web.id, "redirect_uris": []string{web.back}, "scope": fullScope, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "application_type": "web", "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	})
	s.consent(web.push("response_mode", "form_post"), "alice")
	s.run(`window.__before = true; setTimeout(() => document.querySelector('#allow-button').click()); 0`)
	s.until("the post", `location.host === '`+appHost+`' && document.readyState === 'complete'`)
	s.mu.Lock()
	told := posted
	s.mu.Unlock()
	is("posted", told, "code", "")

	// The official client believes no other, and none that does not say.
	official := s.startApp(s.loopbackApp(fullScope))
	for _, change := range []func(url.Values){
		func(v url.Values) { v.Del("iss") }, func(v url.Values) { v.Set("iss", "https://"+evilHost) }, func(v url.Values) { v.Set("state", "another") },
	} {
		told := s.allow(official.does("authorize", "input", "alice."+stageHost).URL, "alice")
		change(told)
		if got := official.try("callback", "query", told.Encode()); got.Failed == "" {
			s.t.Errorf("told %v the app is in: %+v", told, got)
		}
	}
}

// openRedirect has the server lead browsers to where no app that it knows wants them.
func (s *appStage) openRedirect() {
	app := s.newWire()
	const evil = "https://" + evilHost + "/landed"
	s.put(evilHost, "/landed", "text/html", "<title>landed</title>")
	query := func(other ...string) string { return "/oauth/authorize?" + app.asks(other...).Encode() }
	pushed, err := url.Parse(app.push())
	if err != nil {
		s.t.Fatal(err)
	}
	uri := pushed.Query().Get("request_uri")
	e := url.QueryEscape
	paths := []string{
		query("redirect_uri", evil), query("redirect_uri", evil, "prompt", "none"), query("redirect_uri", evil, "response_mode", "form_post"),
		query("redirect_uri", evil, "response_mode", "fragment"), query("redirect_uri", evil, "client_id", "https://"+evilHost+"/client.json"),
		query("redirect_uri", evil, "client_id", "-"), query("redirect_uri", evil, "response_type", "token"), query("redirect_uri", evil, "scope", "-"),
		query("redirect_uri", "javascript:top.__pwned=1"), query("redirect_uri", "//"+evilHost+"/landed"), query("redirect_uri", app.back+"@"+evilHost),
		query("prompt", "none"), // not pushed: not even to the app's own address
		query("request", "eyJhbGciOiJub25lIn0."+base64.RawURLEncoding.EncodeToString([]byte(`{"redirect_uri":"`+evil+`"}`))+".", "redirect_uri", "-"),
		"/oauth/authorize", "/oauth/authorize?redirect_uri=" + e(evil), "/oauth/authorize?request_uri=" + e(evil) + "&client_id=" + e(app.id),
		"/oauth/authorize?client_id=" + e("https://"+evilHost+"/client.json") + "&request_uri=" + e(uri) + "&redirect_uri=" + e(evil),
		"/oauth/authorize?request_uri=" + e("urn:ietf:params:oauth:request_uri:req-"+strings.Repeat("0", 32)) + "&client_id=" + e(app.id) + "&redirect_uri=" + e(evil),
	}
	for _, name := range []string{"redirect", "sign-in", "code", "choose", "forget", "allow", "deny", "sign-up", "reset", "reset-request", "confirm", "sign-out", "return", "nothing"} {
		for _, parameter := range []string{"redirect_uri", "next", "return_to", "url", "to"} {
			paths = append(paths, "/oauth/authorize/"+name+"?"+parameter+"="+e(evil))
		}
	}
	paths = append(paths, "/oauth/authorize//"+evilHost, "/oauth/authorize/../../"+evilHost, `/oauth/authorize/\`+evilHost, "/oauth/authorize/%2f%2f"+evilHost)
	for _, path := range paths {
		got := app.send("GET", "https://"+stageHost+path, "", "", map[string]string{
			"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin", "Referer": pushed.String(),
		})
		location := got.header.Get("Location")
		if to, err := url.Parse(location); location != "" && !strings.HasPrefix(location, app.back+"?error=") && (err != nil || to.Host != "" && to.Host != stageHost || to.Scheme != "" && to.Scheme != "https") {
			s.t.Errorf("%s leads to %s", path, location)
		}
		if strings.Contains(got.header.Get("Refresh")+strings.ToLower(got.text), `http-equiv="refresh"`) || strings.Contains(got.text, `action="`+evil) || strings.Contains(got.text, `href="`+evil) {
			s.t.Errorf("%s shows a way to %s:\n%s", path, evil, got.text)
		}
	}
	for _, path := range paths[:18] {
		s.open("https://" + stageHost + path)
		// What was pushed for another app is answered to the one that did.
		if at := s.run("location.href"); !strings.HasPrefix(at, "https://"+stageHost+"/") && !strings.HasPrefix(at, app.back+"?error=") {
			s.t.Errorf("%s leads the browser to %s", path, at)
		}
	}
	// What was pushed is not changed by what stands beside it.
	for _, other := range []string{"&redirect_uri=" + e(evil), "&state=another", "&client_id=" + e("https://"+evilHost+"/client.json"), "&response_mode=fragment"} {
		told := s.allow(app.push()+other, "alice")
		if at := s.run("location.href"); !strings.HasPrefix(at, app.back+"?") || told.Get("state") != "as it was" {
			s.t.Errorf("with %s the browser is led to %s", other, at)
		}
	}
	// Nor is any address pushed that the app did not register.
	for _, back := range []string{
		evil, app.back + "/more", app.back + "?more", strings.Replace(app.back, "127.0.0.1", "localhost", 1), strings.Replace(app.back, "http:", "https:", 1),
		strings.Replace(app.back, "127.0.0.1", "127.0.0.1@"+evilHost, 1), strings.Replace(app.back, "127.0.0.1", evilHost, 1), app.back + "%00", "",
	} {
		got := app.post("/oauth/par", app.asks("redirect_uri", back))
		if back == "" && got.status == http.StatusCreated { // there is one, and it is meant
			continue
		}
		if got.status != http.StatusBadRequest {
			s.t.Errorf("pushed with %s: %v", back, got)
		}
	}
}

// oddSchemes registers addresses that are no pages.
func (s *appStage) oddSchemes() {
	document := func(path string, kind string, redirects ...string) map[string]any {
		return map[string]any{
			"client_id": "https://" + appHost + path, "redirect_uris": redirects, "scope": "atproto", "grant_types": []string{"authorization_code"},
			"response_types": []string{"code"}, "application_type": kind, "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
		}
	}
	for i, back := range []string{
		"javascript:top.__pwned=1", "JavaScript://" + appHost + "/%0atop.__pwned=1", "data:text/html,<script>top.__pwned=1</script>", "intent://" + appHost + "/#Intent;scheme=http;end",
		"file:///etc/passwd", "blob:https://" + appHost + "/x", "about:blank", "ftp://" + appHost + "/", "com.evil:/back", "com.example.app.evil:/back", "mailto:a@b.c",
		"http://" + appHost + "/back", "https://" + evilHost + "/back", "https://user@" + appHost + "/back", "https://" + appHost + "\\@" + evilHost + "/",
	} {
		for _, kind := range []string{"web", "native"} {
			path := fmt.Sprintf("/odd-%d-%s.json", i, kind)
			s.putJSON(path, document(path, kind, back))
			app := s.newWire().by(func(w *wire) { w.id, w.back, w.scope = "https://"+appHost+path, back, "atproto" })
			if got := app.post("/oauth/par", app.asks()); got.status != http.StatusBadRequest {
				s.t.Errorf("%s of a %s app: %v", back, kind, got)
			}
		}
	}
	// The one of an app on a phone is led to, and nothing runs on the page that does.
	const back = "com.example.app:/back"
	s.putJSON("/phone.json", document("/phone.json", "native", back))
	app := s.newWire().by(func(w *wire) { w.id, w.back, w.scope = "https://"+appHost+"/phone.json", back, "atproto" })
	s.consent(app.push(), "alice")
	s.took()
	s.run(`setTimeout(() => document.querySelector('#allow-button').click()); 0`)
	got := s.awaits("the answer", 1, func(one seen) bool { return one.verb == http.MethodPost && one.host == stageHost })
	if location := got[0].header.Get("Location"); location != "" && !strings.HasPrefix(location, back+"?") {
		s.t.Errorf("%v leads to %s", got[0], location)
	}
}

// framedConsent shows the page of a request inside of pages of three hosts.
func (s *appStage) framedConsent() {
	app := s.newWire()
	s.consent(app.push(), "alice") // so that nothing has to be typed
	for _, host := range []string{evilHost, handleHost, appHost} {
		s.complaints = nil
		s.took()
		at := app.push()
		s.put(host, "/planted", "text/html", `<title>frames</title><iframe src="`+html.EscapeString(at)+`"></iframe><object data="`+html.EscapeString(at)+`"></object><embed src="`+html.EscapeString(at)+`"><iframe id="control" src="https://`+host+`/planted-control"></iframe>`)
		s.put(host, "/planted-control", "text/html", "<p>control</p>")
		s.open("https://" + host + "/planted")
		for _, one := range s.awaits("frames", 3, func(one seen) bool { return one.path == "/oauth/authorize" }) {
			csp := one.header.Get("Content-Security-Policy")
			if one.status == http.StatusOK && (!strings.Contains(csp, "frame-ancestors 'none'") || one.header.Get("X-Frame-Options") != "DENY") {
				s.t.Errorf("%v has the policy %q", one, csp)
			}
		}
		shown := s.run(`[...document.querySelectorAll('iframe')].filter(f => f.contentDocument && f.contentDocument.URL !== 'about:blank').map(f => f.contentDocument.URL).join(' ')`)
		if shown != "https://"+host+"/planted-control" {
			s.t.Errorf("in frames of %s are %s", host, shown)
		}
	}
}

// forgedConsent sends every form of the pages from another site and from a handle's host, with
// the very fields that the own page would send.
func (s *appStage) forgedConsent() {
	app := s.newWire()
	byAction := map[string]form{}
	collect := func() {
		s.t.Helper()
		for _, f := range s.forms() {
			at, err := url.Parse(f.Action)
			if err != nil {
				s.t.Fatal(err)
			}
			byAction[at.Path+" "+strings.Join(fieldNames(f), " ")] = f
		}
	}
	token := func() {
		s.t.Helper()
		if !slices.ContainsFunc(s.forms(), func(f form) bool { return slices.Contains(fieldNames(f), "token") }) {
			s.t.Errorf("%s has no form with a token", s.run("location.href"))
		}
	}
	s.open(app.push())
	token()
	collect()
	for _, link := range []string{"#to-sign-up", "#to-reset"} {
		if s.there(link) {
			at := s.run(`location.href`)
			s.open(s.run(`document.querySelector(` + js(link) + `).href`))
			token()
			collect()
			s.open(at)
		}
	}
	s.submit("form#sign-in", "identifier", "alice."+stageHost, "password", ownersPassword, "remember", "yes")
	token()
	collect()
	s.open(app.push("prompt", "select_account"))
	collect()
	s.consent(app.push(), "alice")
	collect()
	var forms []form
	for _, action := range slices.Sorted(maps.Keys(byAction)) {
		forms = append(forms, byAction[action])
	}
	// Those that come only after others were sent.
	for _, name := range []string{"code", "confirm", "reset", "forget"} {
		for _, f := range forms {
			if strings.HasSuffix(f.Action, "/allow") {
				f.Action = strings.TrimSuffix(f.Action, "allow") + name
				f.Fields = append(slices.Clone(f.Fields), [2]string{"code", "AAAAA-AAAAA"}, [2]string{"password", "mallory's now"}, [2]string{"did", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"})
				forms = append(forms, f)
			}
		}
	}
	if len(forms) < 10 {
		s.t.Errorf("the pages have %d forms: %v", len(forms), slices.Sorted(maps.Keys(byAction)))
	}
	s.t.Logf("%d forms", len(forms))
	pending := s.run("location.href")
	isPost := func(one seen) bool {
		return one.verb == http.MethodPost && strings.HasPrefix(one.path, "/oauth/authorize")
	}
	for _, from := range []struct {
		host          string
		plain, silent bool
	}{{handleHost, false, false}, {evilHost, false, false}, {handleHost, true, false}, {handleHost, true, true}, {evilHost, true, true}} {
		s.mu.Lock()
		s.plain, s.silent = from.plain, from.silent
		s.mu.Unlock()
		s.took()
		each := 4 // requests for one form
		if from.plain {
			each = 1
		}
		s.open(s.put(from.host, "/forge", "text/html", forge(forms, each == 4)))
		for _, one := range s.awaits("forged forms", each*len(forms), isPost) {
			if one.status != http.StatusForbidden || one.header.Get("Set-Cookie") != "" || one.header.Get("Location") != "" {
				s.t.Errorf("without Sec-Fetch-* %v, without Origin %v: %v", from.plain, from.silent, one)
			}
		}
		s.until("all answers", `window.__left === 0`)
		if read := s.run("window.__read"); read != "" {
			s.t.Errorf("the page of %s read %q", from.host, read)
		}
	}
	s.mu.Lock()
	s.plain, s.silent = false, false
	s.mu.Unlock()
	// Nothing came of it: the request waits for its answer, and Alice is signed in.
	s.open(pending)
	if !s.there("form#allow") {
		s.t.Errorf("the request is not there any more:\n%s", s.text())
	}
	// A form of another browser's is not taken from this one.
	mine := s.forms()
	s.forgetCookies()
	s.open(app.push())
	for _, f := range mine {
		body := url.Values{}
		for _, field := range f.Fields {
			body.Add(field[0], field[1])
		}
		got := s.run(`(() => { const x = new XMLHttpRequest(); x.open('POST', ` + js(f.Action) + `, false); x.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded'); try { x.send(` + js(body.Encode()) + `) } catch (e) { return 'refused' } return x.status + ' ' + x.responseURL })()`)
		if got != "refused" && !strings.HasPrefix(got, "403 ") { // the policy lets scripts send nothing
			s.t.Errorf("%s with the token of another browser: %s", f.Action, got)
		}
	}
}

func fieldNames(f form) (list []string) {
	for _, field := range f.Fields {
		list = append(list, field[0])
	}
	return list
}

// fixedSession tries to have Alice sign in with a cookie that Mallory knows.
func (s *appStage) fixedSession() {
	app := s.newWire()
	client, err := s.front.Client()
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := client.Get(app.push())
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	given := resp.Cookies()
	if resp.StatusCode != http.StatusOK || len(given) == 0 {
		s.t.Fatalf("the page answers %s with the cookies %v", resp.Status, given)
	}
	for _, c := range given {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.HttpOnly || !c.Secure || c.Path != "/" || c.Domain != "" || c.SameSite == http.SameSiteNoneMode || c.SameSite == 0 {
			s.t.Errorf("cookie %v", c)
		}
		s.call("Network.setCookie", map[string]any{"url": "https://" + stageHost, "name": c.Name, "value": c.Value, "path": "/", "secure": true, "httpOnly": true})
	}
	values := func() map[string]string {
		all := map[string]string{}
		for _, c := range s.cookies("https://" + stageHost) {
			all[c.Name] = c.Value
		}
		return all
	}
	request := app.push()
	s.open(request)
	s.submit("form#sign-in", "identifier", "alice."+stageHost, "password", ownersPassword, "remember", "yes")
	after := values()
	var known []string
	for _, c := range given {
		if after[c.Name] == c.Value {
			s.t.Errorf("%s is the same after Alice signed in", c.Name)
		}
		known = append(known, c.Name+"="+c.Value)
	}
	if script := s.run("document.cookie"); script != "" {
		s.t.Errorf("scripts see %q", script)
	}
	// What Mallory knows opens nothing of hers.
	for _, at := range []string{request, app.push()} {
		got := app.send("GET", at, "", "", map[string]string{"Cookie": strings.Join(known, "; ")})
		if strings.Contains(got.text, "alice") || strings.Contains(got.text, `id="allow"`) {
			s.t.Errorf("with the planted cookie %s is\n%v", at, got)
		}
	}
	s.open(request)
	s.submit("form#deny")
	if told := s.told(); told.Get("error") != "access_denied" {
		s.t.Errorf("the app is told %v", told)
	}
	// Another browser cannot answer a request, nor take it away.
	request = app.push()
	s.consent(request, "alice")
	got := app.send("GET", request, "", "", nil)
	if strings.Contains(got.text, `id="sign-in"`) || strings.Contains(got.text, `id="allow"`) {
		s.t.Errorf("a request that is open in another browser: %v", got)
	}
	s.submit("form#allow")
	if told := s.told(); told.Get("code") == "" {
		s.t.Errorf("after another browser opened the request, the app is told %v", told)
	}
}

// markedApp is an app that the operator trusts, so that its name is shown.
const markedApp = "https://" + appHost + "/marked.json"

// markedRequests has texts on the pages that run if they are taken for HTML.
func (s *appStage) markedRequests() {
	const value = `repo:<img/src=x/onerror=top.__pwned=1>`
	scope := `atproto blob:'><script>top.__pwned=1</script> ` + value
	metadata := map[string]any{
		"client_id": markedApp, "client_name": short, "client_uri": "https://" + appHost, "logo_uri": "https://" + appHost + "/logo.svg", "tos_uri": "https://" + appHost + "/terms?" + url.QueryEscape(short),
		"redirect_uris": []string{"https://" + appHost + "/callback"}, "scope": scope, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "application_type": "web", "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	}
	s.put(appHost, "/callback", "text/html", "<title>back</title>")
	var logo []string
	s.mu.Lock()
	s.pages[appHost+"/logo.svg"] = func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		logo = append(logo, r.UserAgent())
		s.mu.Unlock()
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" onload="`+html.EscapeString(tried("logo"))+`"><script>`+html.EscapeString(tried("logo"))+`</script></svg>`)
	}
	s.mu.Unlock()
	put := func(path string, other ...string) {
		s.t.Helper()
		document := maps.Clone(metadata)
		document["client_id"] = "https://" + appHost + path
		for i := 0; i < len(other); i += 2 {
			document[other[i]] = other[i+1]
		}
		path, _, _ = strings.Cut(path, "?")
		s.putJSON(path, document)
	}
	app := s.newWire().by(func(w *wire) { w.id, w.back, w.scope = markedApp, "https://"+appHost+"/callback", scope })
	for i, field := range []string{"policy_uri", "tos_uri", "logo_uri", "client_uri", "jwks_uri"} {
		path := fmt.Sprintf("/script-%d.json", i)
		put(path, field, "javascript:top.__pwned=1")
		if got := app.by(func(w *wire) { w.id = "https://" + appHost + path }).post("/oauth/par", app.asks("client_id", "https://"+appHost+path)); !got.is("400 invalid_client_metadata") {
			s.t.Errorf("a %s that is a script: %v", field, got)
		}
	}
	put("/unknown.json?%22%27%3E%3Cscript%3Etop.__pwned=1%3C/script%3E")
	untrusted := app.by(func(w *wire) {
		w.id = "https://" + appHost + "/unknown.json?%22%27%3E%3Cscript%3Etop.__pwned=1%3C/script%3E"
	})

	clean := func(what string) {
		s.t.Helper()
		if got := s.run(`String(window.__pwned) + ' ' + document.querySelectorAll('main img[src=x], iframe, object, embed, base, [onerror], [onload], [onfocus], [onclick]').length + ' ' + [...document.links].filter(a => !/^(https?|mailto):/.test(a.href)).length`); got != "undefined 0 0" {
			s.t.Errorf("%s: %s", what, got)
		}
		for _, c := range s.complaints {
			if strings.Contains(c, "Content Security Policy") || strings.Contains(c, "Trusted") {
				s.t.Errorf("%s: the policy had to stop something: %s", what, c)
			}
		}
		s.complaints = nil
	}
	s.complaints = nil
	s.open(untrusted.push("state", short))
	clean("sign-in")
	s.submit("form#sign-in", "identifier", short, "password", "wrong")
	clean("a sign-in that is refused")
	s.submit("form#sign-in", "identifier", "alice."+stageHost, "password", ownersPassword)
	clean("consent")
	if text := strings.ReplaceAll(s.text(), value, ""); strings.Contains(text, "onerror=top.__pwned=1>") || !strings.Contains(text, appHost) {
		s.t.Errorf("an app that is not trusted is shown by its name:\n%s", text)
	}
	s.submit("form#deny")
	if told := s.told(); told.Get("state") != short {
		s.t.Errorf("the state came back as %q", told.Get("state"))
	}
	// The name of one that the operator trusts is shown.
	put("/marked.json")
	s.open(app.push("prompt", "login"))
	clean("sign-in to a trusted app")
	if text := s.text(); !strings.Contains(text, "onerror=top.__pwned=1>") {
		s.t.Errorf("an app that is trusted is not shown by its name:\n%s", text)
	}
	s.submit("form#sign-in", "identifier", "alice."+stageHost, "password", ownersPassword)
	clean("consent to a trusted app")
	s.submit("form#allow")
	app.tokens(app.redeem(s.told().Get("code")))
	s.open(accountPages)
	s.submit("form#sign-in", "identifier", "alice."+stageHost, "password", ownersPassword)
	s.open(accountPages + "/apps")
	clean("the apps of the account")
	s.says("onerror=top.__pwned=1>")
	mark := url.QueryEscape(short)
	for _, path := range []string{
		"?client_id=" + mark + "&request_uri=" + mark, "?client_id=" + mark, "?request_uri=" + mark, "/" + url.PathEscape(short), "?error=" + mark + "&error_description=" + mark,
	} {
		s.open("https://" + stageHost + "/oauth/authorize" + path)
		clean(path)
	}
	for _, hint := range []string{short, `"><img/src=x/onerror=top.__pwned=1>.` + stageHost, "did:web:<img/src=x/onerror=top.__pwned=1>"} {
		if got := app.post("/oauth/par", untrusted.asks("login_hint", hint)); got.status != http.StatusBadRequest {
			s.t.Errorf("login_hint %s: %v", hint, got)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(logo) > 0 {
		s.t.Errorf("the logo was asked for by %q", logo)
	}
}

// A guest is somebody at an address of their own who uses the pages without a browser.
type guest struct {
	s       *appStage
	address string
	cookie  string
	shown   heard
}

func (g *guest) ask(method, path, body string) {
	g.s.t.Helper()
	r, err := http.NewRequestWithContext(g.s.t.Context(), method, g.s.server.URL+path, strings.NewReader(body))
	if err != nil {
		g.s.t.Fatal(err)
	}
	r.Host = stageHost
	for name, value := range map[string]string{
		"X-Forwarded-For": g.address, "X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin", "Origin": "https://" + stageHost,
		"Content-Type": "application/x-www-form-urlencoded", "Cookie": g.cookie,
	} {
		r.Header.Set(name, value)
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		g.s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.s.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		g.cookie = c.Name + "=" + c.Value
	}
	g.shown = heard{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if to := resp.Header.Get("Location"); strings.HasPrefix(to, "/") {
		g.ask("GET", to, "")
	}
}

var (
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	formAction  = regexp.MustCompile(`action="([^"]*)"`)
)

// submit sends the form with an id that is shown.
func (g *guest) submit(id string, fields ...string) {
	g.s.t.Helper()
	form := regexp.MustCompile(`(?s)<form[^>]* id="` + id + `".*?</form>`).FindString(g.shown.text)
	action := formAction.FindStringSubmatch(form)
	if action == nil {
		g.s.t.Fatalf("there is no form %s:\n%v", id, g.shown)
	}
	body := url.Values{}
	for _, field := range hiddenField.FindAllStringSubmatch(form, -1) {
		body.Set(field[1], html.UnescapeString(field[2]))
	}
	for i := 0; i < len(fields); i += 2 {
		body.Set(fields[i], fields[i+1])
	}
	g.ask("POST", html.UnescapeString(action[1]), body.Encode())
}

// follow goes where the link with an id leads.
func (g *guest) follow(id string) {
	g.s.t.Helper()
	link := regexp.MustCompile(`<a[^>]* id="` + id + `"[^>]*>`).FindString(g.shown.text)
	to := regexp.MustCompile(`href="([^"]*)"`).FindStringSubmatch(link)
	if to == nil {
		g.s.t.Fatalf("there is no link %s:\n%v", id, g.shown)
	}
	g.ask("GET", html.UnescapeString(to[1]), "")
}

// bruteForce guesses Alice's password and a code of hers on the pages, and beside it by XRPC:
// both are counted together, for who guesses and for whose they are.
func (s *appStage) bruteForce() {
	const from = "203.0.113.77"
	alice := s.ask(s.t, "GET com.atproto.identity.resolveHandle?handle=alice."+stageHost, "").text("did")
	at, err := url.Parse(s.newWire().push())
	if err != nil {
		s.t.Fatal(err)
	}
	mallory := &guest{s: s, address: from}
	mallory.ask("GET", at.RequestURI(), "")
	spent := func(what, whose, want string) {
		s.t.Helper()
		cmd := exec.CommandContext(s.t.Context(), binary, "budget", "show", whose)
		cmd.Env = append(append(launch.Environ(), s.env...), "PDS_DATA_DIRECTORY="+s.server.Data, "PDS_PORT="+s.server.URL[strings.LastIndexByte(s.server.URL, ':')+1:])
		out, err := cmd.CombinedOutput()
		if err != nil {
			s.t.Fatalf("portico budget show: %v\n%s", err, out)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			s.t.Errorf("%s, %s has spent, want %s:\n%s", what, whose, want, out)
		}
	}
	byXRPC := func(method, body string, want int) {
		s.t.Helper()
		if got := s.ask(s.t, "POST com.atproto.server."+method, body, "X-Forwarded-For", from); got.status != want {
			s.t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
	for i := range 3 {
		mallory.submit("sign-in", "identifier", "alice."+stageHost, "password", fmt.Sprint("guess ", i))
		if mallory.shown.status < 400 || mallory.shown.status >= 500 || !strings.Contains(mallory.shown.text, "Invalid identifier or password") {
			s.t.Errorf("a wrong password on the page: %v", mallory.shown)
		}
	}
	spent("after the page", from, "wrong-passwords-from 3 of 300")
	spent("after the page", alice, "3 of")
	for i := range 4 {
		byXRPC("createSession", `{"identifier":"alice.`+stageHost+`","password":"guess `+fmt.Sprint(i)+`"}`, http.StatusUnauthorized)
	}
	spent("after both", from, "wrong-passwords-from 7 of 300")
	spent("after both", alice, "7 of")

	mallory.follow("to-reset")
	mallory.submit("reset-request", "email", "alice@example.com")
	for range 3 {
		mallory.submit("reset", "code", "AAAAA-AAAAA", "password", "mallory's now")
		if mallory.shown.status < 400 || mallory.shown.status >= 500 {
			s.t.Errorf("a wrong code on the page: %v", mallory.shown)
		}
	}
	for range 4 {
		byXRPC("resetPassword", `{"token":"AAAAA-AAAAA","password":"mallory's now"}`, http.StatusBadRequest)
	}
	spent("after wrong codes", from, "wrong-reset-codes 7 of 50")
}

// TestOAuthReachesNothingInside has a server fetch documents of apps from where only it can
// reach: it connects to none of them.
func TestOAuthReachesNothingInside(t *testing.T) {
	s := newAppStage(t, "PDS_DISABLE_SSRF_PROTECTION=false")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	connected := 0
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			connected++
			mu.Unlock()
			c.Close()
		}
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	app := s.newWire()
	for _, host := range []string{
		"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost.localdomain", "ip6-localhost", "0.0.0.0", "169.254.169.254",
		"user:pass@127.0.0.1", stageHost,
	} {
		for _, scheme := range []string{"https", "http"} {
			id := scheme + "://" + host + ":" + port + "/client.json"
			got := app.by(func(w *wire) { w.id = id }).post("/oauth/par", app.asks("client_id", id))
			if got.status != http.StatusBadRequest || strings.Contains(got.text, "refused") {
				t.Errorf("%s: %v", id, got)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if connected != 0 {
		t.Errorf("the server connected %d times", connected)
	}
}
