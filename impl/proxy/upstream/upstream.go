// Package upstream sends requests to other services of the network: app views, moderation
// services, chat, feed generators, whatever a DID document names.
//
// A request is passed on with few of the client's headers and none of its credentials, its
// body is streamed as it comes; so is the answer, with few of its headers. What the server
// asks for itself is read whole. Hosts are named by strangers, so connections go to public
// addresses and over TLS, see [Options.Private], and everything that a host sends has a
// bound. The package knows nothing of accounts and routes; it is safe for concurrent use.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Options of a [Client]; the zero value has the defaults that are named.
type Options struct {
	// Private allows any address, and http: for development. Otherwise a connection is made
	// over TLS to public addresses only, whatever names resolve to when it is made.
	Private bool
	// HTTP2 lets hosts that speak it be spoken to in HTTP/2.
	HTTP2 bool
	// HeadersTimeout is how long a host may take to answer its header, from when the request
	// is begun; a host that still reads a body is not late. 0: 10 seconds.
	HeadersTimeout time.Duration
	// BodyTimeout is how long a host may be silent within a body. 0: 30 seconds.
	BodyTimeout time.Duration
	// MaxAnswer is how large a body may be as it is sent, and unpacked where it is read here,
	// in bytes. 0: 10 MiB.
	MaxAnswer int64
	// Retries is how often a GET or HEAD is tried again whose connection failed before an
	// answer came.
	Retries int
}

// ErrUnreachable says that there was no answer: nobody listens, the host may not be
// asked, the connection was closed before the header, or that took too long.
var ErrUnreachable = errors.New("upstream service unreachable")

// Refused is an answer of 400 and more.
type Refused struct {
	Status     int
	Name       string // its "error"; "" where there was none
	Message    string // its "message"; "" where there was none
	RetryAfter string // the header; "" where there was none
}

// Error describes it for the log.
func (r *Refused) Error() string {
	return fmt.Sprintf("upstream service answered %d %s %q", r.Status, r.Name, r.Message)
}

// A Request is one that a client made and another service is to answer.
type Request struct {
	Verb string // GET, HEAD or POST
	// URL is the origin of the service with the path and the query of the client, byte for
	// byte.
	URL string
	// Header is the client's. Of it the service gets what contract §2.5 lists, no more.
	Header http.Header
	// Encodings is the accept-encoding that the service is sent; "" for the client's.
	Encodings string
	// Token is the service token, "" for none.
	Token string
	// Body and Size are the client's, of POST only; see http.Request.ContentLength.
	Body io.Reader
	Size int64
}

// An Answer is one below 400, whose body is still to come.
type Answer struct {
	Status int
	Header http.Header // what a client may see of it, contract §2.6
	// Body fails when the host is silent for too long, sends too much, or breaks off. The
	// reader closes it.
	Body io.ReadCloser
	Size int64 // of Body in bytes, -1 if unknown
}

// Client sends requests. Make one with [New].
type Client struct {
	o       Options
	forward *http.Client // of what is passed on: what is compressed stays so
}

// New returns a Client.
func New(o Options) *Client {
	return &Client{o: o}
}

// Send passes r on and returns the answer to it when its header is there. It fails with
// [ErrUnreachable] or a *[Refused], of which at most 64 KiB were read. The request ends
// when ctx does, with its answer. Redirects are answers as others.
func (c *Client) Send(ctx context.Context, r *Request) (*Answer, error) {
	return nil, ErrUnreachable
}

// Read reads the body of a whole, unpacked, and closes it. It fails with [ErrUnreachable]
// when that breaks off or is larger than Options.MaxAnswer.
func (c *Client) Read(a *Answer) ([]byte, error) {
	return nil, ErrUnreachable
}

// A Call is one that the server makes for itself (contract §8).
type Call struct {
	URL   string // origin, path and query
	Token string // the service token, "" for none
	// Input is the JSON that a procedure is given; nil: the call is of a query.
	Input []byte
	// Output says that the method has one.
	Output bool
}

// Do makes a call and returns the JSON that was answered, unpacked. It fails as Send and
// Read do.
func (c *Client) Do(ctx context.Context, call *Call) ([]byte, error) {
	return nil, ErrUnreachable
}
