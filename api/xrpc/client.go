package xrpc

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Client calls methods of one host. Generated clients embed it. The zero value
// with a Host works; its fields may not be changed while it is used, but it may be
// copied at any time. What it is told it keeps to itself: credentials and headers are in
// no error, and go to no host but this one, whatever that answers. Queries that are
// redirected to another host are sent there without them, procedures are not sent there.
type Client struct {
	// Host is the base URL, "https://pds.example.com".
	Host string
	// HTTP sends the requests; nil: http.DefaultClient.
	HTTP *http.Client
	// Authorization returns the value of the Authorization header for a call of m
	// ("Bearer …"); nil or "": none is sent. See Bearer. The client of a [Session] does
	// not ask it.
	Authorization func(ctx context.Context, m *Method) (string, error)
	// Header is added to every request. [Client.With] adds to that of some calls.
	Header http.Header
	// MaxAnswer is the largest JSON answer, or frame of a subscription, that is read, in
	// bytes; 0: 5 MiB. Streams are not limited.
	MaxAnswer int64
	// PingTime is how often the host of a subscription is pinged. One that gives no sign of
	// life for twice as long is gone. 0: 30 seconds.
	PingTime time.Duration
	// Lenient takes answers and messages that do not fit the lexicon: those whose strings are
	// of another format, too long or none of the known, whose lists are too long, and that lack
	// what is required or have null there, which is a zero value then. Only what the Go type
	// cannot hold, a text for a number, is still an error. By default all of that is one, so
	// that whatever a call returns is what the lexicon promises. Either way properties and
	// variants of open unions that the lexicon does not know are no error.
	Lenient bool
	// Retry is how patient it is with a host that is busy; the zero value: not at all.
	Retry Retry
	// Clock is what it waits by.
	Clock Clock

	session *Session
	options callOptions
}

// Bearer returns an Authorization for [Client] that always sends token.
func Bearer(token string) func(context.Context, *Method) (string, error) {
	return func(context.Context, *Method) (string, error) { return "Bearer " + token, nil }
}

const (
	defaultMaxAnswer = 5 << 20
	maxErrorAnswer   = 64 << 10
)

// Do calls m. in may be nil for [None]. An error that the host answered is an
// *[Error] with the host's status, name and message; any other error means that
// there was no answer, or none that fits the lexicon. An output [Body] is read from
// the network and closed by the caller; when it breaks off before its end, its Read fails
// with [io.ErrUnexpectedEOF] or another error, never with [io.EOF]. An input Body is read as
// it is sent, and closed in any case; see [NewBody].
func Do[In, Out any](ctx context.Context, c *Client, m *Method, in *In) (*Out, error) {
	resp, err := c.send(ctx, m, in)
	if answered, ok := err.(*Error); ok {
		return nil, answered
	}
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", m.NSID, err)
	}
	out := new(Out)
	if b, ok := any(out).(*Body); ok {
		*b = Body{ReadCloser: resp.Body, ContentType: resp.Header.Get("Content-Type"), Size: resp.ContentLength}
		return out, nil
	}
	defer resp.Body.Close()
	if m.Output == nil {
		return nil, nil
	}
	limit := c.maxAnswer()
	b := getBuffer()
	defer putBuffer(b)
	if _, err := b.ReadFrom(io.LimitReader(resp.Body, limit+1)); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", m.NSID, err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("answer of %s has more than %d bytes", m.NSID, limit)
	}
	if err := c.decode()(m.Output.Schema, b.Bytes(), out); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", m.NSID, err)
	}
	return out, nil
}

func (c *Client) decode() unmarshaler {
	if c.Lenient {
		return decodeLenient
	}
	return Unmarshal
}

func (c *Client) maxAnswer() int64 {
	if c.MaxAnswer <= 0 {
		return defaultMaxAnswer
	}
	return c.MaxAnswer
}

