package servertest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/oauth/grant"
	"portico/impl/oauth/oauthtest"
	"portico/impl/oauth/permissionset"
)

// An App is a client of OAuth, that somebody has on their own machine or that has a server:
// see [Server.NewApp] and [Server.NewConfidentialApp]. Tests may change its fields.
type App struct {
	s *Server
	// ID is its client_id, Redirect where answers to it go.
	ID, Redirect string
	Scope        string         // which it declares, and asks for
	Key          *oauthtest.Key // of its proofs
	Assertion    *oauthtest.Key // by which it proves who it is; nil: it does not
	Nonce        string         // that the server gave it last

	DID             syntax.DID
	Access, Refresh string // what it was given, without a scheme
	Granted         string // the scope
	Verifier        string // of the request that it pushed last
}

// NewApp is an app under development, on the machine of who uses it.
func (s *Server) NewApp(scope string) *App {
	s.Helper()
	const redirect = "http://127.0.0.1:8080/callback"
	return &App{
		s: s, ID: "http://localhost?redirect_uri=" + url.QueryEscape(redirect) + "&scope=" + url.QueryEscape(scope), Redirect: redirect,
		Scope: scope, Key: oauthtest.NewKey(s, "ES256"),
	}
}

// NewConfidentialApp is an app that has a server of that name, and a key there.
func (s *Server) NewConfidentialApp(host, scope string) *App {
	s.Helper()
	a := &App{
		s: s, ID: "https://" + host + "/oauth-client-metadata.json", Redirect: "https://" + host + "/callback",
		Scope: scope, Key: oauthtest.NewKey(s, "ES256"), Assertion: oauthtest.NewKey(s, "ES256"),
	}
	a.Assertion.ID = "key-1"
	s.Web.Put(a.ID, string(Must(json.Marshal(map[string]any{
		"client_id": a.ID, "client_name": "An App", "redirect_uris": []string{a.Redirect}, "scope": scope,
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "application_type": "web",
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "dpop_bound_access_tokens": true,
		"jwks": map[string]any{"keys": []any{a.Assertion.JWK()}},
	}))))
	return a
}

// Proof is a line of the header: a proof for a request to a path, and with a token where that
// is not "".
func (a *App) Proof(verb, path, token string) string {
	a.s.Helper()
	path, _, _ = strings.Cut(path, "?")
	return "DPoP: " + a.Key.Proof(a.s, a.s.Now(), verb, Endpoint+path, a.Nonce, token, nil)
}

// Post sends a form to an endpoint, with a proof and with what the app proves itself with. What is
// "" in the form is left out of it. It does so once more when it is given a nonce.
func (a *App) Post(path string, form map[string]string) Answer {
	a.s.Helper()
	for again := false; ; again = true {
		answer := a.PostWith(path, a.Form(form), a.Proof(http.MethodPost, path, ""))
		if again || !strings.Contains(answer.Body, `"use_dpop_nonce"`) {
			return answer
		}
	}
}

// Form is a form with what the app proves itself with.
func (a *App) Form(form map[string]string) url.Values {
	a.s.Helper()
	values := url.Values{"client_id": {a.ID}}
	if a.Assertion != nil {
		values.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		values.Set("client_assertion", a.Assertion.Assertion(a.s, a.s.Now(), a.ID, Endpoint, nil))
	}
	for name, value := range form {
		if values.Set(name, value); value == "" {
			values.Del(name)
		}
	}
	return values
}

// PostWith sends a form, and nothing else than lines of the header.
func (a *App) PostWith(path string, form url.Values, header ...string) Answer {
	a.s.Helper()
	answer := a.s.Send(http.MethodPost, path, form.Encode(), append([]string{"Content-Type: application/x-www-form-urlencoded"}, header...)...)
	a.keepNonce(answer)
	return answer
}

func (a *App) keepNonce(answer Answer) {
	if nonce := answer.Header.Get("DPoP-Nonce"); nonce != "" {
		a.Nonce = nonce
	}
}

