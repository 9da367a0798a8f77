package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"portico/impl/handover"
)

// How long a handover waits: for the newer process to be prepared, and to serve once it has the database;
// for the latter where it has to bring that up to date first; for requests under way to end
// before the database is let go of, for a header under way to be complete, and for those to
// give up then that did not; for those who follow the firehose to be told; for downloads, after
// the newer process serves; and for a newer one to end that takes no message.
const (
	takeoverTimeout  = 30 * time.Second
	migrationTimeout = 10 * time.Minute
	settleTimeout    = 10 * time.Second
	partTimeout      = time.Second
	giveUpTimeout    = 2 * time.Second
	consumersTimeout = 50 * time.Millisecond
	downloadTimeout  = 5 * time.Minute
	deafTimeout      = time.Second
)

// handovers are what asks this process to hand over to another one.
type handovers struct {
	program string // the path of this process's program; "" where nobody knows, as in a root without /proc
	asked   chan os.Signal
}

// expectHandovers has SIGUSR2 ask. It is for the start: later the program's path may lead to
// another one.
func expectHandovers() *handovers {
	h := &handovers{asked: make(chan os.Signal, 1)}
	h.program, _ = handover.Program() // that it cannot hand over keeps no server from serving
	signal.Notify(h.asked, syscall.SIGUSR2)
	return h
}

func (h *handovers) stop() { signal.Stop(h.asked) }

// busy answers what comes too late for this process.
var busy = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(`{"error":"NotEnoughResources","message":"Not Enough Resources"}`))
})

// handOver lets the program that is at the path of this one's take over, and reports whether
// this process is over. Until the other one is prepared nothing has changed here, and
// whatever is wrong with it, this one goes on.
func (r *running) handOver(ctx context.Context, asked <-chan os.Signal) (over bool, err error) {
	result := &handoverResult{From: os.Getpid()}
	defer func() {
		if err != nil && result.Error == "" {
			result.Error = err.Error()
			r.log.Error("the handover failed", "over", over, "error", err)
			r.tell(result)
		}
	}()
	if os.Getpid() == 1 {
		return false, errors.New("this is process 1, with which its container ends: start another container instead")
	}
	if !r.manager.follows() && !r.mayEnd {
		return false, errors.New("whoever started this process may take its end for that of the server, as it is not a unit of systemd with Type=notify: restart it, or start it with --handover where nobody does")
	}
	if r.program == "" {
		return false, errors.New("which program this is cannot be found out here, as there is no /proc: restart it")
	}
	r.log.Info("handing over", "program", r.program)
	sockets, err := handover.Keep(r.at.named())
	if err != nil {
		return false, err
	}
	defer sockets.Close()
	next, err := handover.Start(r.program, r.program, sockets, r.manager.environ()...)
	if err != nil {
		return false, err
	}
	prepared, err := within(ctx, takeoverTimeout, next.Prepared)
	if err != nil {
		next.Kill()
		return false, fmt.Errorf("%s did not get as far as to take over, and this process goes on: %w", r.program, err)
	}
	result.Version = prepared.Version
	limit := takeoverTimeout
	if prepared.Migrates {
		limit = migrationTimeout
	}
	if prepared.Beside {
		serving, err := within(ctx, limit, next.Serving)
		if err != nil {
			next.Kill()
			return false, fmt.Errorf("%s did not get as far as to serve, and this process goes on: %w", r.program, err)
		}
		r.stopWatch()
		r.served(result, next, serving, sockets)
		r.accepts.HandOver(next.Give)
		r.letGo(ctx, stopTimeout)
		return true, r.linger(ctx, asked, next)
	}

	r.stopWatch()
	// The manager watches this process until it hears of another one, or that takes longer than
	// all that is waited for below.
	stopWatch := background(ctx, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, settleTimeout+giveUpTimeout+limit+2*takeoverTimeout+stopTimeout)
		defer cancel()
		r.manager.watch(ctx, func() string { return "hands over to another process" }, func() error { return nil })
	})
	stopped := time.Now()
	r.accepts.Stop()
	r.accepts.HandOver(next.Give)
	r.letGo(ctx, settleTimeout)
	if err := r.store.Close(); err != nil {
		r.log.Error("let go of the database", "error", err)
	}
	next, serving, err := r.release(ctx, next, sockets, stopped, limit, result)
	stopWatch()
	if err != nil && ctx.Err() != nil {
		result.Error = "the server was stopped meanwhile"
		r.tell(result)
		return true, nil
	}
	if err != nil {
		return true, err
	}
	r.served(result, next, serving, sockets)
	return true, r.linger(ctx, asked, next)
}

