package page

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/page/words"
)

// A Visit is a request for a page under way. It belongs to the goroutine that serves it.
type Visit struct {
	// Request has a context in which calls of [Inside] are the browser's.
	Request *http.Request
	// Session is who is signed in, nil for nobody, and Account whose it is, nil for the
	// console's.
	Session *db.BrowserSession
	Account *db.Account

	site   *Site
	w      http.ResponseWriter
	secret string // of the cookie that the browser has, or is given now; "" for none yet
	begun  bool
	policy policy
	wanted string // languages, see [Visit.Prefer]
}

type visitKey struct{}

func visiting(ctx context.Context, v *Visit) context.Context {
	return context.WithValue(ctx, visitKey{}, v)
}

func visitOf(r *http.Request) *Visit { return r.Context().Value(visitKey{}).(*Visit) }

// Context is that of the request.
func (v *Visit) Context() context.Context { return v.Request.Context() }

// name is which page v is for, for the log: paths have names in them that may be secrets.
func (v *Visit) name() string { return cmp.Or(v.Request.Pattern, v.Request.Method) }

// maxForm is the largest body of a form in bytes.
const maxForm = 64 << 10

func (v *Visit) readForm() error {
	kind, _, err := mime.ParseMediaType(v.Request.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return &Error{http.StatusUnsupportedMediaType, "This page takes forms alone."}
	}
	v.Request.Body = http.MaxBytesReader(v.w, v.Request.Body, maxForm)
	if err := v.Request.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return &Error{http.StatusRequestEntityTooLarge, "That is more than this page takes."}
		}
		return &Error{http.StatusBadRequest, "The form could not be read."}
	}
	return nil
}

// Form is the value of a field of the form that was sent, "" when there is none. Parameters of
// the URL are none.
func (v *Visit) Form(name string) string { return v.Request.PostForm.Get(name) }

// Sent are the fields of the form that was sent but for some, and the form's token.
func (v *Visit) Sent(but ...string) url.Values {
	sent := url.Values{}
	for name, values := range v.Request.PostForm {
		if name != tokenField && !slices.Contains(but, name) {
			sent[name] = values
		}
	}
	return sent
}

// recognize finds out whose session the cookie is.
func (v *Visit) recognize() error {
	c, err := v.Request.Cookie(v.cookieName())
	if err != nil {
		return nil
	}
	v.secret = secretOf(c.Value)
	if v.secret == "" {
		return nil
	}
	v.Session, v.Account, err = v.site.c.Sessions.find(v.Context(), v.secret)
	if errors.Is(err, ErrOver) {
		return nil
	}
	return err
}

// fromHere refuses what no form of the site at origin sent, for the browser that has it.
func (v *Visit) fromHere(origin *url.URL) error {
	h := v.Request.Header
	site, from := h.Get("Sec-Fetch-Site"), h.Get("Origin")
	want := origin.Scheme + "://" + origin.Host
	switch {
	case site != "" && site != "same-origin", from != "" && !strings.EqualFold(from, want), site == "" && from == "":
		return &Error{http.StatusForbidden, "This was not sent from a page of " + want + ", so it was not done."}
	case v.secret == "" || subtle.ConstantTimeCompare([]byte(v.Form(tokenField)), []byte(v.token())) != 1:
		return &Error{http.StatusForbidden, "This page was open for too long, or belongs to another sign-in. Nothing was done. Go back, load it anew and try again; if that does not help, let your browser keep cookies for this site."}
	}
	return nil
}

const tokenField = "token"

// token is what forms for the browser bring along.
func (v *Visit) token() string {
	mac := v.site.c.Sessions.Keys.MAC("form of "+v.site.c.Name, []byte(v.secret))
	return base64.RawURLEncoding.EncodeToString(mac[:])
}

// Binding is what stands for the browser, signed in or not, until it signs in or out: what is
// sealed for it opens for no other.
func (v *Visit) Binding() string { return v.token() }

func (v *Visit) cookieName() string { return "__Host-portico-" + v.site.c.Name }

// Browser is the secret that the browser is known by, the content of its cookie, until it is
// renewed. A browser that has none gets one.
func (v *Visit) Browser() ([]byte, error) {
	if v.secret == "" {
		secret, err := v.site.c.Sessions.newSecret()
		if err != nil {
			return nil, err
		}
		v.setCookie(secret)
	}
	return []byte(v.secret), nil
}

