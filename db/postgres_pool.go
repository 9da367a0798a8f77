package db

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

var errOutside = errors.New("write outside a transaction")

// pgPool runs statements that read, each on a connection of a pool. What fails because of
// others, or because a connection is lost, before a row was handed out is run again. The
// driver prepares each text once for each connection.
type pgPool struct {
	db    *bun.DB
	again *again
}

// newPgPool makes a pool of connections, to a primary if one writes there.
func newPgPool(config *pgx.ConnConfig, conns int, writes bool, seen *observer) *pgPool {
	a := newAgain(writes)
	pool := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(a.connected), stdlib.OptionResetSession(a.reused))
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	db := bun.NewDB(pool, withMicroseconds(pgdialect.New())).WithQueryHook(seen)
	return &pgPool{db, a}
}

func (p *pgPool) exec(context.Context, *statement, []any) (sql.Result, error) {
	return nil, errOutside
}

func (p *pgPool) query(ctx context.Context, s *statement, args []any) (rows, error) {
	return p.queryText(ctx, s.postgres(), args)
}

func (p *pgPool) queryText(ctx context.Context, text string, args []any) (found *sql.Rows, err error) {
	err = p.repeat(ctx, func() (err error) {
		found, err = p.db.DB.QueryContext(ctx, text, args...) // it has read the first row
		return err
	})
	return found, err
}

func (p *pgPool) queryRow(ctx context.Context, s *statement, args []any) scanner {
	return scannerFunc(func(dest ...any) error {
		return p.repeat(ctx, func() error { return p.db.DB.QueryRowContext(ctx, s.postgres(), args...).Scan(dest...) })
	})
}

type scannerFunc func(dest ...any) error

func (f scannerFunc) Scan(dest ...any) error { return f(dest...) }

// repeat runs read until it fails for good or not at all. What it read is read anew.
func (p *pgPool) repeat(ctx context.Context, read func() error) error {
	return p.again.do(ctx, func() error { return p.judge(ctx, read()) })
}

func (p *pgPool) judge(ctx context.Context, err error) error { return p.again.judge(ctx, err) }

func (p *pgPool) together(ctx context.Context, reads []read) error {
	return p.repeat(ctx, func() error {
		for _, r := range reads {
			if r.undo != nil {
				r.undo()
			}
		}
		conn, err := p.db.Conn(ctx)
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
	})
}

func (p *pgPool) bun() bun.IDB { return retryingDB{p.db, retryingConn{p}} }

// retryingDB is a bun.DB whose builder's queries are run again as those of a pgPool.
type retryingDB struct {
	*bun.DB
	conn retryingConn
}

func (d retryingDB) NewSelect() *bun.SelectQuery { return d.DB.NewSelect().Conn(d.conn) }

type retryingConn struct{ *pgPool }

// QueryContext implements [bun.IConn], as the other two do.
func (c retryingConn) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return c.queryText(ctx, text, args)
}

func (c retryingConn) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	return c.db.DB.QueryRowContext(ctx, text, args...)
}

func (c retryingConn) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, errOutside
}

// pgRunner runs statements that read on one connection, or in a transaction. What fails is
// not run again.
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

func (r *pgRunner) bun() bun.IDB { return r.idb }
