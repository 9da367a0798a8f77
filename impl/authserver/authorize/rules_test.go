package authorize_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"portico/db"
	"portico/impl/servertest"
)

var everyForm = []string{"sign-in", "code", "sign-up", "reset-request", "reset", "choose", "forget", "allow", "deny", "confirm"}

func TestFormsAreTakenFromTheirPagesAlone(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(u, "remember", "yes")
	allow := b.filled("/oauth/authorize/allow", "did", u.DID.String())
	with := func(token string) url.Values {
		fields := url.Values{}
		for name, values := range allow {
			fields[name] = values
		}
		if fields.Set("token", token); token == "" {
			fields.Del("token")
		}
		return fields
	}
	foreign := tokenPattern.FindStringSubmatch(open(s, "192.0.2.66").arrive(app).page)[1]
	for _, name := range everyForm {
		path := "/oauth/authorize/" + name
		for what, try := range map[string]func(){
			"another site": func() {
				b.ask(http.MethodPost, path, allow, "Origin: https://evil.example", "Sec-Fetch-Site: cross-site")
			},
			"the host of a handle": func() { b.ask(http.MethodPost, path, allow, "Origin: https://alice.test", "Sec-Fetch-Site: same-site") },
			"nobody says where":    func() { b.ask(http.MethodPost, path, allow, "Origin: ", "Sec-Fetch-Site: ") },
			"no token":             func() { b.ask(http.MethodPost, path, with("")) },
			"a token of another":   func() { b.ask(http.MethodPost, path, with(foreign)) },
		} {
			if try(); b.status != 403 || b.sent != "" {
				t.Errorf("%s from %s: %d to %q", name, what, b.status, b.sent)
			}
		}
		if b.get(path); b.status != 404 && b.status != 405 {
			t.Errorf("GET %s: %d", name, b.status)
		}
	}
	// All of that changed nothing.
	b.ask(http.MethodPost, "/oauth/authorize/allow", allow).code(app)
}

func TestPagesAreNotFramedOrReadByOthers(t *testing.T) {
	s := newServer(t)
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1")
	uri := b.pushed(app)
	for _, header := range []string{"Sec-Fetch-Dest: iframe", "Sec-Fetch-Dest: image", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Mode: cors", "Sec-Purpose: prefetch"} {
		if b.get(at(app, uri), header); b.status != 400 || b.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d, cookie %q", header, b.status, b.header.Get("Set-Cookie"))
		}
	}
	if b.ask(http.MethodHead, at(app, uri), nil); b.status != 405 {
		t.Errorf("HEAD: %d", b.status)
	}
	// None of these opened it for that browser.
	o := open(s, "198.51.100.2").get(at(app, uri)).sees(200, "Sign in")
	policy := o.header.Get("Content-Security-Policy")
	for _, want := range []string{
		"default-src 'none';", "img-src data:;", "form-action 'self';", "frame-ancestors 'none';", "base-uri 'none';", "require-trusted-types-for 'script';",
	} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q has no %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src 'self'") || o.header.Get("X-Frame-Options") != "DENY" || o.header.Get("Cache-Control") != "no-store" ||
		o.header.Get("Referrer-Policy") != "same-origin" || o.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("header %v", o.header)
	}
	// Without fetch metadata, as of an older browser, the pages work.
	open(s, "198.51.100.3").get(at(app, o.pushed(app)), "Sec-Fetch-Site: ", "Sec-Fetch-Mode: ", "Sec-Fetch-Dest: ").sees(200, "Sign in")
}

func TestNothingIsRedirectedToThatIsNotKnown(t *testing.T) {
	s := newServer(t)
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1")
	evil := "https://evil.example/callback"
	for name, query := range map[string]url.Values{
		"no parameters":     {},
		"not pushed":        {"client_id": {app.ID}, "response_type": {"code"}, "redirect_uri": {evil}, "scope": {"atproto"}, "state": {"x"}},
		"of no client":      {"response_type": {"code"}, "redirect_uri": {evil}, "request_uri": {"urn:ietf:params:oauth:request_uri:req-0"}},
		"unknown":           {"client_id": {app.ID}, "redirect_uri": {evil}, "request_uri": {"urn:ietf:params:oauth:request_uri:req-00000000000000000000000000000000"}},
		"malformed":         {"client_id": {app.ID}, "redirect_uri": {evil}, "request_uri": {"https://evil.example/"}},
		"with NUL":          {"client_id": {app.ID + "\x00"}, "request_uri": {"\x00"}},
		"a request object":  {"client_id": {app.ID}, "request": {"eyJhbGciOiJub25lIn0.e30."}, "redirect_uri": {evil}},
		"the old way round": {"client_id": {evil}, "redirect_uri": {evil}, "response_mode": {"form_post"}},
	} {
		if b.get("/oauth/authorize?" + query.Encode()); b.status != 400 || b.sent != "" || strings.Contains(b.page, "evil.example") {
			t.Errorf("%s: %d to %q\n%s", name, b.status, b.sent, content(b.page))
		}
	}
	// Parameters beside a request that was pushed count for nothing.
	b.get(at(app, b.pushed(app))+"&redirect_uri="+url.QueryEscape(evil)+"&state=evil&response_mode=fragment").sees(200, "Sign in").misses("evil")
	b.send("deny").refused(app, "access_denied", "The user rejected the request")
	if b.get("/oauth/authorize/redirect?redirect_uri=" + url.QueryEscape(evil)); b.status != 404 {
		t.Errorf("redirect: %d", b.status)
	}
}

