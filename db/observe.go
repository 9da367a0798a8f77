package db

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// observer sees all statements: prepared ones from the functions that run them, and
// those that are put together per call as bun's query hook, which sees no others.
type observer struct {
	engine dialect.Name
	trace  func(statement string) // may be nil
	slow   func() time.Duration   // may be nil; 0: no statement is
	log    *slog.Logger
	watch  atomic.Pointer[Observer] // nil until [DB.Observe]
	count  atomic.Int64
	slowly atomic.Int64 // statements that were slow
}

// An Observer is told of what writes, see [DB.Observe]. It is called by several goroutines at a
// time, when the matter is over and before the caller of [DB.Write] learns of it.
type Observer interface {
	// Wrote is told of a call of [DB.Write]: when it began, how long it took, with the waiting for
	// its turn, and what it returned.
	Wrote(ctx context.Context, began time.Time, took time.Duration, err error)
	// Committed is told of a COMMIT, well or not, and how long it took. On SQLite it is that of all
	// who shared a transaction.
	Committed(took time.Duration)
}

func (o *observer) begin(s *statement) time.Time {
	o.count.Add(1)
	if o.trace != nil {
		o.trace(s.text(o.engine))
	}
	return time.Now()
}

func (o *observer) end(s *statement, began time.Time) {
	if s == commit {
		if watch := o.watch.Load(); watch != nil {
			(*watch).Committed(time.Since(began))
		}
	}
	if o.isSlow(began) {
		o.tell(context.Background(), s.text(o.engine), began)
	}
}

// BeforeQuery implements [bun.QueryHook].
func (o *observer) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	o.count.Add(1)
	if o.trace != nil {
		o.trace(e.Query)
	}
	return ctx
}

// AfterQuery implements [bun.QueryHook]. The text of such a statement has what clients
// sent in it, so only its verb and table are told.
func (o *observer) AfterQuery(ctx context.Context, e *bun.QueryEvent) {
	if o.isSlow(e.StartTime) {
		statement := e.Operation()
		if e.IQuery != nil { // as it is for a step of the schema
			statement += " " + e.IQuery.GetTableName()
		}
		o.tell(ctx, statement, e.StartTime)
	}
}

func (o *observer) isSlow(began time.Time) bool {
	if o.slow == nil {
		return false
	}
	least := o.slow()
	return least > 0 && time.Since(began) >= least
}

func (o *observer) tell(ctx context.Context, statement string, began time.Time) {
	o.slowly.Add(1)
	o.log.WarnContext(ctx, "statement was slow", slog.String("statement", statement), slog.Int64("took_ms", time.Since(began).Milliseconds()))
}

// Observe lets o be told of what writes from now on.
func (db *DB) Observe(o Observer) { db.seen.watch.Store(&o) }

// Statements is how many statements were run since the database was opened, BEGIN and
// COMMIT among them.
func (db *DB) Statements() int64 { return db.seen.count.Load() }