// Subscribe calls the subscription m and sends what comes to out, until the host ends it
// (nil), says why it does (an *[Error]), is silent for too long or sends what is no
// frame, until out fails (its error), or ctx is done. in may be nil for [None]. A host
// that refuses is an *[Error], too. How far it came the caller knows, and can go on from
// there with another call, as a [Follower] does.
func Subscribe[In, M any](ctx context.Context, c *Client, m *Method, in *In, out *Stream[M]) error {
	params, _ := partsOf(in)
	host := peer{every: cmp.Or(c.PingTime, 30*time.Second)}
	conn, err := c.dial(ctx, m, params, &host)
	if answered, ok := err.(*Error); ok {
		return answered
	}
	if err != nil {
		return fmt.Errorf("call %s: %w", m.NSID, err)
	}
	conn.SetReadLimit(c.maxAnswer())
	host.conn = conn
	host.alive()
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer conn.CloseNow()
	defer cancel(nil)
	watch.Go(func() { host.watch(ctx, cancel) })
	for {
		typ, frame, err := conn.Read(ctx)
		switch {
		case websocket.CloseStatus(err) == websocket.StatusNormalClosure, websocket.CloseStatus(err) == websocket.StatusGoingAway:
			return nil
		case err != nil && context.Cause(ctx) != nil:
			return fmt.Errorf("subscription %s: %w", m.NSID, context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("subscription %s: %w", m.NSID, err)
		case typ != websocket.MessageBinary:
			return fmt.Errorf("subscription %s: the host sent text", m.NSID)
		}
		host.busy.Store(true) // nobody hears its answers meanwhile
		var message M
		err = decodeFrame(m.NSID, m.Message, frame, &message, c.decode())
		_, said := err.(*Error)
		switch {
		case err == nil:
			err = out.Send(ctx, message)
		case !said:
			if err = fmt.Errorf("subscription %s: %w", m.NSID, err); out.unreadable != nil {
				err = out.unreadable(ctx, err)
			}
		}
		if err != nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
			return err
		}
		host.alive()
		host.busy.Store(false)
	}
}

// partsOf takes apart what a method is called with; nil stands for what there is not.
func partsOf(in any) (params ParamsEncoder, input any) {
	switch v := in.(type) {
	case *None:
		return nil, nil
	case paired:
		p, input := v.parts()
		params, _ := p.(ParamsEncoder)
		return params, input
	case ParamsEncoder:
		return v, nil
	}
	return nil, in
}

func (c *Client) url(m *Method, params ParamsEncoder) string {
	url := strings.TrimSuffix(c.Host, "/") + "/xrpc/" + m.NSID
	if params != nil {
		var q QueryWriter
		params.EncodeParams(&q)
		if query := q.encoded(); query != "" {
			url += "?" + query
		}
	}
	return url
}

// header is that of a call of m, without what describes a body, and the access token in it,
// when that is one of a session.
func (c *Client) header(ctx context.Context, m *Method) (h http.Header, token string, err error) {
	h = http.Header{}
	for _, given := range []http.Header{c.Header, c.options.header} {
		for name, values := range given {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	h.Set("Accept", "*/*")
	value := ""
	switch {
	case c.session != nil:
		if token, err = c.session.authorize(ctx, c.Host, m); err == nil {
			value = "Bearer " + token
		}
	case c.Authorization != nil:
		value, err = c.Authorization(ctx, m)
	}
	if err != nil {
		return nil, "", fmt.Errorf("authorize: %w", err)
	}
	if value != "" {
		h.Set("Authorization", value)
	}
	return h, token, nil
}

// send makes the request of in, as often as it takes, and returns an answer that is a success.
func (c *Client) send(ctx context.Context, m *Method, in any) (resp *http.Response, err error) {
	params, input := partsOf(in)
	body, err := newSending(input)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	defer body.done()
	url, client := c.url(m, params), c.client(m)
	k := calling{c: c, m: m, repeat: body.repeats()}
	err = k.run(ctx, func(h http.Header) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, m.Kind.verb(), url, nil)
		if err != nil {
			return nil, err
		}
		req.Header = h
		if err := body.put(req); err != nil {
			return nil, err
		}
		if resp, err = client.Do(req); err != nil || resp.StatusCode/100 == 2 {
			return resp, err
		}
		defer resp.Body.Close()
		return resp, answeredError(resp)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// dial opens the connection of a subscription to host.
func (c *Client) dial(ctx context.Context, m *Method, params ParamsEncoder, host *peer) (conn *websocket.Conn, err error) {
	url := c.url(m, params)
	k := calling{c: c, m: m, repeat: true}
	err = k.run(ctx, func(h http.Header) (resp *http.Response, err error) {
		conn, resp, err = websocket.Dial(ctx, url, &websocket.DialOptions{
			HTTPClient: c.client(m), HTTPHeader: h,
			OnPingReceived: func(context.Context, []byte) bool { host.alive(); return true },
			OnPongReceived: func(context.Context, []byte) { host.alive() },
		})
		if err != nil && resp != nil && resp.StatusCode >= 400 {
			return resp, answeredError(resp)
		}
		return resp, err
	})
	return conn, err
}

// answeredError reads {"error","message"}; an answer that is something else still
// gives an Error with the status.
func answeredError(resp *http.Response) error {
	x := &Error{Status: resp.StatusCode, Header: resp.Header}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorAnswer))
	if err != nil {
		x.Cause = err
		return x
	}
	if validate(data) == nil {
		c := checker{data: data}
		if i := c.space(0); data[i] == '{' {
			if at := c.member(i, "error"); at >= 0 && data[at] == '"' {
				x.Name = strings.Clone(c.text(at))
			}
			if at := c.member(i, "message"); at >= 0 && data[at] == '"' {
				x.Message = strings.Clone(c.text(at))
			}
		}
	}
	return x
}