// Renew lets a browser that has signed in be known by another secret: the one that it had may
// have been planted. What is kept of it is moved first; where that fails nothing changes.
func (v *Visit) Renew(move func(from, to []byte) error) error {
	from, err := v.Browser()
	if err != nil {
		return err
	}
	secret, err := v.site.c.Sessions.newSecret()
	if err == nil {
		err = move(from, []byte(secret))
	}
	if err == nil {
		v.setCookie(secret)
	}
	return err
}

// Keep lets the browser keep its cookie for so long, also when it is closed.
func (v *Visit) Keep(lasts time.Duration) {
	v.cookie(v.cookieName(), v.secret, int(lasts/time.Second))
}

// Prefer has pages be in one of these languages, most wanted first with spaces between, rather
// than in what the browser asks for.
func (v *Visit) Prefer(languages string) { v.wanted = strings.Join(strings.Fields(languages), ",") }

// Language is that of the pages for this visit.
func (v *Visit) Language() string {
	if v.site.c.Languages == nil {
		return words.English
	}
	return words.Choose(v.wanted, v.Request.Header.Get("Accept-Language"))
}

// LetFormsLeadTo lets a form of the page that is shown go to an address off the site, and what
// takes it there send the browser on to any other of the web or of the device: browsers hold that
// against the page as well. It says whether that can be said of the address: see [Source].
func (v *Visit) LetFormsLeadTo(u *url.URL) bool {
	source, ok := Source(u)
	if ok {
		v.policy = v.policy.and("form-action", source, "https:", "http://127.0.0.1:*", "http://localhost:*")
	}
	return ok
}

// LetRun lets what comes from these sources run on the page that is shown, as far as a captcha
// has to: scripts, styles, frames, and requests of it.
func (v *Visit) LetRun(sources ...string) {
	v.policy = v.policy.without("require-trusted-types-for", "trusted-types")
	for _, directive := range []string{"script-src", "style-src", "frame-src", "connect-src"} {
		v.policy = v.policy.and(directive, sources...)
	}
}

