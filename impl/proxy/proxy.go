// Package proxy passes requests of clients on to other services of the network, in the name
// of the accounts here.
//
// A [Proxy] is the fallback of the routes: what no method here serves goes to the app view,
// or to the service that the client's atproto-proxy header names. Methods that are served
// here and have a part elsewhere use it too: they ask it where a request goes
// ([Proxy.Target]), pass the request on as it came ([Proxy.PassOn]), or make a call of their
// own ([Proxy.Call]). Each time the account's key signs a token that is good for this
// method of this service and for a minute.
//
// What an account causes elsewhere is paid for by the account, and what nobody signed in
// causes by the caller's address: see [Bounds].
package proxy

import (
	"context"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/identity/resolve"
	"portico/impl/proxy/upstream"
)

// A Service is one that requests are passed on to. The zero value is none.
type Service struct {
	DID syntax.DID
	ID  string // of the service in the DID's document, without "#"
	URL string // its origin, without a slash at the end
}

// The services that have a name of their own in DID documents.
const (
	AppViewID = "bsky_appview"
	LabelerID = "atproto_labeler"
	PushID    = "bsky_notif"
)

// Documents finds the documents of DIDs; [resolve.Cache] does.
type Documents interface {
	Resolve(ctx context.Context, did syntax.DID, fresh bool) (*resolve.Document, error)
}

// Keys has the keys that accounts sign with; account.Accounts does.
type Keys interface {
	SigningKey(ctx context.Context, did syntax.DID) (*atcrypto.PrivateKeyK256, error)
}

// Bounds are what one account, or one address of callers who are not signed in, may have
// passed on. They hold in the memory of each process: what they protect are the
// connections of this one, and the patience of other services with all accounts here.
type Bounds struct {
	Requests int           // within Window. 0: 6000
	Window   time.Duration // 0: five minutes
	AtATime  int           // under way. 0: 100
}

// Proxy passes requests on. Its fields may not be changed while it is used; it is safe for
// concurrent use.
type Proxy struct {
	Client *upstream.Client
	// AppView, Moderation and Reports are the configured services; each may be none.
	AppView, Moderation, Reports Service
	Documents                    Documents
	Keys                         Keys
	Gate                         *auth.Gate
	Bounds                       Bounds
	// PreferCompressed is for answers that are read here before they are passed on.
	PreferCompressed bool
	// ReuseTokens lets a token be sent again to the same service for the same method while
	// it is good for 30 seconds more. Services that take a token once refuse it then.
	ReuseTokens bool
	Now         func() time.Time
	Rand        io.Reader
	Log         *slog.Logger
}

// Fallback is the fallback of the routes: see [xrpc.Options].
func (p *Proxy) Fallback(ctx context.Context, c *xrpc.Call) (*xrpc.Response, error) {
	return nil, xrpc.InvalidRequest("No service configured for " + c.NSID)
}

// Target is where the request c goes: the service that its atproto-proxy header names, or
// standard, which may be none, without one. Its errors are answers (contract §1.1).
func (p *Proxy) Target(ctx context.Context, c *xrpc.Call, standard Service) (Service, error) {
	return standard, nil
}

// PassOn passes the request c on to a service as it came, in the name of did, and returns
// the answer to it; its errors are answers, too (contract §2.6). "" is nobody: no token is
// sent. The token is for the method of c at the service, unless of says otherwise.
func (p *Proxy) PassOn(ctx context.Context, c *xrpc.Call, to Service, did syntax.DID, of ...Token) (*xrpc.Response, error) {
	return nil, xrpc.InvalidRequest("No service configured for " + c.NSID)
}

// A Token is what a service token says.
type Token struct {
	Audience syntax.DID
	Method   string
}

// An Answer is one that is read here before the client gets it, or something else.
type Answer struct {
	// Response is the answer as it came. It is to be returned or closed.
	*xrpc.Response
	// Rev is the account's revision that the service has seen; "" where it does not say.
	Rev string
	// JSON says that the body is JSON, or does not say what it is.
	JSON bool
}

// Ask passes the query c on as PassOn does, for an answer that may have to be read here, so
// that it comes in an encoding which both the client and this server can read (contract §4).
func (p *Proxy) Ask(ctx context.Context, c *xrpc.Call, to Service, did syntax.DID) (*Answer, error) {
	return nil, xrpc.InvalidRequest("No service configured for " + c.NSID)
}

// Read is the body of a, unpacked; it closes a.
func (p *Proxy) Read(a *Answer) ([]byte, error) { return nil, upstream.ErrUnreachable }

// Call makes a call of the server's own: of a query with params, or with the JSON input of
// a procedure, in the name of did; "" is nobody. It returns the JSON that was answered, nil
// for none. Its errors are answers (contract §8).
func (p *Proxy) Call(ctx context.Context, to Service, did syntax.DID, method string, params url.Values, input []byte) ([]byte, error) {
	return nil, xrpc.InvalidRequest("No service configured for " + method)
}
