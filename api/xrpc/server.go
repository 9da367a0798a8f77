package xrpc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

// Options of a [Server]. The zero value is a server without limits.
type Options struct {
	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now

	// Callers returns how those who call are counted and told apart at the moment. What it
	// returned is not changed; another may take its place at any time. nil: the zero value.
	Callers func() *Callers

	// BodyTime is how long a client may take to send a body, or each part of one that
	// is read as a stream. 0: 30 seconds.
	BodyTime time.Duration
	// WriteTime is how long a client may take to read each 16 KiB of an answer. 0: 30
	// seconds.
	WriteTime time.Duration
	// PingTime is how often the consumer of a subscription is pinged. One that gives no
	// sign of life for twice as long is gone. 0: 30 seconds.
	PingTime time.Duration
	// Subscriptions is how many may be open at a time, 0: 4000, and SubscriptionsPerIP how
	// many of them one address may have, 0: 100.
	Subscriptions, SubscriptionsPerIP int

	// CheckOutput checks every answer against its table and turns one that does not fit
	// into a 500; for development.
	CheckOutput bool

	// Fallback answers for methods that nobody handles here, with an answer of another
	// server if it likes. Its requests are GET, HEAD or POST, of a plausible name, and counted
	// by the global limit; their bodies are read with [Call.Body]. nil: 501
	// MethodNotImplemented.
	Fallback func(ctx context.Context, c *Call) (*Response, error)
	// Sending is told of a request, by its context, of which nothing is left than to send an
	// answer that may take its client long. nil: nobody wants to know.
	Sending func(ctx context.Context)
	// Health tells whether the server can work; nil: it can.
	Health func(context.Context) error
	// Version is what /xrpc/_health answers.
	Version string
	// Pages are paths at and below which e has pages that no other origin may read:
	// what is answered there allows none, preflights and errors too.
	Pages []string
	// Unlogged are paths below which names are secrets: the log has what is behind them as "…".
	Unlogged []string
}

// An Observer is told of requests, see [Server.Observe], by the goroutine that serves each.
type Observer interface {
	// Begin is told of a request before anything is done with it: of c, the Request and the IP are
	// known. What ctx, which it returns, has in values the context of the request has from then on;
	// it must not end before ctx does.
	Begin(ctx context.Context, c *Call) context.Context
	// End is told of it when it is answered, with the status that the log has. ctx is what Begin
	// returned.
	End(ctx context.Context, c *Call, status int, took time.Duration)
}

// Callers are how those who call are counted, and told apart.
type Callers struct {
	// Limiter counts requests; nil switches all limits off.
	Limiter Limiter
	// A request with this value in x-ratelimit-bypass is not counted; "" is no key.
	BypassKey string
	// Requests of these addresses are not counted, and as peers they are trusted to
	// forward the address of their client.
	BypassIPs []netip.Addr
	// TrustedProxies is the number of proxies in front of the server. 0: a peer of the
	// own network (loopback, link-local, private) is trusted.
	TrustedProxies int
}

// Server serves XRPC methods on an echo instance. Methods are put on it with
// [Server.On], before the first request.
type Server struct {
	o      Options
	served map[string]served // by path, and by path in lower case
	list   []Route

	decoding      decoding
	subscriptions subscriptions

	observer Observer // nil until Observe

	healthy *prepared   // what _health answers where all is well
	ending  atomic.Bool // see Ending
}

// served is what the router knows at a path below /xrpc/.
type served struct {
	path   string
	method *Method // nil: no method
}

// Route describes a method that is served, for a list of who may call what.
type Route struct {
	NSID    string
	Kind    Kind
	Auth    string
	Limits  []RouteLimit
	MaxBody int64 // bytes; 0 when the method takes no body
}

// RouteLimit describes one limit of a method.
type RouteLimit struct {
	Name   string
	Points int
	Per    time.Duration
	ByIP   bool // counted by address; otherwise by a key of its own
}

// What all routes have their paths below.
const prefix = "/xrpc/"

const healthPath = prefix + "_health"

