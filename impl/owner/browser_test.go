package owner_test

import (
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"portico/impl/servertest"
)

// A browser keeps cookies, follows redirects, and sends the forms that it was shown. It comes
// from an address of its own.
type browser struct {
	*servertest.Server
	address string
	agent   string
	cookies map[string]string
	path    string // where it is
	page    string // what it sees
	status  int
	header  http.Header
}

// newServer is one that pages are asked through a proxy of.
func newServer(t testing.TB, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	return servertest.New(t, append([]func(*servertest.Options){func(o *servertest.Options) { o.TrustedProxies = 1 }}, change...)...)
}

func open(s *servertest.Server, address string) *browser {
	return &browser{Server: s, address: address, agent: "Test Browser", cookies: map[string]string{}}
}

// ask sends a request; lines of the header replace the browser's own, and those without a
// value are left out.
func (b *browser) ask(method, path string, fields url.Values, header ...string) *browser {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, b.URL+path, strings.NewReader(fields.Encode()))
	b.Check(err)
	r.Host = "pds.test"
	r.Header.Set("X-Forwarded-For", b.address)
	r.Header.Set("User-Agent", b.agent)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", servertest.Endpoint)
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
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := client.Do(r)
	b.Check(err)
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	b.Check(err)
	for _, c := range a.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	if a.StatusCode == http.StatusSeeOther {
		return b.get(a.Header.Get("Location"))
	}
	b.path, b.page, b.status, b.header = path, string(text), a.StatusCode, a.Header
	return b
}

func (b *browser) get(path string, header ...string) *browser {
	b.Helper()
	return b.ask(http.MethodGet, path, nil, header...)
}

var (
	formPattern  = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	inputPattern = regexp.MustCompile(`<input[^>]*name="([^"]*)"[^>]*>`)
	valuePattern = regexp.MustCompile(`value="([^"]*)"`)
)

// send fills in the form of the page that goes to path, with name and value of its fields in
// turn, and sends it; fields of the form that are not named have what they have.
func (b *browser) send(path string, fields ...string) *browser {
	b.Helper()
	for _, form := range formPattern.FindAllStringSubmatch(b.page, -1) {
		if form[1] != path {
			continue
		}
		sent := url.Values{}
		for _, input := range inputPattern.FindAllStringSubmatch(form[2], -1) {
			if strings.Contains(input[0], `type="checkbox"`) {
				continue
			}
			value := ""
			if m := valuePattern.FindStringSubmatch(input[0]); m != nil {
				value = html.UnescapeString(m[1])
			}
			sent.Add(html.UnescapeString(input[1]), value)
		}
		for i := 0; i < len(fields); i += 2 {
			sent.Set(fields[i], fields[i+1])
		}
		return b.ask(http.MethodPost, path, sent)
	}
	b.Fatalf("%s has no form for %s:\n%s", b.path, path, b.page)
	return nil
}

// signIn signs in with a password.
func (b *browser) signIn(u servertest.User, password string) *browser {
	b.Helper()
	return b.get("/account").send("/account/sign-in", "identifier", u.Handle, "password", password)
}

// in is a browser that is signed in.
func in(s *servertest.Server, u servertest.User, address string) *browser {
	s.Helper()
	b := open(s, address).signIn(u, servertest.GoodPassword)
	b.sees(200, "Your account", u.DID.String())
	return b
}

// sees checks the status of the page, and that it has texts.
func (b *browser) sees(status int, texts ...string) *browser {
	b.Helper()
	shown := html.UnescapeString(b.page)
	for _, text := range texts {
		if b.status != status || !strings.Contains(shown, text) {
			b.Fatalf("%s: %d, want %d, and %q on\n%s", b.path, b.status, status, text, main(b.page))
		}
	}
	return b
}

// misses checks that the page has not some texts.
func (b *browser) misses(texts ...string) *browser {
	b.Helper()
	for _, text := range texts {
		if strings.Contains(b.page, text) {
			b.Fatalf("%s: %q is on\n%s", b.path, text, main(b.page))
		}
	}
	return b
}

// main is a page without what stands on all.
func main(page string) string {
	_, rest, _ := strings.Cut(page, "<main")
	text, _, _ := strings.Cut(rest, "</main>")
	return text
}
