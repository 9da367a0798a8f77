package db

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
)

// The errors of [Try] that say nothing about the steps themselves.
var (
	ErrTrialBlocked = errors.New("another connection holds a lock that the steps need")
	ErrTrialTooLong = errors.New("the steps take longer than they may")
	// ErrTrialCut says that the connection ended, or that the database had no room for it.
	ErrTrialCut = errors.New("the connection to the database ended")
)

// TrialBounds say how much of a database's time a trial may take.
type TrialBounds struct {
	// Lock is how long each lock is waited for. Who comes later waits behind it.
	Lock time.Duration
	// All is how long the trial lasts, and so what it locks stays locked.
	All time.Duration
}

// errTried ends the transaction of a trial.
var errTried = errors.New("tried")

// Try makes the steps that the Postgres database of c lacks, as [Open] does, and undoes them: they
// are made in one transaction, which is rolled back in any case, also by the server when this
// process ends. Stepped of c is told how long each took. An error is what Open would return, or
// one of the above.
func Try(ctx context.Context, c Config, bounds TrialBounds) error {
	if c.URL == "" {
		return errors.New("only a Postgres database is tried in place")
	}
	c.ReadOnly, c.Behind, c.MaxConns = true, true, 1 // a way to it; what is written below is not kept
	if c.Now == nil {
		c.Now = time.Now
	}
	store, err := Open(ctx, c)
	if err != nil {
		return err
	}
	e := store.engine.(*postgresEngine)
	within, cancel := context.WithTimeoutCause(ctx, bounds.All, ErrTrialTooLong)
	defer cancel()
	var driver *pgx.Conn
	// Once: what ends it is told, and not tried again.
	err = e.once(within, time.Time{}, new(string), func(r runner) error {
		driver = r.(*pgTx).driver
		q := &queries{run: r, seen: e.seen}
		if _, err := q.exec(within, seeOthers); err != nil { // which nothing may come before
			return err
		}
		if err := boundTrial(within, q, bounds); err != nil {
			return err
		}
		if err := prepare(within, e, r, e.seen, c); err != nil {
			return err
		}
		return errTried
	})
	if driver != nil && driver.IsClosed() {
		// It has asked the server to end what runs; the process must not end before.
		select {
		case <-driver.PgConn().CleanupDone():
		case <-time.After(answerWithin):
		}
	}
	closed := store.Close()
	switch {
	case errors.Is(err, errTried):
		return closed
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), closed)
	case within.Err() != nil:
		return errors.Join(fmt.Errorf("%w: %w", ErrTrialTooLong, err), closed)
	}
	return errors.Join(trialError(err), closed)
}

var setForTransaction = prepared(func(b *builder) bun.Query {
	return b.NewSelect().ColumnExpr("set_config(?, ?, true)", b.p(), b.p())
})

// boundTrial has the server keep to bounds by itself, whatever becomes of this process.
func boundTrial(ctx context.Context, q *queries, bounds TrialBounds) error {
	for _, s := range []struct {
		name string
		most time.Duration
	}{
		{"lock_timeout", bounds.Lock}, {"statement_timeout", bounds.All}, {"idle_in_transaction_session_timeout", bounds.All},
	} {
		if _, err := q.exec(ctx, setForTransaction, s.name, strconv.FormatInt(max(1, s.most.Milliseconds()), 10)); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

// trialError tells apart what the steps cannot do from what kept them from being made.
func trialError(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok && !errors.Is(err, ErrSchemaAhead):
		return fmt.Errorf("%w: %w", ErrTrialCut, err)
	case !ok:
		return err
	case pg.Code == "55P03", pg.Code == "40P01": // lock_not_available, deadlock_detected
		return fmt.Errorf("%w: %w", ErrTrialBlocked, err)
	case pg.Code == "57014": // query_canceled, by statement_timeout or an operator
		return fmt.Errorf("%w: %w", ErrTrialTooLong, err)
	case pg.Code[:2] == "57", pg.Code[:2] == "08", pg.Code == "53300", pg.Code == "25P03":
		return fmt.Errorf("%w: %w", ErrTrialCut, err)
	}
	return err
}

// A TableSize is how much Postgres believes to be in a table.
type TableSize struct {
	Name  string
	Rows  int64 // as of the last time that its statistics were made, -1 for never
	Bytes int64 // with its indexes
}

var (
	selectDatabaseSize = prepared(func(b *builder) bun.Query {
		return b.NewSelect().ColumnExpr("pg_database_size(current_database())")
	})
	selectTableSizes = prepared(func(b *builder) bun.Query {
		return b.NewSelect().TableExpr("pg_class AS c").ColumnExpr("c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid) AS size").
			Where("c.relkind = 'r' AND c.relnamespace = to_regnamespace(current_schema()::text)").OrderExpr("size DESC, c.relname").Limit(5)
	})
)

// PostgresSizes returns the bytes of the Postgres database, and its largest tables, the largest
// first. It reads no rows of them.
func (db *DB) PostgresSizes(ctx context.Context) (bytes int64, largest []TableSize, err error) {
	if err := db.get(ctx, selectDatabaseSize, nil, &bytes); err != nil {
		return 0, nil, wrap(err, "read the size of the database")
	}
	err = db.each(ctx, selectTableSizes, nil, func(row scanner) error {
		var t TableSize
		err := row.Scan(&t.Name, &t.Rows, &t.Bytes)
		largest = append(largest, t)
		return err
	})
	return bytes, largest, wrap(err, "read the sizes of tables")
}
