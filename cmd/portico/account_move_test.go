package main

import (
	"bytes"
	"context"
	"encoding/base32"
	encoding "encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db/dbtest"
	"portico/impl/account/factor/totp"
	"portico/impl/identity/directory"
	"portico/impl/mail/mailtest"
)

// A movedWorld is two hosts and the directory that both of them use.
type movedWorld struct {
	*testing.T
	here, there *settings
	plc         *httptest.Server
	environ     []string
	letters     *mailtest.Server

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request) bool // of the directory
}

// newMovedWorld starts both hosts. there has settings of the second one alone.
func newMovedWorld(t *testing.T, there ...string) *movedWorld {
	w := &movedWorld{T: t}
	sound := directory.New(directory.NewMemory(), time.Now, "test", slog.New(slog.DiscardHandler))
	w.plc = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		fault := w.fault
		w.mu.Unlock()
		if fault == nil || !fault(rw, r) {
			sound.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(w.plc.Close)
	w.letters = mailtest.Start(t, mailtest.Config{})
	common := []string{"PDS_EMAIL_SMTP_URL=" + w.letters.URL().String(), "PDS_EMAIL_FROM_ADDRESS=accounts@example.com", "PDS_DID_PLC_URL=" + w.plc.URL, "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1", "PDS_BSKY_APP_VIEW_URL=http://localhost:1", "PDS_BSKY_APP_VIEW_DID=did:web:app.test"}
	w.here, _ = startFor(t, append(common, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_ADMIN_PASSWORD=the password of here", "PDS_SERVICE_HANDLE_DOMAINS=.here.test,.both.test")...)
	common = append(common, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_ADMIN_PASSWORD=the password of there", "PDS_SERVICE_HANDLE_DOMAINS=.there.test,.both.test")
	w.there, _ = startFor(t, append(common, there...)...)
	w.environ = []string{
		"PDS_HOST=" + w.here.PublicURL.String(), "PDS_ADMIN_PASSWORD=the password of here", moveToPassword + "=the password of there",
	}
	return w
}

// spoil puts a fault in front of the directory; nil ends it.
func (w *movedWorld) spoil(fault func(w http.ResponseWriter, r *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// noBody is what a procedure without an input is called with.
type noBody struct{}

// ask calls a method of com.atproto, or one named in full, of a host.
func (w *movedWorld) ask(s *settings, method, authorization string, body any) (status int, out map[string]any) {
	w.Helper()
	verb, content, kind := http.MethodGet, io.Reader(nil), ""
	switch body := body.(type) {
	case nil:
	case noBody:
		verb = http.MethodPost
	case []byte:
		verb, content, kind = http.MethodPost, bytes.NewReader(body), "image/png"
	default:
		text, err := encoding.Marshal(body)
		if err != nil {
			w.Fatal(err)
		}
		verb, content, kind = http.MethodPost, bytes.NewReader(text), "application/json"
	}
	if !strings.HasPrefix(method, "app.") {
		method = "com.atproto." + method
	}
	r, err := http.NewRequestWithContext(w.Context(), verb, s.PublicURL.String()+"/xrpc/"+method, content)
	if err != nil {
		w.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if name, password, basic := strings.Cut(authorization, ":"); basic {
		r.SetBasicAuth(name, password)
	} else if authorization != "" {
		r.Header.Set("Authorization", "Bearer "+authorization)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		w.Fatal(err)
	}
	out = map[string]any{"body": string(text)}
	_ = encoding.Unmarshal(text, &out) // what is no JSON is in body
	return a.StatusCode, out
}

// accepted is ask for what has to be answered with 200.
func (w *movedWorld) accepted(s *settings, method, authorization string, body any) map[string]any {
	w.Helper()
	status, out := w.ask(s, method, authorization, body)
	if status != http.StatusOK {
		w.Fatalf("%s: %d %v", method, status, out)
	}
	return out
}

const movedPassword = "correct horse battery"

// signUp makes an account here, and returns its DID and access token.
func (w *movedWorld) signUp(handle string) (did, access string) {
	w.Helper()
	name, _, _ := strings.Cut(handle, ".")
	out := w.accepted(w.here, "server.createAccount", "", map[string]any{"handle": handle, "email": name + "@example.com", "password": movedPassword})
	return out["did"].(string), out["accessJwt"].(string)
}

func (w *movedWorld) post(s *settings, did, access, text string, more map[string]any) map[string]any {
	w.Helper()
	record := map[string]any{"$type": "com.example.note", "text": text}
	for k, v := range more {
		record[k] = v
	}
	return w.accepted(s, "repo.createRecord", access, map[string]any{"repo": did, "collection": "com.example.note", "record": record})
}

func (w *movedWorld) move(args ...string) (string, error) {
	w.Helper()
	out, _, err := portico(w.T, w.environ, append([]string{"account", "move"}, args...)...)
	return out, err
}

// moves moves an account and fails if that does.
func (w *movedWorld) moves(args ...string) string {
	w.Helper()
	out, err := w.move(args...)
	if err != nil {
		w.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// refuses tries to move an account, which has to fail with a status and words.
func (w *movedWorld) refuses(status int, words string, args ...string) {
	w.Helper()
	out, err := w.move(args...)
	if err == nil || exitStatus(err) != status || !strings.Contains(err.Error(), words) {
		w.Errorf("%v: %v (%d)\n%s", args, err, exitStatus(err), out)
	}
}

func (w *movedWorld) active(s *settings, did string) bool {
	w.Helper()
	status, out := w.ask(s, "sync.getRepoStatus?did="+did, "", nil)
	return status == http.StatusOK && out["active"] == true
}

// activeAt checks at which of the hosts an account is active: at one, which the directory names.
func (w *movedWorld) activeAt(did string, at *settings) {
	w.Helper()
	a, err := http.Get(w.plc.URL + "/" + did)
	if err != nil {
		w.Fatal(err)
	}
	defer a.Body.Close()
	document, err := io.ReadAll(a.Body)
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range []*settings{w.here, w.there} {
		named := bytes.Contains(document, []byte(`"`+s.PublicURL.String()+`"`))
		if active := w.active(s, did); active != (s == at) || named != (s == at) {
			w.Errorf("at %s: active %t, named %t\n%s", s.PublicURL, active, named, document)
		}
	}
}

// An account goes with all that is its owner's and all that moderators did, and is used on at
// the other host with the same password.
func TestAccountMoves(t *testing.T) {
	w := newMovedWorld(t)
	there := w.there.PublicURL.String()
	did, access := w.signUp("alice.here.test")
	kept := w.post(w.here, did, access, "stays", nil)
	blob := w.accepted(w.here, "repo.uploadBlob", access, append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte("x"), 1000)...))["blob"]
	w.post(w.here, did, access, "with a picture", map[string]any{"image": blob})
	hidden := w.accepted(w.here, "repo.uploadBlob", access, append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte("y"), 1000)...))["blob"]
	w.post(w.here, did, access, "with a bad picture", map[string]any{"image": hidden})
	bad := w.post(w.here, did, access, "bad", nil)
	admin := "admin:the password of here"
	link := func(blob any) string { return blob.(map[string]any)["ref"].(map[string]any)["$link"].(string) }
	for _, subject := range []map[string]any{
		{"$type": "com.atproto.repo.strongRef", "uri": bad["uri"], "cid": bad["cid"]},
		{"$type": "com.atproto.admin.defs#repoBlobRef", "did": did, "cid": link(hidden)},
	} {
		w.accepted(w.here, "admin.updateSubjectStatus", admin, map[string]any{"subject": subject, "takedown": map[string]any{"applied": true, "ref": "case 1"}})
	}
	w.accepted(w.here, "app.bsky.actor.putPreferences", access, map[string]any{"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true}}})
	app := w.accepted(w.here, "server.createAppPassword", access, map[string]any{"name": "telephone"})["password"]
	before := w.accepted(w.here, "sync.getLatestCommit?did="+did, "", nil)["rev"].(string)

	w.refuses(statusUsage, "say with --handle", did, there, "--dry-run")
	w.refuses(statusRefused, "Not a supported handle domain", did, there, "--handle", "alice.nowhere.test", "--dry-run")
	out := w.moves(did, there, "--handle", "alice.there.test", "--dry-run")
	for _, want := range []string{"alice.here.test to alice.there.test", "4 records, 2 blobs", "1 app passwords", "2 takedowns"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	w.activeAt(did, w.here)
	out = w.moves(did, there, "--handle", "alice.there.test", "--yes")
	if !strings.Contains(out, "has moved to "+there) {
		t.Errorf("%s", out)
	}
	w.activeAt(did, w.there)
	if again := w.moves(did, there, "--handle", "alice.there.test", "--yes"); !strings.Contains(again, "has moved to "+there) {
		t.Errorf("again: %s", again)
	}

	if status, out := w.ask(w.here, "server.getSession", access, nil); status == http.StatusOK {
		t.Errorf("the old session is good: %v", out)
	}
	session := w.accepted(w.there, "server.createSession", "", map[string]any{"identifier": "alice@example.com", "password": movedPassword})
	if session["handle"] != "alice.there.test" || session["did"] != did {
		t.Errorf("session %v", session)
	}
	token := session["accessJwt"].(string)
	for range 2 { // with the hash of here, and with its own
		if by := w.accepted(w.there, "server.createSession", "", map[string]any{"identifier": did, "password": app}); by["did"] != did {
			t.Errorf("by app password %v", by)
		}
	}
	if status, _ := w.ask(w.there, "server.createSession", "", map[string]any{"identifier": did, "password": "aaaa-bbbb-cccc-dddd"}); status != http.StatusUnauthorized {
		t.Errorf("by a wrong app password: %d", status)
	}
	if preferences := w.accepted(w.there, "app.bsky.actor.getPreferences", token, nil)["body"]; !strings.Contains(preferences.(string), `"enabled":true`) {
		t.Errorf("preferences %v", preferences)
	}
	key := kept["uri"].(string)[strings.LastIndex(kept["uri"].(string), "/")+1:]
	if record := w.accepted(w.there, "repo.getRecord?repo="+did+"&collection=com.example.note&rkey="+key, "", nil); record["cid"] != kept["cid"] {
		t.Errorf("record %v", record)
	}
	key = bad["uri"].(string)[strings.LastIndex(bad["uri"].(string), "/")+1:]
	if status, out := w.ask(w.there, "repo.getRecord?repo="+did+"&collection=com.example.note&rkey="+key, "", nil); status == http.StatusOK {
		t.Errorf("the record that was taken down: %v", out)
	}
	w.accepted(w.there, "sync.getBlob?did="+did+"&cid="+link(blob), "", nil)
	if status, out := w.ask(w.there, "sync.getBlob?did="+did+"&cid="+link(hidden), "", nil); status == http.StatusOK {
		t.Errorf("the blob that was taken down: %v", out)
	}
	if status := w.accepted(w.there, "server.checkAccountStatus", token, nil); status["validDid"] != true || status["importedBlobs"] != 2.0 || status["expectedBlobs"] != 2.0 {
		t.Errorf("status %v", status)
	}
	next := w.post(w.there, did, token, "goes on", nil)
	if rev := next["commit"].(map[string]any)["rev"].(string); rev <= before {
		t.Errorf("rev %s after %s", rev, before)
	}
	if status, out := w.ask(w.here, "repo.createRecord", access, map[string]any{"repo": did, "collection": "com.example.note", "record": map[string]any{"text": "late"}}); status == http.StatusOK {
		t.Errorf("a write here: %v", out)
	}

	// And back, to where it was.
	here := w.here.PublicURL.String()
	if out, _, err := portico(t, w.back(), "account", "move", did, here, "--handle", "alice.here.test", "--yes", "--delete"); err != nil {
		t.Fatalf("back: %v\n%s", err, out)
	}
	w.activeAt(did, w.here)
	session = w.accepted(w.here, "server.createSession", "", map[string]any{"identifier": "alice.here.test", "password": movedPassword})
	w.post(w.here, did, session["accessJwt"].(string), "is back", nil)
}

func TestAccountMoveRefused(t *testing.T) {
	w := newMovedWorld(t)
	there := w.there.PublicURL.String()
	did, access := w.signUp("bob.both.test")
	w.post(w.here, did, access, "first", nil)
	w.refuses(statusNotFound, "there is no account", "nobody.here.test", there, "--yes")
	w.environ[2] = moveToPassword + "=the password of here"
	w.refuses(statusUsage, "same server", did, w.here.PublicURL.String(), "--handle", "bob.both.test", "--yes")
	w.environ[2] = moveToPassword + "=the password of there"
	w.refuses(statusUsage, "--abandon goes with no other", did, there, "--abandon", "--delete")
	w.refuses(statusUnreachable, "no server answers", did, "http://localhost:1", "--handle", "bob.both.test", "--yes")
	w.refuses(statusRefused, "is it a Portico", did, w.plc.URL, "--handle", "bob.both.test", "--yes")
	password := w.environ[2]
	w.environ[2] = moveToPassword + "=another"
	w.refuses(statusRefused, "refuses the admin password (from "+moveToPassword+")", did, there, "--handle", "bob.both.test", "--yes")
	w.environ[2] = "A=b"
	w.refuses(statusUsage, "set "+moveToPassword, did, there, "--handle", "bob.both.test", "--yes")
	w.environ[2] = password
	w.accepted(w.there, "server.createAccount", "", map[string]any{"handle": "carol.there.test", "email": "bob@example.com", "password": movedPassword})
	w.refuses(statusRefused, "Email already taken", did, there, "--handle", "bob.both.test", "--yes")
	w.accepted(w.here, "admin.updateAccountEmail", "admin:the password of here", map[string]any{"account": did, "email": "robert@example.com"})
	w.refuses(statusRefused, "Handle already taken", did, there, "--handle", "carol.there.test", "--yes")
	w.activeAt(did, w.here)

	// The directory takes nothing: all is turned back.
	w.spoil(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `{"message":"Not today"}`)
		return true
	})
	w.refuses(statusRefused, "Not today", did, there, "--handle", "bob.both.test", "--yes")
	w.spoil(nil)
	w.moves(did, there, "--abandon")
	w.activeAt(did, w.here)
	w.post(w.here, did, access, "goes on", nil)

	// A host of the same domain takes it with its handle, and down as it is.
	w.accepted(w.here, "admin.updateSubjectStatus", "admin:the password of here", map[string]any{
		"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": map[string]any{"applied": true, "ref": "case 2"},
	})
	w.moves(did, there, "--handle", "bob.both.test", "--yes", "--delete")
	if _, out := w.ask(w.there, "sync.getRepoStatus?did="+did, "", nil); out["status"] != "takendown" {
		t.Errorf("there it is %v", out)
	}
	if status, out := w.ask(w.here, "sync.getRepoStatus?did="+did, "", nil); status == http.StatusOK {
		t.Errorf("here it is %v", out)
	}
	w.refuses(statusNotFound, "there is no account", did, there, "--yes")
}

// What the owner writes while the account moves is refused or moves with it.
func TestAccountMovesInUse(t *testing.T) {
	w := newMovedWorld(t)
	did, access := w.signUp("dora.here.test")
	ctx, stop := context.WithCancel(t.Context())
	var written []string
	var writer sync.WaitGroup
	for n := range 20 {
		w.post(w.here, did, access, fmt.Sprint(n), nil)
	}
	writer.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			status, out := w.ask(w.here, "repo.createRecord", access, map[string]any{
				"repo": did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": fmt.Sprint("in use ", n)},
			})
			if status == http.StatusOK {
				written = append(written, out["uri"].(string))
			}
		}
	})
	w.moves(did, w.there.PublicURL.String(), "--handle", "dora.there.test", "--yes")
	stop()
	writer.Wait()
	w.activeAt(did, w.there)
	if len(written) == 0 {
		t.Fatal("nothing was written meanwhile")
	}
	for _, uri := range written {
		key := uri[strings.LastIndex(uri, "/")+1:]
		if status, _ := w.ask(w.there, "repo.getRecord?repo="+did+"&collection=com.example.note&rkey="+key, "", nil); status != http.StatusOK {
			t.Errorf("%s was acknowledged, and is lost", uri)
		}
	}
}

// back is the environment of who moves an account to where it came from.
func (w *movedWorld) back() []string {
	return []string{
		"PDS_HOST=" + w.there.PublicURL.String(), "PDS_ADMIN_PASSWORD=the password of there", moveToPassword + "=the password of here",
	}
}

// signIn signs in, and returns the status and the error's name, or the access token.
func (w *movedWorld) signIn(s *settings, identifier, code string) (status int, said string) {
	w.Helper()
	in := map[string]any{"identifier": identifier, "password": movedPassword}
	if code != "" {
		in["authFactorToken"] = code
	}
	status, out := w.ask(s, "server.createSession", "", in)
	if status == http.StatusOK {
		return status, out["accessJwt"].(string)
	}
	said, _ = out["error"].(string)
	return status, said
}

var mailedCode = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// code is that of the next letter to an address.
func (w *movedWorld) code(to string) string {
	w.Helper()
	for {
		if l := w.letters.Next(w); l.To == to && mailedCode.MatchString(l.Text) {
			return mailedCode.FindString(l.Text)
		}
	}
}

// authenticator gives an account an authenticator app on the pages of its host, with a code of a
// step, and returns its secret.
func (w *movedWorld) authenticator(s *settings, handle string, step int64) (secret totp.Secret) {
	w.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	origin := s.PublicURL.String()
	page := ""
	open := func(r *http.Request) {
		w.Helper()
		a, err := browser.Do(r)
		if err != nil {
			w.Fatal(err)
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		if page = string(text); err != nil || a.StatusCode != http.StatusOK {
			w.Fatalf("%s: %s, %v\n%s", r.URL, a.Status, err, page)
		}
	}
	get := func(path string) {
		w.Helper()
		r, err := http.NewRequestWithContext(w.Context(), http.MethodGet, origin+path, nil)
		if err != nil {
			w.Fatal(err)
		}
		open(r)
	}
	send := func(path string, fields ...string) {
		w.Helper()
		_, form, found := strings.Cut(page, `action="`+path+`"`)
		if !found {
			w.Fatalf("no form for %s:\n%s", path, page)
		}
		form, _, _ = strings.Cut(form, "</form>")
		sent := url.Values{}
		for _, input := range regexp.MustCompile(`<input[^>]*>`).FindAllString(form, -1) {
			name := regexp.MustCompile(`name="([^"]*)"`).FindStringSubmatch(input)
			value := regexp.MustCompile(`value="([^"]*)"`).FindStringSubmatch(input)
			if name != nil && value != nil && !strings.Contains(input, `type="checkbox"`) {
				sent.Set(name[1], html.UnescapeString(value[1]))
			}
		}
		for i := 0; i < len(fields); i += 2 {
			sent.Set(fields[i], fields[i+1])
		}
		r, err := http.NewRequestWithContext(w.Context(), http.MethodPost, origin+path, strings.NewReader(sent.Encode()))
		if err != nil {
			w.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		open(r)
	}
	get("/account")
	send("/account/sign-in", "identifier", handle, "password", movedPassword)
	get("/account/security")
	send("/account/security/app")
	shown := regexp.MustCompile(`<code>([A-Z2-7]{32})</code>`).FindStringSubmatch(page)
	if shown == nil {
		w.Fatalf("no key on the page:\n%s", page)
	}
	text, err := base32.StdEncoding.DecodeString(shown[1])
	if err == nil {
		secret, err = totp.Read(text)
	}
	if err != nil {
		w.Fatal(err)
	}
	send("/account/security/app-on", "code", secret.Code(step))
	return secret
}

// Whoever is asked for a code where they sign in is asked at the other host, too, for one of the
// same app or from the same address, from SQLite to Postgres and back.
func TestAccountMovesWithSecondFactors(t *testing.T) {
	w := newMovedWorld(t, "PORTICO_DATABASE_URL="+dbtest.EmptyPostgresURL(t),
		"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	app, _ := w.signUp("erin.here.test")
	mailed, access := w.signUp("frank.here.test")

	used := totp.StepAt(time.Now()) - 1
	secret := w.authenticator(w.here, "erin.here.test", used)
	w.accepted(w.here, "server.requestEmailConfirmation", access, noBody{})
	w.accepted(w.here, "server.confirmEmail", access, map[string]any{"email": "frank@example.com", "token": w.code("frank@example.com")})
	w.accepted(w.here, "server.updateEmail", access, map[string]any{"email": "frank@example.com", "emailAuthFactor": true})

	asked := func(s *settings, moment string) {
		t.Helper()
		for _, who := range []string{app, mailed} {
			if status, said := w.signIn(s, who, ""); status != http.StatusUnauthorized || said != "AuthFactorTokenRequired" {
				t.Errorf("%s, without a code: %d %s", moment, status, said)
			}
		}
		if status, said := w.signIn(s, app, secret.Code(used)); status == http.StatusOK || said == "AuthFactorTokenRequired" {
			t.Errorf("%s, with a code that was used: %d %s", moment, status, said)
		}
		used = max(used+1, totp.StepAt(time.Now())-1)
		if status, said := w.signIn(s, app, secret.Code(used)); status != http.StatusOK {
			t.Errorf("%s, with a code of the app: %d %s", moment, status, said)
		}
		if status, said := w.signIn(s, mailed, w.code("frank@example.com")); status != http.StatusOK {
			t.Errorf("%s, with a code that was mailed: %d %s", moment, status, said)
		}
	}
	there, here := w.there.PublicURL.String(), w.here.PublicURL.String()
	w.moves(app, there, "--handle", "erin.there.test", "--yes")
	w.moves(mailed, there, "--handle", "frank.there.test", "--yes")
	w.activeAt(app, w.there)
	w.activeAt(mailed, w.there)
	asked(w.there, "there")
	w.environ = w.back()
	w.moves(app, here, "--handle", "erin.here.test", "--yes")
	w.moves(mailed, here, "--handle", "frank.here.test", "--yes")
	w.activeAt(app, w.here)
	w.activeAt(mailed, w.here)
	asked(w.here, "back here")
}

// An account in quarantine stays where it is, and one that moves to a host that has everybody
// wait for approval need not wait there.
func TestAccountMovesAndQuarantine(t *testing.T) {
	w := newMovedWorld(t, "PORTICO_SIGNUP_QUARANTINE=approved")
	out := w.accepted(w.there, "server.createAccount", "", map[string]any{"handle": "gina.there.test", "email": "gina@example.com", "password": movedPassword})
	held, access := out["did"].(string), out["accessJwt"].(string)
	w.post(w.there, held, access, "waits", nil)
	came, _ := w.signUp("hugo.here.test")
	w.moves(came, w.there.PublicURL.String(), "--handle", "hugo.there.test", "--yes")
	w.activeAt(came, w.there)

	w.environ = w.back()
	here := w.here.PublicURL.String()
	for range 2 {
		w.refuses(statusRefused, "The account is in quarantine: approve it first", held, here, "--handle", "gina.here.test", "--yes")
	}
	if status, _ := w.ask(w.here, "sync.getRepoStatus?did="+held, "", nil); status == http.StatusOK {
		t.Error("it is at the other host")
	}
	w.post(w.there, held, access, "waits still", nil)
	if out, _, err := portico(t, w.environ, "account", "approve", held); err != nil {
		t.Fatalf("approve: %v\n%s", err, out)
	}
	for deadline := time.Now().Add(time.Minute); !w.active(w.there, held); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not released")
		}
	}
	w.moves(held, here, "--handle", "gina.here.test", "--yes")
	w.activeAt(held, w.here)
	if status, said := w.signIn(w.here, "gina.here.test", ""); status != http.StatusOK {
		t.Errorf("sign in: %d %s", status, said)
	}
}
