package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/proxy/upstream"
)

// PassOn passes the request c on to a service as it came, in the name of did, and returns
// the answer to it; its errors are answers, too (contract §2.6). "" is nobody: no token is
// sent. The token is for the method of c at the service, unless of says otherwise. ctx is
// the handler's. The request ends when the client hangs up.
//
// The name of an account in quarantine goes nowhere: its queries are passed on without a
// token, and nothing else is. An app has to have the permission to call the method of c at
// the service; for a token of another method or service whoever calls asks for that beside it.
func (p *Proxy) PassOn(ctx context.Context, c *xrpc.Call, to Service, did syntax.DID, of ...Token) (*xrpc.Response, error) {
	t := Token{to.DID, c.NSID}
	if len(of) > 0 {
		t = of[0]
	}
	return p.send(ctx, c, to, did, t, "")
}

// send is PassOn with an accept-encoding, "" for the client's.
func (p *Proxy) send(ctx context.Context, c *xrpc.Call, to Service, did syntax.DID, of Token, encodings string) (*xrpc.Response, error) {
	if to == (Service{}) {
		return nil, errNoService(c.NSID)
	}
	if did != "" {
		if err := p.Permit(ctx, to, c.NSID); err != nil {
			return nil, err
		}
	}
	if !to.isOrigin() {
		return nil, upstreamError(fmt.Errorf("%s is at %q", to, to.URL), "UpstreamFailure", unreachable)
	}
	nameless := held(ctx, did)
	if nameless && c.Request.Method != http.MethodGet && c.Request.Method != http.MethodHead {
		return nil, auth.Quarantined()
	}
	c.PassedTo(to.String())
	leave, err := p.enter(ctx, c, did)
	if err != nil {
		return nil, err
	}
	r := &upstream.Request{
		Verb: c.Request.Method, URL: to.URL + target(c.Request), Header: c.Request.Header, Encodings: encodings,
	}
	if did != "" && !nameless {
		if r.Token, err = p.token(ctx, did, of); err != nil {
			leave()
			return nil, err
		}
	}
	if r.Verb == http.MethodPost {
		r.Body, r.Size = c.Body()
	}
	began := time.Now()
	answer, err := p.Client.Send(c.Connected(), r)
	if err != nil {
		if c.Connected().Err() == nil { // else the client has given up, and the service nothing to do with it
			p.observe(ctx, to, r.Verb, began, 0, err)
		}
		leave()
		return nil, failure(c, err)
	}
	p.observe(ctx, to, r.Verb, began, answer.Status, nil)
	return &xrpc.Response{
		Status: answer.Status, Header: answer.Header, Size: answer.Size, Body: &answerBody{answer.Body, leave},
	}, nil
}

const unreachable = "Upstream service unreachable"

// failure is the answer to a request that was passed on and has none.
func failure(c *xrpc.Call, err error) error {
	if x, ok := errors.AsType[*xrpc.Error](err); ok {
		return x // the client's body could not be read
	}
	if c.Connected().Err() != nil {
		return xrpc.ClientGone(err)
	}
	return upstreamError(err, "UpstreamFailure", unreachable)
}

// upstreamError is the answer where another service has refused, or given none: then that
// is name and message.
func upstreamError(err error, name, message string) error {
	x := &xrpc.Error{Status: http.StatusBadGateway, Name: name, Message: message, Cause: err, Foreign: true}
	if refused, ok := errors.AsType[*upstream.Refused](err); ok {
		x.Name, x.Message = refused.Name, refused.Message
		if refused.Status != http.StatusInternalServerError { // which would be this one's
			x.Status = refused.Status
		}
		if refused.RetryAfter != "" {
			x.Header = http.Header{"Retry-After": {refused.RetryAfter}}
		}
	}
	return x
}

// target is path and query of r, byte for byte.
func target(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	// The client took this server for a proxy of HTTP, and sent a whole URL.
	uri := r.URL.EscapedPath()
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		uri += "?" + r.URL.RawQuery
	}
	return uri
}

// answerBody is a body that somebody is told of when it is closed.
type answerBody struct {
	io.ReadCloser
	closed func()
}

func (b *answerBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}
