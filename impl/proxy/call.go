package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/proxy/upstream"
)

// Call makes a call of the server's own: of a query with params, or with the JSON input of
// a procedure, in the name of did; "" is nobody. It returns the JSON that was answered, nil
// for none. Its errors are answers (contract §8). ctx is that of the handler for whose
// client it is made; it ends when that hangs up. As to an account in quarantine and to apps,
// see PassOn.
func (p *Proxy) Call(ctx context.Context, to Service, did syntax.DID, method string, params url.Values, input []byte) ([]byte, error) {
	if did != "" {
		if err := p.Permit(ctx, to, method); err != nil {
			return nil, err
		}
	}
	return p.call(ctx, to, did, method, params, input)
}

// Complete is Call for a query of which the client sees only what belongs into the answer to
// a request that was permitted already: an app needs no permission for it.
func (p *Proxy) Complete(ctx context.Context, to Service, did syntax.DID, method string, params url.Values) ([]byte, error) {
	return p.call(ctx, to, did, method, params, nil)
}

func (p *Proxy) call(ctx context.Context, to Service, did syntax.DID, method string, params url.Values, input []byte) ([]byte, error) {
	if to == (Service{}) {
		return nil, errNoService(method)
	}
	nameless := held(ctx, did)
	if nameless && input != nil {
		return nil, auth.Quarantined()
	}
	c := xrpc.CallFrom(ctx)
	leave, err := p.enter(ctx, c, did)
	if err != nil {
		return nil, err
	}
	defer leave()
	call := &upstream.Call{URL: to.URL + "/xrpc/" + method, Input: input, Output: !silent[method]}
	if len(params) > 0 {
		call.URL += "?" + params.Encode()
	}
	if did != "" && !nameless {
		if call.Token, err = p.token(ctx, did, Token{to.DID, method}); err != nil {
			return nil, err
		}
	}
	if c != nil {
		ctx = c.Connected()
	}
	verb, began := http.MethodGet, time.Now()
	if input != nil {
		verb = http.MethodPost
	}
	output, err := p.Client.Do(ctx, call)
	if err == nil || ctx.Err() == nil {
		p.observe(ctx, to, verb, began, http.StatusOK, err)
	}
	if err != nil && ctx.Err() != nil && c != nil {
		return nil, xrpc.ClientGone(err)
	}
	if refused, ok := errors.AsType[*upstream.Refused](err); ok && refused.Message == "" {
		refused.Message = fmt.Sprintf("Upstream server responded with a %d error", refused.Status)
	}
	if err != nil {
		return nil, upstreamError(err, "InternalServerError", "Failed to perform upstream request")
	}
	return output, nil
}

// silent are the methods without output among those that are called here.
var silent = map[string]bool{"app.bsky.notification.registerPush": true, "app.bsky.notification.unregisterPush": true}
