package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const postgresName = "postgres"

type postgresEngine struct {
	*pgPool
	readOnly bool
	now      func() time.Time
	seen     *observer
	beside   *aside // nil: the database is open for reading only
	cancel   context.CancelFunc
	wait     sync.WaitGroup
	closed   atomic.Bool
	answers  time.Duration // answerWithin
}

func openPostgres(ctx context.Context, c Config, seen *observer, mailed, appended chan<- struct{}) (_ *postgresEngine, err error) {
	config, err := driverConfig(c.URL, c.Pooled)
	if err != nil {
		return nil, err
	}
	listening, err := listenConfig(c, config)
	if err != nil {
		return nil, err
	}
	link := link{through: config.DialFunc}
	config.DialFunc = link.dial
	e := &postgresEngine{pgPool: newPgPool(config, cmp.Or(c.MaxConns, 20), true, seen), now: c.Now, seen: seen, answers: answerWithin}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	// That a database is not there when a process starts is told at once.
	if err := e.ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", unpooled(err)), e.close())
	}
	if c.ReadOnly {
		e.readOnly = true
		if err := checkSchema(ctx, e, seen, c.Behind); err != nil {
			return nil, errors.Join(err, e.close())
		}
		return e, nil
	}
	if err := e.repeat(ctx, func() error { return findPooler(ctx, e.db.DB, config) }); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", unpooled(err)), e.close())
	}
	if err := e.write(ctx, true, func(r runner) error { return prepare(ctx, e, r, seen, c) }); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.beside = newAside(config, &link, c)
	e.wait.Go(func() { e.beside.run(running) })
	if listening != nil {
		e.wait.Go(func() { e.beside.listen(running, listening, mailed, appended) })
	}
	return e, nil
}

func (e *postgresEngine) name() string   { return postgresName }
func (e *postgresEngine) reader() runner { return e.pgPool }

// cache: whether a row is still as it was costs the round trip that reading it costs.
func (e *postgresEngine) cache() *accountCache { return nil }

// ping tells what is known, if somebody sees to that: it does not wait for a connection of
// the pool, nor for an answer that does not come.
func (e *postgresEngine) ping(ctx context.Context) error {
	if e.beside != nil && !e.closed.Load() {
		return e.beside.answers()
	}
	return e.db.PingContext(ctx)
}

func (e *postgresEngine) others() *aside { return e.beside }

func (e *postgresEngine) pool() *sql.DB { return e.db.DB }

// waiting: who writes waits for a connection as who reads does.
func (e *postgresEngine) waiting() int { return 0 }

func (e *postgresEngine) files() (database, log int64) { return 0, 0 }

// answerWithin bounds how long a COMMIT or ROLLBACK that was sent is waited for: the
// context of the caller, who may have gone, does not end them half-way.
const answerWithin = 30 * time.Second

func (e *postgresEngine) write(ctx context.Context, _ bool, fn func(runner) error) error {
	if e.readOnly {
		return errReadOnly
	}
	return e.run(ctx, time.Time{}, fn)
}

// run runs fn in a transaction until it is committed or has failed for good. COMMIT, and what
// became of it, is waited for until then, if that is not zero.
func (e *postgresEngine) run(ctx context.Context, then time.Time, fn func(runner) error) error {
	var taken string
	return e.again.do(ctx, func() error {
		err := e.once(ctx, then, &taken, fn)
		if u, ok := errors.AsType[*unanswered](err); ok {
			e.again.losses.Add(1)
			until := then
			if until.IsZero() {
				until = time.Now().Add(answerWithin)
			}
			return e.settle(ctx, u, until)
		}
		return err
	})
}

// once is one attempt of run. What may go well when it is run again is [passing], and a COMMIT
// that was not answered is [unanswered].
//
// A transaction above READ COMMITTED that does not see a row, as it was committed since, is told
// of a violation where it may stand for a serialization failure. So a violation is passing but
// for one of a key that is taken already, which an earlier attempt has met: this one has
// seen the row.
func (e *postgresEngine) once(ctx context.Context, then time.Time, taken *string, fn func(runner) error) (err error) {
	conn, err := e.db.Conn(ctx)
	if err != nil {
		return e.again.judge(ctx, fmt.Errorf("begin: %w", err))
	}
	defer conn.Close() // it says no more than whether a statement that failed has closed it
	t, err := newPgTx(conn, e.again, e.seen)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	ending := func() (context.Context, context.CancelFunc) {
		until := time.Now().Add(e.answers)
		if !then.IsZero() && then.Before(until) {
			until = then
		}
		return context.WithDeadline(context.WithoutCancel(ctx), until)
	}
	defer func() { // also when fn panics
		if !t.begun() {
			return // or it is over: also with its connection
		}
		if t.lost {
			t.abandon()
			return
		}
		ending, cancel := ending()
		defer cancel()
		if back := t.rollback(ending); back != nil && !t.driver.IsClosed() {
			err = errors.Join(err, fmt.Errorf("roll back: %w", back))
		}
		if err != nil && t.isolated && t.taken != *taken {
			*taken, err = t.taken, &passing{err}
		}
	}()
	err = fn(t)
	if t.failed != nil {
		err = t.failed
	}
	if t.built && err != nil {
		t.note(ctx, err)
	}
	if t.passing != nil {
		return &passing{cmp.Or(err, t.passing)} // whatever fn made of it
	}
	if err != nil {
		if over := ctx.Err(); over != nil && t.driver.IsClosed() && !errors.Is(err, over) {
			// The driver has closed the connection because the context had ended.
			return late(over, err)
		}
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	committing, cancel := ending()
	defer cancel()
	return t.commit(committing, e.now())
}

func (e *postgresEngine) close() error {
	e.closed.Store(true)
	e.cancel()
	e.wait.Wait()
	return e.db.Close()
}
