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
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

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

// String names the service as the atproto-proxy header does.
func (s Service) String() string { return s.DID.String() + "#" + s.ID }

// beside reports whether two services are of the same DID and at the same place.
func (s Service) beside(o Service) bool { return s.DID == o.DID && s.URL == o.URL }

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
	// SigningKey returns db.ErrNotFound when there is no such account.
	SigningKey(ctx context.Context, did syntax.DID) (*atcrypto.PrivateKeyK256, error)
}

// A Sent request went to another service.
type Sent struct {
	// To is one of the constants: who chose the service is not to be counted by its name.
	To     string
	Verb   string
	Status int // of the answer, 0 without one
	Began  time.Time
	Took   time.Duration
}

// The services that requests go to.
const (
	ToAppView    = "appview"
	ToModeration = "moderation" // reports, too
	ToOther      = "other"      // which a client named, or an account's document
)

// observe tells of a request to a service that began and ended with err, or with a status.
func (p *Proxy) observe(ctx context.Context, to Service, verb string, began time.Time, status int, err error) {
	if p.Observe == nil {
		return
	}
	kind := ToOther
	switch {
	case to.beside(p.AppView):
		kind = ToAppView
	case to.beside(p.Moderation), to.beside(p.Reports):
		kind = ToModeration
	}
	if refused, ok := errors.AsType[*upstream.Refused](err); ok {
		status = refused.Status
	} else if err != nil {
		status = 0
	}
	p.Observe(ctx, Sent{kind, verb, status, began, time.Since(began)})
}

// Proxy passes requests on. Its fields may not be changed while it is used; it is safe for
// concurrent use.
type Proxy struct {
	Client *upstream.Client
	// Self is this server. Nothing is passed on to it.
	Self Service
	// Here reports whether a URL is this server under another name; nil: it has none.
	Here func(ctx context.Context, url string) bool
	// AppView, Moderation and Reports are the configured services; each may be none.
	AppView, Moderation, Reports Service
	Documents                    Documents
	Keys                         Keys
	Gate                         *auth.Gate
	Bounds                       Bounds
	// PreferCompressed is for answers that may be read here before they are passed on.
	PreferCompressed bool
	// ReuseTokens lets a token be sent again to the same service for the same method while
	// it is good for 30 seconds more. Services that take a token once refuse it then.
	ReuseTokens bool
	Now         func() time.Time
	Rand        io.Reader
	Log         *slog.Logger
	// Observe is told of each request that went to another service, when the head of its
	// answer has come, or will not. It may be nil.
	Observe func(ctx context.Context, s Sent)

	tokens  tokens
	callers callers
}