// NewServer prepares e: it installs the one HTTPErrorHandler, the one IPExtractor, CORS, the
// request log and X-Request-Id, which names a request there, recovery from panics, and below
// /xrpc/ the route of _health and the one for what no other route serves. Routes outside of
// it may be added to e; their errors are written by the same handler. Middleware of e (Use),
// of groups and of routes runs inside of all that; its requests have a [Call].
func NewServer(e *echo.Echo, o Options) *Server {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Callers == nil {
		o.Callers = func() *Callers { return new(Callers) }
	}
	o.BodyTime = cmp.Or(o.BodyTime, 30*time.Second)
	o.WriteTime = cmp.Or(o.WriteTime, 30*time.Second)
	o.PingTime = cmp.Or(o.PingTime, 30*time.Second)
	s := &Server{o: o, served: make(map[string]served), decoding: newDecoding()}
	s.subscriptions.init(cmp.Or(o.Subscriptions, 4000), cmp.Or(o.SubscriptionsPerIP, 100))
	e.HTTPErrorHandler = s.writeError
	e.IPExtractor = func(r *http.Request) string {
		now := o.Callers()
		return clientIP(r, parseIP(r.RemoteAddr), now.TrustedProxies, now.BypassIPs).String()
	}
	e.Pre(s.around)
	var healthy bytes.Buffer
	if err := encodeJSON(&healthy, &healthAnswer{Version: o.Version}); err != nil {
		panic(err) // a string always encodes
	}
	s.healthy = prepare(healthy.Bytes())
	s.served[healthPath] = served{path: healthPath}
	e.GET(healthPath, s.health).Name = "health"
	e.HEAD(healthPath, s.health).Name = "health"
	e.RouteNotFound(prefix+"*", s.notServed).Name = "not served"
	return s
}

// Observe lets o be told of all requests. It is called before the first one.
func (s *Server) Observe(o Observer) { s.observer = o }

// Ending says that the server gives up what requests need. What fails for that, or for
// anything inside of it, is no error from now on, but to be tried again, which finds another
// process.
func (s *Server) Ending() { s.ending.Store(true) }

// Methods returns the methods that are served, sorted by NSID.
func (s *Server) Methods() []Route {
	list := slices.Clone(s.list)
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.NSID, b.NSID) })
	return list
}

// around surrounds every request of e: it makes the Call, answers preflights and errors,
// and writes the one log line.
func (s *Server) around(next echo.HandlerFunc) echo.HandlerFunc {
	return func(e echo.Context) error {
		r, w := e.Request(), e.Response()
		peer, now := parseIP(r.RemoteAddr), s.o.Callers()
		c := &Call{
			IP:        clientIP(r, peer, now.TrustedProxies, now.BypassIPs),
			callers:   now,
			id:        newRequestID(),
			header:    w.Header(),
			connected: r.Context(),
			start:     s.o.Now(),
			sending:   s.o.Sending,
			forwarded: now.TrustedProxies > 0 || trustedPeer(peer, now.BypassIPs),
			body:      s.bodyClock(r, w.Writer),
			answer:    answerWriter{ResponseWriter: w.Writer, time: s.o.WriteTime},
		}
		c.Request = r.WithContext((*callContext)(c))
		e.SetRequest(c.Request)
		if s.observer != nil {
			c.connected = s.observer.Begin(c.connected, c)
		}
		if c.body.connection != nil {
			c.body.start()
			c.answer.begin()
		}
		w.Writer = &c.answer
		c.header["X-Request-Id"] = c.value(c.id)
		method := below(r.URL.Path)
		page := !method && s.isPage(r.URL.Path)
		if !page {
			c.header["Access-Control-Allow-Origin"] = allowAny
		}
		defer func() {
			for i := len(c.atEnd) - 1; i >= 0; i-- { // slices.Backward takes memory
				c.atEnd[i]()
			}
			status := e.Response().Status
			if c.answer.failed != nil {
				status = statusClientGone
			}
			took := s.o.Now().Sub(c.start)
			if s.observer != nil {
				s.observer.End(c.connected, c, status, took)
			}
			s.log(c, status, took)
		}()
		if r.Method == http.MethodOptions && !page {
			preflight(c.header, r)
			return e.NoContent(http.StatusNoContent)
		}
		if method {
			c.header["Cross-Origin-Resource-Policy"] = crossOrigin
			if err := refuseBrowser(r); err != nil {
				s.writeError(err, e)
				return nil
			}
		}
		s.recognize(c, r.URL)
		if err := recovered(next, e, c); err != nil {
			half := w.Committed
			s.writeError(err, e)
			if half && c.stack != nil {
				panic(http.ErrAbortHandler) // half an answer must not look whole
			}
		}
		return nil
	}
}

