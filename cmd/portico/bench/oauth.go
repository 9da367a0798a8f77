package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// byApp is who a server is that is asked by an app.
const byApp = ", by an app"

// oauth compares what an app asks for by OAuth, with a proof for each request, with the same
// by a session. Both ask the same server, for the same accounts.
func (b *bench) oauth(ctx context.Context) (*table, error) {
	all, err := b.running(ctx, "FULL")
	if err != nil {
		return nil, err
	}
	t := &table{mode: "FULL/oauth"}
	s := all[0] // the server
	app, err := newApp(ctx, s.client)
	if err != nil {
		return nil, fmt.Errorf("%w; the server wrote\n%s", err, s.Log())
	}
	for _, w := range []struct {
		name             string
		requests         int
		bySession, byApp func(worker int) error
	}{
		{"getSession", 6000, s.client.getSession, app.getSession},
		{"createRecord", 3000, s.client.createRecord, app.createRecord},
	} {
		r := &row{name: w.name, requests: scaled(w.requests), workers: *workers}
		r.add(s.who, s.Process, w.bySession)
		r.add(s.who+byApp, s.Process, w.byApp)
		t.rows = append(t.rows, r)
	}
	t.print = func() {
		fmt.Printf("By an app with a DPoP token and a proof by ES256, beside the same by a session token, %d connections, synchronous=FULL.\n\n", *workers)
		w := newWriter()
		fmt.Fprintln(w, "method\trequests\tby a session\tby an app\tapp ÷ session\trounds\tdifference\t")
		for _, r := range t.rows {
			session, by := r.of(ofServer), r.of(ofServer+byApp)
			over := by.over(session, sample.each)
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%.2f\t%s\t%s\t\n", r.name, r.requests, session.time(), by.time(), over.median, over.spread(),
				show(by.figure(sample.each).median-session.figure(sample.each).median))
		}
		w.Flush()
	}
	return t, nil
}

// Where the app is answered, on the machine of who uses it, and what it asks for.
const (
	appRedirect = "http://127.0.0.1/callback"
	appScope    = "atproto transition:generic"
)

// An oauthApp is let into all accounts of a client. For each it has a key and a token of its own, as
// an app on the devices of so many people has.
type oauthApp struct {
	*client
	id, issuer string
	grants     map[string]*appGrant // by DID
	// nonce is the one that the server gave last to anybody: with one for each grant, the
	// requests of a round would mostly be the first after a while, and be made twice.
	nonce atomic.Pointer[string]
}

type appGrant struct {
	key    *ecdsa.PrivateKey
	jwk    map[string]string
	access string
}

// newApp signs in to all accounts of a client, as their owners do it in a browser.
func newApp(ctx context.Context, c *client) (*oauthApp, error) {
	a := &oauthApp{client: c, grants: make(map[string]*appGrant)}
	a.id = "http://localhost?" + url.Values{"redirect_uri": {appRedirect}, "scope": {appScope}}.Encode()
	a.nonce.Store(new(string))
	var metadata struct{ Issuer string }
	if err := c.call(http.MethodGet, c.server+"/.well-known/oauth-authorization-server", "", nil, &metadata); err != nil {
		return nil, err
	}
	a.issuer = metadata.Issuer
	n := 0
	for _, of := range c.accounts {
		for _, account := range of.list {
			n++
			g, err := a.signIn(ctx, account, fmt.Sprintf("2001:db8:1:%x::1", n))
			if err != nil {
				return nil, fmt.Errorf("an app of %s: %w", account.Handle, err)
			}
			a.grants[account.DID] = g
		}
	}
	return a, nil
}

