package operator

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
)

// How much of a request is told of.
const (
	maxTold      = 1000 // bytes of a text
	maxForwarded = 100  // addresses, the last ones: those on the right are from proxies
)

// GetRequest says what arrived here of the request that asks.
func (s *Service) GetRequest(ctx context.Context) (*api.GetRequestOutput, error) {
	c := xrpc.CallFrom(ctx)
	r := c.Request
	out := &api.GetRequestOutput{
		Host: told(r.Host), Name: told(c.Host()), Address: c.IP.String(), Protocol: r.Proto, TrustedProxies: int64(s.TrustedProxies()),
		ForwardedProto: xrpc.NonZero(told(r.Header.Get("X-Forwarded-Proto"))), ForwardedHost: xrpc.NonZero(told(r.Header.Get("X-Forwarded-Host"))),
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		out.Peer = new(peer.Addr().Unmap().String())
	}
	// From the right, so that a header of a million commas costs no more.
	rest := strings.Join(r.Header["X-Forwarded-For"], ",")
	for more := rest != ""; more && len(out.ForwardedFor) < maxForwarded; {
		last := rest
		if at := strings.LastIndexByte(rest, ','); at >= 0 {
			rest, last = rest[:at], rest[at+1:]
		} else {
			more = false
		}
		out.ForwardedFor = append(out.ForwardedFor, told(strings.TrimSpace(last)))
	}
	slices.Reverse(out.ForwardedFor)
	return out, nil
}

// told is what of a header is told.
func told(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxTold)], "")
}
