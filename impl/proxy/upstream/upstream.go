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
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"portico/impl/identity/resolve"
)

// Options of a [Client]; the zero value has the defaults that are named.
type Options struct {
	// Private allows any address, and http: for development. Otherwise a connection is made
	// over TLS to public addresses only, whatever names resolve to when it is made.
	Private bool
	// Own are the origins of the configured services. Many connections to them are kept;
	// to other hosts few are, and not for long.
	Own []string
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
	o          Options
	transports *transports
	unpacking  chan struct{} // has one for each body that is being unpacked
	large      chan struct{} // has one for each that is large and being read
}

// New returns a Client.
func New(o Options) *Client {
	o.HeadersTimeout = cmp.Or(o.HeadersTimeout, 10*time.Second)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 30*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 10<<20)
	return &Client{o: o, transports: newTransports(o), unpacking: make(chan struct{}, 4), large: make(chan struct{}, largeAtATime)}
}

// Send passes r on and returns the answer to it when its header is there. It fails with
// [ErrUnreachable] or a *[Refused], of which at most 64 KiB were read, or, where reading
// r.Body failed, with an error that wraps that one. The request ends when ctx does, with
// its answer. Redirects are answers as others, which say not where to.
//
// r.Body is not read any more once Send has failed or the answer is closed.
func (c *Client) Send(ctx context.Context, r *Request) (*Answer, error) {
	return c.send(ctx, r, requestHeader(r))
}

