package xrpc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Client calls methods of one host. Generated clients embed it. The zero value
// with a Host works; its fields may not be changed while it is used.
type Client struct {
	// Host is the base URL, "https://pds.example.com".
	Host string
	// HTTP sends the requests; nil: http.DefaultClient.
	HTTP *http.Client
	// Authorization returns the value of the Authorization header for a call of m
	// ("Bearer …"); nil or "": none is sent. See Bearer.
	Authorization func(ctx context.Context, m *Method) (string, error)
	// Header is added to every request.
	Header http.Header
	// MaxAnswer is the largest JSON answer, or frame of a subscription, that is read, in
	// bytes; 0: 5 MiB. Streams are not limited.
	MaxAnswer int64
	// PingTime is how often the host of a subscription is pinged. One that gives no sign of
	// life for twice as long is gone. 0: 30 seconds.
	PingTime time.Duration
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
// the network and closed by the caller.
func Do[In, Out any](ctx context.Context, c *Client, m *Method, in *In) (*Out, error) {
	resp, err := c.send(ctx, m, in)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", m.NSID, err)
	}
	out := new(Out)
	if b, ok := any(out).(*Body); ok && resp.StatusCode/100 == 2 {
		*b = Body{ReadCloser: resp.Body, ContentType: resp.Header.Get("Content-Type"), Size: resp.ContentLength}
		return out, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return nil, answeredError(resp)
	}
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
	if err := Unmarshal(m.Output.Schema, b.Bytes(), out); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", m.NSID, err)
	}
	return out, nil
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
// there with another call.
func Subscribe[In, M any](ctx context.Context, c *Client, m *Method, in *In, out *Stream[M]) error {
	params, _ := partsOf(in)
	header, err := c.header(ctx, m)
	if err != nil {
		return fmt.Errorf("call %s: %w", m.NSID, err)
	}
	host := peer{every: cmp.Or(c.PingTime, 30*time.Second)}
	conn, resp, err := websocket.Dial(ctx, c.url(m, params), &websocket.DialOptions{
		HTTPClient: c.HTTP, HTTPHeader: header,
		OnPingReceived: func(context.Context, []byte) bool { host.alive(); return true },
		OnPongReceived: func(context.Context, []byte) { host.alive() },
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= 400 {
			return answeredError(resp)
		}
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
		err = decodeFrame(m.NSID, m.Message, frame, &message)
		if _, said := err.(*Error); err != nil && !said {
			err = fmt.Errorf("subscription %s: %w", m.NSID, err)
		}
		if err == nil {
			err = out.Send(ctx, message)
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

// header is that of a call of m, without what describes a body.
func (c *Client) header(ctx context.Context, m *Method) (http.Header, error) {
	h := http.Header{}
	for name, values := range c.Header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	h.Set("Accept", "*/*")
	if c.Authorization != nil {
		value, err := c.Authorization(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("authorize: %w", err)
		}
		if value != "" {
			h.Set("Authorization", value)
		}
	}
	return h, nil
}

// send makes the request of in.
func (c *Client) send(ctx context.Context, m *Method, in any) (*http.Response, error) {
	params, input := partsOf(in)
	var body io.Reader
	contentType, size := "", int64(-1)
	switch v := input.(type) {
	case nil:
	case *Body:
		if v == nil || v.ReadCloser == nil {
			return nil, errors.New("no body given")
		}
		body, contentType, size = v.ReadCloser, v.ContentType, v.Size
	default:
		if n, ok := v.(Normalizer); ok {
			n.Normalize()
		}
		var b bytes.Buffer // not pooled: the transport may read it after Do returns
		if err := encodeJSON(&b, v); err != nil {
			return nil, fmt.Errorf("encode input: %w", err)
		}
		body, contentType, size = &b, "application/json", int64(b.Len())
	}
	req, err := http.NewRequestWithContext(ctx, m.Kind.verb(), c.url(m, params), body)
	if err != nil {
		return nil, err
	}
	if req.Header, err = c.header(ctx, m); err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", contentType)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	return client.Do(req)
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