// newRequestID names a request in the log and to its client. It is random: a number that
// counts would tell everybody how much others ask.
func newRequestID() string {
	const digits = "0123456789abcdef"
	var id [16]byte
	n := rand.Uint64()
	for i := range id {
		id[i] = digits[n>>(60-4*i)&15]
	}
	return string(id[:])
}

// isPage reports whether a path is one of Options.Pages or below one.
func (s *Server) isPage(path string) bool {
	for _, p := range s.o.Pages {
		if strings.HasPrefix(path, p) && (len(path) == len(p) || path[len(p)] == '/') {
			return true
		}
	}
	return false
}

// recovered makes an error of a panic: one that says nothing to a client, whatever it was.
func recovered(next echo.HandlerFunc, e echo.Context, c *Call) (err error) {
	defer func() {
		switch reason := recover(); reason {
		case nil:
		case http.ErrAbortHandler:
			panic(reason)
		default:
			stack := make([]byte, 64<<10)
			c.stack = stack[:runtime.Stack(stack, false)]
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	return next(e)
}

func preflight(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
	if want := r.Header.Get("Access-Control-Request-Headers"); want != "" {
		h.Set("Access-Control-Allow-Headers", want)
	}
	h.Set("Vary", "Access-Control-Request-Headers")
	h.Set("Access-Control-Max-Age", "86400")
	h.Set("Content-Length", "0")
}

// statusClientGone is what the log shows for a client that hung up.
const statusClientGone = 499

func (s *Server) log(c *Call, status int, took time.Duration) {
	level := slog.LevelInfo
	if c.err != nil && c.err.isFault() {
		level = slog.LevelError
	}
	if !s.o.Logger.Enabled(c.Request.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 11)
	switch {
	case c.Method != nil:
		attrs = append(attrs, slog.String("method", c.Method.NSID))
	case c.passed != "":
		attrs = append(attrs, slog.String("method", c.NSID))
	default:
		attrs = append(attrs, slog.String("path", s.logged(c.Request.URL.Path)))
	}
	if c.passed != "" {
		attrs = append(attrs, slog.String("service", c.passed))
	}
	attrs = append(attrs,
		slog.String("verb", c.Request.Method),
		slog.Int("status", status),
		// Not slog.Duration, which is a number of nanoseconds in JSON, and in text each time of another unit.
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("request", c.id),
		slog.String("remote", c.IP.String()),
	)
	if c.err != nil {
		name := c.err.name()
		attrs = append(attrs, slog.String("error", name[:min(len(name), 100)])) // another server may have chosen it
		if c.err.Cause != nil {
			attrs = append(attrs, slog.String("cause", c.err.Cause.Error()))
		}
	}
	if c.stack != nil {
		attrs = append(attrs, slog.String("stack", string(c.stack)))
	}
	// Not by LogAttrs, which looks for the place in the source, a tenth of what a line costs.
	r := slog.NewRecord(time.Now(), level, "request", 0)
	r.AddAttrs(attrs...)
	_ = s.o.Logger.Handler().Handle(c.Request.Context(), r)
}

// logged is a path as the log has it.
func (s *Server) logged(path string) string {
	for _, p := range s.o.Unlogged {
		if n := len(p) + 1; len(path) > n && strings.EqualFold(path[:n], p+"/") {
			return path[:n] + "…"
		}
	}
	return path
}

// recognize finds what c is for, and spells its path as the router has it: names match in
// any case, and with one slash behind. So whatever decides by a path, middleware too, sees
// one spelling.
func (s *Server) recognize(c *Call, u *url.URL) {
	path := cmp.Or(u.RawPath, u.Path)
	if len(path) < len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) {
		return
	}
	known, ok := s.served[path]
	if !ok {
		known, ok = s.served[strings.ToLower(strings.TrimSuffix(path, "/"))]
	}
	if !ok && !strings.HasPrefix(path, prefix) {
		return
	}
	c.NSID = strings.TrimSuffix(path[len(prefix):], "/")
	if ok {
		c.Method, u.Path, u.RawPath = known.method, known.path, ""
	}
}

// notServed answers what no route does: wrong verbs, paths that are no names, and names of
// methods that nobody handles here.
func (s *Server) notServed(e echo.Context) error {
	r := e.Request()
	c := CallFrom(r.Context())
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	if c.Method != nil && c.Method.Kind != Subscription && (get || r.Method == http.MethodPost) {
		return InvalidRequest("Incorrect HTTP method (" + r.Method + ") expected " + c.Method.Kind.verb())
	}
	if !plausible(c.NSID) {
		return InvalidRequest("invalid xrpc path")
	}
	if !s.bypassed(c) {
		if err := s.take(r.Context(), c, nil, true); err != nil {
			return err
		}
	}
	if !get && r.Method != http.MethodPost {
		return InvalidRequest("XRPC requests only supports GET and POST")
	}
	if s.o.Fallback == nil {
		return MethodNotImplemented()
	}
	answer, err := s.o.Fallback(r.Context(), c)
	if err != nil {
		return err
	}
	return writeResponse(e, answer)
}

// plausible reports whether s could be an NSID, as the proxy sees it: at least two
// letters, digits, dots and hyphens, the latter two neither first, last nor in a row.
func plausible(s string) bool {
	separator := true
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9':
			separator = false
		case (c == '.' || c == '-') && !separator:
			separator = true
		default:
			return false
		}
	}
	return len(s) >= 2 && !separator
}

