package upstream

import (
	"net/http"
	"strings"
	"time"

	"portico/impl/identity/resolve"
)

// transports has the connections: many to the hosts of our own, few to those of strangers.
type transports struct {
	configured map[string]bool // by origin
	own        *http.Transport
	strange    *http.Transport
}

func newTransports(o Options) *transports {
	t := &transports{configured: make(map[string]bool), own: newTransport(o), strange: newTransport(o)}
	for _, origin := range o.Own {
		t.configured[strings.ToLower(origin)] = true
	}
	// As many as are used at a time are kept, or the next wave of requests would begin with
	// as many handshakes.
	t.own.MaxIdleConnsPerHost = 512
	t.own.IdleConnTimeout = 30 * time.Second
	// Whoever names a thousand hosts leaves 64 connections here, for ten seconds. How many
	// are used at a time is for others to bound, by account: here, whoever reads slowly would
	// shut out all other accounts that use a host such as that of chat.
	t.strange.MaxIdleConns = 64
	t.strange.MaxIdleConnsPerHost = 16
	t.strange.IdleConnTimeout = 10 * time.Second
	return t
}

func newTransport(o Options) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	return &http.Transport{
		Proxy:                  nil, // it would connect in our place, unguarded
		DialContext:            resolve.NewDialer(o.Private).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		Protocols:              protocols,
		DisableCompression:     true, // or it asked for gzip, and unpacked it
		MaxResponseHeaderBytes: 32 << 10,
	}
}

// to returns the transport for an origin.
func (t *transports) to(origin string) *http.Transport {
	if t.configured[strings.ToLower(origin)] {
		return t.own
	}
	return t.strange
}