// signIn lets the app into an account, from an address.
func (a *oauthApp) signIn(ctx context.Context, of *account, address string) (*appGrant, error) {
	g, err := newGrant()
	if err != nil {
		return nil, err
	}
	b, err := a.browse(ctx, address)
	if err != nil {
		return nil, err
	}
	verifier, state := rand.Text()+rand.Text(), rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	var pushed struct {
		URI string `json:"request_uri"`
	}
	err = a.post(b, g, "/oauth/par", url.Values{
		"client_id": {a.id}, "response_type": {"code"}, "redirect_uri": {appRedirect}, "scope": {appScope}, "state": {state},
		"code_challenge": {encoded(challenge[:])}, "code_challenge_method": {"S256"},
	}, &pushed)
	if err != nil {
		return nil, err
	}
	shown, err := b.get(a.issuer + "/oauth/authorize?" + url.Values{"client_id": {a.id}, "request_uri": {pushed.URI}}.Encode())
	if err != nil {
		return nil, err
	}
	if shown, err = b.send(shown, "/oauth/authorize/sign-in", url.Values{"identifier": {of.Handle}, "password": {password}}); err != nil {
		return nil, err
	}
	if shown, err = b.send(shown, "/oauth/authorize/allow", nil); err != nil {
		return nil, err
	}
	answer, err := url.Parse(shown.sentTo)
	if err != nil {
		return nil, err
	}
	fields := answer.Query()
	if fields.Get("code") == "" || fields.Get("state") != state || fields.Get("iss") != a.issuer {
		return nil, fmt.Errorf("the pages sent the browser to %q", shown.sentTo)
	}
	var tokens struct {
		Access  string `json:"access_token"`
		Subject string `json:"sub"`
	}
	err = a.post(b, g, "/oauth/token", url.Values{
		"client_id": {a.id}, "grant_type": {"authorization_code"}, "code": {fields.Get("code")}, "redirect_uri": {appRedirect}, "code_verifier": {verifier},
	}, &tokens)
	if err == nil && tokens.Subject != of.DID {
		err = fmt.Errorf("the token is one of %s", tokens.Subject)
	}
	g.access = tokens.Access
	return g, err
}

