// Package console is the pages on which the operator of a server looks after it with a
// browser.
//
// They show and do what the commands do, by the same methods, called in this process with
// the admin password: so the same is refused, and recorded as done by the admin from the
// address of the browser. Who signs in gives that password, which is tried by a method too,
// and a wrong one is paid for and recorded like any. What cannot be undone is asked about
// first, on a page of its own, so that it takes no script.
package console

import (
	"context"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"reflect"
	"strings"
	"time"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/keyring"
	"portico/impl/page"
)

// Home is the path of the first page; all others are below.
const Home = "/console"

// How long a session lasts: from its last use, and in all. A browser that is left alone is
// anybody's who sits down at it.
const (
	idle = 30 * time.Minute
	life = 12 * time.Hour
	most = 20 // sessions at a time
)

//go:embed all:files
var files embed.FS

// A Config is what a console needs.
type Config struct {
	// Methods answers the calls of the pages: the whole server.
	Methods http.Handler
	// PublicURL is that of the server, without a slash at the end.
	PublicURL string
	// Origins and Direct are those of [page.Config].
	Origins []string
	Direct  bool
	// Password is the admin's. Sessions end when it is another.
	Password string
	DB       *db.DB
	Keys     *keyring.Ring
	Now      func() time.Time
	Rand     io.Reader
	Log      *slog.Logger
}

type console struct {
	Config
	site     *page.Site
	operator *operatorapi.Client
	admin    *adminapi.Client
	server   *api.Client
}

// New makes the pages of a console.
func New(c Config) (http.Handler, error) {
	con := &console{Config: c}
	client := xrpc.Client{
		Host: c.PublicURL, HTTP: page.Inside(c.Methods), Authorization: basic(c.Password),
		MaxAnswer: 64 << 20, // accounts come with their invite codes
	}
	con.operator, con.admin, con.server = &operatorapi.Client{Client: client}, &adminapi.Client{Client: client}, &api.Client{Client: client}
	pages, err := fs.Sub(files, "files")
	if err != nil {
		return nil, err
	}
	style, err := files.ReadFile("files/console.css")
	if err != nil {
		return nil, err
	}
	con.site, err = page.New(page.Config{
		Name: "console", Origins: c.Origins, Direct: c.Direct, Strict: true, Title: "Console of " + hostOf(c.PublicURL), Home: Home,
		Nav: []page.Link{
			{Path: Home, Text: "Overview"}, {Path: Home + "/accounts", Text: "Accounts"}, {Path: Home + "/quarantine", Text: "Quarantine"},
			{Path: Home + "/invites", Text: "Invites"}, {Path: Home + "/domains", Text: "Domains"}, {Path: Home + "/mails", Text: "Mails"},
			{Path: Home + "/log", Text: "Log"}, {Path: Home + "/budgets", Text: "Budgets"},
		},
		Files: pages, Style: string(style),
		Funcs: template.FuncMap{
			"text": text, "words": words, "escape": url.PathEscape, "status": statusWords,
		},
		Sessions: &page.Sessions{
			DB: c.DB, Keys: c.Keys, Now: c.Now, Rand: c.Rand, Kind: db.BrowserOfConsole, Idle: idle, Life: life, Most: most, Bound: []byte(c.Password),
		},
		Log: c.Log,
	})
	if err != nil {
		return nil, err
	}
	con.site.Handle("GET /{$}", func(v *page.Visit) error { return v.Redirect(Home) })
	con.site.Handle("GET "+Home+"/sign-in", con.showSignIn)
	con.site.Handle("POST "+Home+"/sign-in", con.signIn)
	con.site.Handle("POST "+Home+"/sign-out", con.signOut)
	for pattern, f := range con.pages() {
		verb, path, _ := strings.Cut(pattern, " ")
		con.site.Handle(verb+" "+Home+path, con.signedIn(f))
	}
	return con.site, nil
}

// pages are those for who is signed in.
func (c *console) pages() map[string]func(*page.Visit) error {
	return map[string]func(*page.Visit) error{
		"GET ":                      c.overview,
		"GET /accounts":             c.accounts,
		"GET /accounts/{did}":       c.account,
		"GET /accounts/{did}/log":   c.accountLog,
		"GET /accounts/{did}/blobs": c.accountBlobs,

		"GET /accounts/{did}/{action}":  c.askAction,
		"POST /accounts/{did}/{action}": c.act,

		"GET /invites":          c.invites,
		"POST /invites":         c.createInvites,
		"GET /invites/disable":  c.askDisableInvite,
		"POST /invites/disable": c.disableInvite,

		"GET /domains":         c.domains,
		"POST /domains":        c.putDomain,
		"GET /domains/remove":  c.askRemoveDomain,
		"POST /domains/remove": c.removeDomain,

		"GET /quarantine":          c.quarantine,
		"GET /quarantine/approve":  c.askVerdict(verdicts["approve"]),
		"POST /quarantine/approve": c.carryOut(verdicts["approve"]),
		"GET /quarantine/delete":   c.askVerdict(verdicts["delete"]),
		"POST /quarantine/delete":  c.carryOut(verdicts["delete"]),

		"GET /mails":              c.mails,
		"POST /mails/{id}/retry":  c.retryMail,
		"GET /mails/{id}/delete":  c.askDeleteMail,
		"POST /mails/{id}/delete": c.deleteMail,

		"GET /log":      c.log,
		"GET /budgets":  c.budgets,
		"POST /budgets": c.clearBudgets,
	}
}

