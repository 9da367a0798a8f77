package xrpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"
)

// The largest bodies when a policy says nothing, in bytes.
const (
	defaultMaxJSON   = 150 << 10
	defaultMaxUpload = 5 << 20
)

// Handler is a method that is ready to be put on its route; see [Handle].
type Handler struct {
	route      Route
	method     *Method
	middleware []echo.MiddlewareFunc
	notServed  bool
	err        error // all that is wrong with its policy
	serve      func(ctx context.Context, s *Server, c *Call, e echo.Context) error
}

// Handle makes m, decided by p and done by f, ready for its route. In is [None], the
// parameters' type, the input's type, [Body], or [Args] of two of them; Out is [None], the
// output's type, or [Body]. What is undecided in p, or does not fit, is said by [Routes.Err].
// With the policy [NotServed] there will be no route, and f is never called.
func Handle[In, Out any](m *Method, p Policy[In], f func(context.Context, *In) (*Out, error)) Handler {
	h := p.handler(m)
	if h.notServed {
		return h
	}
	if m.Kind == Subscription {
		h.refuse(fmt.Errorf("%s: a subscription is handled by HandleSubscription", m.NSID))
	}
	read, err := reader[In](m)
	h.refuse(err)
	write, err := writer[Out](m)
	h.refuse(err)
	if h.err != nil {
		return h
	}

	maxBody := p.MaxBody
	switch {
	case m.Input == nil:
		maxBody = 0
	case maxBody == 0 && m.Input.Schema != nil:
		maxBody = defaultMaxJSON
	case maxBody == 0:
		maxBody = defaultMaxUpload
	}
	h.route.MaxBody = maxBody
	counters := p.counters(m)
	global := m.NSID != "com.atproto.sync.getRepo"

	h.serve = func(ctx context.Context, s *Server, c *Call, e echo.Context) error {
		in := new(In)
		params, input := read(in)
		if err := readParams(m, c, p.LooseParams, params); err != nil {
			return err
		}
		ctx, err := p.Auth.Authenticate(ctx, c)
		if err != nil {
			return err
		}
		if err := s.readBody(ctx, c, e, m.Input, maxBody, input); err != nil {
			return err
		}
		if !s.bypassed(c) {
			if err := s.take(ctx, c, counters(ctx, c, in), global); err != nil {
				return err
			}
		}
		out, err := f(ctx, in)
		switch answer := err.(type) {
		case *Response:
			return writeResponse(e, answer)
		case JSON:
			return s.writeText(e, m, &prepared{text: answer})
		case *prepared:
			return s.writeText(e, m, answer)
		}
		if err != nil {
			return declared(m, err)
		}
		return write(s, e, out)
	}
	return h
}

// refuse notes that the method cannot be put on a route, unless err is nil.
func (h *Handler) refuse(err error) { h.err = errors.Join(h.err, err) }

// handler is what p says about m, without a way to serve it. Its error names everything
// that p leaves open, or that contradicts itself.
func (p Policy[In]) handler(m *Method) Handler {
	h := Handler{method: m, middleware: p.Middleware, notServed: p.notServed}
	if p.notServed {
		if p.Auth != nil || p.Limits != nil || p.MaxBody != 0 || p.Middleware != nil {
			h.refuse(fmt.Errorf("%s: policy is xrpc.NotServed and says who may call it", m.NSID))
		}
		return h
	}
	if p.Auth == nil {
		h.refuse(fmt.Errorf("%s: policy names no Auth (use xrpc.Public to let anyone call it)", m.NSID))
	}
	if p.Limits == nil {
		h.refuse(fmt.Errorf("%s: policy names no Limits (use xrpc.GlobalLimitOnly to have none of its own)", m.NSID))
	}
	for _, l := range p.Limits {
		if l.Points <= 0 || l.Per <= 0 {
			h.refuse(fmt.Errorf("%s: limit %q allows %d calls in %v", m.NSID, l.Name, l.Points, l.Per))
		}
		h.route.Limits = append(h.route.Limits, RouteLimit{l.Name, l.Points, l.Per, l.Key == nil})
	}
	h.route.NSID, h.route.Kind = m.NSID, m.Kind
	if p.Auth != nil {
		h.route.Auth = p.Auth.String()
	}
	return h
}

// counters returns what counts a call of m, with room for one more.
func (p Policy[In]) counters(m *Method) func(ctx context.Context, c *Call, in *In) []Counter {
	names := make([]string, len(p.Limits))
	for i, l := range p.Limits {
		names[i] = l.Name + "|" + strconv.Itoa(l.Points) + "/" + l.Per.String()
		if !l.Shared {
			names[i] = m.NSID + "|" + names[i]
		}
	}
	return func(ctx context.Context, c *Call, in *In) []Counter {
		counters := make([]Counter, len(p.Limits), len(p.Limits)+1)
		for i, l := range p.Limits {
			who := ""
			if l.Key != nil {
				who = l.Key(ctx, in)
			} else {
				who = c.IPKey()
			}
			counters[i] = Counter{counterKey(names[i], who), l.Points, l.Per, 0}
			if l.More != nil {
				counters[i].More = l.More(in)
			}
		}
		return counters
	}
}

