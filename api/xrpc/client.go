package xrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	// MaxAnswer is the largest JSON answer read, in bytes; 0: 5 MiB. Streams are not
	// limited.
	MaxAnswer int64
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
	limit := c.MaxAnswer
	if limit <= 0 {
		limit = defaultMaxAnswer
	}
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

// send makes the request of in.
func (c *Client) send(ctx context.Context, m *Method, in any) (*http.Response, error) {
	var params, input any
	switch v := in.(type) {
	case *None:
	case paired:
		params, input = v.parts()
	case ParamsEncoder:
		params = v
	default:
		input = v
	}
	url := strings.TrimSuffix(c.Host, "/") + "/xrpc/" + m.NSID
	if p, ok := params.(ParamsEncoder); ok {
		var q QueryWriter
		p.EncodeParams(&q)
		if query := q.encoded(); query != "" {
			url += "?" + query
		}
	}
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
	req, err := http.NewRequestWithContext(ctx, m.Kind.verb(), url, body)
	if err != nil {
		return nil, err
	}
	for name, values := range c.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "*/*")
	if c.Authorization != nil {
		value, err := c.Authorization(ctx, m)
		if err != nil {
			return nil, fmt.Errorf("authorize: %w", err)
		}
		if value != "" {
			req.Header.Set("Authorization", value)
		}
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
