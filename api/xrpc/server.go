package xrpc

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
)

// Options of a [Server]. The zero value is a server without limits.
type Options struct {
	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now

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

	// BodyTime is how long a client may take to send a body, or each part of one that
	// is read as a stream. 0: 30 seconds.
	BodyTime time.Duration
	// WriteTime is how long a client may take to read each 16 KiB of an answer. 0: 30
	// seconds.
	WriteTime time.Duration

	// CheckOutput checks every answer against its table and turns one that does not fit
	// into a 500; for development.
	CheckOutput bool

	// PDS says that the server is one, which passes methods that it does not serve on to
	// other services, and lets it answer why it cannot. Others answer 501.
	PDS bool
	// Protected tells the methods, in any case, that a PDS never passes on; nil: none.
	Protected func(nsid string) bool
	// Health tells whether the server can work; nil: it can.
	Health func(context.Context) error
	// Version is what /xrpc/_health answers.
	Version string
}

// Server serves XRPC methods on an echo instance. Methods are added with
// [Handle], before the first request.
type Server struct {
	o      Options
	routes map[string]*route // by lower-case NSID, and by NSID
	list   []Route

	decoding decoding

	instance string // begins every request's ID
	requests atomic.Uint64
}

// route is one method, with everything generic resolved.
type route struct {
	method *Method
	serve  func(ctx context.Context, c *Call, e echo.Context) error
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

// NewServer prepares e: it installs the one HTTPErrorHandler, CORS, the request
// log, recovery from panics, and the routes below /xrpc/. Routes outside of it may
// be added to e; their errors are written by the same handler.
func NewServer(e *echo.Echo, o Options) *Server {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	o.BodyTime = cmp.Or(o.BodyTime, 30*time.Second)
	o.WriteTime = cmp.Or(o.WriteTime, 30*time.Second)
	var id [4]byte
	rand.Read(id[:])
	s := &Server{o: o, routes: make(map[string]*route), decoding: newDecoding(), instance: hex.EncodeToString(id[:])}
	e.HTTPErrorHandler = s.writeError
	e.Pre(s.around)
	e.Any("/xrpc/*", s.dispatch)
	e.RouteNotFound("/xrpc/*", s.dispatch) // verbs that Any does not list
	return s
}

// Methods returns the methods that are served, sorted by NSID.
func (s *Server) Methods() []Route {
	list := slices.Clone(s.list)
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.NSID, b.NSID) })
	return list
}

// around surrounds every request of e: it makes the Call, answers preflights,
// recovers from panics and writes the one log line.
func (s *Server) around(next echo.HandlerFunc) echo.HandlerFunc {
	return func(e echo.Context) (err error) {
		r := e.Request()
		c := &Call{
			IP:     clientIP(r, s.o.TrustedProxies, s.o.BypassIPs),
			ID:     s.nextID(),
			header: e.Response().Header(),
			start:  s.o.Now(),
		}
		c.forwarded = s.o.TrustedProxies > 0 || trustedPeer(parseIP(r.RemoteAddr), s.o.BypassIPs)
		// The connection's context ends with the client's half of the connection, also when
		// it still waits for the answer. Whether it does shows in writing that.
		c.Request = r.WithContext(context.WithValue(context.WithoutCancel(r.Context()), callKey{}, c))
		e.SetRequest(c.Request)
		c.body = s.bodyClock(e)
		c.body.start()
		c.answer = &answerWriter{ResponseWriter: e.Response().Writer, time: s.o.WriteTime}
		c.answer.begin()
		e.Response().Writer = c.answer
		c.header["Access-Control-Allow-Origin"] = allowAny
		defer func() {
			p := recover()
			for _, end := range slices.Backward(c.atEnd) {
				end()
			}
			if p != nil && p != http.ErrAbortHandler {
				c.stack = debug.Stack()
				half := e.Response().Committed
				s.writeError(fmt.Errorf("panic: %v", p), e)
				p = nil
				if half {
					p = http.ErrAbortHandler // half an answer must not look whole
				}
			}
			s.log(c, e)
			if p != nil {
				panic(p)
			}
		}()
		if r.Method == http.MethodOptions {
			preflight(c.header, r)
			return e.NoContent(http.StatusNoContent)
		}
		// The paths of methods that are served match in any case; the router reads them
		// from here.
		if p := r.URL.Path; len(p) > 6 && p[:6] != "/xrpc/" && strings.EqualFold(p[:6], "/xrpc/") && r.URL.RawPath == "" {
			if name := strings.TrimSuffix(p[6:], "/"); s.route(name) != nil || strings.EqualFold(name, "_health") {
				r.URL.Path = "/xrpc/" + p[6:]
			}
		}
		if err := next(e); err != nil {
			s.writeError(err, e)
		}
		return nil
	}
}

