package main

import (
	"fmt"
	"net"
)

// listeners are the sockets of a server. Those who connect wait until it serves.
type listeners struct {
	server    net.Listener
	directory net.Listener // of the embedded PLC directory, nil without one
	metrics   net.Listener // of what is for the operator alone, nil without one
	console   net.Listener // of the operator's pages, nil without one
}

func listen(s *settings) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.server, err = net.Listen("tcp", s.listenAddress()); err != nil {
		return l, fmt.Errorf("listen (PDS_PORT, PORTICO_BIND): %w", err)
	}
	if s.PLCURL == nil {
		l.directory, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(s.PLCPort)))
		if err != nil {
			return l, fmt.Errorf("listen for the embedded PLC directory (PORTICO_PLC_PORT): %w", err)
		}
	}
	if s.MetricsBind.IsValid() {
		if l.metrics, err = net.Listen("tcp", s.MetricsBind.String()); err != nil {
			return l, fmt.Errorf("listen (PORTICO_METRICS_BIND): %w", err)
		}
	}
	if s.ConsoleBind.IsValid() {
		if l.console, err = net.Listen("tcp", s.ConsoleBind.String()); err != nil {
			return l, fmt.Errorf("listen (PORTICO_CONSOLE_BIND): %w", err)
		}
	}
	return l, nil
}

// close ends what was not ended yet.
func (l listeners) close() {
	for _, listener := range []net.Listener{l.server, l.directory, l.metrics, l.console} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
