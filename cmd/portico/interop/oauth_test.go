//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/auth/oauth"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
)

// An appStage is a stage with apps that people let into their accounts, and an app view
// that the server passes their calls on to.
type appStage struct {
	*stage
	services *services
	view     syntax.DID
	second   *launch.Server // a node beside the stage's server, nil for none
}

const fullScope = "atproto transition:generic transition:email"

func newAppStage(t *testing.T, env ...string) *appStage {
	t.Helper()
	services := newServices(t)
	view, origin := services.start("app view", "bsky_appview", "BskyAppView", func(nsid string) string { return `{"answered":"` + nsid + `"}` })
	return &appStage{
		stage: newStage(t, append([]string{
			"PDS_DID_PLC_URL=" + services.directory, "PDS_BSKY_APP_VIEW_URL=" + origin, "PDS_BSKY_APP_VIEW_DID=" + view.String(),
		}, env...)...),
		services: services, view: view,
	}
}

// onPostgres are settings of nodes that share a database, and a folder of blobs.
func onPostgres(t *testing.T) []string {
	t.Helper()
	return []string{
		"PORTICO_DATABASE_URL=" + dbtest.PostgresURL(t), "PDS_BLOBSTORE_DISK_LOCATION=" + t.TempDir(),
		"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee",
	}
}

// addNode starts a second server on the same database. What the world asks goes to one and to
// the other in turn.
func (s *appStage) addNode() {
	s.t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		s.t.Fatal(err)
	}
	env := append(slices.Clone(s.env), fmt.Sprintf("PORTICO_CONSOLE_BIND=127.0.0.1:%d", port))
	if s.second, err = launch.StartServer(s.t.Context(), binary, s.t.TempDir(), env...); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.second.Kill() })
	nodes := []http.Handler{s.watched(s.server.URL, false), s.watched(s.second.URL, false)}
	var turn atomic.Int64
	s.front.LeadTo(stageHost, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nodes[turn.Add(1)%2].ServeHTTP(w, r)
	}))
}