// release has next take the database, and where it does not serve then, starts this process's
// own program anew to do so.
func (r *running) release(ctx context.Context, next *handover.Successor, sockets handover.Sockets, stopped time.Time, limit time.Duration, result *handoverResult) (*handover.Successor, handover.Serving, error) {
	take := func(next *handover.Successor, limit time.Duration) (handover.Serving, error) {
		if err := next.Release(handover.Released{Stopped: stopped}); err != nil {
			r.log.Warn("release the database", "error", err)
			limit = deafTimeout // it has ended, which the next line says, or does nothing any more
		}
		serving, err := within(ctx, limit, next.Serving)
		if err != nil && ctx.Err() != nil {
			// This process is to stop, and so is the other, which has no requests yet.
			next.Ask()
			select {
			case <-next.Ended():
			case <-time.After(stopTimeout):
			}
		}
		if err != nil {
			next.Kill()
		}
		return serving, err
	}
	serving, err := take(next, limit)
	if err == nil || ctx.Err() != nil {
		return next, serving, err
	}
	r.log.Error("the newer process did not take over: this version is started again", "error", err)
	result.Error = err.Error()
	self, wrong := handover.Self()
	if wrong != nil {
		return nil, serving, errors.Join(err, wrong)
	}
	again, wrong := handover.Start(self, r.program, sockets, r.manager.environ()...)
	if wrong != nil {
		return nil, serving, errors.Join(err, wrong)
	}
	next.HandOn(again)
	prepared, wrong := within(ctx, takeoverTimeout, again.Prepared)
	if wrong != nil {
		again.Kill()
	} else {
		serving, wrong = take(again, takeoverTimeout)
	}
	if wrong != nil {
		result.Error = fmt.Sprintf("%v; and this version could not serve again: %v", err, wrong)
		r.tell(result)
		// Not 78, also where the database is none for this version any more: the program at the
		// path is another one, which a start helps.
		return nil, serving, fmt.Errorf("hand over: %w; serve again: %w", err, wrong)
	}
	result.Version = prepared.Version
	return again, serving, nil
}

// letGo ends all that needs the database: requests and jobs get as long as most, and what
// follows the firehose gets what was written until then.
func (r *running) letGo(ctx context.Context, most time.Duration) {
	r.stopReloads()
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	jobs := make(chan struct{})
	go func() {
		defer close(jobs)
		r.stopJobs()
	}()
	err := errors.Join(r.accepts.Settle(settle, partTimeout), r.parts.exports.Settle(settle))
	select {
	case <-jobs:
	case <-settle.Done():
		err = errors.Join(err, errors.New("jobs still run"))
	}
	r.parts.methods.Ending()
	r.accepts.Refuse()
	if err != nil {
		r.log.Warn("what is under way for longer is cut off for the handover", "error", err)
		giveUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTimeout)
		defer cancel()
		_ = r.accepts.Settle(giveUp, 0) // who does not give up finds the database closed
	}
	r.stopConsole()
	r.stopMetrics()
	r.stopStream()
	soon, cancel := context.WithTimeout(settle, consumersTimeout)
	defer cancel()
	_ = r.parts.methods.EndSubscriptions(soon) // the slow ones are waited for once another process serves
	_ = r.parts.blobs.Wait(settle)             // what is left is for the clean-up
	r.stopDirectory()
}

// linger sends what is left of answers under way, for which the database is not needed, and
// tells those who follow the firehose to come again, to the process next.
func (r *running) linger(ctx context.Context, asked <-chan os.Signal, next *handover.Successor) error {
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), downloadTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, cancel) })()
	go func() {
		for {
			select {
			case <-asked:
				r.log.Warn("this process has handed over already: ask the one that serves", "process", next.PID)
			case <-left.Done():
				return
			}
		}
	}()
	var consumers sync.WaitGroup
	consumers.Go(func() { _ = r.parts.methods.EndSubscriptions(left) }) // which takes seconds, however slow they are
	if err := r.accepts.Finish(left); err != nil {
		r.log.Warn("downloads are cut off: they take longer than a process that has handed over waits", "error", err)
	}
	consumers.Wait()
	next.Close()
	err := r.http.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// served says that next serves. It alone has the sockets then: were they kept here, who
// connects after its end would wait in a queue that nobody serves, and no other process could
// open them.
func (r *running) served(result *handoverResult, next *handover.Successor, serving handover.Serving, sockets handover.Sockets) {
	r.accepts.Stop()
	r.at.close()
	sockets.Close()
	next.Served()
	result.To, result.Pause = next.PID, serving.Pause
	r.manager.follow(next.PID)
	r.log.Info("handed over", slog.Int("to", next.PID), slog.String("version", result.Version), slog.Int64("pause_ms", serving.Pause.Milliseconds()))
	r.tell(result)
}

// within calls f with a context that ends after most.
func within[V any](ctx context.Context, most time.Duration, f func(context.Context) (V, error)) (V, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return f(ctx)
}
