package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"portico/db"
	"portico/impl/job"
	"portico/impl/repo/firehose"
)

// runJobs settles what the last process left behind, and does the regular work
// until ctx is done.
func (p *parts) runJobs(ctx context.Context) {
	if p.store.Exclusive() {
		if err := p.accounts.Resume(ctx, true); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume unfinished accounts", "error", err)
		}
		if err := p.dids.Resume(ctx, true); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume changes of handles", "error", err)
		}
		if err := p.moves.Resume(ctx); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume the move of all DIDs", "error", err)
		}
	}
	var worker sync.WaitGroup
	defer worker.Wait()
	worker.Go(func() { p.letters.Run(ctx) })
	worker.Go(func() { p.health.run(ctx) })
	worker.Go(func() { p.releaseSoon(ctx) })
	worker.Go(func() { warnOfBucket(ctx, p.blobs, p.log) })
	p.sched.Run(ctx,
		job.Job{Name: "unfinished accounts", Every: p.retry, Run: func(ctx context.Context) error {
			return p.accounts.Resume(ctx, false)
		}},
		job.Job{Name: "changes of handles", Every: p.retry, Run: func(ctx context.Context) error {
			return p.dids.Resume(ctx, false)
		}},
		job.Job{Name: "move of all DIDs", Every: p.retry, Run: p.moves.Run},
		job.Job{Name: "moves of single accounts", Every: p.retry, Run: p.operators.Transfers.Run},
		job.Job{Name: "releases from quarantine", Every: p.retry, Run: p.accounts.Release},
		job.Job{Name: "unconfirmed in quarantine", Every: time.Hour, Run: p.accounts.ExpireHeld},
		job.Job{Name: "clean-up", Every: p.retry, Run: p.accounts.CleanUp},
		job.Job{Name: "guesses", Every: p.retry, Run: p.guesses.Run},
		job.Job{Name: "changed origin", Every: time.Hour, Run: func(ctx context.Context) error {
			return p.origins.settle(ctx, p.dids.Published)
		}},
		job.Job{Name: "deletions", Every: time.Hour, Run: p.deletes.Run},
		job.Job{Name: "blobs", Every: time.Hour, Run: func(ctx context.Context) error {
			if still, err := p.accounts.Standstill(ctx); err != nil || still != "" {
				return err
			}
			return cleanBlobs(ctx, p.blobs, p.log)
		}},
		job.Job{Name: "telling crawlers", Every: time.Minute, Run: p.tellCrawlers},
		job.Job{Name: "expired rows", Every: time.Hour, Run: func(ctx context.Context) error {
			now := time.Now()
			err := p.store.Write(ctx, func(tx *db.Tx) error {
				return errors.Join(tx.Purge(ctx, now), tx.PurgeAudit(ctx, now.Add(-p.live.settings().AuditKeep)))
			})
			return errors.Join(err, p.store.PurgeMarks(ctx, now))
		}},
		job.Job{Name: "old events", Every: time.Hour, Run: func(ctx context.Context) error {
			return firehose.DropBefore(ctx, p.store, time.Now().Add(-p.live.settings().BackfillLimit))
		}},
	)
}

// releaseSoon releases accounts as soon as their owners have done what they are held for.
func (p *parts) releaseSoon(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.accounts.ReleasesDue():
			if err := p.accounts.Release(ctx); err != nil && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "release accounts from quarantine", "error", err)
			}
		}
	}
}

// tellCrawlers tells the crawlers that there are events, until ctx is done. Nothing may wake it
// for those that other processes append: it looks for them each minute.
func (p *parts) tellCrawlers(ctx context.Context) error {
	defer p.crawlers.Wait()
	look := time.NewTicker(time.Minute)
	defer look.Stop()
	var seen int64
	p.crawlers.Notify(ctx)
	for {
		select {
		case <-p.appended:
		case <-look.C:
			last, err := p.store.LastEvent(ctx)
			if err != nil {
				return err
			}
			if last == seen {
				continue
			}
			seen = last
		case <-ctx.Done():
			return nil
		}
		p.crawlers.Notify(ctx)
	}
}

// stream streams the events until ctx is done.
func (p *parts) stream(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { p.hose.Run(ctx) })
	running.Go(func() { p.hose.Watch(ctx) })
	for {
		select {
		case <-p.store.EventsAppended():
			p.hose.Wake()
			select {
			case p.appended <- struct{}{}:
			default: // it is being told
			}
		case <-ctx.Done():
			return
		}
	}
}