func (s *Server) nextID() string {
	var b [32]byte
	id := append(append(b[:0], s.instance...), '-')
	return string(strconv.AppendUint(id, s.requests.Add(1), 10))
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

func (s *Server) log(c *Call, e echo.Context) {
	status := e.Response().Status
	if c.answer != nil && c.answer.failed != nil {
		status = statusClientGone
	}
	level := slog.LevelInfo
	if c.err != nil && c.err.isFault() {
		level = slog.LevelError
	}
	if !s.o.Logger.Enabled(c.Request.Context(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	if c.Method != nil {
		attrs = append(attrs, slog.String("method", c.Method.NSID))
	} else {
		attrs = append(attrs, slog.String("path", c.Request.URL.Path))
	}
	attrs = append(attrs,
		slog.String("verb", c.Request.Method),
		slog.Int("status", status),
		slog.Duration("duration", s.o.Now().Sub(c.start)),
		slog.String("request", c.ID),
		slog.String("remote", c.IP.String()),
	)
	if c.err != nil {
		attrs = append(attrs, slog.String("error", c.err.name()))
		if c.err.Cause != nil {
			attrs = append(attrs, slog.String("cause", c.err.Cause.Error()))
		}
	}
	if c.stack != nil {
		attrs = append(attrs, slog.String("stack", string(c.stack)))
	}
	s.o.Logger.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// dispatch serves everything below /xrpc/.
func (s *Server) dispatch(e echo.Context) error {
	r := e.Request()
	c := CallFrom(r.Context())
	ctx := r.Context()
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	rest, ok := strings.CutPrefix(path, "/xrpc/")
	if !ok {
		return echo.ErrNotFound
	}
	c.NSID = strings.TrimSuffix(rest, "/")
	get := r.Method == http.MethodGet || r.Method == http.MethodHead

	if route := s.route(c.NSID); route != nil {
		c.Method = route.method
		want := route.method.Kind.verb()
		switch {
		case get && want == http.MethodGet, r.Method == want:
			return route.serve(ctx, c, e)
		case get || r.Method == http.MethodPost:
			return InvalidRequest("Incorrect HTTP method (" + r.Method + ") expected " + want)
		}
	}
	if get && strings.EqualFold(c.NSID, "_health") {
		return s.health(ctx, c, e)
	}
	if !plausible(c.NSID) {
		return InvalidRequest("invalid xrpc path")
	}
	if !s.bypassed(c) {
		if err := s.take(ctx, c, nil, true); err != nil {
			return err
		}
	}
	if !get && r.Method != http.MethodPost {
		return InvalidRequest("XRPC requests only supports GET and POST")
	}
	return s.notServed(c)
}

// route returns the method called nsid in any case, or nil.
func (s *Server) route(nsid string) *route {
	if r := s.routes[nsid]; r != nil {
		return r
	}
	return s.routes[strings.ToLower(nsid)]
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

// notServed answers for a method that nobody handles here; a PDS does as a reference
// server without other services configured. Nothing is proxied.
func (s *Server) notServed(c *Call) error {
	if !s.o.PDS {
		return MethodNotImplemented()
	}
	if s.o.Protected != nil && s.o.Protected(c.NSID) {
		return InvalidToken("Bad token method")
	}
	target := c.Request.Header.Get("Atproto-Proxy")
	if target == "" {
		return InvalidRequest("No service configured for " + c.NSID)
	}
	did, service, _ := strings.Cut(target, "#")
	switch {
	case did == "" && strings.HasPrefix(target, "#"):
		return InvalidRequest("no did specified in proxy header")
	case service == "":
		return InvalidRequest("no service id specified in proxy header")
	case strings.Contains(service, "#"):
		return InvalidRequest("invalid proxy header format")
	case strings.Contains(target, " "):
		return InvalidRequest("proxy header cannot contain spaces")
	}
	return InvalidRequest("could not resolve proxy did")
}

func (s *Server) health(ctx context.Context, c *Call, e echo.Context) error {
	answer := struct {
		Version string `json:"version"`
		Error   string `json:"error,omitzero"`
	}{Version: s.o.Version}
	status := http.StatusOK
	if s.o.Health != nil {
		if err := s.o.Health(ctx); err != nil {
			status = http.StatusServiceUnavailable
			answer.Error = "Service Unavailable"
			c.err = &Error{Status: status, Name: answer.Error, Cause: err}
		}
	}
	return s.writeJSON(e, status, &answer)
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
	c.err = x
	if e.Response().Committed {
		return
	}
	for name, values := range x.Header {
		c.header[http.CanonicalHeaderKey(name)] = values
	}
	answer := struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{x.name(), x.message()}
	status := x.status()
	if status == http.StatusInternalServerError {
		d := defaultErrors[status]
		answer.Error, answer.Message = d.name, d.message
	}
	if err := s.writeJSON(e, status, &answer); err != nil {
		c.err = &Error{Status: status, Name: answer.Error, Cause: errors.Join(x.Cause, err)}
	}
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
	_ = s.writeBytes(e, http.StatusNotFound, "text/html; charset=utf-8", []byte(page))
}

func sameSecret(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
