package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"portico/db"
	webconsole "portico/impl/console"
	"portico/impl/handover"
	"portico/impl/identity/directory"
	"portico/impl/reference/adopt"
)

// How long the server waits: for requests to end at a stop, for a client to send
// its header, and between two requests of one connection.
const (
	stopTimeout   = 30 * time.Second
	headerTimeout = 10 * time.Second
	idleTimeout   = 90 * time.Second
)

// run serves by s, which c has read, until ctx is done, then lets the requests under way
// finish and closes the database. What an operator wants to know at a start goes to
// stdout, the log to standard error. A start that fails leaves the data as they were, so
// whatever can fail without them comes first.
func run(ctx context.Context, c configuration, s *settings, stdout io.Writer) (err error) {
	signal.Ignore(syscall.SIGPIPE) // the server outlives whoever reads its log
	lines, err := openLog(s)
	if err != nil {
		return err
	}
	defer lines.close()
	log := lines.Logger
	for _, warning := range s.Warnings {
		log.Warn(warning)
	}
	manager, err := newManager(c.Environ, log)
	if err != nil {
		return err
	}
	hangups := watchHangups(lines)
	defer hangups.stop()
	handovers := expectHandovers()
	defer handovers.stop()
	if err := checkAdopted(ctx, s); err != nil {
		return err
	}
	at, err := listen(s, log)
	takeover := &takeover{from: at.before}
	defer func() { takeover.end(err) }()
	if err != nil {
		return err
	}
	defer at.close()
	if at.warning != "" {
		log.Warn(at.warning)
	}
	watching := watcher{metrics: newMetrics(s, at, log)}
	if watching.traces, err = newTraces(ctx, s, log); err != nil {
		return err
	}
	defer watching.traces.stop(ctx)
	if !watching.idle() {
		s.BlobBucket.Observe = watching.stored
	}
	limiter, stopLimiter := keptLimiter(ctx, log)
	defer func() { err = errors.Join(err, stopLimiter()) }()
	reloads, err := newReloader(c, s, lines, limiter)
	if err != nil {
		return err
	}
	if err := takeover.prepare(ctx, c, s, log); err != nil {
		return err
	}
	// Before, those of the other process are asked for, which count what happens.
	stopMetrics := serveMetrics(s, at.metrics, watching.metrics, log)
	defer stopMetrics()
	c.LockWait = takeover.wait
	opened := manager.extend("opens the database, and brings it up to date")
	store, err := openData(ctx, c, s, reloads.live.slowStatement, log)
	opened()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	keys, err := openKeys(ctx, s, store)
	if err != nil {
		return err
	}
	origins, err := newOrigins(s, store, log)
	if err != nil {
		return err
	}
	directoryURL, stopDirectory := serveDirectory(s, at.directory, store, log)
	defer stopDirectory()

	parts, err := wire(ctx, s, reloads, store, keys, directoryURL, log)
	if err != nil {
		return err
	}
	parts.watch(s, watching, &lines.notices)
	origins.names, parts.origins = parts.names, origins
	if err := origins.warn(ctx); err != nil {
		return err
	}
	stopConsole, err := serveConsole(reloads, at.console, parts, keys, log)
	if err != nil {
		return err
	}
	defer stopConsole()
	collector.Do(func() { tuneCollector(s, parts.hashMemory) })
	stopStream := background(ctx, parts.stream)
	defer stopStream()
	stopJobs := background(ctx, parts.runJobs)
	defer stopJobs()

	accepts := handover.Listen(at.server, idleTimeout)
	h := &http.Server{
		Handler: accepts.Handler(parts.echo, busy), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ConnState: accepts.ConnState, ConnContext: accepts.ConnContext,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if err := adopt.Forget(s.DataDirectory); err != nil {
		return fmt.Errorf("remember the first start after the adoption: %w", err)
	}
	announce(stdout, s, directoryURL)
	debug.FreeOSMemory() // most of what the start took
	r := &running{
		settings: s, log: log, manager: manager, at: at, accepts: accepts, http: h, parts: parts, store: store, program: handovers.program, mayEnd: c.MayEnd,
		stopJobs: stopJobs, stopStream: stopStream, stopConsole: stopConsole, stopMetrics: stopMetrics, stopDirectory: stopDirectory,
	}
	if mark, err := markHandovers(s.DataDirectory); err == nil {
		defer mark.Close()
	} else { // with Postgres there may be no such folder, or none to write to
		log.Warn("the command handover will not find this server", "error", err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(accepts) }()
	takeover.serve(h, accepts, log)
	manager.ready(parts.status())
	hangups.serve(func() {
		manager.reloading()
		reloads.reload()
		manager.ready(parts.status())
	})
	defer hangups.serve(nil)
	r.stopReloads = func() { hangups.serve(nil) }
	r.stopWatch = background(ctx, func(ctx context.Context) { manager.watch(ctx, parts.status, parts.health.stuck) })
	defer r.stopWatch()
	return r.until(ctx, served, handovers.asked)
}

// background runs f, beyond the end of ctx, until stop is called, which waits for it.
func background(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() { cancel(); running.Wait() }
}

// serveDirectory serves the embedded PLC directory at listener, where none is
// configured, and returns the URL of the directory to use.
func serveDirectory(s *settings, listener *net.TCPListener, store *db.DB, log *slog.Logger) (url string, stop func()) {
	if s.PLCURL != nil {
		return s.PLCURL.String(), func() {}
	}
	h := &http.Server{
		Handler:           directory.New(plcStore{store}, time.Now, s.Version, log),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
	}
	go h.Serve(listener)
	return "http://" + listener.Addr().String(), func() { h.Close() }
}

// announce says where everything is.
func announce(w io.Writer, s *settings, directoryURL string) {
	fmt.Fprintf(w, "Portico %s listens on %s as %s\n", s.Version, s.listenAddress(), s.PublicURL)
	if s.ConsoleBind.IsValid() {
		fmt.Fprintf(w, "  console    http://%s%s\n", s.ConsoleBind, webconsole.Home)
	}
	if !s.Development {
		return
	}
	fmt.Fprintf(w, "  data       %s\n", s.DataDirectory)
	if s.SecretsFile != "" {
		fmt.Fprintf(w, "  secrets    %s\n", s.SecretsFile)
	}
	fmt.Fprintf(w, "  directory  %s\n", withoutUser(directoryURL))
	fmt.Fprintf(w, "  methods    %s/docs\n", s.PublicURL)
	fmt.Fprintf(w, `
Sign up:

  curl %s/xrpc/com.atproto.server.createAccount -H 'content-type: application/json' \
    -d '{"handle":"alice%s","email":"alice@example.com","password":"correct horse"}'

`, s.PublicURL, s.HandleDomains[0])
}
