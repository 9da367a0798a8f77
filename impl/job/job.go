// Package job runs what a server has to do from time to time.
//
// With several nodes on one database each job runs on one of them: the one that holds its
// lease. A node renews its leases as long as it lives, also while jobs run, and takes those
// that nobody renews; so of a node that dies another one takes over, see [Takeover]. A run
// ends when its lease is not renewed, before another node has it. A job must all the same
// be safe to run twice at once, for clocks differ, and a node that was asleep does not know
// that it lost its lease.
//
// Ours because schedulers to be had are about calendars, which these jobs do not need,
// and the lease, which is the most of it, is a row of this database.
package job

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"portico/db"
)

// A Job is something to do every so often.
type Job struct {
	Name  string
	Every time.Duration
	Run   func(context.Context) error
}

const (
	// beat is how often a node renews its leases, and looks for others to take, at least.
	beat = 20 * time.Second
	// patience is for how many beats a run goes on while its lease can't be renewed.
	patience = 3
	// lease is for how many of them nobody else has the job then.
	lease = 4
	// Takeover is the longest that a job is no node's after one has died.
	Takeover = (lease + 1) * beat
)

// Scheduler runs jobs. Holder names this process in leases.
type Scheduler struct {
	DB     *db.DB
	Holder string
	Now    func() time.Time
	Log    *slog.Logger
	// Observe is told of each run of a job when it is over, with what it returned. It may be
	// nil.
	Observe func(ctx context.Context, job string, began time.Time, took time.Duration, err error)

	leases leases // nil: those of DB
}

// leases say who may do which job. Both methods have all of the names in their order.
type leases interface {
	// claim takes or renews leases for holder until a time. It says of which jobs it has them.
	claim(ctx context.Context, names []string, holder string, now, until time.Time) (mine []bool, err error)
	// release gives back what holder has.
	release(ctx context.Context, names []string, holder string) error
}

// Run runs every job in its own rhythm, at once to begin with, until ctx is done and the runs
// under way have ended. With several nodes it begins when this one has the job's lease, and a
// run that has lost it is cancelled. An error or a panic of a run is logged; the next run
// comes all the same.
func (s *Scheduler) Run(ctx context.Context, jobs ...Job) {
	table := s.leases
	if table == nil {
		if s.DB.Exclusive() {
			var all sync.WaitGroup
			for _, j := range jobs {
				all.Go(func() { s.repeat(ctx, j) })
			}
			all.Wait()
			return
		}
		table = stored{s.DB}
	}
	s.share(ctx, table, jobs)
}

// share runs jobs as long as their leases are held.
func (s *Scheduler) share(ctx context.Context, table leases, jobs []Job) {
	names := make([]string, len(jobs))
	shared := make([]held, len(jobs))
	var all sync.WaitGroup
	for i, j := range jobs {
		names[i] = j.Name
		shared[i].given = make(chan context.Context, 1)
		all.Go(func() {
			for held := range shared[i].given {
				s.repeat(held, j)
			}
		})
	}
	beat := beat
	for _, j := range jobs { // those of short rhythms are not to wait for long
		beat = min(beat, j.Every*3/4)
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for ctx.Err() == nil {
		asked := time.Now()
		within, cancel := context.WithTimeout(ctx, max(beat, time.Second))
		now := s.Now()
		mine, err := table.claim(within, names, s.Holder, now, now.Add(lease*beat))
		cancel()
		if err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "job", "error", fmt.Errorf("claim jobs: %w", err))
		}
		for i := range mine {
			shared[i].set(ctx, mine[i], patience*beat-time.Since(asked))
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	for i := range shared {
		shared[i].set(ctx, false, 0)
		close(shared[i].given)
	}
	all.Wait()
	// Others need not wait for leases of a node that has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := table.release(ctx, names, s.Holder); err != nil {
		s.Log.InfoContext(ctx, "job", "error", fmt.Errorf("give back jobs: %w", err))
	}
}

// held is the lease of a job, as its node knows it. One goroutine sets it.
type held struct {
	given  chan context.Context // of the times for which this node has it
	cancel context.CancelFunc   // nil: it has it not
	over   *time.Timer          // that cancels
}

// set says whether this node has the job for so long.
func (h *held) set(ctx context.Context, mine bool, left time.Duration) {
	mine = mine && left > 0
	if h.cancel != nil && (!mine || !h.over.Stop()) {
		h.cancel()
		h.cancel = nil
	}
	if !mine {
		return
	}
	if h.cancel == nil {
		ctx, h.cancel = context.WithCancel(ctx)
		select {
		case <-h.given: // a time that was over before it was used
		default:
		}
		h.given <- ctx
	}
	h.over = time.AfterFunc(left, h.cancel)
}

// repeat runs a job in its rhythm until ctx is done.
func (s *Scheduler) repeat(ctx context.Context, j Job) {
	tick := time.NewTicker(j.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.once(ctx, j); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "job", "job", j.Name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (s *Scheduler) once(ctx context.Context, j Job) error {
	began := s.Now()
	err := run(ctx, j)
	if s.Observe != nil {
		s.Observe(ctx, j.Name, began, s.Now().Sub(began), err)
	}
	return err
}

// run makes an error of a panic.
func run(ctx context.Context, j Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return j.Run(ctx)
}

// stored are leases in the database, in one transaction for all of them.
type stored struct{ db *db.DB }

func (l stored) claim(ctx context.Context, names []string, holder string, now, until time.Time) (mine []bool, err error) {
	mine = make([]bool, len(names))
	err = l.db.Write(ctx, func(tx *db.Tx) error {
		for i, name := range names {
			if mine[i], err = tx.ClaimJob(ctx, name, holder, now, until); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return mine, nil
}

func (l stored) release(ctx context.Context, names []string, holder string) error {
	return l.db.Write(ctx, func(tx *db.Tx) error {
		for _, name := range names {
			if err := tx.ReleaseJob(ctx, name, holder); err != nil {
				return err
			}
		}
		return nil
	})
}
