package server

import (
	"context"

	"portico/api/xrpc"
	"portico/impl/account/password"
	"portico/impl/budget"
)

// hashesFor is who waits for a hash: at the place where the request comes from, unless
// that is nobody's in particular.
func (s *Service) hashesFor(ctx context.Context) password.Caller {
	c := xrpc.CallFrom(ctx)
	if c == nil || !c.IP.IsValid() || c.IP.IsLoopback() || c.IP.IsPrivate() || c.IP.IsLinkLocalUnicast() || s.exempt(c.IP) {
		return password.Caller{}
	}
	who := password.Caller{Address: budget.Address(c.IP)}
	if c.IP.Is6() {
		network, _ := c.IP.WithZone("").Prefix(48) // 48 bits always fit
		who.Network = network.String()
	}
	return who
}