func newGrant() (*appGrant, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return &appGrant{key: key, jwk: map[string]string{"kty": "EC", "crv": "P-256", "x": encoded(point[1:33]), "y": encoded(point[33:])}}, nil
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// proof is a new one for a request to a path, with the token of the grant if it has one.
func (a *oauthApp) proof(g *appGrant, verb, path string) (string, error) {
	claims := jwt.MapClaims{"jti": rand.Text(), "htm": verb, "htu": a.issuer + path, "iat": time.Now().Unix()}
	if nonce := *a.nonce.Load(); nonce != "" {
		claims["nonce"] = nonce
	}
	if g.access != "" {
		sum := sha256.Sum256([]byte(g.access))
		claims["ath"] = encoded(sum[:])
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	t.Header["typ"], t.Header["jwk"] = "dpop+jwt", g.jwk
	return t.SignedString(g.key)
}

// staleNonce is the error of requests without the nonce of the moment, which the answer has.
const staleNonce = "use_dpop_nonce"

func (a *oauthApp) keepNonce(header http.Header) {
	if nonce := header.Get("DPoP-Nonce"); nonce != "" {
		a.nonce.Store(&nonce)
	}
}

// post sends a form to an endpoint of the server, as the app of a browser's user.
func (a *oauthApp) post(b *browser, g *appGrant, path string, form url.Values, out any) error {
	for again := false; ; again = true {
		proof, err := a.proof(g, http.MethodPost, path)
		if err != nil {
			return err
		}
		answer, err := b.ask(http.MethodPost, a.issuer+path, form, http.Header{"Dpop": {proof}})
		if err != nil {
			return err
		}
		a.keepNonce(answer.header)
		switch {
		case !again && strings.Contains(answer.text, staleNonce):
		case answer.status >= http.StatusMultipleChoices:
			return fmt.Errorf("POST %s answers %d %s", path, answer.status, answer.text)
		default:
			return json.Unmarshal([]byte(answer.text), out)
		}
	}
}

// ask calls a method for an account, once more where the nonce is an old one.
func (a *oauthApp) ask(of *account, verb, method string, in, out any) error {
	g := a.grants[of.DID]
	for again := false; ; again = true {
		proof, err := a.proof(g, verb, "/xrpc/"+method)
		if err != nil {
			return err
		}
		header := http.Header{"Authorization": {"DPoP " + g.access}, "Dpop": {proof}}
		got, err := a.exchange(http.StatusOK, verb, a.server+"/xrpc/"+method, header, in, out)
		a.keepNonce(got)
		if err == nil || again || !strings.Contains(err.Error(), staleNonce) {
			return err
		}
	}
}

func (a *oauthApp) getSession(worker int) error {
	return a.ask(a.turn(worker), http.MethodGet, "com.atproto.server.getSession", nil, nil)
}

func (a *oauthApp) createRecord(worker int) error {
	of := a.turn(worker)
	var out written
	err := a.ask(of, http.MethodPost, "com.atproto.repo.createRecord", write{Repo: of.DID, Collection: posts, Record: newPost()}, &out)
	of.wrote(out)
	return err
}

// A browser shows the pages of a server, which it believes to be where the server says that it is.
type browser struct {
	http    *http.Client
	ctx     context.Context
	issuer  string
	address string // where it asks from
}

// A shown page, or another answer.
type shown struct {
	status int
	header http.Header
	text   string
	sentTo string // where it sends the browser away to, off this server
}

// browse starts a browser.
func (a *oauthApp) browse(ctx context.Context, address string) (*browser, error) {
	to, err := url.Parse(a.server)
	if err != nil {
		return nil, err
	}
	cookies, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	b := &browser{ctx: ctx, issuer: a.issuer, address: address}
	b.http = &http.Client{Jar: cookies, Timeout: time.Minute, Transport: behind{to, a.http.Transport}, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), a.issuer+"/") {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b, nil
}

// behind is a proxy that takes HTTPS, to a server that is reached without.
type behind struct {
	to   *url.URL
	next http.RoundTripper
}

func (p behind) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = r.URL.Host
	r.URL.Scheme, r.URL.Host = p.to.Scheme, p.to.Host
	return p.next.RoundTrip(r)
}

func (b *browser) get(url string) (*shown, error) {
	return b.ask(http.MethodGet, url, nil, http.Header{
		"Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"cross-site"},
	})
}

var (
	formPattern   = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenPattern = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	backPattern   = regexp.MustCompile(`href="([^"]*)" rel="noreferrer" data-now id="back">`)
)

// send sends the form of a page that goes to a path, with what is hidden in it.
func (b *browser) send(of *shown, path string, filled url.Values) (*shown, error) {
	for _, form := range formPattern.FindAllStringSubmatch(of.text, -1) {
		if html.UnescapeString(form[1]) != path {
			continue
		}
		fields := url.Values{}
		for _, input := range hiddenPattern.FindAllStringSubmatch(form[2], -1) {
			fields.Add(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
		}
		for name, values := range filled {
			fields[name] = values
		}
		return b.ask(http.MethodPost, b.issuer+path, fields, http.Header{
			"Origin": {b.issuer}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"same-origin"},
		})
	}
	return nil, fmt.Errorf("no form for %s is on the page with status %d\n%s", path, of.status, of.text)
}

func (b *browser) ask(verb, url string, form url.Values, header http.Header) (s *shown, err error) {
	r, err := http.NewRequestWithContext(b.ctx, verb, url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set("X-Forwarded-For", b.address)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	text, err := io.ReadAll(answer.Body)
	s = &shown{answer.StatusCode, answer.Header, string(text), answer.Header.Get("Location")}
	if back := backPattern.FindStringSubmatch(s.text); back != nil {
		s.sentTo = html.UnescapeString(back[1])
	}
	return s, err
}