// Push pushes a request, to which other parameters belong, or in which they take the place of
// those that it has.
func (a *App) Push(other map[string]string) Answer {
	a.s.Helper()
	a.Verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(a.Verifier))
	form := map[string]string{
		"response_type": "code", "redirect_uri": a.Redirect, "scope": a.Scope, "state": "a state",
		"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:]), "code_challenge_method": "S256",
	}
	for name, value := range other {
		form[name] = value
	}
	return a.Post("/oauth/par", form)
}

// Pushed is the URI of a request that is pushed.
func (a *App) Pushed() string {
	a.s.Helper()
	answer := a.Push(nil)
	if answer.Status != http.StatusCreated {
		a.s.Fatalf("pushed: %d %s", answer.Status, answer.Body)
	}
	return answer.Text(a.s, "request_uri")
}

// Approve answers a pushed request as its owner does, all of it, and returns the code. The pages
// have no part in it.
func (a *App) Approve(u User, uri string) string {
	a.s.Helper()
	return a.approve(u, uri, "An App")
}

// approve is Approve of an app of which the page showed that name: "" for its address.
func (a *App) approve(u User, uri, name string) string {
	a.s.Helper()
	ctx, browser := a.s.Context(), []byte(rand.Text())
	r, err := a.s.Grants.Open(ctx, uri, a.ID, browser)
	a.s.Check(err)
	granted, err := a.s.Sets.Expand(ctx, r.Scope)
	a.s.Check(err)
	code, err := a.s.Grants.Approve(ctx, r, browser, grant.Answer{
		DID: u.DID, ProvedAt: a.s.Now(), Scope: r.Scope, Granted: granted, ClientName: name, Address: "192.0.2.1", Agent: "a browser",
	})
	a.s.Check(err)
	return code
}

// Redeem exchanges a code for tokens, and keeps them.
func (a *App) Redeem(code string) Answer {
	a.s.Helper()
	return a.keep(a.Post("/oauth/token", map[string]string{
		"grant_type": "authorization_code", "code": code, "redirect_uri": a.Redirect, "code_verifier": a.Verifier,
	}))
}

// Renew exchanges the refresh token, and keeps what it is given.
func (a *App) Renew() Answer {
	a.s.Helper()
	return a.keep(a.Post("/oauth/token", map[string]string{"grant_type": "refresh_token", "refresh_token": a.Refresh}))
}

func (a *App) keep(answer Answer) Answer {
	a.s.Helper()
	if answer.Status == http.StatusOK {
		var got struct {
			Access  string     `json:"access_token"`
			Refresh string     `json:"refresh_token"`
			Scope   string     `json:"scope"`
			DID     syntax.DID `json:"sub"`
		}
		answer.Decode(a.s, &got)
		a.Access, a.Refresh, a.Granted, a.DID = got.Access, got.Refresh, got.Scope, got.DID
	}
	return answer
}

// SignIn lets the app into the account of u, with all that it asks for.
func (a *App) SignIn(u User) *App {
	a.s.Helper()
	a.s.Accepted(a.Redeem(a.Approve(u, a.Pushed())))
	return a
}

// SignInAs is SignIn of an app that the operator trusts to have a name; "" is none.
func (a *App) SignInAs(u User, name string) *App {
	a.s.Helper()
	a.s.Accepted(a.Redeem(a.approve(u, a.Pushed(), name)))
	return a
}

// Get is [App.Call] of a query.
func (a *App) Get(method string) Answer {
	a.s.Helper()
	return a.Call(http.MethodGet, method, "")
}

// Procedure is [App.Call] of a procedure.
func (a *App) Procedure(method, body string) Answer {
	a.s.Helper()
	return a.Call(http.MethodPost, method, body)
}