// readParams fills params from the query string of c.
func readParams(m *Method, c *Call, loose bool, params ParamsDecoder) error {
	if m.Params == nil {
		return nil
	}
	c.values.pairs = c.pairs[:0]
	if issue := parseParams(m.Params, c.Request.URL.RawQuery, loose, &c.values); issue != nil {
		return InvalidRequest("Invalid " + m.NSID + " params: " + issue.Text)
	}
	params.DecodeParams(&c.values)
	return nil
}

// declared lets an error of a handler of m pass if its name is known to m.
func declared(m *Method, err error) error {
	x, ok := errors.AsType[*Error](err)
	if !ok || x.own || x.Foreign || m.mayAnswer(x.name()) {
		return err
	}
	return &Error{
		Status: http.StatusInternalServerError,
		Cause:  fmt.Errorf("%s does not declare the error it answered: %w", m.NSID, err),
	}
}

// reader resolves how an In is filled: from what params are decoded, and into what
// the body is, nil each when there is none.
func reader[In any](m *Method) (func(*In) (ParamsDecoder, any), error) {
	parts := func(in *In) (params, input any) {
		switch v := any(in).(type) {
		case *None:
			return nil, nil
		case paired:
			return v.parts()
		case ParamsDecoder:
			return v, nil
		default:
			return nil, v
		}
	}
	params, input := parts(new(In))
	decoder, isDecoder := params.(ParamsDecoder)
	_, isBody := input.(*Body)
	switch {
	case params != nil && !isDecoder, (decoder != nil) != (m.Params != nil):
		return nil, fmt.Errorf("%s: %T does not hold the method's parameters", m.NSID, new(In))
	case (input != nil) != (m.Input != nil), input != nil && isBody != (m.Input.Schema == nil):
		return nil, fmt.Errorf("%s: %T does not hold the method's input", m.NSID, new(In))
	}
	return func(in *In) (ParamsDecoder, any) {
		params, input := parts(in)
		decoder, _ := params.(ParamsDecoder)
		return decoder, input
	}, nil
}

// writer resolves how an Out is answered.
func writer[Out any](m *Method) (func(*Server, echo.Context, *Out) error, error) {
	_, none := any(new(Out)).(*None)
	_, body := any(new(Out)).(*Body)
	if none != (m.Output == nil) || !none && body != (m.Output.Schema == nil) {
		return nil, fmt.Errorf("%s: %T does not hold the method's output", m.NSID, new(Out))
	}
	if none {
		return func(_ *Server, e echo.Context, _ *Out) error { return writeNothing(e) }, nil
	}
	noOutput := fmt.Errorf("%s: handler returned neither output nor error", m.NSID)
	return func(s *Server, e echo.Context, out *Out) error {
		if out == nil {
			return noOutput
		}
		if b, ok := any(out).(*Body); ok {
			return writeBody(e, m, b)
		}
		return s.writeOutput(e, m, out)
	}, nil
}

// WithoutInput adapts a method that takes neither parameters nor a body.
func WithoutInput[Out any](f func(context.Context) (*Out, error)) func(context.Context, *None) (*Out, error) {
	return func(ctx context.Context, _ *None) (*Out, error) { return f(ctx) }
}

// WithoutOutput adapts a method that answers no body.
func WithoutOutput[In any](f func(context.Context, *In) error) func(context.Context, *In) (*None, error) {
	return func(ctx context.Context, in *In) (*None, error) { return nil, f(ctx, in) }
}

// WithoutBoth adapts a method that takes nothing and answers no body.
func WithoutBoth(f func(context.Context) error) func(context.Context, *None) (*None, error) {
	return func(ctx context.Context, _ *None) (*None, error) { return nil, f(ctx) }
}

// WithParams adapts a method that takes parameters and a body.
func WithParams[P, I, Out any](f func(context.Context, *P, *I) (*Out, error)) func(context.Context, *Args[P, I]) (*Out, error) {
	return func(ctx context.Context, in *Args[P, I]) (*Out, error) { return f(ctx, &in.Params, &in.Input) }
}

// WithParamsWithoutOutput adapts a method that takes parameters and a body and
// answers no body.
func WithParamsWithoutOutput[P, I any](f func(context.Context, *P, *I) error) func(context.Context, *Args[P, I]) (*None, error) {
	return func(ctx context.Context, in *Args[P, I]) (*None, error) { return nil, f(ctx, &in.Params, &in.Input) }
}