// SendTo sends the browser away from the site, to an address that the caller vouches for.
func (v *Visit) SendTo(u *url.URL) error {
	v.begun = true
	v.w.Header().Set("Location", u.String())
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// setCookie lets the browser have a secret, until it is closed.
func (v *Visit) setCookie(secret string) {
	v.secret = secret
	v.cookie(v.cookieName(), secret, 0)
}

func (v *Visit) cookie(name, value string, maxAge int) {
	c := http.Cookie{
		Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: maxAge,
	}
	if v.site.c.Strict {
		c.SameSite = http.SameSiteStrictMode
	}
	// Of two with one name the last counts, and one is enough.
	h := v.w.Header()
	h["Set-Cookie"] = slices.DeleteFunc(h["Set-Cookie"], func(line string) bool { return strings.HasPrefix(line, name+"=") })
	h.Add("Set-Cookie", c.String())
}

// SignIn signs the browser in as did, "" for the console, and ends the session that it had.
// proved is when the proof was given, or the token issued that is one. It returns [ErrOver]
// when the account takes no proofs of then any more.
func (v *Visit) SignIn(did syntax.DID, proved time.Time, g Guest) error {
	secret, row, err := v.site.c.Sessions.open(v.Context(), did, proved, g)
	if err != nil {
		return err
	}
	old := v.Session
	v.setCookie(secret)
	v.Session = row
	if old == nil {
		return nil
	}
	return v.site.c.Sessions.endOne(v.Context(), old.ID)
}

// Prove notes that who is signed in proved just now who it is: see [Visit.SignIn]. The browser
// gets another cookie.
func (v *Visit) Prove(proved time.Time) error {
	secret, row, err := v.site.c.Sessions.renew(v.Context(), v.Session, proved)
	if err != nil {
		return err
	}
	v.setCookie(secret)
	v.Session = row
	return nil
}

// Proved says whether who is signed in proved within so long who it is. A proof from further
// ahead than that, of before the clock was set back, is none.
func (v *Visit) Proved(within time.Duration) bool {
	return v.Session != nil && v.site.c.Sessions.Now().Sub(v.Session.ProvedAt).Abs() < within
}

// SignOut ends the session, if there is one, and the cookie.
func (v *Visit) SignOut() error {
	if v.Session != nil {
		if err := v.site.c.Sessions.endOne(v.Context(), v.Session.ID); err != nil {
			return err
		}
	}
	return v.Leave()
}

// Leave is SignOut of a session that has ended already.
func (v *Visit) Leave() error {
	secret, err := v.site.c.Sessions.newSecret()
	if err != nil {
		return err
	}
	v.Session, v.Account = nil, nil
	v.setCookie(secret)
	return nil
}

// Guest is who visits.
func (v *Visit) Guest() Guest {
	g := Guest{Agent: v.Request.UserAgent()}
	if ip := v.site.address(v.Request); ip.IsValid() {
		g.Address = ip.String()
	}
	return g
}

// saidFor is how many seconds a message waits for the page that shows it.
const saidFor = 60

// maxSaid is how long a message is at most, in bytes.
const maxSaid = 1000

// Say has the next page show a message; it comes after what changes the cookie. Nobody else can make one show what they like: it
// waits in a cookie, with a checksum that is the browser's own.
func (v *Visit) Say(text string) {
	text = Printable(text, maxSaid)
	v.cookie(v.cookieName()+"-said", base64.RawURLEncoding.EncodeToString(append(v.seal(text), text...)), saidFor)
}

const sealSize = 16

func (v *Visit) seal(text string) []byte {
	mac := v.site.c.Sessions.Keys.MAC("message of "+v.site.c.Name, []byte(v.secret+" "+text))
	return mac[:sealSize]
}

// said takes the message that waits, "" for none.
func (v *Visit) said() string {
	name := v.cookieName() + "-said"
	c, err := v.Request.Cookie(name)
	if err != nil || v.secret == "" {
		return ""
	}
	v.cookie(name, "", -1)
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(b) < sealSize || subtle.ConstantTimeCompare(b[:sealSize], v.seal(string(b[sealSize:]))) != 1 {
		return ""
	}
	return string(b[sealSize:])
}

// Redirect sends the browser to a path of the site after a form was taken.
func (v *Visit) Redirect(path string) error {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return errors.New("redirect to " + path + ", which is no path of the site")
	}
	v.begun = true
	v.w.Header().Set("Location", path)
	v.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// A view is what templates see.
type view struct {
	Site, Home string
	Nav        []navLink
	Signed     bool   // somebody is signed in
	Logo       string // of the operator, "" for none
	Links      []Link // of the operator
	Path       string // of this page
	Token      string // of its forms
	Said       string
	Data       any
}

type navLink struct {
	Link
	Current bool
}

// Show answers with a page of the site's files. Templates see Data, beside what the layout uses.
func (v *Visit) Show(status int, name string, data any) error {
	if v.secret == "" {
		if v.site.c.Strict && !v.begunHere() {
			// It may have a cookie that is not sent along from there, and must not lose it.
			return v.show(http.StatusOK, "again.html", nil)
		}
		secret, err := v.site.c.Sessions.newSecret()
		if err != nil {
			return err
		}
		v.setCookie(secret)
	}
	return v.show(status, name, data)
}

// begunHere says whether the request is one that the site or the browser's user began.
func (v *Visit) begunHere() bool {
	switch v.Request.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// show is Show that gives no cookie to who has none.
func (v *Visit) show(status int, name string, data any) error {
	path := v.Request.URL.Path
	seen := view{
		Site: v.site.c.Title, Home: v.site.c.Home, Signed: v.Session != nil, Path: path, Said: v.said(), Data: data,
		Logo: v.site.logo, Links: v.site.c.Branding.links(),
	}
	if v.secret != "" {
		seen.Token = v.token()
	}
	if v.Session != nil {
		for _, l := range v.site.c.Nav {
			seen.Nav = append(seen.Nav, navLink{l, path == l.Path || l.Path != v.site.c.Home && strings.HasPrefix(path, l.Path+"/")})
		}
	}
	page, err := v.site.draw(v.Language(), name, seen)
	if err != nil {
		return err
	}
	v.begun = true
	v.w.Header().Set("Content-Security-Policy", v.policy.String())
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(page) // to a client that is gone there is nothing to say
	return nil
}

// Download answers with something that is to be kept as a file of that name. What kind
// says is served as nothing that a browser shows.
func (v *Visit) Download(name, kind string) http.ResponseWriter {
	v.begun = true
	h := v.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	return v.w
}
