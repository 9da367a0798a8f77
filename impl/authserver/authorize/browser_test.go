package authorize_test

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

// A browser keeps cookies, follows redirects within the server, and sends the forms that it was
// shown. It comes from an address of its own.
type browser struct {
	*servertest.Server
	address  string
	method   string
	agent    string
	language string
	cookies  map[string]string
	path     string // where it is
	page     string // what it sees
	status   int
	header   http.Header
	sent     string // where it was sent away to, "" while it is here
}

const cookie = "__Host-portico-authorize"

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
	r.Header.Set("Sec-Fetch-Dest", "document")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Site", "cross-site") // an app sends people here
	if b.language != "" {
		r.Header.Set("Accept-Language", b.language)
	}
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
	a, err := http.DefaultTransport.RoundTrip(r)
	b.Check(err)
	if a.StatusCode == http.StatusInternalServerError {
		b.Fatalf("%s: 500, and logged was\n%s", path, b.Logged)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	b.Check(err)
	for _, c := range a.Cookies() {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	b.method, b.path, b.page, b.status, b.header, b.sent = method, path, string(text), a.StatusCode, a.Header, ""
	if back := backPattern.FindStringSubmatch(b.page); back != nil {
		b.sent = html.UnescapeString(back[1])
	}
	if a.StatusCode == http.StatusSeeOther {
		to := a.Header.Get("Location")
		if strings.HasPrefix(to, "/") {
			return b.get(to)
		}
		b.sent = to
	}
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
	backPattern  = regexp.MustCompile(`<a class="button" href="([^"]*)" rel="noreferrer" data-now id="back">`)
	tokenPattern = regexp.MustCompile(`name="token" value="([^"]*)"`)
)

// filled is the form of the page that goes to a path, as it is shown, with name and value of
// fields in turn. A value of "-" leaves the field out.
func (b *browser) filled(path string, fields ...string) url.Values {
	b.Helper()
	for _, form := range formPattern.FindAllStringSubmatch(b.page, -1) {
		if html.UnescapeString(form[1]) != path {
			continue
		}
		sent := url.Values{}
		for _, input := range inputPattern.FindAllStringSubmatch(form[2], -1) {
			if strings.Contains(input[0], `type="checkbox"`) && !strings.Contains(input[0], " checked") {
				continue
			}
			value := ""
			if m := valuePattern.FindStringSubmatch(input[0]); m != nil {
				value = html.UnescapeString(m[1])
			}
			sent.Add(html.UnescapeString(input[1]), value)
		}
		for i := 0; i < len(fields); i += 2 {
			if sent.Set(fields[i], fields[i+1]); fields[i+1] == "-" {
				sent.Del(fields[i])
			}
		}
		return sent
	}
	b.Fatalf("%s has no form for %s:\n%s", b.path, path, content(b.page))
	return nil
}

// send sends the form of the page that goes to /oauth/authorize/NAME; see filled.
func (b *browser) send(name string, fields ...string) *browser {
	b.Helper()
	path := "/oauth/authorize/" + name
	return b.ask(http.MethodPost, path, b.filled(path, fields...))
}

// follow goes where the link of that id leads.
func (b *browser) follow(id string) *browser {
	b.Helper()
	m := regexp.MustCompile(`<a href="([^"]*)" id="` + id + `">`).FindStringSubmatch(b.page)
	if m == nil {
		b.Fatalf("%s has no link %s:\n%s", b.path, id, content(b.page))
	}
	return b.get(html.UnescapeString(m[1]), "Sec-Fetch-Site: same-origin")
}

// address of the pages of a request.
func at(app *servertest.App, uri string) string {
	return "/oauth/authorize?" + url.Values{"client_id": {app.ID}, "request_uri": {uri}}.Encode()
}

// arrive is sent to the pages by an app, whose request has parameters with name and value in
// turn.
func (b *browser) arrive(app *servertest.App, parameters ...string) *browser {
	b.Helper()
	return b.get(at(app, b.pushed(app, parameters...)))
}

// pushed pushes a request.
func (b *browser) pushed(app *servertest.App, parameters ...string) string {
	b.Helper()
	other := map[string]string{}
	for i := 0; i < len(parameters); i += 2 {
		other[parameters[i]] = parameters[i+1]
	}
	return app.Push(other).Text(b.TB, "request_uri")
}

// signIn fills in the form for signing in.
func (b *browser) signIn(u servertest.User, more ...string) *browser {
	b.Helper()
	return b.send("sign-in", append([]string{"identifier", u.Handle, "password", servertest.GoodPassword}, more...)...)
}

// sees checks the status of the page, and that it has texts.
func (b *browser) sees(status int, texts ...string) *browser {
	b.Helper()
	shown := html.UnescapeString(b.page)
	if b.status != status {
		b.Fatalf("%s: %d to %q, want %d\n%s", b.path, b.status, b.sent, status, content(b.page))
	}
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			b.Fatalf("%s: want %q on\n%s", b.path, text, content(b.page))
		}
	}
	return b
}

// misses checks that the page has not some texts.
func (b *browser) misses(texts ...string) *browser {
	b.Helper()
	for _, text := range texts {
		if strings.Contains(b.page, text) {
			b.Fatalf("%s: %q is on\n%s", b.path, text, content(b.page))
		}
	}
	return b
}

// content is a page without what stands on all.
func content(page string) string {
	_, rest, _ := strings.Cut(page, "<main")
	text, _, _ := strings.Cut(rest, "</main>")
	return text
}

// answered checks that the browser was sent to the app, by a page where it sent a form, and returns
// what it brings there.
func (b *browser) answered(app *servertest.App) url.Values {
	b.Helper()
	address, query, _ := strings.Cut(b.sent, "?")
	want := http.StatusSeeOther
	if b.method == http.MethodPost {
		want = http.StatusOK
	}
	if b.status != want || address != app.Redirect {
		b.Fatalf("%s: %d to %q, want %d to %s\n%s", b.path, b.status, b.sent, want, app.Redirect, content(b.page))
	}
	fields, err := url.ParseQuery(query)
	b.Check(err)
	if fields.Get("iss") != "https://pds.test" || fields.Get("state") != "a state" {
		b.Errorf("answer %v", fields)
	}
	return fields
}

// code checks that the answer is a code, and returns it.
func (b *browser) code(app *servertest.App) string {
	b.Helper()
	fields := b.answered(app)
	if fields.Get("code") == "" || fields.Has("error") || len(fields) != 3 {
		b.Fatalf("answer %v", fields)
	}
	return fields.Get("code")
}

// refused checks that the answer is an error.
func (b *browser) refused(app *servertest.App, name, description string) *browser {
	b.Helper()
	fields := b.answered(app)
	if fields.Get("error") != name || fields.Get("error_description") != description || fields.Has("code") {
		b.Fatalf("answer %v, want %s %q", fields, name, description)
	}
	return b
}
