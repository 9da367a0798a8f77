package db

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
)

// What fails on Postgres because of others, or because a connection is lost, is run again:
// see [DB.Write] for what is promised. All of it is decided in this file.

// ErrUnavailable says that the database did not answer in time, or that nobody can say
// whether a transaction was committed. It is worth trying again in some seconds.
var ErrUnavailable error = unavailable{}

type unavailable struct{}

func (unavailable) Error() string { return "database is not available" }

// RetryAfter is what clients are told.
func (unavailable) RetryAfter() time.Duration { return 5 * time.Second }

const (
	// firstPause is the longest that there is before something is run for the second time.
	// It doubles with each time, up to longestPause.
	firstPause   = time.Millisecond
	longestPause = 250 * time.Millisecond
	// triedFor is how long something is run again whose context has no deadline.
	triedFor = 30 * time.Second
	// lookWithin is how long a connection of which there is doubt may take to answer.
	lookWithin = 2 * time.Second
)

// passing is an error after which the same may go well. It is ErrUnavailable to those who
// are not in a position to try it.
type passing struct{ error }

func (p *passing) Unwrap() []error { return []error{ErrUnavailable, p.error} }

// again runs again what was done over the connections of one pool. It is safe for
// concurrent use.
type again struct {
	writes bool // the pool is one of connections to a primary

	chance func() float64 // below 1
	now    func() time.Time
	wait   func(ctx context.Context, d time.Duration) error

	losses atomic.Int64 // connections that were lost
}

func newAgain(writes bool) *again {
	return &again{writes: writes, chance: mathrand.Float64, now: time.Now, wait: func(ctx context.Context, d time.Duration) error {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
		return ctx.Err()
	}}
}

// do calls try until it returns no [passing] error, with pauses of random length, so that
// those who were in each other's way do not meet again. It gives up with ErrUnavailable
// when the deadline of ctx has come or, where there is none, after triedFor.
func (a *again) do(ctx context.Context, try func() error) error {
	began := a.now()
	_, bounded := ctx.Deadline()
	for longest := firstPause; ; longest = min(2*longest, longestPause) {
		err := try()
		p, ok := errors.AsType[*passing](err)
		if !ok {
			return err
		}
		if !bounded && a.now().Sub(began) >= triedFor {
			return fmt.Errorf("%w: %w", ErrUnavailable, p.error)
		}
		if over := a.wait(ctx, time.Duration(a.chance()*float64(longest))); over != nil {
			return late(over, p.error)
		}
	}
}

// late is the error of what failed with err when its context had ended with over.
func late(over, err error) error {
	if errors.Is(over, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, over, err)
	}
	return fmt.Errorf("%w: %w", over, err)
}

// judge returns what an error of the driver means for who did something with ctx: one that
// is [passing], or the same.
func (a *again) judge(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err // as it was judged before
	}
	kind := kindOf(err)
	if over := ctx.Err(); over != nil {
		if kind == lost || errors.Is(err, over) {
			return late(over, err) // that is why the driver has closed the connection
		}
		return err
	}
	switch kind {
	case undone:
		return &passing{err}
	case lost:
		a.losses.Add(1)
		return &passing{err}
	}
	return err
}

// The kinds of an error of the driver.
type kind int

const (
	lasting kind = iota // it would be the same again
	undone              // others were in the way
	lost                // the connection is gone, or leads to no server that does what it should
)

// kindOf is for errors of the driver alone, whose context has not ended.
func kindOf(err error) kind {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "40001", "40P01": // serialization_failure, deadlock_detected
			return undone
		case "57P01", "57P02", "57P03", "57P05", // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
			"53300", // too_many_connections
			"25006": // read_only_sql_transaction: a primary that is one no more
			return lost
		}
		// Connection exceptions, which are also those of poolers. That of a message that was
		// not understood is lasting, unless the connection ends with it. pgbouncer has all of its
		// errors under that code, and one severity.
		if strings.HasPrefix(pg.Code, "08") && (pg.Code != "08P01" || cmp.Or(pg.SeverityUnlocalized, pg.Severity) == "FATAL") {
			return lost
		}
		return lasting
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return lost
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return lost
	}
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, pgconn.ErrConnClosed} {
		if errors.Is(err, gone) {
			return lost
		}
	}
	return lasting
}

