// Package job runs what a server has to do from time to time.
//
// With several nodes on one database each job runs on one of them: the node that
// holds the job's lease renews it with every run, and another one takes over when
// it stops doing so. A job must all the same be safe to run twice at once, for a
// node that was asleep does not know that it lost its lease.
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

// Scheduler runs jobs. Holder names this process in leases.
type Scheduler struct {
	DB     *db.DB
	Holder string
	Now    func() time.Time
	Log    *slog.Logger
	// Observe is told of each run of a job when it is over, with what it returned. It may be
	// nil.
	Observe func(ctx context.Context, job string, began time.Time, took time.Duration, err error)
}

// Run runs every job at once and then each in its own rhythm until ctx is done
// and the runs under way have ended. An error or a panic of a run is logged; the
// next run comes all the same.
func (s *Scheduler) Run(ctx context.Context, jobs ...Job) {
	var all sync.WaitGroup
	for _, j := range jobs {
		all.Go(func() { s.repeat(ctx, j) })
	}
	all.Wait()
}

func (s *Scheduler) repeat(ctx context.Context, j Job) {
	tick := time.NewTicker(j.Every)
	defer tick.Stop()
	for {
		if err := s.once(ctx, j); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "job", "job", j.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Scheduler) once(ctx context.Context, j Job) error {
	mine, err := s.claim(ctx, j)
	if err != nil || !mine {
		return err
	}
	began := s.Now()
	err = run(ctx, j)
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

// claim takes or renews the lease of j. It outlives two missed runs, so that one
// slow run does not move the job to another node.
func (s *Scheduler) claim(ctx context.Context, j Job) (mine bool, err error) {
	if s.DB.Exclusive() {
		return true, nil
	}
	now := s.Now()
	err = s.DB.Write(ctx, func(tx *db.Tx) (err error) {
		mine, err = tx.ClaimJob(ctx, j.Name, s.Holder, now, now.Add(3*j.Every))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("claim job: %w", err)
	}
	return mine, nil
}