// restart stops the server, or one of two, and starts it again.
func (s *appStage) restart() {
	s.t.Helper()
	server := &s.server
	if s.second != nil {
		server = &s.second
	}
	if err := (*server).Stop(); err != nil {
		s.t.Fatal(err)
	}
	again, err := (*server).Again(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	*server = again
}

// again stops the server and starts it with other settings beside its own.
func (s *appStage) again(env ...string) {
	s.t.Helper()
	if err := s.server.Stop(); err != nil {
		s.t.Fatal(err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(s.server.URL, "http://"), ":")
	s.env = append(append(s.env, env...), "PDS_PORT="+port)
	again, err := launch.StartServer(s.t.Context(), binary, s.server.Data, s.env...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = again
}

// promise evaluates an expression that is a promise, and returns what it comes to as JSON, or
// its error.
func (s *appStage) promise(expression string) (json.RawMessage, error) {
	s.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	s.result(s.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}), &answer)
	if answer.ExceptionDetails != nil {
		return nil, errors.New(answer.ExceptionDetails.Exception.Description)
	}
	return answer.Result.Value, nil
}

// there says whether the page has what a selector finds.
func (s *appStage) there(selector string) bool {
	s.t.Helper()
	return s.run(`String(!!document.querySelector(`+js(selector)+`))`) == "true"
}

// consent opens the page of a request, and signs in there where it is asked who somebody is.
func (s *appStage) consent(request, name string) {
	s.t.Helper()
	s.open(request)
	if s.there("form#sign-in") {
		s.submit("form#sign-in", "identifier", name+"."+stageHost, "password", ownersPassword)
	}
	if !s.there("form#allow") {
		s.t.Fatalf("%s is not asked to allow anything at %s:\n%s", name, s.run("location.href"), s.text())
	}
}

// allow is consent that is given. It returns what the app is told: the parameters.
func (s *appStage) allow(request, name string) url.Values {
	s.t.Helper()
	s.consent(request, name)
	s.submit("form#allow")
	return s.told()
}

// deny is consent that is not given.
func (s *appStage) deny(request, name string) url.Values {
	s.t.Helper()
	s.consent(request, name)
	s.submit("form#deny")
	return s.told()
}

// told is what the app was told with the address that the browser is at now.
func (s *appStage) told() url.Values {
	s.t.Helper()
	s.until("the app", `!document.querySelector('#back') && document.readyState === 'complete'`) // a page leads there
	at, err := url.Parse(s.run("location.href"))
	if err != nil {
		s.t.Fatal(err)
	}
	if at.Host == stageHost {
		s.t.Fatalf("the browser is still at %s:\n%s", at, s.text())
	}
	values, err := url.ParseQuery(at.RawQuery)
	if at.Fragment != "" {
		values, err = url.ParseQuery(at.EscapedFragment())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return values
}

// An appServer is oauth.mjs.
type appServer struct {
	s      *appStage
	in     io.Writer
	out    *bufio.Scanner
	errors bytes.Buffer
}

func (s *appStage) startApp(metadata map[string]any, kids ...string) *appServer {
	s.t.Helper()
	options, err := json.Marshal(map[string]any{"metadata": metadata, "directory": s.services.directory, "kids": append([]string{}, kids...)})
	if err != nil {
		s.t.Fatal(err)
	}
	a := &appServer{s: s}
	cmd := exec.CommandContext(s.t.Context(), node, "oauth.mjs", string(options))
	cmd.Env = append(append(launch.Environ(), s.front.Environ()...), "NODE_NO_WARNINGS=1")
	cmd.Stderr = &a.errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	a.in, a.out = in, bufio.NewScanner(out)
	a.out.Buffer(nil, 1<<20)
	return a
}

// An appAnswer is what an app says of what it was told to do.
type appAnswer struct {
	Failed, Cause, Error string // what went wrong

	URL          string
	JWKS         json.RawMessage
	DID          syntax.DID
	Handle       string
	Email        string
	State, Scope string
	Iss          string
	Proxied      struct{ Answered string }

	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// try tells the app to do something. fields are in pairs.
func (a *appServer) try(command string, fields ...any) (answer appAnswer) {
	a.s.t.Helper()
	in := map[string]any{"command": command}
	for i := 0; i < len(fields); i += 2 {
		in[fields[i].(string)] = fields[i+1]
	}
	line, err := json.Marshal(in)
	if err != nil {
		a.s.t.Fatal(err)
	}
	if _, err := a.in.Write(append(line, '\n')); err != nil {
		a.s.t.Fatalf("%s: the app has ended: %v\n%s", command, err, a.errors.String())
	}
	if !a.out.Scan() {
		a.s.t.Fatalf("%s: the app has ended: %v\n%s", command, a.out.Err(), a.errors.String())
	}
	if err := json.Unmarshal(a.out.Bytes(), &answer); err != nil {
		a.s.t.Fatalf("%s: %v: %s", command, err, a.out.Bytes())
	}
	return answer
}

// does is try for what has to succeed.
func (a *appServer) does(command string, fields ...any) appAnswer {
	a.s.t.Helper()
	answer := a.try(command, fields...)
	if answer.Failed != "" {
		a.s.t.Fatalf("the app cannot %s: %s (%s) %s\n%s", command, answer.Failed, answer.Error, answer.Cause, a.errors.String())
	}
	return answer
}

// signIn lets the app into an account of that name, by what was typed to name it.
func (a *appServer) signIn(typed, name string) appAnswer {
	a.s.t.Helper()
	request := a.does("authorize", "input", typed, "options", map[string]any{"state": "of " + typed})
	told := a.s.allow(request.URL, name)
	if told.Get("iss") != "https://"+stageHost || told.Get("code") == "" {
		a.s.t.Fatalf("the app is told %v", told)
	}
	in := a.does("callback", "query", told.Encode())
	if in.State != "of "+typed {
		a.s.t.Errorf("the state of the app is %q", in.State)
	}
	return in
}

// loopbackApp is the metadata of an app under development, to which somebody comes back at an
// address of this machine.
func (s *appStage) loopbackApp(scope string) map[string]any {
	s.t.Helper()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<title>back</title>") }))
	s.t.Cleanup(back.Close)
	callback := back.URL + "/callback"
	return map[string]any{
		"client_id":     "http://localhost?" + url.Values{"redirect_uri": {callback}, "scope": {scope}}.Encode(),
		"redirect_uris": []string{callback}, "scope": scope, "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"application_type": "native", "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	}
}

// putJSON has the app's host serve a document.
func (s *appStage) putJSON(path string, document any) {
	s.t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(appHost, path, "application/json", string(text))
}

// confidentialApp is the metadata of an app with keys, which are at its /jwks.json.
func (s *appStage) confidentialApp() map[string]any {
	s.t.Helper()
	metadata := map[string]any{
		"client_id": "https://" + appHost + "/confidential.json", "client_name": "The app with keys", "client_uri": "https://" + appHost,
		"redirect_uris": []string{"https://" + appHost + "/callback"}, "scope": fullScope, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "application_type": "web", "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
		"dpop_bound_access_tokens": true, "jwks_uri": "https://" + appHost + "/jwks.json",
	}
	s.putJSON("/confidential.json", metadata)
	s.put(appHost, "/callback", "text/html", "<title>back</title>")
	return metadata
}

// lived looks at what an app saw that lived in an account.
func (s *appStage) lived(o *owner, name string, got appAnswer) {
	s.t.Helper()
	if got.DID != o.did || got.Handle != name+"."+stageHost || got.Email != name+"@example.com" || got.Proxied.Answered != "app.bsky.feed.searchPosts" {
		s.t.Errorf("the app saw %+v", got)
	}
	passed := s.services.take()
	if len(passed) != 1 || passed[0].token.Iss != o.did.String() || passed[0].token.Aud != s.view.String() || passed[0].token.Lxm != "app.bsky.feed.searchPosts" ||
		passed[0].header.Get("DPoP") != "" {
		s.t.Errorf("the app view was passed %+v", passed)
	}
}

// TestOAuth lets apps with the official clients into accounts: found by handle and by DID, with
// people who sign in and consent in Chromium, and with calls, refreshes and a sign-out, through
// restarts, on SQLite and on two nodes that share a Postgres.
func TestOAuth(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(*testing.T) *appStage
	}{
		{"SQLite", func(t *testing.T) *appStage { return newAppStage(t) }},
		{"two nodes on Postgres", func(t *testing.T) *appStage {
			s := newAppStage(t, onPostgres(t)...)
			s.addNode()
			return s
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.start(t)
			for _, client := range []struct {
				name string
				run  func(*appStage, *owner, string)
			}{
				{"loopback", (*appStage).publicClient}, {"confidential", (*appStage).confidentialClient},
				{"surfer", (*appStage).browserClient}, {"indigo", (*appStage).indigoClient},
			} {
				t.Run(client.name, func(t *testing.T) {
					s.t, s.browser.t, s.services.T = t, t, t
					client.run(s, s.member(client.name, client.name+"@example.com", ""), client.name)
				})
			}
			s.t, s.browser.t, s.services.T = t, t, t
			for _, complaint := range s.complaints {
				if !strings.Contains(complaint, "the server responded with a status of 40") { // a first request has no nonce
					t.Errorf("the browser complains: %s", complaint)
				}
			}
		})
	}
}

// publicClient is an app of a developer, on their own machine.
func (s *appStage) publicClient(o *owner, name string) {
	app := s.startApp(s.loopbackApp(fullScope))
	in := app.signIn(name+"."+stageHost, name)
	if in.DID != o.did || in.Iss != "https://"+stageHost || in.Scope != fullScope {
		s.t.Errorf("the app is in: %+v", in)
	}
	s.lived(o, name, app.does("life", "did", o.did, "text", "of the loopback client"))

	before := app.does("kept", "did", o.did)
	app.does("refresh", "did", o.did)
	after := app.does("kept", "did", o.did)
	if after.AccessToken == before.AccessToken || after.RefreshToken == before.RefreshToken || after.RefreshToken == "" {
		s.t.Error("the tokens are the same after a refresh")
	}
	s.lived(o, name, app.does("life", "did", o.did, "text", "after a refresh"))

	s.restart()
	s.lived(o, name, app.does("life", "did", o.did, "text", "after a restart"))
	app.does("refresh", "did", o.did)
	s.lived(o, name, app.does("life", "did", o.did, "text", "refreshed after a restart"))

	// Between request and answer, and between answer and tokens, a server may end.
	request := app.does("authorize", "input", o.did, "options", map[string]any{"prompt": "login"})
	s.consent(request.URL, name)
	s.restart()
	s.submit("form#allow")
	told := s.told()
	s.restart()
	if got := app.does("callback", "query", told.Encode()); got.DID != o.did {
		s.t.Errorf("the app is in: %+v", got)
	}
	s.lived(o, name, app.does("life", "did", o.did, "text", "found by its DID"))

	app.does("signOut", "did", o.did)
	if got := app.try("life", "did", o.did, "text", "after the sign-out"); got.Failed == "" {
		s.t.Errorf("the app is in after its sign-out: %+v", got)
	}

	request = app.does("authorize", "input", o.did)
	told = s.deny(request.URL, name)
	if got := app.try("callback", "query", told.Encode()); got.Error != "access_denied" {
		s.t.Errorf("the app was told %v and said %+v", told, got)
	}
}

// confidentialClient is an app on a server of its own, which changes its keys.
func (s *appStage) confidentialClient(o *owner, name string) {
	metadata := s.confidentialApp()
	app := s.startApp(metadata, "first", "second")
	s.put(appHost, "/jwks.json", "application/json", string(app.does("keys", "kids", []string{"first", "second"}).JWKS))
	in := app.signIn(name+"."+stageHost, name)
	if in.DID != o.did || in.Scope != fullScope {
		s.t.Errorf("the app is in: %+v", in)
	}
	s.lived(o, name, app.does("life", "did", o.did, "text", "of the confidential client"))
	s.restart()
	app.does("refresh", "did", o.did)
	s.lived(o, name, app.does("life", "did", o.did, "text", "refreshed after a restart"))

	// The session goes on with the key that it began with, others begin with the new one.
	app.does("keys", "kids", []string{"second", "first"})
	app.does("refresh", "did", o.did)
	other := s.member(name+"2", name+"2@example.com", "")
	if in := app.signIn(name+"2."+stageHost, name+"2"); in.DID != other.did {
		s.t.Errorf("the app is in: %+v", in)
	}
	app.does("keys", "kids", []string{"second"})
	app.does("refresh", "did", other.did)
	s.lived(other, name+"2", app.does("life", "did", other.did, "text", "with the second key"))
	if got := app.try("refresh", "did", o.did); got.Failed == "" {
		s.t.Errorf("a session of a key that the app has no more: %+v", got)
	}
	app.does("signOut", "did", other.did)
}

// bundle is oauth_browser.mjs in one file.
var bundle = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bundle")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bundle.js")
	out, err := exec.Command(node, filepath.Join("node_modules", "esbuild", "bin", "esbuild"), "oauth_browser.mjs", "--bundle", "--format=iife", "--log-level=error", "--outfile="+file).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("esbuild: %w\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	return string(text), err
})

