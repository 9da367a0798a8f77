package page

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"portico/api/xrpc"
	"portico/impl/page/words"
)

//go:embed files
var files embed.FS

// A Config is what one site is made of.
type Config struct {
	// Name is short and lower-case, and the same for ever: cookies are named after it.
	Name string
	// Origins are where browsers find the site: "https://pds.example", with a port where it
	// is not the usual one. The first is the one to tell people.
	Origins []string
	// Direct says that no proxy is in front of the site.
	Direct bool
	// Strict keeps the cookie from requests that begin on another site, a link too.
	Strict bool
	// Title stands at the top of each page, and links to Home, a path.
	Title, Home string
	// Nav are the links at the top for those who are signed in.
	Nav []Link
	// Files has one template for each page, a NAME.html that defines "title" and "main". The
	// layout of package page surrounds it; what it may use is in layout.html there. A file
	// whose name begins with "_" is for all of them.
	Files fs.FS
	Funcs template.FuncMap
	// Style and Script are CSS and JavaScript beside those that all sites have; "" for none.
	// Styles and handlers in attributes do not work: the policy knows checksums alone.
	Style, Script string
	// Branding is how the operator wants it to look.
	Branding Branding
	// Languages are those of package words that the site speaks; nil: English alone.
	Languages []string
	// Sessions are who is signed in. Without a DB nobody ever is, and it is but the cookie that
	// they have to do with.
	Sessions *Sessions
	Log      *slog.Logger
}

// A Link is one of the navigation.
type Link struct{ Path, Text string }

// A Site is pages that have a host, a look and a session in common: see the rules of the
// package. It is safe for concurrent use once all is put on it.
type Site struct {
	c       Config
	origins []*url.URL
	mux     *http.ServeMux
	pages   map[string]map[string]*template.Template // by language and name
	policy  policy
	logo    string
}

// New makes a site without pages.
func New(c Config) (*Site, error) {
	s := &Site{c: c, mux: http.NewServeMux(), pages: map[string]map[string]*template.Template{}}
	for _, origin := range c.Origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			return nil, fmt.Errorf("site %s: %q is no origin", c.Name, origin)
		}
		s.origins = append(s.origins, u)
	}
	if err := s.parse(); err != nil {
		return nil, fmt.Errorf("site %s: %w", c.Name, err)
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(visitOf(r), &Error{http.StatusNotFound, "There is no page at this address."})
	})
	return s, nil
}

// parse reads the templates, and makes the policy by what they have inside.
func (s *Site) parse() error {
	read := func(name string) (string, error) {
		b, err := files.ReadFile("files/" + name)
		return string(b), err
	}
	style, err := read("page.css")
	script, err2 := read("page.js")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	styles, scripts := []template.CSS{template.CSS(style)}, []template.JS{template.JS(script)}
	if s.c.Style != "" {
		styles = append(styles, template.CSS(s.c.Style))
	}
	if s.c.Script != "" {
		scripts = append(scripts, template.JS(s.c.Script))
	}
	if own := s.c.Branding.style(); own != "" {
		styles = append(styles, template.CSS(own))
	}
	s.policy = newPolicy(styles, scripts)
	var origin string
	if s.logo, origin = s.c.Branding.logo(); s.logo != "" {
		s.policy = s.policy.and("img-src", origin)
	}
	languages := s.c.Languages
	if languages == nil {
		languages = []string{words.English}
	}
	for _, in := range languages {
		if s.pages[in], err = s.parseIn(in, styles, scripts); err != nil {
			return fmt.Errorf("in %s: %w", in, err)
		}
	}
	return nil
}

// parseIn reads the templates for a language.
func (s *Site) parseIn(in string, styles []template.CSS, scripts []template.JS) (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"styles": func() []template.CSS { return styles }, "scripts": func() []template.JS { return scripts },
		"time": showTime, "stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) }, "bytes": showBytes,
		"language": func() string { return in }, "say": func(english string, args ...any) string { return words.Say(in, english, args...) },
	}).Funcs(s.c.Funcs).ParseFS(files, "files/layout.html")
	if err != nil {
		return nil, err
	}
	shared, err := fs.Glob(s.c.Files, "_*.html")
	if err == nil && len(shared) > 0 {
		_, err = layout.ParseFS(s.c.Files, shared...)
	}
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	add := func(from fs.FS, path, name string) error {
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(from, path)
		}
		pages[name] = t
		return err
	}
	if err := errors.Join(add(files, "files/error.html", "error.html"), add(files, "files/again.html", "again.html")); err != nil {
		return nil, err
	}
	names, err := fs.Glob(s.c.Files, "*.html")
	for _, name := range names {
		if !strings.HasPrefix(name, "_") {
			err = errors.Join(err, add(s.c.Files, name, name))
		}
	}
	return pages, err
}

// A policy is a Content-Security-Policy: directives, and what each allows.
type policy [][]string

// newPolicy lets styles and scripts run by their checksums, and forms go to this origin, and
// nothing else: what somebody managed to put into a page does nothing.
func newPolicy(styles []template.CSS, scripts []template.JS) policy {
	sum := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	style, script := []string{"style-src"}, []string{"script-src"}
	for _, text := range styles {
		style = append(style, sum(string(text)))
	}
	for _, text := range scripts {
		script = append(script, sum(string(text)))
	}
	return policy{
		{"default-src", "'none'"}, {"img-src", "data:"}, {"base-uri", "'none'"}, {"object-src", "'none'"}, {"form-action", "'self'"},
		{"frame-ancestors", "'none'"}, {"require-trusted-types-for", "'script'"}, {"trusted-types", "'none'"}, style, script,
	}
}