// Call is [Server.Call] with the access token of the app and a proof. It calls once more when it is
// given a nonce.
func (a *App) Call(verb, method, body string, header ...string) Answer {
	a.s.Helper()
	method = a.s.full(method)
	for again := false; ; again = true {
		answer := a.s.Call(verb, method, body, append([]string{"DPoP " + a.Access, a.Proof(verb, "/xrpc/"+method, a.Access)}, header...)...)
		a.keepNonce(answer)
		if again || !strings.Contains(answer.Body, `"use_dpop_nonce"`) {
			return answer
		}
	}
}

// Credentials are for one request to a method: its lines of the header, with the nonce of the
// moment.
func (a *App) Credentials(verb, method string) []string {
	a.s.Helper()
	a.Nonce = a.s.Proofs.Nonces.Next()
	return []string{"DPoP " + a.Access, a.Proof(verb, "/xrpc/"+method, a.Access)}
}

// Send sends a request to a path, with lines of the header. It follows no redirect.
func (s *Server) Send(verb, path, body string, header ...string) Answer {
	s.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(s.Context(), verb, s.URL+path, r)
	s.Check(err)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		request.Header.Add(name, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	s.Check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	s.Check(err)
	return Answer{response.StatusCode, response.Header, string(text)}
}

// OAuthRefused checks status, name and description of an error of OAuth.
func (s *Server) OAuthRefused(a Answer, status int, name, description string) {
	s.Helper()
	var body struct {
		Error       string
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		s.Errorf("answer %d %q: %v", a.Status, a.Body, err)
		return
	}
	if a.Status != status || body.Error != name || body.Description != description {
		s.Errorf("answer\n%d %s %q, want\n%d %s %q", a.Status, body.Error, body.Description, status, name, description)
	}
}

// A Web is where documents of strangers are.
type Web struct {
	mu    sync.Mutex
	pages map[string]http.HandlerFunc
	asked []string
}

// Put puts a document of JSON there.
func (w *Web) Put(url, document string) {
	w.Serve(url, func(r http.ResponseWriter, _ *http.Request) {
		r.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(r, document)
	})
}

// Serve lets h answer for a URL.
func (w *Web) Serve(url string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages == nil {
		w.pages = make(map[string]http.HandlerFunc)
	}
	w.pages[url] = h
}

// Asked are the URLs that were asked for until now.
func (w *Web) Asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.asked...)
}

// RoundTrip implements [http.RoundTripper].
func (w *Web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r.URL.String())
	h, ok := w.pages[r.URL.String()]
	w.mu.Unlock()
	if !ok {
		h = http.NotFound
	}
	a := &recorded{header: http.Header{}, status: http.StatusOK}
	h(a, r)
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.header,
		Body: io.NopCloser(strings.NewReader(a.body.String())), ContentLength: int64(a.body.Len()), Request: r,
	}, nil
}

type recorded struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorded) Header() http.Header         { return r.header }
func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }

// PublishSet puts the lexicon of a permission set into the network, or another document of
// that name.
func (s *Server) PublishSet(nsid syntax.NSID, document string) {
	s.sets.mu.Lock()
	defer s.sets.mu.Unlock()
	s.sets.documents[nsid] = document
}

// SetsBusy says whether too many permission sets are looked for.
func (s *Server) SetsBusy(busy bool) {
	s.sets.mu.Lock()
	defer s.sets.mu.Unlock()
	s.sets.busy = busy
}

// publishedSets are all that there are: nobody is ever asked for another.
type publishedSets struct {
	now       func() time.Time
	mu        sync.Mutex
	documents map[syntax.NSID]string
	busy      bool
}

func (p *publishedSets) PermissionSet(_ context.Context, nsid syntax.NSID) (*permissionset.Stored, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return nil, permissionset.ErrBusy
	}
	return &permissionset.Stored{Document: p.documents[nsid], FetchedAt: p.now(), TriedAt: p.now()}, nil
}

func (p *publishedSets) SavePermissionSet(context.Context, syntax.NSID, permissionset.Stored) error {
	return nil
}
