package page_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"portico/db"
	"portico/impl/page"
	"portico/impl/servertest"
)

// A world is a site of three pages, for an account that is there.
type world struct {
	*servertest.Server
	site    *page.Site
	user    servertest.User
	visits  int // of the form, that were let in
	session *page.Sessions
}

const origin = "https://pds.test"

func newWorld(t *testing.T, change ...func(*page.Config)) *world {
	t.Helper()
	w := &world{Server: servertest.New(t)}
	w.user = w.SignUp("alice")
	w.session = &page.Sessions{
		DB: w.DB, Keys: w.Keys, Now: w.Now, Rand: rand.Reader, Kind: db.BrowserOfAccount, Idle: 24 * time.Hour, Life: 72 * time.Hour, Most: 3,
	}
	c := page.Config{
		Name: "test", Origins: []string{origin}, Title: "Test <PDS>", Home: "/test", Sessions: w.session, Log: slog.New(slog.NewTextHandler(w.Logged, nil)),
		Nav: []page.Link{{Path: "/test", Text: "Start"}, {Path: "/test/other", Text: "Other"}},
		Files: fstest.MapFS{"form.html": {Data: []byte(`{{define "title"}}A form{{end}}{{define "main"}}{{template "alert" ""}}` +
			`<form method="post">{{template "token" $}}</form><p id="data">{{.Data}}</p>{{end}}`)}},
		Script: "'use strict';",
	}
	for _, f := range change {
		f(&c)
	}
	w.site = servertest.Must(page.New(c))
	w.site.Handle("GET /test", func(v *page.Visit) error {
		who := "nobody"
		if v.Session != nil {
			who = string(v.Session.DID)
		}
		return v.Show(200, "form.html", who)
	})
	w.site.Handle("POST /test", func(v *page.Visit) error {
		w.visits++
		v.Say("Done: " + v.Form("say"))
		return v.Redirect("/test")
	})
	w.site.Handle("POST /test/in", func(v *page.Visit) error {
		if err := v.SignIn(w.user.DID, w.Now(), v.Guest()); err != nil {
			return err
		}
		return v.Redirect("/test")
	})
	w.site.Handle("POST /test/prove", func(v *page.Visit) error {
		if err := v.Prove(w.Now()); err != nil {
			return err
		}
		return v.Redirect("/test")
	})
	w.site.Handle("POST /test/sign-out", func(v *page.Visit) error {
		if err := v.SignOut(); err != nil {
			return err
		}
		return v.Redirect("/test")
	})
	w.site.Handle("GET /test/panic", func(*page.Visit) error { panic("secret") })
	return w
}

// A browser keeps cookies, and says what browsers say.
type browser struct {
	*world
	cookies map[string]string
	token   string
}

func (w *world) browser() *browser { return &browser{world: w, cookies: map[string]string{}} }

var tokenPattern = regexp.MustCompile(`name="token" value="([^"]*)"`)

// ask sends a request, with lines of a header that replace the browser's; "Name: " takes
// one away.
func (b *browser) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), method, origin+path, strings.NewReader(body))
	r.Header.Set("User-Agent", "Test Browser")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "Host":
			r.Host = value
		case value == "":
			r.Header.Del(name)
		default:
			r.Header.Set(name, value)
		}
	}
	a := httptest.NewRecorder()
	b.site.ServeHTTP(a, r)
	for _, c := range a.Result().Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	if m := tokenPattern.FindStringSubmatch(a.Body.String()); m != nil {
		b.token = m[1]
	}
	return a
}

// post sends a form with the token that the browser saw last.
func (b *browser) post(path string, fields url.Values, header ...string) *httptest.ResponseRecorder {
	b.Helper()
	if fields == nil {
		fields = url.Values{}
	}
	if fields.Get("token") == "" {
		fields.Set("token", b.token)
	}
	return b.ask(http.MethodPost, path, fields.Encode(), header...)
}

// who is whom the page greets.
func (b *browser) who() string {
	b.Helper()
	a := b.ask(http.MethodGet, "/test", "")
	_, rest, _ := strings.Cut(a.Body.String(), `<p id="data">`)
	who, _, _ := strings.Cut(rest, "</p>")
	return who
}

