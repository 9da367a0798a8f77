package main

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"

	"portico/db"
	webconsole "portico/impl/console"
	"portico/impl/keyring"
	"portico/impl/page"
)

// consolePublic is the value of PORTICO_CONSOLE that has the console on the public origin.
const consolePublic = "public"

// newConsole makes a console whose pages call what methods answers. It is for the public
// origin, or for a listener at an address of this machine.
func newConsole(s *settings, at netip.AddrPort, methods http.Handler, store *db.DB, keys *keyring.Ring, log *slog.Logger) (http.Handler, error) {
	c := webconsole.Config{
		Methods: methods, PublicURL: s.PublicURL.String(), Origins: []string{s.PublicURL.String()},
		Password: string(s.AdminPassword), DB: store, Keys: keys, Now: time.Now, Rand: rand.Reader, Log: log,
	}
	if at.IsValid() {
		c.Origins, c.Direct = page.Loopback(at), true
	}
	h, err := webconsole.New(c)
	if err != nil {
		return nil, fmt.Errorf("make console: %w", err)
	}
	return h, nil
}

// serveConsole serves the console at listener, nil for none, until stop is called.
func serveConsole(r *reloader, listener *net.TCPListener, p *parts, keys *keyring.Ring, log *slog.Logger) (stop func(), err error) {
	if listener == nil {
		return func() {}, nil
	}
	err = r.make(func(now *inForce) (err error) {
		now.direct, err = newConsole(now.settings, now.ConsoleBind, p.echo, p.store, keys, log)
		return err
	})
	if err != nil {
		return nil, err
	}
	handler := r.live.page(func(now *inForce) http.Handler { return now.direct })
	h := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go h.Serve(listener)
	return func() { h.Close() }, nil
}

// consoleRoutes puts the console on the public origin: where it is not to be there, there is
// nothing.
func (p *pages) consoleRoutes(e *echo.Echo) {
	serve := func(c echo.Context) error {
		if p.console == nil {
			return echo.ErrNotFound
		}
		p.console.ServeHTTP(c.Response(), c.Request())
		return nil
	}
	for _, path := range []string{webconsole.Home, webconsole.Home + "/*"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			e.Add(method, path, serve)
		}
	}
}