// browserClient is an app that is a page.
func (s *appStage) browserClient(o *owner, name string) {
	script, err := bundle()
	if err != nil {
		s.t.Fatal(err)
	}
	const page = "https://" + appHost + "/app"
	s.putJSON("/oauth-client-metadata.json", map[string]any{
		"client_id": "https://" + appHost + "/oauth-client-metadata.json", "client_name": "The app that is a page", "client_uri": "https://" + appHost,
		"redirect_uris": []string{page}, "scope": fullScope, "grant_types": []string{"authorization_code", "refresh_token"},
		"response_types": []string{"code"}, "application_type": "web", "token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	})
	s.put(appHost, "/bundle.js", "text/javascript", script)
	options, err := json.Marshal(map[string]any{
		"clientId": "https://" + appHost + "/oauth-client-metadata.json", "handleResolver": "https://" + stageHost, "plcDirectoryUrl": s.services.directory,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(appHost, "/app", "text/html", `<!doctype html><title>app</title><script src="/bundle.js"></script><script>window.began = app.start(`+string(options)+`); began.catch(() => {})</script>`)
	does := func(expression string) (got appAnswer) {
		s.t.Helper()
		value, err := s.promise(expression)
		if err != nil {
			s.t.Fatalf("%s: %v", expression, err)
		}
		if value != nil {
			s.result(value, &got)
		}
		return got
	}
	s.open(page)
	if got := does("began"); got.DID != "" {
		s.t.Fatalf("the page began with %+v", got)
	}
	var request string
	value, err := s.promise(`began.then(() => app.authorize(` + js(name+"."+stageHost) + `, {state: 'of the page'}))`)
	if err != nil {
		s.t.Fatal(err)
	}
	s.result(value, &request)
	s.allow(request, name)
	if got := does("began"); got.DID != o.did || got.State != "of the page" {
		s.t.Fatalf("the page came back with %+v", got)
	}
	if told := s.told(); len(told) != 0 {
		s.t.Errorf("the page left %v in its address", told)
	}
	s.lived(o, name, does("app.life('of the page')"))
	does("app.refresh()")
	s.restart()
	s.open(page)
	if got := does("began"); got.DID != o.did {
		s.t.Fatalf("the page began with %+v after a restart", got)
	}
	s.lived(o, name, does("app.life('after a restart')"))
	does("app.signOut()")
	if value, err := s.promise("app.life('after the sign-out')"); err == nil {
		s.t.Errorf("the page is in after its sign-out: %s", value)
	}

	value, err = s.promise(`app.authorize(` + js(o.did.String()) + `)`)
	if err != nil {
		s.t.Fatal(err)
	}
	s.result(value, &request)
	s.consent(request, name)
	s.submit("form#deny")
	s.until("the page of the app", "typeof began === 'object'")
	if _, err := s.promise("began"); err == nil || !strings.Contains(err.Error(), "rejected") {
		s.t.Errorf("the page was refused and says %v", err)
	}
}

// indigoClient is an app with the client of indigo.
func (s *appStage) indigoClient(o *owner, name string) {
	ctx := s.t.Context()
	client, err := s.front.Client()
	if err != nil {
		s.t.Fatal(err)
	}
	toAll := client.Transport.(*http.Transport)
	proxy := toAll.Proxy
	toAll.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme == "http" { // the directory is on this machine
			return nil, nil
		}
		return proxy(r)
	}
	metadata := s.loopbackApp(fullScope)
	config := oauth.NewLocalhostConfig(metadata["redirect_uris"].([]string)[0], strings.Fields(fullScope))
	app := oauth.NewClientApp(&config, oauth.NewMemStore())
	app.Client, app.Resolver.Client = client, client
	app.Dir = &identity.BaseDirectory{PLCURL: s.services.directory, HTTPClient: *client, SkipDNSDomainSuffixes: []string{stageHost}}
	for _, typed := range []string{name + "." + stageHost, o.did.String()} {
		request, err := app.StartAuthFlow(ctx, typed)
		if err != nil {
			s.t.Fatalf("%s: %v", typed, err)
		}
		session, err := app.ProcessCallback(ctx, s.allow(request, name))
		if err != nil {
			s.t.Fatalf("%s: %v", typed, err)
		}
		if session.AccountDID != o.did || strings.Join(session.Scopes, " ") != fullScope {
			s.t.Errorf("%s: the app is in: %+v", typed, session)
		}
		resumed, err := app.ResumeSession(ctx, session.AccountDID, session.SessionID)
		if err != nil {
			s.t.Fatal(err)
		}
		api := resumed.APIClient()
		look := func(when string) {
			s.t.Helper()
			var me struct {
				DID   syntax.DID
				Email string
			}
			if err := api.Get(ctx, "com.atproto.server.getSession", nil, &me); err != nil || me.DID != o.did || me.Email != name+"@example.com" {
				s.t.Errorf("%s, %s: %+v, %v", typed, when, me, err)
			}
			var made struct{ URI string }
			record := map[string]any{"repo": o.did, "collection": "app.bsky.feed.post", "record": map[string]any{"text": when, "createdAt": syntax.DatetimeNow()}}
			if err := api.Post(ctx, "com.atproto.repo.createRecord", record, &made); err != nil || made.URI == "" {
				s.t.Errorf("%s, %s: %+v, %v", typed, when, made, err)
			}
		}
		look("as it began")
		before := resumed.Data.AccessToken
		if _, err := resumed.RefreshTokens(ctx); err != nil {
			s.t.Fatalf("%s: %v", typed, err)
		}
		if resumed.Data.AccessToken == before {
			s.t.Error("the access token is the same after a refresh")
		}
		look("refreshed")
		s.restart()
		look("after a restart")
		if err := app.Logout(ctx, session.AccountDID, session.SessionID); err != nil {
			s.t.Errorf("%s: %v", typed, err)
		}
		var me map[string]any
		if err := api.Get(ctx, "com.atproto.server.getSession", nil, &me); err == nil {
			s.t.Errorf("%s: the app is in after its sign-out: %v", typed, me)
		}
	}
}