func (b *browser) status(a *httptest.ResponseRecorder, want int) *httptest.ResponseRecorder {
	b.Helper()
	if a.Code != want {
		b.Fatalf("answer %d, want %d:\n%s", a.Code, want, a.Body)
	}
	return a
}

func (b *browser) signedIn() *browser {
	b.Helper()
	b.ask(http.MethodGet, "/test", "")
	b.status(b.post("/test/in", nil), 303)
	if got := b.who(); got != string(b.user.DID) {
		b.Fatalf("signed in as %q", got)
	}
	return b
}

func TestAnswersForTheHostsOfItsOriginsAlone(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		host string
		want int
	}{
		{"pds.test", 200}, {"PDS.test", 200}, {"pds.test.", 200}, {"pds.test:443", 200},
		{"pds.test:8443", 404}, {"alice.pds.test", 404}, {"alice.test", 404}, {"evil.example", 404}, {"127.0.0.1", 404}, {"localhost", 404}, {"", 404},
	} {
		a := w.browser().ask(http.MethodGet, "/test", "", "Host: "+tt.host)
		if a.Code != tt.want || tt.want == 404 && (a.Body.String() != "Not found\n" || a.Header().Get("Set-Cookie") != "") {
			t.Errorf("host %q: %d %q, want %d", tt.host, a.Code, a.Body, tt.want)
		}
	}
	if got := strings.Join(page.Loopback(netip.MustParseAddrPort("127.0.0.1:2590")), " "); got != "http://127.0.0.1:2590 http://localhost:2590" {
		t.Error(got)
	}
	local := newWorld(t, func(c *page.Config) { c.Origins = page.Loopback(netip.MustParseAddrPort("[::1]:2590")) })
	for host, want := range map[string]int{"[::1]:2590": 200, "localhost:2590": 200, "localhost:2591": 404, "evil.example:2590": 404} {
		if a := local.browser().ask(http.MethodGet, "/test", "", "Host: "+host); a.Code != want {
			t.Errorf("host %q: %d, want %d", host, a.Code, want)
		}
	}
}

