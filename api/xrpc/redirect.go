package xrpc

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// maxRedirects is how often a query is sent elsewhere, as with net/http.
const maxRedirects = 10

var (
	errRedirect  = errors.New("the host sends the call elsewhere")
	errProcedure = redirectError("a procedure is not sent to another place")
	errPlain     = redirectError("not from https to http")
	errTooFar    = redirectError("more than 10 times")
)

func redirectError(why string) error { return &redirected{why} }

type redirected struct{ why string }

func (r *redirected) Error() string        { return errRedirect.Error() + ": " + r.why }
func (r *redirected) Is(target error) bool { return target == errRedirect }

// client is what sends calls of m: c.HTTP, with these rules about redirections. Queries
// follow them, since relays send whoever asks for a repository to where it is, but what the
// caller sends in headers stays with the host that it was meant for, ports included; net/http
// keeps back less. Procedures are not sent to anybody else.
func (c *Client) client(m *Method) *http.Client {
	client := *cmp.Or(c.HTTP, http.DefaultClient)
	own := client.CheckRedirect
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if own != nil {
			if err := own(r, via); err != nil {
				return err
			}
		} else if len(via) >= maxRedirects {
			return errTooFar
		}
		if m.Kind == Procedure {
			return errProcedure
		}
		way := append(via[1:len(via):len(via)], r)
		for _, step := range way {
			if via[0].URL.Scheme == "https" && step.URL.Scheme != "https" {
				return errPlain
			}
			if !sameOrigin(step.URL, via[0].URL) {
				keepBack(r.Header)
			}
		}
		return nil
	}
	return &client
}

// keepBack takes out of h what only the first host is to see.
func keepBack(h http.Header) {
	for name := range h {
		switch {
		case name == "Accept", name == "User-Agent", name == "Connection", name == "Upgrade", strings.HasPrefix(name, "Sec-Websocket-"):
		default:
			delete(h, name)
		}
	}
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}
