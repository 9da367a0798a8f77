package identity

import (
	"context"
	"net/http"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/identity"
	"portico/api/xrpc"
	"portico/impl/identity/resolve"
)

// What an app view may cost: anybody may have it asked.
const (
	maxAppViewAnswer      = 4 << 10 // bytes; a DID has 2048 at most
	maxAppViewHeader      = 32 << 10
	maxAppViewConnections = 32
)

// AppView asks an app view about handles. It may be used concurrently.
type AppView struct {
	client  *api.Client
	timeout time.Duration
}

var _ HandleResolver = (*AppView)(nil)

// NewAppView returns the AppView at a URL, which the operator chose, so that it may
// be inside the network. timeout is for one question with its answer; 0 means
// [resolve.Timeout].
func NewAppView(url string, timeout time.Duration) *AppView {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = maxAppViewConnections, maxAppViewConnections
	transport.MaxResponseHeaderBytes = maxAppViewHeader
	if timeout <= 0 {
		timeout = resolve.Timeout
	}
	return &AppView{timeout: timeout, client: &api.Client{Client: xrpc.Client{
		Host: url, MaxAnswer: maxAppViewAnswer,
		HTTP: &http.Client{
			Transport: transport,
			// The operator chose this host and no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}}}
}

// ResolveHandle implements [HandleResolver]. It sends no credentials.
func (a *AppView) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	out, err := a.client.ResolveHandle(ctx, &api.ResolveHandleParams{Handle: h})
	if err != nil {
		return "", err
	}
	return out.DID, nil
}