// signedIn lets those who are signed in to f, and sends others to where they can.
func (c *console) signedIn(f func(*page.Visit) error) func(*page.Visit) error {
	return func(v *page.Visit) error {
		if v.Session != nil {
			return f(v)
		}
		to := Home + "/sign-in"
		if r := v.Request; r.Method != http.MethodPost && r.URL.Path != Home {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		return v.Redirect(to)
	}
}

type signInPage struct{ Next, Problem string }

func (c *console) showSignIn(v *page.Visit) error {
	next := inside(v.Request.URL.Query().Get("next"))
	if v.Session != nil {
		return v.Redirect(next)
	}
	return v.Show(http.StatusOK, "sign-in.html", signInPage{Next: next})
}

func (c *console) signIn(v *page.Visit) error {
	next := inside(v.Form("next"))
	client := *c.operator
	client.Authorization = basic(v.Form("password"))
	_, err := client.GetHealth(v.Context())
	wrong, ok := errors.AsType[*xrpc.Error](err)
	switch told := page.Refused(err); {
	case ok && wrong.Status == http.StatusUnauthorized:
		return v.Show(http.StatusForbidden, "sign-in.html", signInPage{next, "That is not the admin password."})
	case told != nil:
		return v.Show(told.Status, "sign-in.html", signInPage{next, told.Message})
	case err != nil:
		return err
	}
	if err := v.SignIn("", c.Now(), v.Guest()); err != nil {
		return err
	}
	return v.Redirect(next)
}

func (c *console) signOut(v *page.Visit) error {
	if err := v.SignOut(); err != nil {
		return err
	}
	v.Say("You are signed out.")
	return v.Redirect(Home + "/sign-in")
}

// inside is a path of the console that somebody wants to go to, or its first page.
func inside(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" || path.Clean(u.Path) != u.Path || strings.ContainsAny(next, "\\\r\n\t") || !strings.HasPrefix(u.Path, Home+"/") {
		return Home
	}
	return next
}

func basic(password string) func(context.Context, *xrpc.Method) (string, error) {
	header := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))
	return func(context.Context, *xrpc.Method) (string, error) { return header, nil }
}

func hostOf(publicURL string) string {
	u, err := url.Parse(publicURL)
	if err != nil {
		return publicURL
	}
	return u.Host
}

// text is a value of an answer as it is shown: in one line, and short. Much of it is what
// strangers have written.
func text(value any) string {
	v := reflect.ValueOf(value)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	return page.Printable(fmt.Sprint(v.Interface()), 500)
}

// words is a name for machines as people read it: "reset_password" as "reset password".
func words(name string) string { return page.Printable(strings.ReplaceAll(name, "_", " "), 100) }

// statusWords is the status of an account as people say it.
func statusWords(status string) string {
	if status == operatorapi.AccountStatusTakendown {
		return "taken down"
	}
	return words(status)
}

// An ask is a page that asks before something is done, and for what has to be known.
type ask struct {
	Title   string
	Text    []string // paragraphs
	Facts   []fact
	Fields  []field
	Button  string
	Danger  bool
	Action  string // the path that the form is sent to
	Back    string // the path for those who think better of it
	Problem string // why it was not done
	// Impossible says that there is nothing to be done, so that there is no button.
	Impossible bool
}

type fact struct{ Name, Value string }

// A field is one of a form.
type field struct {
	Name, Label, Hint, Value string
	Type                     string // of an input: "text", "email", "number", "checkbox", "hidden"
	Required                 bool
	Checked                  bool
}

func (c *console) ask(v *page.Visit, a ask) error { return v.Show(http.StatusOK, "ask.html", a) }

// askAgain shows a page again with why it was refused, or returns the error that was no
// refusal. What was typed is typed again.
func (c *console) askAgain(v *page.Visit, a ask, err error) error {
	told := page.Refused(err)
	if told == nil {
		return err
	}
	a.Problem = told.Message
	for i, f := range a.Fields {
		if f.Type == "checkbox" {
			a.Fields[i].Checked = v.Form(f.Name) != ""
		} else if f.Type != "hidden" {
			a.Fields[i].Value = v.Form(f.Name)
		}
	}
	return v.Show(told.Status, "ask.html", a)
}

// done says what was done, on another page.
func (c *console) done(v *page.Visit, path, format string, args ...any) error {
	v.Say(fmt.Sprintf(format, args...))
	return v.Redirect(path)
}

// query is a parameter of the URL, nil if it is not there or empty.
func query(v *page.Visit, name string) *string {
	return xrpc.NonZero(strings.TrimSpace(v.Request.URL.Query().Get(name)))
}

// nextPage is the URL of the page behind this one, "" if there is none.
func nextPage(v *page.Visit, cursor *string) string {
	if cursor == nil {
		return ""
	}
	q := v.Request.URL.Query()
	q.Set("cursor", *cursor)
	return v.Request.URL.EscapedPath() + "?" + q.Encode()
}

// unreadable is what a page says of a parameter that nobody gives who follows its links.
func unreadable(what string) error {
	return &page.Error{Status: http.StatusBadRequest, Message: what}
}