func (s *Server) health(e echo.Context) error {
	ctx := e.Request().Context()
	var err error
	if s.o.Health != nil {
		err = s.o.Health(ctx)
	}
	if err == nil {
		return writeBytes(e, http.StatusOK, jsonTypes, s.healthy)
	}
	status := http.StatusServiceUnavailable
	answer := healthAnswer{s.o.Version, "Service Unavailable"}
	CallFrom(ctx).err = &Error{Status: status, Name: answer.Error, Cause: err}
	return writeJSON(e, status, &answer)
}

type healthAnswer struct {
	Version string `json:"version"`
	Error   string `json:"error,omitzero"`
}

// writeError is the one HTTPErrorHandler.
func (s *Server) writeError(err error, e echo.Context) {
	r := e.Request()
	c := CallFrom(r.Context())
	if c == nil { // a request that did not come through around
		c = &Call{Request: r, header: e.Response().Header()}
	}
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		if he.Code == http.StatusNotFound || he.Code == http.StatusMethodNotAllowed {
			if !e.Response().Committed {
				s.notFound(e)
			}
			return
		}
		err = &Error{Status: he.Code, Cause: he.Internal}
	}
	x := asError(err)
	if x.status() == http.StatusInternalServerError && s.ending.Load() {
		x = NotEnoughResources(time.Second).Because(err)
	}
	c.err = x
	if e.Response().Committed {
		return
	}
	for name, values := range x.Header {
		c.header[http.CanonicalHeaderKey(name)] = values
	}
	name, message := x.shown()
	status := x.status()
	if err := writeFailure(e, status, name, message); err != nil {
		c.err = &Error{Status: status, Name: name, Cause: errors.Join(x.Cause, err)}
	}
}

func writeFailure(e echo.Context, status int, name, message string) error {
	if !plainText(name) || !plainText(message) {
		return writeJSON(e, status, &struct {
			Error   string `json:"error"`
			Message string `json:"message"`
		}{name, message})
	}
	b := getBuffer()
	defer putBuffer(b)
	for _, part := range [...]string{`{"error":"`, name, `","message":"`, message, `"}`} {
		b.WriteString(part)
	}
	return writeBytes(e, status, jsonTypes, &prepared{text: b.Bytes()})
}

// plainText reports whether s is written in JSON as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// notFound is the page for paths outside of XRPC.
func (s *Server) notFound(e echo.Context) {
	r := e.Request()
	h := e.Response().Header()
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	page := "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>Cannot " +
		html.EscapeString(r.Method+" "+r.URL.EscapedPath()) + "</pre>\n</body>\n</html>\n"
	// The client is gone when this fails, and there is nobody to tell.
	_ = writeBytes(e, http.StatusNotFound, htmlTypes, &prepared{text: []byte(page)})
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
