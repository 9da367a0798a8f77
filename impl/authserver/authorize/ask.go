package authorize

import (
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"portico/impl/answer"
	"portico/impl/oauth/client"
	"portico/impl/oauth/grant"
	"portico/impl/page"
)

// An ask is an app's request that the browser of a visit has open.
type ask struct {
	*page.Visit
	*authorize
	uri      string
	request  *grant.Request
	client   *client.Client
	redirect *url.URL
}

// open finds the request that a browser names. A [*grant.Error] with an ask is for the app;
// nothing else is told to anybody but the browser, which has been sent by who knows whom.
func (a *authorize) open(v *page.Visit, clientID, uri string) (*ask, error) {
	if clientID == "" || uri == "" {
		return nil, &page.Error{Status: http.StatusBadRequest, Message: saysIncomplete}
	}
	browser, err := v.Browser()
	if err != nil {
		return nil, err
	}
	r, err := a.Grants.Open(v.Context(), uri, clientID, browser)
	refused, told := errors.AsType[*grant.Error](err)
	switch {
	case errors.Is(err, grant.ErrUnknown), told && r == nil:
		return nil, &page.Error{Status: http.StatusBadRequest, Message: saysUnknown}
	case err != nil && !told:
		return nil, err
	}
	q := &ask{Visit: v, authorize: a, uri: uri, request: r}
	v.Prefer(r.UILocales)
	if err := q.knowClient(); err != nil {
		return nil, err
	}
	if told {
		return q, refused
	}
	return q, nil
}

// knowClient finds out who asks, and that the answer may go where it is to go: both may have
// changed since the request was pushed.
func (q *ask) knowClient() error {
	var err error
	q.client, err = q.Clients.Find(q.Context(), q.request.ClientID)
	if err != nil {
		if _, ok := errors.AsType[*client.Error](err); ok {
			err = &page.Error{Status: http.StatusBadRequest, Message: saysNoClient}
		}
		return answer.Spent(err)
	}
	to, err := q.client.Redirect(q.request.RedirectURI)
	if err == nil {
		q.redirect, err = url.Parse(to)
	}
	if err != nil || !leads(q.redirect) {
		return &page.Error{Status: http.StatusBadRequest, Message: saysNoRedirect}
	}
	return nil
}

// leads says whether a browser may be sent to an address: it is on the web, on the device, or
// that of an app, whose scheme has a dot in it. No other can be registered; that it is none which a
// browser takes for a script must not depend on that alone.
func leads(u *url.URL) bool {
	switch u.Scheme {
	case "https":
		return u.Host != "" && u.User == nil
	case "http":
		ip, err := netip.ParseAddr(u.Hostname())
		return err == nil && ip.IsLoopback() && u.User == nil
	}
	return strings.Contains(u.Scheme, ".") && u.Opaque == ""
}

// asked serves what the forms of a request's pages send.
func (a *authorize) asked(f func(q *ask) error) func(v *page.Visit) error {
	return func(v *page.Visit) error {
		q, err := a.open(v, v.Form("client_id"), v.Form("request_uri"))
		return q.then(err, f)
	}
}

// then goes on with a request that was opened.
func (q *ask) then(err error, f func(q *ask) error) error {
	if refused, ok := errors.AsType[*grant.Error](err); ok && q != nil {
		if refused.Answered() && q.Request.Method == http.MethodPost {
			return q.showAnswered()
		}
		return q.tell(refused.Name, refused.Description)
	}
	if err != nil {
		return err
	}
	return f(q)
}

// showAnswered says that the browser answered before, as by a second click: the app has been told,
// and is not told another thing.
func (q *ask) showAnswered() error {
	return q.Show(http.StatusConflict, "answered.html", q.app())
}

// fail ends the request with an error that the app is told.
func (q *ask) fail(name, description string) error {
	browser, err := q.Browser()
	if err == nil {
		err = q.Grants.Reject(q.Context(), q.request, browser)
	}
	if err != nil {
		return err
	}
	return q.tell(name, description)
}

// tell sends the browser back to the app with an error.
func (q *ask) tell(name, description string) error {
	return q.answer(url.Values{"error": {name}, "error_description": {description}})
}

// answer sends the browser back to the app. What follows a form does so by a page: a redirect
// that answered the form would be one more address that the policy of the form's page has to
// allow, and so would be any that the app sends the browser on to.
func (q *ask) answer(fields url.Values) error {
	fields.Set("iss", q.Origin)
	if q.request.State != "" {
		fields.Set("state", q.request.State)
	}
	to := *q.redirect
	switch q.request.ResponseMode {
	case "form_post":
		if !q.LetFormsLeadTo(q.redirect) {
			return &page.Error{Status: http.StatusBadRequest, Message: saysNoForm}
		}
		return q.Show(http.StatusOK, "post.html", struct {
			App    app
			To     template.URL
			Fields url.Values
		}{q.app(), template.URL(to.String()), fields})
	case "fragment":
		address, _, _ := strings.Cut(to.String(), "#")
		with, err := url.Parse(address + "#" + fields.Encode())
		if err != nil {
			return err
		}
		to = *with
	default:
		// What the app registered there stays as it is (RFC 6749, section 3.1.2).
		if to.RawQuery != "" {
			to.RawQuery += "&"
		}
		to.RawQuery += fields.Encode()
	}
	if q.Request.Method == http.MethodPost {
		return q.Show(http.StatusOK, "go.html", struct {
			App app
			To  template.URL
		}{q.app(), template.URL(to.String())})
	}
	return q.SendTo(&to)
}

// An app is a client as people are shown it.
type app struct {
	Name     string // "" for one on this device
	ID       string
	Loopback bool
	Trusted  bool
	// Links of a trusted one.
	Terms, Privacy string
}

// app says who asks: by what the client says of itself where the operator trusts it, else by
// nothing but the host that its address leads to.
func (q *ask) app() app {
	shown := app{ID: q.client.ID, Loopback: q.client.Loopback, Trusted: q.client.Trusted}
	if shown.Loopback {
		return shown
	}
	if u, err := url.Parse(q.client.ID); err == nil {
		shown.Name = u.Host
	}
	if m := q.client.Metadata; shown.Trusted {
		if name := page.Printable(m.Name, 100); name != "" {
			shown.Name = name
		}
		shown.Terms, shown.Privacy = web(m.TermsURI), web(m.PolicyURI)
	}
	return shown
}

// web is an address on the web, "" for another.
func web(address string) string {
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" {
		return ""
	}
	return address
}

// A form is what the pages of a request have in common.
type form struct {
	Alert      string
	App        app
	ClientID   string
	RequestURI string
	Self       string // the address of the request's pages
	Host       string // of this server, as the browser shows it
}

func (q *ask) form(alert string) form {
	_, host, _ := strings.Cut(q.Origin, "://")
	return form{Alert: alert, App: q.app(), ClientID: q.request.ClientID, RequestURI: q.uri, Self: q.self(), Host: host}
}

// self is the path that shows the request.
func (q *ask) self() string {
	return Path + "?" + url.Values{"client_id": {q.request.ClientID}, "request_uri": {q.uri}}.Encode()
}

// told lets form show a refusal; any other error is nobody's business.
func told(err error, form func(status int, message string) error) error {
	refusal := page.Refused(err)
	if refusal == nil {
		return err
	}
	switch refusal.Message {
	case "Token is invalid", "Token is expired": // which to people are codes
		refusal.Message = saysWrongCode
	}
	return form(refusal.Status, refusal.Message)
}
