package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

// Trust makes c believe what certificates say that one of the test has signed.
func (c *Client) Trust(roots *x509.CertPool) {
	c.transports.own.TLSClientConfig = &tls.Config{RootCAs: roots}
	c.transports.strange.TLSClientConfig = &tls.Config{RootCAs: roots}
}
