package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"portico/impl/metrics"
)

// metricsTimeout is how long an answer may take beyond the seconds that were asked for: a
// profile or a trace is of that long.
const metricsTimeout = 30 * time.Second

// metricsPath is where Prometheus looks by itself.
const metricsPath = "/metrics"

// serveMetrics serves what is for the operator alone at listener, nil for none, until stop
// is called.
func serveMetrics(s *settings, listener *net.TCPListener, m *metrics.Set, log *slog.Logger) (stop func()) {
	if listener == nil {
		return func() {}
	}
	mux := http.NewServeMux()
	mux.Handle(metricsPath, m)
	if s.Profiling {
		// The package puts them into http.DefaultServeMux as well, which nothing serves.
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	h := &http.Server{
		Handler:           onlyOperators(s.MetricsBind, mux),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: metricsTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go h.Serve(listener)
	return func() { h.Close() }
}

// onlyOperators lets through to next what asks at, and keeps the pages out that an
// operator's browser shows: on loopback nothing else tells them from the operator. A page
// whose own name was made to mean 127.0.0.1 could read the answers (DNS rebinding), so the
// host must be one that means this machine everywhere; others can't, but could have
// profiles taken, so what a browser sends for another site is refused.
func onlyOperators(at netip.AddrPort, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		if at.Addr().IsLoopback() {
			host, port, err := net.SplitHostPort(r.Host)
			if err != nil || !isLoopback(host) || port != fmt.Sprint(at.Port()) {
				http.Error(w, "ask for localhost or an address of loopback, with the port", http.StatusForbidden)
				return
			}
			if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
				http.Error(w, "not for other sites", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