func TestEveryAnswerHasTheHeadersOfThePage(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for name, a := range map[string]*httptest.ResponseRecorder{
		"a page": b.ask(http.MethodGet, "/test", ""), "HEAD": b.ask(http.MethodHead, "/test", ""), "no page": b.ask(http.MethodGet, "/test/none", ""),
		"another host": b.ask(http.MethodGet, "/test", "", "Host: evil.example"), "OPTIONS": b.ask(http.MethodOptions, "/test", ""),
		"refused": b.ask(http.MethodPost, "/test", "", "Origin: https://evil.example"), "redirect": b.post("/test", nil), "panic": b.ask(http.MethodGet, "/test/panic", ""),
	} {
		h := a.Header()
		for header, want := range map[string]string{
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "WWW-Authenticate": "",
			"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "X-Robots-Tag": "noindex",
		} {
			if got := h.Get(header); got != want {
				t.Errorf("%s: %s %q, want %q", name, header, got, want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", name, policy)
		}
	}
	policy := b.ask(http.MethodGet, "/test", "").Header().Get("Content-Security-Policy")
	sum := regexp.MustCompile(`'sha256-[A-Za-z0-9+/=]{44}'`)
	const want = "default-src 'none'; img-src data:; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; " +
		"require-trusted-types-for 'script'; trusted-types 'none'; style-src SUM; script-src SUM SUM"
	if got := sum.ReplaceAllString(policy, "SUM"); got != want {
		t.Errorf("policy\n%s, want\n%s", got, want)
	}
	if a := b.ask(http.MethodGet, "/test/panic", ""); a.Code != 500 || strings.Contains(a.Body.String(), "secret") || !strings.Contains(w.Logged.String(), "secret") {
		t.Errorf("panic: %d %s", a.Code, a.Body)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "FOO"} {
		if a := b.ask(method, "/test", ""); a.Code != 405 || a.Header().Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s: %d", method, a.Code)
		}
	}
}

func TestTakesFormsFromItsOwnPagesAlone(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.ask(http.MethodGet, "/test", "")
	let := 0
	for _, tt := range []struct {
		name   string
		want   int
		header []string
	}{
		{"as browsers send it", 303, nil},
		{"without an Origin", 303, []string{"Origin: "}},
		{"of an old browser", 303, []string{"Sec-Fetch-Site: "}},
		{"with a name in capitals", 303, []string{"Origin: https://PDS.test"}},
		{"neither", 403, []string{"Sec-Fetch-Site: ", "Origin: "}},
		{"another site", 403, []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}},
		{"a handle's host", 403, []string{"Sec-Fetch-Site: same-site", "Origin: https://alice.pds.test"}},
		{"typed", 403, []string{"Sec-Fetch-Site: none", "Origin: "}},
		{"another site that says nothing else", 403, []string{"Sec-Fetch-Site: cross-site", "Origin: "}},
		{"an old browser on another site", 403, []string{"Sec-Fetch-Site: ", "Origin: https://evil.example"}},
		{"another Origin than is said", 403, []string{"Origin: https://evil.example"}},
		{"the origin of a sandbox", 403, []string{"Origin: null"}},
		{"another scheme", 403, []string{"Origin: http://pds.test"}},
		{"another port", 403, []string{"Origin: https://pds.test:8443"}},
	} {
		if tt.want == 303 {
			let++
		}
		a := b.post("/test", nil, tt.header...)
		if a.Code != tt.want || w.visits != let {
			t.Errorf("%s: %d, want %d; let in %d times, want %d", tt.name, a.Code, tt.want, w.visits, let)
		}
	}
	for name, token := range map[string]string{"none": " ", "another's": w.browser().tokenOfItsOwn(), "a made-up one": strings.Repeat("A", 43)} {
		if a := b.post("/test", url.Values{"token": {token}}); a.Code != 403 || w.visits != let {
			t.Errorf("token %s: %d", name, a.Code)
		}
	}
	kept := b.cookies["__Host-portico-test"]
	b.cookies = map[string]string{}
	if a := b.post("/test", nil); a.Code != 403 || a.Header().Get("Set-Cookie") != "" || w.visits != let {
		t.Errorf("without a cookie: %d, and sets %q", a.Code, a.Header().Get("Set-Cookie"))
	}
	b.cookies["__Host-portico-test"] = kept
	for _, tt := range []struct {
		name, body, kind string
		want             int
	}{
		{"JSON", `{"token":"` + b.token + `"}`, "application/json", 415},
		{"plain text", "token=" + b.token, "text/plain", 415},
		{"nothing", "", "", 415},
		{"several parts", "token=" + b.token, "multipart/form-data; boundary=x", 415},
		{"too much", "token=" + b.token + "&x=" + strings.Repeat("x", 64<<10), "application/x-www-form-urlencoded", 413},
		{"no form", "token=%zz", "application/x-www-form-urlencoded", 400},
	} {
		if a := b.ask(http.MethodPost, "/test", tt.body, "Content-Type: "+tt.kind); a.Code != tt.want || w.visits != let {
			t.Errorf("%s: %d, want %d", tt.name, a.Code, tt.want)
		}
	}
	if a := b.ask(http.MethodPost, "/test?token="+b.token, "x=1"); a.Code != 403 || w.visits != let {
		t.Errorf("token in the URL: %d", a.Code)
	}
	// Signing in and out are changes too.
	for _, path := range []string{"/test/in", "/test/sign-out"} {
		if a := b.post(path, nil, "Sec-Fetch-Site: cross-site"); a.Code != 403 {
			t.Errorf("%s from another site: %d", path, a.Code)
		}
	}
}

func (b *browser) tokenOfItsOwn() string {
	b.ask(http.MethodGet, "/test", "")
	return b.token
}