func (c *Client) send(ctx context.Context, r *Request, header http.Header) (*Answer, error) {
	target, err := c.parse(r.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	again := 0
	if r.Verb == http.MethodGet || r.Verb == http.MethodHead {
		again = c.o.Retries
	}
	for pause := retryPause; ; pause *= 2 {
		answer, err := c.once(ctx, r, target, header)
		if err == nil || again == 0 || !socketFailed(err) {
			return answer, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
		again--
	}
}

// once sends a request once. The transport itself tries again where a connection that it
// used before turns out to have been closed in the meantime: then nobody has seen the
// request, or it is a GET or HEAD, and that is no failure of the host that Options.Retries
// is about.
func (c *Client) once(ctx context.Context, r *Request, target *target, header http.Header) (*Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := newWatch(cancel, c.o.HeadersTimeout)
	request := &http.Request{
		Method: r.Verb, URL: target.url, Host: target.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	var body *upload
	if r.Verb == http.MethodPost && r.Body != nil && r.Size != 0 {
		body = &upload{watch: w, turn: make(chan struct{}, 1), body: r.Body}
		request.Body, request.ContentLength = body, r.Size
	}
	res, err := target.transport.RoundTrip(request.WithContext(ctx))
	w.header(c.o.BodyTimeout)
	if err == nil && res.StatusCode < 200 {
		res.Body.Close()
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(errEnded)
		if failed := body.end(); failed != nil {
			return nil, fmt.Errorf("read request to upstream service: %w", failed)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	download := &download{body: res.Body, left: c.o.MaxAnswer, watch: w, ctx: ctx, upload: body}
	if res.StatusCode >= 400 {
		return nil, c.refusal(res, download)
	}
	return &Answer{Status: res.StatusCode, Header: answerHeader(res.Header), Body: download, Size: res.ContentLength}, nil
}

// Where a connection failed, the next is tried after this time, and twice of it each time.
const retryPause = 100 * time.Millisecond

// socketFailed reports whether err is of a connection, and not of what was said on it.
func socketFailed(err error) bool {
	if errors.Is(err, resolve.ErrForbiddenAddress) {
		return false
	}
	_, broken := errors.AsType[*net.OpError](err)
	return broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// A target is where a request goes.
type target struct {
	url       *url.URL
	transport *http.Transport
}

// parse takes the path and the query of a URL as they are: package url would write them
// in its own way.
func (c *Client) parse(text string) (*target, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || rest == "" {
		return nil, errors.New("no URL")
	}
	path := ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest, path = rest[:i], rest[i:]
	}
	origin := scheme + "://" + rest
	u, err := url.Parse(origin)
	switch {
	case err != nil:
		return nil, errors.New("no URL")
	case u.User != nil || u.Hostname() == "":
		return nil, errors.New("no host to connect to")
	case u.Scheme != "https" && !(u.Scheme == "http" && c.o.Private):
		return nil, fmt.Errorf("scheme %q", u.Scheme)
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return nil, errors.New("no path")
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return nil, errors.New("a blank in the path")
	}
	u.Opaque = path
	return &target{u, c.transports.to(origin)}, nil
}

const (
	// small is how large an answer may be that is read without waiting, in bytes, as it is
	// sent and unpacked. Larger ones are read so many at a time, or hosts of strangers could
	// fill the memory here; one waits for the others for some time.
	small         = 512 << 10
	largeAtATime  = 8
	largePatience = 5 * time.Second
)

var errCrowded = errors.New("too many large answers at a time")

// Read reads the body of a whole, unpacked, and closes it. It fails with [ErrUnreachable]
// when that breaks off or is larger than Options.MaxAnswer, and when it is larger than 512
// KiB and there are too many of those, or comes too slowly for one.
func (c *Client) Read(a *Answer) ([]byte, error) {
	defer a.Body.Close()
	text, err := c.read(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return text, nil
}

func (c *Client) read(a *Answer) ([]byte, error) {
	var sent bytes.Buffer
	if _, err := io.CopyN(&sent, a.Body, small+1); err != nil && err != io.EOF {
		return nil, err
	}
	encodings := a.Header["Content-Encoding"]
	if most := min(small, c.o.MaxAnswer); int64(sent.Len()) <= most {
		text, err := c.unpack(sent.Bytes(), encodings, most)
		if !errors.Is(err, errTooLarge) || most == c.o.MaxAnswer {
			return text, err
		}
	}
	timeout := time.NewTimer(largePatience)
	defer timeout.Stop()
	select {
	case c.large <- struct{}{}:
		defer func() { <-c.large }()
	case <-timeout.C:
		return nil, errCrowded
	}
	// Nobody holds a place for longer than it may take to be silent.
	end := time.AfterFunc(c.o.BodyTimeout, func() { a.Body.Close() })
	defer end.Stop()
	if _, err := sent.ReadFrom(a.Body); err != nil {
		return nil, err
	}
	return c.unpack(sent.Bytes(), encodings, c.o.MaxAnswer)
}

// unpack is unpack, for few at a time: an encoding may take megabytes for some bytes.
func (c *Client) unpack(text []byte, encodings []string, most int64) ([]byte, error) {
	if len(encodings) == 0 {
		return text, nil
	}
	c.unpacking <- struct{}{}
	defer func() { <-c.unpacking }()
	return unpack(text, encodings, most)
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

// Do makes a call and returns the JSON that was answered, unpacked; nil where the method
// has no output. It fails as Send and Read do, and with [ErrUnreachable] for a redirect.
func (c *Client) Do(ctx context.Context, call *Call) ([]byte, error) {
	header := http.Header{
		"Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Accept-Language": {"*"}, "User-Agent": {"Portico"},
	}
	if call.Output {
		header["Accept"] = []string{"application/json"}
	}
	if call.Token != "" {
		header["Authorization"] = []string{"Bearer " + call.Token}
	}
	r := &Request{Verb: http.MethodGet, URL: call.URL}
	if call.Input != nil {
		header["Content-Type"] = []string{"application/json"}
		r.Verb, r.Body, r.Size = http.MethodPost, bytes.NewReader(call.Input), int64(len(call.Input))
	}
	answer, err := c.send(ctx, r, header)
	if err != nil {
		return nil, err
	}
	if answer.Status >= 300 {
		answer.Body.Close()
		return nil, fmt.Errorf("%w: status %d", ErrUnreachable, answer.Status)
	}
	text, err := c.Read(answer)
	if err != nil || !call.Output {
		return nil, err
	}
	return text, nil
}