func TestARequestIsOneBrowsersAndAnsweredOnce(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app, other := s.NewApp("atproto"), s.NewApp("atproto transition:email")
	b := open(s, "198.51.100.1")
	uri := b.pushed(app)
	b.get(at(app, uri)).signIn(u).sees(200, "Let this app in?")
	allow := b.filled("/oauth/authorize/allow")
	m := open(s, "192.0.2.66").get(at(app, uri))
	if m.status == 200 {
		t.Fatal("a second browser sees the request")
	}
	m.refused(app, "access_denied", "This request was initiated from another device")
	if b.get(at(other, uri)); b.status == 200 || strings.Contains(b.sent, "code=") {
		t.Errorf("as another client: %d to %q", b.status, b.sent)
	}
	// Neither changed anything for the first.
	code := b.ask(http.MethodPost, "/oauth/authorize/allow", allow).code(app)
	// A second click tells the app nothing: the browser goes where the last answer says.
	b.ask(http.MethodPost, "/oauth/authorize/allow", allow).sees(409, "Back to the app", "This was answered already.")
	if b.sent != "" {
		t.Errorf("sent to %s", b.sent)
	}
	b.get(at(app, uri)).refused(app, "access_denied", "This request was already authorized")
	s.Accepted(app.Redeem(code))
}

func TestTheCookieChangesAtTheSignIn(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app)
	planted := b.cookies[cookie]
	m := open(s, "192.0.2.66")
	m.cookies[cookie] = planted
	b.signIn(u, "remember", "yes").sees(200, "Let this app in?")
	if b.cookies[cookie] == planted {
		t.Fatal("the cookie is the one from before")
	}
	m.arrive(app).sees(200, "Sign in").misses("alice.test")
	m.get(b.path)
	if m.status == 200 {
		t.Error("who planted the cookie has the request")
	}
}

// Accounts that are taken down or gone let nobody in, and a new password ends what was proved
// with the old one.
func TestWhatAnAccountCannotLetIn(t *testing.T) {
	s := newServer(t)
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	b := open(s, "198.51.100.1").arrive(app).signIn(u).sees(200, "Let this app in?")
	waits := b.filled("/oauth/authorize/allow")
	s.SetAccount(u.DID, func(a *db.Account) { a.TokensValidFrom = s.Now().Add(1e9) })
	b.send("allow").sees(403, "The password was changed just now. Sign in again.")
	// Nor is anything shown of an account, or mailed, where it waits to be confirmed.
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = new(s.Now()) })
	b.ask("POST", "/oauth/authorize/confirm", waits).sees(403, "The password was changed just now. Sign in again.").misses(u.Email)
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = nil })
	b.arrive(app)
	s.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = new(s.Now()) })
	b.signIn(u).sees(200, "Let this app in?").send("allow").refused(app, "access_denied", "This account has been deactivated")
}

func TestMarkupIsText(t *testing.T) {
	s := newServer(t)
	const evil = `"><script>alert(1)</script>`
	app := s.NewConfidentialApp("app.example.com", "atproto repo:com.example.x")
	b := open(s, "198.51.100.1")
	uri := b.pushed(app, "state", "a state")
	b.get(at(app, uri)).send("sign-in", "identifier", evil, "password", evil).misses("<script>alert", evil)
	b.get(at(app, uri)).follow("to-sign-up").send("sign-up", "handle", evil, "email", evil, "invite", evil, "password", evil).sees(400).misses("<script>alert")
	b.get(at(app, uri)).follow("to-reset").send("reset-request", "email", evil).misses("<script>alert")
	b.get("/oauth/authorize?client_id=" + url.QueryEscape(evil) + "&request_uri=" + url.QueryEscape(evil)).misses("<script>alert")
	// A trusted app says what it likes of itself, as text.
	trusted := newServer(t, func(o *servertest.Options) { o.TrustedClients = []string{app.ID} })
	named := trusted.NewConfidentialApp("app.example.com", "atproto")
	open(trusted, "198.51.100.1").arrive(named).sees(200, "An App", "The operator of this server knows this app.")
	open(s, "198.51.100.2").arrive(app).sees(200, "app.example.com").misses("An App")
}
