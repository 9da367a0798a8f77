package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// ErrForbiddenAddress says that a name led to an address that is not on the public Internet.
var ErrForbiddenAddress = errors.New("address is not public")

// NewClient returns an HTTP client for URLs that strangers choose. It connects to public addresses only, unless private is true,
// which is for development. It keeps few connections, and follows redirects as far as its user lets it. It uses no proxy, but
// where it may reach anything, that of the environment.
func NewClient(private bool) *http.Client {
	client := newClient(NewDialer(private))
	if private {
		return Through(http.ProxyFromEnvironment, client)
	}
	return client
}

// NewDialer returns what connects to public addresses only, whatever names resolve to in that moment, unless private is true. A
// connection to another address fails with ErrForbiddenAddress.
func NewDialer(private bool) *net.Dialer {
	if private {
		return newDialer(func(netip.Addr) bool { return true }, nil)
	}
	return newDialer(Public, nil)
}

// newDialer returns what connects to the allowed addresses, as names finds them; nil is the system's resolver.
func newDialer(allowed func(netip.Addr) bool, names *net.Resolver) *net.Dialer {
	return &net.Dialer{
		Timeout: 3 * time.Second, Resolver: names,
		// The address is looked at here, where the kernel is about to connect, and nowhere else: a check of the name before would
		// trust DNS to give the same answer twice, and would miss redirects.
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrForbiddenAddress, address)
			}
			if !allowed(ap.Addr()) {
				return fmt.Errorf("%w: %s", ErrForbiddenAddress, ap.Addr())
			}
			return nil
		},
	}
}

func newClient(dialer *net.Dialer) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                  nil, // it would connect in our place, unguarded
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    3 * time.Second,
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    1,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 32 << 10,
	}}
}

// Through returns a client for URLs that the operator chooses. Where proxy names one for a request, as
// [http.ProxyFromEnvironment] does on machines that have no other way out, it is that which connects, and decides where; where it
// names none, straight does.
func Through(proxy func(*http.Request) (*url.URL, error), straight *http.Client) *http.Client {
	through := http.DefaultTransport.(*http.Transport).Clone()
	through.Proxy = proxy
	client := *straight
	client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if by, err := proxy(r); by == nil && err == nil {
			return straight.Transport.RoundTrip(r)
		}
		return through.RoundTrip(r)
	})
	return &client
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// special are the parts of the unicast space that are not the public Internet, beyond what netip can tell
// (https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry).
var special = prefixes(
	"0.0.0.0/8",       // this network
	"100.64.0.0/10",   // carrier-grade NAT, and the metadata service of some clouds
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"240.0.0.0/4",     // reserved, broadcast
	"2001::/23",       // protocol assignments, Teredo among them, which has an IPv4 address inside
	"2001:db8::/32",   // documentation
	"2002::/16",       // 6to4: an IPv4 address inside
	"3fff::/20",       // documentation
)

// global is the part of the IPv6 space that has been given out for unicast. The rest, with all the ways to write an IPv4
// address as an IPv6 one, is nowhere anyone needs to go.
var global = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// Public reports whether a is a unicast address on the public Internet. Ours because indigo's util/ssrf takes 6to4, Teredo and
// documentation of IPv6 for public.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
