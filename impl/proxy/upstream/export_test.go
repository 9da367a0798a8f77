package upstream

import (
	"context"
	"net"
)

// Dial makes c connect by a function of the test.
func (c *Client) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	c.transports.own.DialContext, c.transports.strange.DialContext = dial, dial
}

// CloseIdle closes connections that are not used now.
func (c *Client) CloseIdle() {
	c.transports.own.CloseIdleConnections()
	c.transports.strange.CloseIdleConnections()
}
