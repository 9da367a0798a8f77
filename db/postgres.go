package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

const postgresName = "postgres"

// The keys of our advisory locks.
const (
	migrationLock = 0x706f727469636f01
	plcLock       = 0x706f727469636f02
	domainLock    = 0x706f727469636f03
	oauthLock     = 0x706f727469636f04 // and what tells its payers apart
)

type postgresEngine struct {
	db       *bun.DB
	readOnly bool
	seen     *observer
	beside   *aside // nil: the database is open for reading only
	cancel   context.CancelFunc
	wait     sync.WaitGroup
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
	var link link
	config.DialFunc = link.dial
	pool := stdlib.OpenDB(*config)
	conns := cmp.Or(c.MaxConns, 20)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)

	e := &postgresEngine{db: bun.NewDB(pool, withMicroseconds(pgdialect.New())).WithQueryHook(seen), seen: seen}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	if c.ReadOnly {
		e.readOnly = true
		if err := checkSchema(ctx, e, seen, c.Behind); err != nil {
			return nil, errors.Join(err, e.close())
		}
		return e, nil
	}
	if err := findPooler(ctx, pool, config); err != nil {
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
func (e *postgresEngine) reader() runner { return &pgPool{pgRunner{on: e.db.DB, idb: e.db}, e.db} }

// cache: whether a row is still as it was costs the round trip that reading it costs.
func (e *postgresEngine) cache() *accountCache { return nil }

// ping tells what is known, if somebody sees to that: it does not wait for a connection of
// the pool, nor for an answer that does not come.
func (e *postgresEngine) ping(ctx context.Context) error {
	if e.beside != nil {
		return e.beside.answers()
	}
	return e.db.PingContext(ctx)
}

func (e *postgresEngine) others() *aside { return e.beside }

func (e *postgresEngine) retry(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40001" || pg.Code == "40P01") // serialization failure, deadlock
}

func (e *postgresEngine) pool() *sql.DB { return e.db.DB }

// waiting: who writes waits for a connection as who reads does.
func (e *postgresEngine) waiting() int { return 0 }

func (e *postgresEngine) files() (database, log int64) { return 0, 0 }

// answerWithin bounds how long a COMMIT or ROLLBACK that was sent is waited for: the
// context of the caller, who may have gone, does not end them half-way.
const answerWithin = 30 * time.Second

func (e *postgresEngine) write(ctx context.Context, _ bool, fn func(runner) error) (err error) {
	if e.readOnly {
		return errReadOnly
	}
	conn, err := e.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer conn.Close() // it says no more than whether a statement that failed has closed it
	t, err := newPgTx(conn, e.seen)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { // also when fn panics
		if !t.begun() {
			return // or it is over: also with its connection
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer cancel()
		if back := t.rollback(ending); back != nil {
			err = errors.Join(err, fmt.Errorf("roll back: %w", back))
		}
	}()
	err = fn(t)
	if t.failed != nil {
		err = t.failed
	}
	if err != nil {
		if over := ctx.Err(); over != nil && t.driver.IsClosed() && !errors.Is(err, over) {
			// The driver has closed the connection because the context had ended.
			err = fmt.Errorf("%w: %w", over, err)
		}
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	defer cancel()
	if err := t.commit(ending); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (e *postgresEngine) close() error {
	e.cancel()
	e.wait.Wait()
	return e.db.Close()
}

// pgRunner runs statements on the pool, or in a transaction that reads. The driver prepares
// each text once for each connection.
type pgRunner struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	idb bun.IDB
}

func (r *pgRunner) exec(ctx context.Context, s *statement, args []any) (sql.Result, error) {
	return r.on.ExecContext(ctx, s.postgres(), args...)
}

func (r *pgRunner) query(ctx context.Context, s *statement, args []any) (rows, error) {
	return r.on.QueryContext(ctx, s.postgres(), args...)
}

func (r *pgRunner) queryRow(ctx context.Context, s *statement, args []any) scanner {
	return r.on.QueryRowContext(ctx, s.postgres(), args...)
}

// pgPool is a pgRunner on the pool.
type pgPool struct {
	pgRunner
	pool *bun.DB
}

func (r *pgPool) together(ctx context.Context, reads []read) error {
	conn, err := r.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		var batch pgx.Batch
		for _, r := range reads {
			batch.Queue(r.postgres(), r.args...)
		}
		return readAll(driverConn.(*stdlib.Conn).Conn().SendBatch(ctx, &batch), reads)
	})
}

func (r *pgRunner) bun() bun.IDB { return r.idb }
