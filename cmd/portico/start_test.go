package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// start runs a development server with these settings, its data directory among them,
// on a free port. It returns when the server can be reached; stop ends it, once.
func start(environ ...string) (s *settings, stop func() error, err error) {
	for {
		port, err := launch.FreePort()
		if err != nil {
			return nil, nil, err
		}
		c := configuration{Environ: append([]string{
			"PDS_HOSTNAME=localhost", fmt.Sprintf("PDS_PORT=%d", port), "PORTICO_PLC_PORT=0", "PORTICO_LOG_LEVEL=error",
		}, environ...), Rand: rand.Reader, Now: time.Now}
		s, err := c.read()
		if err != nil {
			return nil, nil, err
		}
		ctx, cancel := context.WithCancel(context.Background())
		out := &starting{ready: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, c, s, out) }()
		select {
		case <-out.ready:
			return s, sync.OnceValue(func() error { cancel(); return <-ended }), nil
		case err := <-ended:
			cancel()
			if !errors.Is(err, syscall.EADDRINUSE) { // somebody took it meanwhile
				return nil, nil, err
			}
		}
	}
}

// startFor is start for a test, with which the server ends at the latest.
func startFor(t *testing.T, environ ...string) (s *settings, stop func()) {
	t.Helper()
	s, end, err := start(environ...)
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// A starting server says where everything is once it can be reached.
type starting struct {
	once  sync.Once
	ready chan struct{}
}

func (s *starting) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.ready) })
	return len(b), nil
}
