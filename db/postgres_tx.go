package db

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

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
	again   *again
	seen    *observer
	waiting []waitingStatement
	failed  error // of one that nobody waited for
	spoiled bool  // a statement has failed
	passing error // that was why, and nothing is wrong with the transaction itself
	lost    bool  // the connection is good for nothing
	wrote   bool  // something, for all that is known
	built   bool  // bun's builder ran statements

	taken    string // the key whose uniqueness it violated
	isolated bool   // above READ COMMITTED; known after it was rolled back, if taken is
}

type waitingStatement struct {
	*statement
	args  []any
	doing string
}

func newPgTx(conn bun.Conn, again *again, seen *observer) (*pgTx, error) {
	t := &pgTx{conn: conn, again: again, seen: seen}
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

// note looks at an error of the driver, which it returns: the first one that ends the
// transaction decides whether it is to be run again.
func (t *pgTx) note(ctx context.Context, err error) error {
	if err == nil || t.spoiled || t.begun() && t.driver.PgConn().TxStatus() != 'E' && kindOf(err) == lasting {
		return err
	}
	t.spoiled = true
	if p, ok := errors.AsType[*passing](t.again.judge(ctx, err)); ok {
		t.passing, t.lost = p.error, kindOf(err) == lost
	} else if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "23505" { // unique_violation
		t.taken = pg.ConstraintName + " " + pg.Detail
	}
	return err
}

// abandon closes the connection, with which the transaction ends.
func (t *pgTx) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), lookWithin)
	defer cancel()
	_ = t.driver.Close(ctx) // it is given up
}

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
			t.failed = t.note(ctx, err)
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
	t.wrote = t.wrote || len(waited) > 1 || len(waited) == 1 && waited[0].statement != begin
	results := t.driver.SendBatch(ctx, &batch)
	for _, w := range waited {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			t.failed = wrap(w.error(t.note(ctx, err)), "%s", w.doing)
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
	var tag pgconn.CommandTag
	var err error
	if len(t.waiting) == 0 && t.failed == nil {
		tag, err = t.driver.Exec(ctx, s.postgres(), args...)
	} else {
		results, failed := t.send(ctx, []read{{statement: s, args: args}})
		if failed != nil {
			return nil, failed
		}
		tag, err = results.Exec()
		err = cmp.Or(err, results.Close())
	}
	t.ran(tag)
	return driver.RowsAffected(tag.RowsAffected()), t.note(ctx, err)
}

// ran remembers whether a statement may have written something. What begins with WITH is
// a SELECT to its end.
func (t *pgTx) ran(tag pgconn.CommandTag) {
	t.wrote = t.wrote || tag.RowsAffected() > 0 || !tag.Insert() && !tag.Update() && !tag.Delete()
}

func (t *pgTx) query(ctx context.Context, s *statement, args []any) (rows, error) {
	found := &pgRows{ctx: ctx, of: t, wrote: !strings.HasPrefix(s.postgres(), "SELECT ")}
	var err error
	if len(t.waiting) == 0 && t.failed == nil {
		found.Rows, err = t.driver.Query(ctx, s.postgres(), args...)
		return found, t.note(ctx, err)
	}
	results, err := t.send(ctx, []read{{statement: s, args: args}})
	if err != nil {
		return nil, err
	}
	if found.Rows, err = results.Query(); err != nil {
		return nil, t.note(ctx, cmp.Or(err, results.Close()))
	}
	found.batch = results
	return found, nil
}

func (t *pgTx) queryRow(ctx context.Context, s *statement, args []any) scanner {
	r, err := t.query(ctx, s, args)
	return pgRow{r, err}
}

func (t *pgTx) together(ctx context.Context, reads []read) error {
	for _, r := range reads {
		t.wrote = t.wrote || !strings.HasPrefix(r.postgres(), "SELECT ")
	}
	results, err := t.send(ctx, reads)
	if err != nil {
		return err
	}
	return t.note(ctx, readAll(results, reads))
}

// bun's builder runs statements by itself, after what waits.
func (t *pgTx) bun() bun.IDB {
	if len(t.waiting) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
		defer cancel()
		t.flush(ctx)
	}
	t.built, t.wrote = true, true
	return t.conn
}

// commit ends the transaction with what waits, its mark and COMMIT, in one round trip. One
// in which a statement failed is not committed: that is an error here. A COMMIT that was
// sent and not answered is [unanswered], but for a transaction that has only read.
func (t *pgTx) commit(ctx context.Context, now time.Time) error {
	if !t.begun() && len(t.waiting) == 1 {
		return nil // nothing was run
	}
	if t.driver.PgConn().TxStatus() == 'E' {
		return fmt.Errorf("commit: %w", pgx.ErrTxCommitRollback)
	}
	var mark []byte
	if t.wrote || len(t.waiting) > 0 {
		mark = newMark(now)
		t.seen.begin(insertMark)
		t.waiting = append(t.waiting, waitingStatement{insertMark, []any{mark}, "leave mark"})
	}
	defer t.seen.end(commit, t.seen.begin(commit))
	letCommit(t.driver, true)
	defer func() {
		if !t.driver.IsClosed() { // else the driver may be about to cancel it
			letCommit(t.driver, false)
		}
	}()
	results, err := t.send(ctx, []read{{statement: commit}})
	if err != nil {
		err = t.failed
	} else {
		var tag pgconn.CommandTag
		if tag, err = results.Exec(); err == nil && tag.String() == "COMMIT" {
			_ = results.Close() // whatever it says, this was the answer
			return nil
		}
		if err == nil {
			err = pgx.ErrTxCommitRollback
		}
		err = t.note(ctx, fmt.Errorf("commit: %w", cmp.Or(err, results.Close())))
	}
	// After an error of a statement Postgres runs none until the end of the round trip. What
	// it says when it ends the connection is no answer: it may have committed before.
	pg, said := errors.AsType[*pgconn.PgError](err)
	answered := !t.driver.IsClosed() || said && pg.SeverityUnlocalized == "ERROR"
	switch {
	case !answered && mark != nil:
		return &unanswered{mark, err}
	case !answered, t.passing != nil:
		return &passing{err}
	}
	return err
}

// rollback ends the transaction without a trace.
func (t *pgTx) rollback(ctx context.Context) error {
	defer t.seen.end(rollback, t.seen.begin(rollback))
	if t.taken == "" {
		_, err := t.driver.Exec(ctx, rollback.postgres())
		return err
	}
	results, err := t.driver.PgConn().Exec(ctx, rollback.postgres()+"; SHOW transaction_isolation").ReadAll()
	if err == nil {
		level := string(results[1].Rows[0][0])
		t.isolated = level == "repeatable read" || level == "serializable"
	}
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
	of    *pgTx            // nil: none
	ctx   context.Context  // of the statement
	wrote bool             // what has no rows may yet have written nothing
}

func (r *pgRows) Close() error {
	r.Rows.Close()
	err := r.Rows.Err()
	if r.batch != nil {
		err = cmp.Or(err, r.batch.Close())
	}
	if r.of == nil {
		return err
	}
	if r.wrote {
		r.of.ran(r.Rows.CommandTag())
	}
	return r.of.note(r.ctx, err)
}

func (r *pgRows) Err() error {
	if r.of != nil {
		return r.of.note(r.ctx, r.Rows.Err())
	}
	return r.Rows.Err()
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
	} else if err = r.rows.Err(); err == nil {
		err = sql.ErrNoRows
	}
	if closed := r.rows.Close(); err == nil || err == sql.ErrNoRows && closed != nil {
		return closed
	}
	return err
}
