package db

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
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
)

// mailChannel is what other processes LISTEN to for new mails.
const mailChannel = "portico_mail"

type postgresEngine struct {
	db       *bun.DB
	readOnly bool
	texts    *memo[string]
	cancel   context.CancelFunc
	wait     sync.WaitGroup
}

func openPostgres(ctx context.Context, c Config, mailed chan<- struct{}) (_ *postgresEngine, err error) {
	config, err := pgx.ParseConfig(c.URL)
	if err != nil {
		// The driver's message leaves the password out.
		return nil, fmt.Errorf("database URL: %w", err)
	}
	config.RuntimeParams["application_name"] = "portico"
	pool := stdlib.OpenDB(*config)
	conns := cmp.Or(c.MaxConns, 20)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)

	e := &postgresEngine{db: bun.NewDB(pool, pgdialect.New()), texts: new(memo[string])}
	listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.cancel = cancel
	if c.ReadOnly {
		e.readOnly = true
		if err := checkSchema(ctx, e, c.Behind); err != nil {
			return nil, errors.Join(err, e.close())
		}
		return e, nil
	}
	if err := e.write(ctx, func(r runner) error { return prepare(ctx, e, r, c) }); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.wait.Go(func() { listen(listening, config, mailed, c.Logger) })
	return e, nil
}

func (e *postgresEngine) name() string   { return postgresName }
func (e *postgresEngine) reader() runner { return &pgRunner{on: e.db.DB, idb: e.db, texts: e.texts} }

func (e *postgresEngine) ping(ctx context.Context) error { return e.db.PingContext(ctx) }

func (e *postgresEngine) retry(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40001" || pg.Code == "40P01") // serialization failure, deadlock
}

func (e *postgresEngine) write(ctx context.Context, fn func(runner) error) (err error) {
	if e.readOnly {
		return errReadOnly
	}
	tx, err := e.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	committed := false
	defer func() { // also when fn panics
		if committed {
			return
		}
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rollback))
		}
	}()
	if err := fn(&pgRunner{on: tx.Tx, idb: tx, texts: e.texts}); err != nil {
		return err
	}
	err = tx.Commit()
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		err = ctx.Err() // database/sql was faster to roll back
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

func (e *postgresEngine) close() error {
	e.cancel()
	e.wait.Wait()
	return e.db.Close()
}

// listen wakes mailed whenever another process has queued a mail, until ctx
// ends. A lost connection costs speed only: the outbox is looked at anyhow.
func listen(ctx context.Context, config *pgx.ConnConfig, mailed chan<- struct{}, log *slog.Logger) {
	for ctx.Err() == nil {
		err := func() error {
			conn, err := pgx.ConnectConfig(ctx, config.Copy())
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			if _, err := conn.Exec(ctx, "LISTEN "+mailChannel); err != nil {
				return err
			}
			for {
				if _, err := conn.WaitForNotification(ctx); err != nil {
					return err
				}
				wake(mailed)
			}
		}()
		if ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, "listening for mails was interrupted", slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
		wake(mailed) // what was missed meanwhile
	}
}

// pgRunner runs statements on the pool or in a transaction. The driver prepares
// each text once for each connection.
type pgRunner struct {
	on interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}
	idb   bun.IDB
	texts *memo[string]
}

func (r *pgRunner) exec(ctx context.Context, text string, args []any) (sql.Result, error) {
	return r.on.ExecContext(ctx, r.numbered(text), args...)
}

func (r *pgRunner) query(ctx context.Context, text string, args []any) (*sql.Rows, error) {
	return r.on.QueryContext(ctx, r.numbered(text), args...)
}

func (r *pgRunner) queryRow(ctx context.Context, text string, args []any) *sql.Row {
	return r.on.QueryRowContext(ctx, r.numbered(text), args...)
}

func (r *pgRunner) bun() bun.IDB { return r.idb }

func (r *pgRunner) numbered(text string) string {
	text, _ = r.texts.get(text, func() (string, error) { return numbered(text), nil })
	return text
}

// numbered writes $1, $2 … for ? and keeps what stands in braces.
func numbered(text string) string {
	var b strings.Builder
	n := 0
	for _, c := range text {
		switch c {
		case '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
		case '{', '}':
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
