package console_test

import (
	"crypto/rand"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"portico/impl/console"
	"portico/impl/servertest"
)

const origin = "https://pds.test"

// A world is a whole server, with a console on its public origin.
type world struct {
	*servertest.Server
	pages http.Handler
}

func newWorld(t testing.TB, change ...func(*servertest.Options)) *world {
	t.Helper()
	w := &world{Server: servertest.New(t, append([]func(*servertest.Options){servertest.In("alt.portico.operator")}, change...)...)}
	w.pages = w.console(servertest.AdminPassword)
	return w
}

func (w *world) console(password string, change ...func(*console.Config)) http.Handler {
	w.Helper()
	c := console.Config{
		Methods: w.Handler, PublicURL: servertest.Endpoint, Origins: []string{origin}, Password: password,
		DB: w.DB, Keys: w.Keys, Now: w.Now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(io.MultiWriter(w.Logged, testLog{w}), nil)),
	}
	for _, f := range change {
		f(&c)
	}
	return servertest.Must(console.New(c))
}

// A browser keeps cookies and the token of the last page, and says what browsers say.
type browser struct {
	*world
	cookies map[string]string
	token   string
	address string
}

func (w *world) browser() *browser {
	return &browser{world: w, cookies: map[string]string{}, address: "192.0.2.7:1234"}
}

// operator is a browser that is signed in.
func (w *world) operator() *browser {
	w.Helper()
	b := w.browser()
	b.get("/console/sign-in")
	b.post("/console/sign-in", "password", servertest.AdminPassword).to("/console")
	return b
}

type shown struct {
	testing.TB
	status int
	header http.Header
	body   string
}

var token = regexp.MustCompile(`name="token" value="([^"]*)"`)

// ask sends a request, with lines of a header that replace the browser's; "Name: " takes
// one away.
func (b *browser) ask(method, path, body string, header ...string) shown {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), method, origin+path, strings.NewReader(body))
	r.RemoteAddr = b.address
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
	w := httptest.NewRecorder()
	b.pages.ServeHTTP(w, r)
	answer := w.Result()
	for _, c := range answer.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || !strings.HasPrefix(c.Name, "__Host-") {
			b.Errorf("cookie %+v", c)
		}
	}
	text := string(servertest.Must(io.ReadAll(answer.Body)))
	if m := token.FindStringSubmatch(text); m != nil {
		b.token = html.UnescapeString(m[1])
	}
	return shown{b.TB, answer.StatusCode, answer.Header, text}
}

func (b *browser) get(path string, header ...string) shown {
	b.Helper()
	return b.ask("GET", path, "", header...)
}

// post sends a form of pairs, with the token of the last page that had one.
func (b *browser) post(path string, pairs ...string) shown {
	b.Helper()
	form := url.Values{"token": {b.token}}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.ask("POST", path, form.Encode())
}

// open is get of a page that is there.
func (b *browser) open(path string) shown {
	b.Helper()
	return b.get(path).is(200)
}

func (s shown) is(status int) shown {
	s.Helper()
	if s.status != status {
		s.Fatalf("%d to %q, want %d:\n%s", s.status, s.header.Get("Location"), status, s.main())
	}
	return s
}

func (s shown) to(path string) shown {
	s.Helper()
	if got := s.header.Get("Location"); s.status != 303 || got != path {
		s.Fatalf("%d to %q, want 303 to %q:\n%s", s.status, got, path, s.main())
	}
	return s
}

// main is what is between <main> and </main>.
func (s shown) main() string {
	_, rest, _ := strings.Cut(s.body, "<main")
	main, _, _ := strings.Cut(rest, "</main>")
	return main
}

// says wants texts on the page, as people see them.
func (s shown) says(texts ...string) shown {
	s.Helper()
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(s.main()), text) {
			s.Errorf("%q is not on the page:\n%s", text, s.main())
		}
	}
	return s
}

func (s shown) hides(texts ...string) shown {
	s.Helper()
	for _, text := range texts {
		if strings.Contains(s.body, text) {
			s.Errorf("%q is on the page:\n%s", text, s.main())
		}
	}
	return s
}

// testLog shows what the pages log with a test that fails.
type testLog struct{ testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}
