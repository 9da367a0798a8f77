package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

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
//
// It returns an error with the status of a start that is refused when a newer version has
// changed the database so that this one does not work with it any more.
func (r *running) until(ctx context.Context, served <-chan error, asked <-chan os.Signal) error {
	excluded := make(chan error, 1)
	defer background(ctx, func(ctx context.Context) { r.watchSchema(ctx, excluded) })()
	for {
		select {
		case err := <-served:
			return fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
			return r.stop(ctx)
		case err := <-excluded:
			return errors.Join(unfit(fmt.Errorf("%w: start a version that does", err)), r.stop(ctx))
		case <-asked:
			if over, err := r.handOver(ctx, asked); over {
				return err
			}
		}
	}
}

// watchSchema looks at the schema now and then, which other processes may change, until ctx
// ends or this version does not work with it.
func (r *running) watchSchema(ctx context.Context, excluded chan<- error) {
	if r.store.Exclusive() {
		return
	}
	tick := time.NewTicker(r.parts.retry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.store.Fits(ctx); errors.Is(err, db.ErrSchemaAhead) {
			excluded <- err
			return
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
