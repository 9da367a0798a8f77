package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"

	"portico/impl/handover"
)

// listeners are the sockets of a server. Those who connect wait until it serves.
type listeners struct {
	server    *net.TCPListener
	directory *net.TCPListener // of the embedded PLC directory, nil without one
	metrics   *net.TCPListener // of what is for the operator alone, nil without one
	console   *net.TCPListener // of the operator's pages, nil without one

	warning string                // what is not as it might be, "" if nothing is
	before  *handover.Predecessor // that has handed them over; nil: none has
}

// named are the sockets by their names.
func (l listeners) named() map[string]*net.TCPListener {
	return map[string]*net.TCPListener{
		serverSocket: l.server, directorySocket: l.directory, metricsSocket: l.metrics, consoleSocket: l.console,
	}
}

// The names of the sockets, the server's first: systemd gives them by FileDescriptorName=.
const (
	serverSocket    = "server"
	metricsSocket   = "metrics"
	consoleSocket   = "console"
	directorySocket = "directory"
)

// listen takes the sockets that the process was started with, and opens the others. Those of
// systemd must be what the settings name: who connects to one that nobody serves waits for
// ever. Those of a process before are closed with it, where the settings are others now.
func listen(s *settings, log *slog.Logger) (l listeners, err error) {
	given, err := handover.Receive(serverSocket, metricsSocket, consoleSocket, directorySocket)
	if err != nil {
		return l, unfit(err)
	}
	l.before = given.From
	defer func() {
		given.Close()
		if err != nil {
			l.close()
		}
	}()
	open := func(name, host string, port int, settings string) (*net.TCPListener, error) {
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if taken := given.Take(name); taken != nil {
			if handover.ListensAt(taken, host, port) {
				return taken, nil
			}
			if !given.Activated {
				log.Info("another socket is opened than was handed over", "socket", name, "handed", taken.Addr().String(), "settings", settings, "opened", address)
				_ = taken.Close()
				return listenTCP(address, settings)
			}
			return nil, unfit(fmt.Errorf("systemd has %s for the socket %q, and the settings (%s) have %s: make them agree", taken.Addr(), name, settings, address))
		}
		return listenTCP(address, settings)
	}
	host := ""
	if s.Bind.IsValid() {
		host = s.Bind.String()
	}
	if l.server, err = open(serverSocket, host, s.Port, "PDS_PORT, PORTICO_BIND"); err != nil {
		return l, err
	}
	if s.PLCURL == nil {
		if l.directory, err = open(directorySocket, "127.0.0.1", s.PLCPort, "of the embedded PLC directory, PORTICO_PLC_PORT"); err != nil {
			return l, err
		}
	}
	if s.MetricsBind.IsValid() {
		l.metrics, err = open(metricsSocket, s.MetricsBind.Addr().String(), int(s.MetricsBind.Port()), "PORTICO_METRICS_BIND")
		if err != nil && !s.MetricsGiven && errors.Is(err, syscall.EADDRINUSE) {
			// Nobody asked for it, and of two servers of a machine one has the default.
			l.warning = "there are no metrics: somebody else, another server perhaps, listens on " + s.MetricsBind.String() + "; set PORTICO_METRICS_BIND to another address, or to off"
		} else if err != nil {
			return l, err
		}
	}
	if s.ConsoleBind.IsValid() {
		if l.console, err = open(consoleSocket, s.ConsoleBind.Addr().String(), int(s.ConsoleBind.Port()), "PORTICO_CONSOLE_BIND"); err != nil {
			return l, err
		}
	}
	left := given.Left()
	if len(left) > 0 && given.Activated {
		return l, unfit(fmt.Errorf("systemd has sockets that no setting asks for: %s", strings.Join(left, ", ")))
	}
	for _, name := range left {
		log.Info("a socket that was handed over is closed: no setting asks for it", "socket", name)
	}
	return l, nil
}

func listenTCP(address, settings string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen (%s): %w", settings, err)
	}
	return l.(*net.TCPListener), nil
}

// close ends what was not ended yet.
func (l listeners) close() {
	for _, listener := range l.named() {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
