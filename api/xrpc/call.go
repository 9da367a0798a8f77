package xrpc

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Call is one request under way. It belongs to the goroutine that serves it.
type Call struct {
	Request *http.Request
	// Method is nil when the request is not for a method that is served.
	Method *Method
	// NSID is spelled as in the URL, which is what the lxm of a service token is
	// compared with.
	NSID string
	// IP is the client's address, seen through trusted proxies; never an IPv4 address
	// inside an IPv6 one. It is invalid when the peer has none (a unix socket).
	IP netip.Addr

	id        string // see ID
	header    http.Header
	callers   *Callers // as they were when the request came
	connected context.Context
	sent      []byte
	body      bodyClock
	answer    answerWriter
	values    Values
	pairs     [4]param  // where values begin, to save an allocation
	own       [3]string // values of the header of this answer alone, likewise
	owned     int
	start     time.Time
	err       *Error // what was answered, for the log
	stack     []byte
	forwarded bool // the peer is a proxy that is believed
	passed    string
	atEnd     []func()
	sending   func(context.Context) // see Options; nil: nobody wants to know
}

// onlySends says that nothing is left than to send the answer.
func (c *Call) onlySends() {
	if c != nil && c.sending != nil {
		c.sending(c.connected)
	}
}

type callKey struct{}

// CallFrom returns the call that ctx belongs to; nil when there is none.
func CallFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// callContext is the context of a request. That of its connection ends with the client's half
// of the connection, also when it still waits for the answer; this one does not. Whether the
// client waits shows in writing.
type callContext Call

func (c *callContext) Deadline() (time.Time, bool) { return time.Time{}, false }
func (c *callContext) Done() <-chan struct{}       { return nil }
func (c *callContext) Err() error                  { return nil }

func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return (*Call)(c)
	}
	return c.connected.Value(key)
}

// ID is the name of the request in the log and in the header X-Request-Id of its answer. What a
// client or a proxy sent under that name has no part in it.
func (c *Call) ID() string { return c.id }

// AtEnd lets f run when the answer is written, or nobody takes it any more: what holds on to
// memory for an answer lets go then.
func (c *Call) AtEnd(f func()) { c.atEnd = append(c.atEnd, f) }

// Header returns the header of the answer, for a handler or an authenticator to
// add to before it returns.
func (c *Call) Header() http.Header { return c.header }

// Connected returns a context that ends when the client closes the connection or its half
// of it. That of a handler does not: a client that closed its half may wait for the answer.
// It is for work that is not worth doing for nobody.
func (c *Call) Connected() context.Context { return c.connected }

// Sent is the JSON body as the client sent it, decoded and checked by the lexicon, with what
// that does not name; nil when the method takes none. It is the server's, and good until the
// handler returns.
func (c *Call) Sent() []byte { return c.sent }

// Body is the body of a request that nobody has read yet, as the client sends it, compressed
// or not, and its size in bytes, -1 if unknown. The client has Options.BodyTime for each
// part; reading fails with what may be answered. A request without a body has http.NoBody.
// For a handler that was given JSON it is a copy of [Call.Sent], and the header of the request
// describes that.
func (c *Call) Body() (body io.ReadCloser, size int64) {
	if c.sent != nil {
		return io.NopCloser(bytes.NewReader(bytes.Clone(c.sent))), int64(len(c.sent))
	}
	r := c.Request
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return http.NoBody, 0
	}
	return &upload{r: sent{r.Body}, left: math.MaxInt64 - 1, clock: c.body}, r.ContentLength
}

// PassedTo notes for the log which other service the request is passed on to.
func (c *Call) PassedTo(service string) { c.passed = service }

// Passed reports whether the request was passed on to another service.
func (c *Call) Passed() bool { return c.passed != "" }

// Private marks the answer as made for one caller. Authenticators call it once
// they have looked at the credentials.
func (c *Call) Private() {
	c.header["Cache-Control"] = private
	addVary(c.header, "Authorization")
}

