package db

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
)

// maxWaiting bounds how many statements of a transaction wait to be sent.
const maxWaiting = 64

// errEarlier is what a statement fails with when one that was sent with it, and that nobody
// had waited for, has failed.
var errEarlier = errors.New("an earlier statement of the transaction failed")

// pgTx runs the statements of a transaction. Those that nobody waits for, BEGIN is the
// first, are sent with the next one that somebody does wait for: see [Tx.later].
type pgTx struct {
	conn    bun.Conn
	driver  *pgx.Conn // that of conn, which belongs to the transaction until it ends
	seen    *observer
	waiting []waitingStatement
	failed  error // of one that nobody waited for
}

type waitingStatement struct {
	*statement
	args  []any
	doing string
}

func newPgTx(conn bun.Conn, seen *observer) (*pgTx, error) {
	t := &pgTx{conn: conn, seen: seen}
	err := conn.Raw(func(driverConn any) error {
		t.driver = driverConn.(*stdlib.Conn).Conn()
		return nil
	})
	seen.begin(begin)
	t.waiting = append(t.waiting, waitingStatement{begin, nil, "begin"})
	return t, err
}

// begun reports whether there is a transaction to end.
func (t *pgTx) begun() bool { return t.driver.PgConn().TxStatus() != 'I' && !t.driver.IsClosed() }

func (t *pgTx) put(ctx context.Context, doing string, s *statement, args []any) {
	t.waiting = append(t.waiting, waitingStatement{s, args, doing})
	if len(t.waiting) >= maxWaiting {
		t.flush(ctx)
	}
}

// flush sends what waits. What goes wrong is in failed.
func (t *pgTx) flush(ctx context.Context) {
	if results, err := t.send(ctx, nil); err == nil {
		if err := results.Close(); err != nil {
			t.failed = err
		}
	}
}

// send sends what waits and some more statements in one round trip, and returns the results
// of the latter, to be closed.
func (t *pgTx) send(ctx context.Context, more []read) (pgx.BatchResults, error) {
	if t.failed != nil {
		return nil, errEarlier
	}
	var batch pgx.Batch
	for _, w := range t.waiting {
		batch.Queue(w.postgres(), w.args...)
	}
	for _, r := range more {
		batch.Queue(r.postgres(), r.args...)
	}
	waited := t.waiting
	t.waiting = nil
	results := t.driver.SendBatch(ctx, &batch)
	for _, w := range waited {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			t.failed = wrap(w.error(err), "%s", w.doing)
			return nil, errEarlier
		}
	}
	return results, nil
}

// error is what an error of the driver means.
func (w *waitingStatement) error(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && w.unmet != nil && pg.Code == "22012" { // division by zero
		return w.unmet
	}
	return sentinel(err)
}

func (t *pgTx) exec(ctx context.Context, s *statement, args []any) (sql.Result, error) {
	if len(t.waiting) == 0 && t.failed == nil {
		tag, err := t.driver.Exec(ctx, s.postgres(), args...)
		return driver.RowsAffected(tag.RowsAffected()), err
	}
	results, err := t.send(ctx, []read{{statement: s, args: args}})
	if err != nil {
		return nil, err
	}
	tag, err := results.Exec()
	return driver.RowsAffected(tag.RowsAffected()), cmp.Or(err, results.Close())
}

func (t *pgTx) query(ctx context.Context, s *statement, args []any) (rows, error) {
	if len(t.waiting) == 0 && t.failed == nil {
		r, err := t.driver.Query(ctx, s.postgres(), args...)
		return &pgRows{Rows: r}, err
	}
	results, err := t.send(ctx, []read{{statement: s, args: args}})
	if err != nil {
		return nil, err
	}
	r, err := results.Query()
	if err != nil {
		return nil, cmp.Or(err, results.Close())
	}
	return &pgRows{r, results}, nil
}

func (t *pgTx) queryRow(ctx context.Context, s *statement, args []any) scanner {
	r, err := t.query(ctx, s, args)
	return pgRow{r, err}
}

func (t *pgTx) together(ctx context.Context, reads []read) error {
	results, err := t.send(ctx, reads)
	if err != nil {
		return err
	}
	return readAll(results, reads)
}

// bun's builder runs statements by itself, after what waits.
func (t *pgTx) bun() bun.IDB {
	if len(t.waiting) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		t.flush(ctx)
	}
	return t.conn
}

// commit ends the transaction with what waits and COMMIT, in one round trip. A COMMIT of a
// transaction in which a statement failed does nothing but answer ROLLBACK, which is an
// error here.
func (t *pgTx) commit(ctx context.Context) error {
	if !t.begun() && len(t.waiting) == 1 {
		return nil // nothing was run
	}
	defer t.seen.end(commit, t.seen.begin(commit))
	results, err := t.send(ctx, []read{{statement: commit}})
	if err != nil {
		return t.failed
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return cmp.Or(err, results.Close())
}

// rollback ends the transaction without a trace.
func (t *pgTx) rollback(ctx context.Context) error {
	defer t.seen.end(rollback, t.seen.begin(rollback))
	_, err := t.driver.Exec(ctx, rollback.postgres())
	return err
}

// readAll does reads with their results, and closes those.
func readAll(results pgx.BatchResults, reads []read) error {
	for _, r := range reads {
		found, err := results.Query()
		if err == nil {
			all := &pgRows{Rows: found}
			for err == nil && all.Next() {
				err = r.row(all)
			}
			err = cmp.Or(err, all.Close())
		}
		if err != nil {
			return cmp.Or(err, results.Close())
		}
	}
	return results.Close()
}

// pgRows are rows of the driver, possibly the last ones of a batch.
type pgRows struct {
	pgx.Rows
	batch pgx.BatchResults // nil: none
}

func (r *pgRows) Close() error {
	r.Rows.Close()
	err := r.Rows.Err()
	if r.batch != nil {
		err = cmp.Or(err, r.batch.Close())
	}
	return err
}

// pgRow is the first of some rows, or the error of their query.
type pgRow struct {
	rows
	err error
}

// Scan returns sql.ErrNoRows when there is none.
func (r pgRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	var err error
	if r.Next() {
		err = r.rows.Scan(dest...)
	} else if r.rows.Err() == nil {
		err = sql.ErrNoRows
	}
	if closed := r.rows.Close(); err == nil || err == sql.ErrNoRows && closed != nil {
		return closed
	}
	return err
}