// known is the name of the number of losses that there were when a connection was seen to be
// well, which it keeps.
const known = "portico losses"

// connected remembers that a connection is well.
func (a *again) connected(_ context.Context, conn *pgx.Conn) error {
	conn.PgConn().CustomData()[known] = a.losses.Load()
	return nil
}

// reused looks at a connection of the pool that is to be used once more. After one was lost
// the others may be, too, all to a server that is gone or has become a standby: each is
// asked once, instead of failing whoever gets it.
func (a *again) reused(ctx context.Context, conn *pgx.Conn) error {
	losses := a.losses.Load()
	if conn.PgConn().CustomData()[known] == losses {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	results, err := conn.PgConn().Exec(ctx, "SELECT pg_is_in_recovery()").ReadAll()
	if err != nil || a.writes && string(results[0].Rows[0][0]) != "f" {
		return driver.ErrBadConn // which the pool replaces
	}
	conn.PgConn().CustomData()[known] = losses
	return nil
}

// A txMark is left by every transaction that wrote something, in the round trip of its COMMIT.
type txMark struct {
	bun.BaseModel `bun:"table:tx_mark,alias:tx_mark"`

	ID []byte `bun:"id,pk"`
}

const (
	// marksStay is how long a mark is kept: longer than anybody asks for it, and than
	// the clocks of servers differ.
	marksStay = time.Hour
	// marksAtOnce bounds how many are removed by one transaction.
	marksAtOnce = 10_000
)

var (
	insertMark = prepared(func(b *builder) bun.Query { return b.insert(new(txMark)) })
	claimMark  = prepared(func(b *builder) bun.Query { return b.insert(new(txMark)).On("CONFLICT (id) DO NOTHING") })
	dropMarks  = prepared(func(b *builder) bun.Query {
		oldest := b.NewSelect().Model((*txMark)(nil)).Column("id").Where("id < ?", b.p())
		return b.NewDelete().Model((*txMark)(nil)).Where("id IN (?)", b.lock("UPDATE SKIP LOCKED", b.limit(oldest, "id")))
	})
)

// newMark is the id of a mark: its time in milliseconds and ten random bytes.
func newMark(at time.Time) []byte {
	id := markTime(at)
	var random [10]byte
	rand.Read(random[:])
	return append(id, random[:]...)
}

func markTime(at time.Time) []byte {
	ms := binary.BigEndian.AppendUint64(nil, uint64(max(0, at.UnixMilli())))
	return ms[2:]
}

// PurgeMarks removes the marks of transactions that were committed an hour before now, some
// at a time. SQLite has none.
func (db *DB) PurgeMarks(ctx context.Context, now time.Time) error {
	if db.Exclusive() {
		return nil
	}
	for {
		var n int64
		err := db.Write(ctx, func(tx *Tx) (err error) {
			n, err = tx.exec(ctx, dropMarks, markTime(now.Add(-marksStay)), marksAtOnce)
			return err
		})
		if err != nil || n < marksAtOnce {
			return wrap(err, "purge marks of transactions")
		}
	}
}

// unanswered is the error of a COMMIT that was sent and that nobody knows the end of.
type unanswered struct {
	mark  []byte
	cause error
}

func (u *unanswered) Error() string { return "commit: " + u.cause.Error() }

// settle finds out what became of a COMMIT that was not answered by until. To look for its mark would say
// nothing when there is none: the server may still be at it. So whoever asks leaves the same
// mark in its place, for which Postgres waits until the first transaction has ended. If it is
// there the first was committed; else it never will be, since the mark is taken, and
// the error is one that is [passing].
//
// That is a transaction like any other, with a mark of its own: who loses the connection over
// it finds out in the same way whether it was this that left the mark in question. That is written
// in any case, so that where a COMMIT waits for a standby this one waits for what the
// first one wrote.
func (e *postgresEngine) settle(ctx context.Context, u *unanswered, until time.Time) error {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	var dead bool
	err := e.run(ctx, until, func(r runner) error {
		r.(*pgTx).wrote = true // it leaves a mark of its own in any case
		claimed, err := r.exec(ctx, claimMark, []any{u.mark})
		if err != nil {
			return err
		}
		n, err := claimed.RowsAffected()
		dead = n == 1
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: it is not known whether a transaction was committed: %w: %w", ErrUnavailable, u.cause, err)
	case dead:
		return &passing{u}
	}
	return nil
}