func TestWhoSignsInGetsAnotherCookie(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	const name = "__Host-portico-test"
	a := b.ask(http.MethodGet, "/test", "")
	if line := a.Header().Get("Set-Cookie"); !regexp.MustCompile(`^__Host-portico-test=[\w-]{43}; Path=/; HttpOnly; Secure; SameSite=Lax$`).MatchString(line) {
		t.Errorf("cookie %q", line)
	}
	planted, old := b.cookies[name], b.token
	b.status(b.post("/test/in", nil), 303)
	first := b.cookies[name]
	if first == planted {
		t.Error("the cookie from before the sign-in is that of the session")
	}
	if b.who() != string(w.user.DID) || b.token == old {
		t.Error("not signed in, or the form's token is the old one")
	}
	other := w.browser()
	other.cookies[name] = planted
	if who := other.who(); who != "nobody" {
		t.Errorf("who planted the cookie is %s", who)
	}
	b.status(b.post("/test/prove", nil), 303)
	second := b.cookies[name]
	other.cookies[name] = first
	if second == first || other.who() != "nobody" || b.who() != string(w.user.DID) {
		t.Error("after a proof the cookie is the same, or the old one works")
	}
	b.status(b.post("/test/in", nil), 303) // again, while signed in
	other.cookies[name] = second
	if other.who() != "nobody" {
		t.Error("signing in anew leaves the session that the browser had")
	}
	third := b.cookies[name]
	b.ask(http.MethodGet, "/test", "")
	b.status(b.post("/test/sign-out", nil), 303)
	other.cookies[name] = third
	if b.who() != "nobody" || other.who() != "nobody" {
		t.Error("signing out leaves the session")
	}
	// What is stored opens nothing.
	b = w.browser().signedIn()
	rows := servertest.Must(w.DB.BrowserSessions(t.Context(), db.BrowserOfAccount, w.user.DID))
	if len(rows) != 1 || strings.Contains(string(rows[0].ID), b.cookies[name]) || rows[0].Agent != "Test Browser" || rows[0].Address != "192.0.2.1" {
		t.Errorf("rows %+v", rows)
	}
	other.cookies[name] = base64.RawURLEncoding.EncodeToString(rows[0].ID)
	if other.who() != "nobody" {
		t.Error("a copy of the database signs in")
	}
}

func TestSessionsEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(w *world, b *browser)
	}{
		{"when nobody uses them", func(w *world, _ *browser) { w.Advance(24 * time.Hour) }},
		{"after their life", func(w *world, b *browser) {
			for _, d := range []time.Duration{22 * time.Hour, 22 * time.Hour, 22 * time.Hour, 4*time.Hour + 59*time.Minute} {
				w.Advance(d)
				if b.who() == "nobody" {
					w.Error("too early")
				}
			}
			w.Advance(2 * time.Minute)
		}},
		{"with the tokens of the account", func(w *world, _ *browser) {
			w.Advance(time.Second)
			w.SetAccount(w.user.DID, func(a *db.Account) { a.TokensValidFrom = w.Now() })
		}},
		{"with all sessions", func(w *world, _ *browser) {
			w.Write(func(tx *db.Tx) error { return tx.EndSessions(context.Background(), w.user.DID) })
		}},
		{"with the account", func(w *world, _ *browser) { w.Remove(w.user.DID) }},
		{"with what they are bound to", func(w *world, _ *browser) { w.session.Bound = []byte("another password") }},
		{"when there are too many", func(w *world, _ *browser) {
			for range 3 {
				w.Advance(time.Second)
				w.browser().signedIn()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			b := w.browser().signedIn()
			w.Advance(time.Hour)
			if b.who() == "nobody" {
				t.Fatal("ended early")
			}
			tt.end(w, b)
			if who := b.who(); who != "nobody" {
				t.Errorf("still signed in as %s", who)
			}
		})
	}
}

// A reset between the proof and the session ends what the proof was for.
func TestProofsOfBeforeAResetOpenNothing(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.ask(http.MethodGet, "/test", "")
	w.SetAccount(w.user.DID, func(a *db.Account) { a.TokensValidFrom = w.Now().Add(time.Second) })
	if a := b.post("/test/in", nil); a.Code != 403 {
		t.Errorf("signed in: %d", a.Code)
	}
	if b.who() != "nobody" {
		t.Error("signed in")
	}
}

