package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"portico/db"
	"portico/impl/handover"
)

// running is a server that serves, and what ends its parts.
type running struct {
	settings *settings
	log      *slog.Logger
	manager  *manager
	at       listeners
	accepts  *handover.Listener // at.server's
	http     *http.Server
	parts    *parts
	store    *db.DB
	program  string // that is handed over to
	mayEnd   bool   // nobody takes the end of this process for that of the server

	stopReloads, stopWatch, stopJobs, stopStream, stopConsole, stopMetrics, stopDirectory func()
}

// until serves until ctx is done, then lets the requests under way finish, or until another
// process has taken over, which it lets do that when asked.
func (r *running) until(ctx context.Context, served <-chan error, asked <-chan os.Signal) error {
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
			return r.stop(ctx)
		case <-asked:
			if over, err := r.handOver(ctx, asked); over {
				return err
			}
		}
	}
}

// stop is what ends a server whose time is over.
func (r *running) stop(ctx context.Context) error {
	r.stopReloads()
	r.log.Info("stopping")
	r.manager.stopping("waits for requests that are under way")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := r.http.Shutdown(stop)
	// Whoever follows the firehose gets what was written until here.
	r.stopJobs()
	r.stopStream()
	if err := errors.Join(err, r.parts.methods.EndSubscriptions(stop)); err != nil {
		return fmt.Errorf("requests still under way at the stop: %w", err)
	}
	return r.parts.blobs.Wait(stop)
}