// and is p that also allows sources by a directive.
func (p policy) and(directive string, sources ...string) policy {
	all, found := slices.Clone(p), false
	for i, d := range all {
		if d[0] == directive {
			all[i], found = append(slices.Clone(d), sources...), true
		}
	}
	if !found {
		all = append(all, append([]string{directive}, sources...))
	}
	return all
}

// without is p but for some directives.
func (p policy) without(directives ...string) policy {
	return slices.DeleteFunc(slices.Clone(p), func(d []string) bool { return slices.Contains(directives, d[0]) })
}

func (p policy) String() string {
	var all []string
	for _, d := range p {
		all = append(all, strings.Join(d, " "))
	}
	return strings.Join(all, "; ")
}

// Handle puts a page on the site. The pattern is one of [http.ServeMux], of GET, which HEAD is
// too, or POST. What f returns is shown as an error: an [Error] as it says, an error of a
// method as the method says, and all else as an internal one, which the log has.
func (s *Site) Handle(pattern string, f func(v *Visit) error) {
	if verb, _, _ := strings.Cut(pattern, " "); verb != http.MethodGet && verb != http.MethodPost {
		panic("page: " + pattern + " is neither GET nor POST")
	}
	s.mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
		v := visitOf(r)
		if err := f(v); err != nil {
			s.fail(v, err)
		}
	})
}

// Origin is where browsers find the site.
func (s *Site) Origin() string { return s.c.Origins[0] }

// ServeHTTP implements [http.Handler].
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.writeHeader(w.Header())
	v := &Visit{site: s, w: w, policy: s.policy}
	v.Request = r.WithContext(visiting(callingFor(r.Context(), r, s.c.Direct), v))
	defer s.recovered(v)
	origin := s.originOf(r)
	if origin == nil {
		plainError(w, http.StatusNotFound, "Not found")
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		if err := v.readForm(); err != nil {
			s.fail(v, err)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		plainError(w, http.StatusMethodNotAllowed, "Method not allowed")
		return
	}
	if err := v.recognize(); err != nil {
		s.fail(v, err)
		return
	}
	if r.Method == http.MethodPost {
		if err := v.fromHere(origin); err != nil {
			s.fail(v, err)
			return
		}
	}
	s.mux.ServeHTTP(w, v.Request)
}

// writeHeader sets what all answers of the site have.
func (s *Site) writeHeader(h http.Header) {
	for name := range h { // of whatever the site is mounted on
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	h.Set("Content-Security-Policy", s.policy.String())
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Robots-Tag", "noindex")
}

// originOf is the origin among the site's that a request is for, nil for none. A proxy that
// forwards another host than it asks for is not believed: pages of a name that leads here
// can have any header sent, but not another Host.
func (s *Site) originOf(r *http.Request) *url.URL {
	if c := xrpc.CallFrom(r.Context()); c != nil && !s.c.Direct && !strings.EqualFold(c.Host(), hostname(r.Host)) {
		return nil
	}
	i := slices.IndexFunc(s.origins, func(o *url.URL) bool {
		asked := &url.URL{Host: r.Host}
		return strings.EqualFold(hostname(r.Host), hostname(o.Host)) && (asked.Port() == "" || asked.Port() == portOf(o))
	})
	if i < 0 {
		return nil
	}
	return s.origins[i]
}

// hostname is the name in a host, without a port or brackets.
func hostname(host string) string {
	return strings.TrimSuffix((&url.URL{Host: host}).Hostname(), ".")
}

func portOf(u *url.URL) string {
	if u.Scheme == "https" {
		return cmp.Or(u.Port(), "443")
	}
	return cmp.Or(u.Port(), "80")
}

// Loopback are the origins of a site that listens on this machine alone.
func Loopback(listens netip.AddrPort) []string {
	port := strconv.Itoa(int(listens.Port()))
	return []string{"http://" + listens.String(), "http://localhost:" + port}
}

// recovered makes an answer of a panic, which the log has.
func (s *Site) recovered(v *Visit) {
	switch reason := recover(); reason {
	case nil:
	case http.ErrAbortHandler:
		panic(reason)
	default:
		stack := make([]byte, 64<<10)
		s.c.Log.Error("page", "page", v.name(), "panic", fmt.Sprint(reason), "stack", string(stack[:runtime.Stack(stack, false)]))
		if v.begun {
			panic(http.ErrAbortHandler) // half a page must not look whole
		}
		plainError(v.w, http.StatusInternalServerError, "Something went wrong here.")
	}
}

func plainError(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// draw fills in a page. Nothing is written before it is whole.
func (s *Site) draw(in, name string, data any) ([]byte, error) {
	t := s.pages[in][name]
	if t == nil {
		return nil, fmt.Errorf("there is no page %s", name)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("draw %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// showTime is a time for people, who are anywhere.
func showTime(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2 Jan 2006, 15:04 UTC")
}

// showBytes is a size for people.
func showBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