func TestMessagesAreTheBrowsersOwn(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	b.ask(http.MethodGet, "/test", "")
	b.post("/test", url.Values{"say": {"<b>é\u202e\r\n"}})
	said := b.cookies["__Host-portico-test-said"]
	if a := b.ask(http.MethodGet, "/test", ""); !strings.Contains(a.Body.String(), `<p class="said">Done: &lt;b&gt;é</p>`) {
		t.Errorf("not said:\n%s", a.Body)
	}
	if a := b.ask(http.MethodGet, "/test", ""); strings.Contains(a.Body.String(), "Done:") {
		t.Error("said twice")
	}
	other := w.browser()
	other.ask(http.MethodGet, "/test", "")
	other.cookies["__Host-portico-test-said"] = said
	if a := other.ask(http.MethodGet, "/test", ""); strings.Contains(a.Body.String(), "Done:") {
		t.Error("another browser shows the message")
	}
}

// A link on another site comes without a strict cookie, which must not be replaced for that.
func TestALinkFromElsewhereSignsNobodyOut(t *testing.T) {
	w := newWorld(t, func(c *page.Config) { c.Strict = true })
	b := w.browser()
	a := b.ask(http.MethodGet, "/test", "", "Sec-Fetch-Site: cross-site")
	if a.Code != 200 || a.Header().Get("Set-Cookie") != "" || !strings.Contains(a.Body.String(), `http-equiv="refresh"`) {
		t.Errorf("%d %v\n%s", a.Code, a.Header(), a.Body)
	}
	if line := b.ask(http.MethodGet, "/test", "").Header().Get("Set-Cookie"); !strings.HasSuffix(line, "; HttpOnly; Secure; SameSite=Strict") {
		t.Errorf("cookie %q", line)
	}
}

func TestAuthorizationIsNotTaken(t *testing.T) {
	w := newWorld(t)
	b := w.browser()
	for _, line := range []string{w.user.Access, servertest.Admin} {
		a := b.ask(http.MethodGet, "/test", "", "Authorization: "+line)
		if a.Code != 200 || !strings.Contains(a.Body.String(), `<p id="data">nobody</p>`) {
			t.Errorf("%d\n%s", a.Code, a.Body)
		}
	}
}

func TestInsideCallsAreTheBrowsers(t *testing.T) {
	var seen string
	client := page.Inside(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.RemoteAddr, " ", r.Header["X-Forwarded-For"], " ", r.UserAgent(), " ", r.Header["Cookie"], " ", string(body))
		switch r.URL.Path {
		case "/broken":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "12345")
			panic(http.ErrAbortHandler)
		case "/early":
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTeapot)
		for range 100 {
			_, _ = w.Write(make([]byte, 10000))
		}
	}))
	call := func(ctx context.Context, path string) (int, int, error) {
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://inside/"+path, strings.NewReader("a body"))
		a, err := client.Do(r)
		if err != nil {
			return 0, 0, err
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		return a.StatusCode, len(b), err
	}
	if _, _, err := call(t.Context(), "x"); err == nil {
		t.Error("a call without a visit was made")
	}
	for direct, want := range map[bool]string{
		false: "POST /x?y=1 inside 192.0.2.1:1234 [203.0.113.7] Test Browser [] a body",
		true:  "POST /x?y=1 inside 192.0.2.1:1234 [] Test Browser [] a body",
	} {
		w := newWorld(t, func(c *page.Config) { c.Direct = direct })
		w.site.Handle("GET /test/call", func(v *page.Visit) error {
			status, size, err := call(v.Context(), "x?y=1")
			if status != http.StatusTeapot || size != 1000000 || err != nil {
				t.Errorf("answer %d of %d bytes, %v", status, size, err)
			}
			if seen != want {
				t.Errorf("seen %s, want %s", seen, want)
			}
			if _, size, err := call(v.Context(), "broken"); err == nil || size != 5 {
				t.Errorf("broken off: %d bytes, %v", size, err)
			}
			if _, _, err := call(v.Context(), "early"); err == nil {
				t.Error("broken off at once, and no error")
			}
			ctx, cancel := context.WithCancel(v.Context())
			cancel()
			if _, _, err := call(ctx, "x"); err == nil {
				t.Error("an answer to who is gone")
			}
			return v.Redirect("/test")
		})
		b := w.browser()
		b.ask(http.MethodGet, "/test", "")
		b.status(b.ask(http.MethodGet, "/test/call", "", "X-Forwarded-For: 203.0.113.7", "Authorization: Bearer x"), 303)
	}
}