// IPKey names the client in limits: an IPv4 address, or the /64 that one customer
// has of IPv6.
func (c *Call) IPKey() string {
	var b [64]byte
	return string(c.appendIPKey(b[:0]))
}

func (c *Call) appendIPKey(b []byte) []byte {
	if c.IP.Is6() {
		p, _ := c.IP.WithZone("").Prefix(64)
		return p.AppendTo(b)
	}
	if !c.IP.IsValid() {
		return append(b, c.IP.String()...)
	}
	return c.IP.AppendTo(b)
}

// value is the value of a header that has this one.
func (c *Call) value(text string) []string {
	if c.owned == len(c.own) {
		return []string{text}
	}
	c.own[c.owned] = text
	c.owned++
	return c.own[c.owned-1 : c.owned : c.owned]
}

// Header values that most answers have; nobody writes to them.
var (
	allowAny          = []string{"*"}
	crossOrigin       = []string{"cross-origin"}
	private           = []string{"private"}
	varyEncoding      = []string{"Accept-Encoding"}
	varyAuthorization = []string{"Authorization"}
	varyBoth          = []string{"Authorization, Accept-Encoding"}
	jsonTypes         = []string{jsonType}
	htmlTypes         = []string{"text/html; charset=utf-8"}
)

// Host is the name of the host that the client asked for, without a port, as a
// trusted proxy forwards it or else as the request says. A client chooses it freely.
func (c *Call) Host() string {
	host := c.Request.Host
	if h := c.Request.Header.Get("X-Forwarded-Host"); h != "" && c.forwarded {
		// Of a row of proxies, the first was asked by the client.
		host, _, _ = strings.Cut(h, ",")
		host = strings.TrimSpace(host)
	}
	if strings.IndexByte(host, ':') >= 0 {
		if name, _, err := net.SplitHostPort(host); err == nil {
			return name
		}
	}
	return host
}

func addVary(h http.Header, name string) {
	const vary = "Vary"
	switch v := h.Get(vary); {
	case v == "" && name == "Accept-Encoding":
		h[vary] = varyEncoding
	case v == "" && name == "Authorization":
		h[vary] = varyAuthorization
	case v == "Authorization" && name == "Accept-Encoding":
		h[vary] = varyBoth
	case v == "":
		h.Set(vary, name)
	case !containsToken(v, name):
		h.Set(vary, v+", "+name)
	}
}

func containsToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}

// clientIP returns the address of whoever made r, which came from ip. X-Forwarded-For is written from
// left to right by whoever the request passed, and everything left of the last
// trusted hop can be made up by the client, so it is read from the right. With
// hops > 0, exactly that many proxies are in front of us. Otherwise the peer's word
// is taken when it is in our own network or listed, and so on with the next one.
func clientIP(r *http.Request, ip netip.Addr, hops int, listed []netip.Addr) netip.Addr {
	if hops == 0 && !trustedPeer(ip, listed) {
		return ip
	}
	forwarded := r.Header["X-Forwarded-For"]
	if len(forwarded) == 0 {
		return ip
	}
	rest := strings.Join(forwarded, ",")
	for n := 0; rest != ""; n++ {
		if hops > 0 && n == hops || hops == 0 && !trustedPeer(ip, listed) {
			return ip
		}
		last := rest
		if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
			rest, last = rest[:comma], rest[comma+1:]
		} else {
			rest = ""
		}
		next := parseIP(strings.TrimSpace(last))
		if !next.IsValid() {
			return ip
		}
		ip = next
	}
	return ip
}

func trustedPeer(ip netip.Addr, listed []netip.Addr) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsPrivate() || isListed(ip, listed)
}

func isListed(ip netip.Addr, list []netip.Addr) bool {
	for _, l := range list {
		if l.Unmap() == ip {
			return true
		}
	}
	return false
}

// parseIP reads an address, also with a port or in brackets.
func parseIP(s string) netip.Addr {
	if strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1 { // else there is no port
		if ap, err := netip.ParseAddrPort(s); err == nil {
			return ap.Addr().Unmap()
		}
	}
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}
