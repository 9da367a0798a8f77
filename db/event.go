package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// An Event is what the network is told about an account.
type Event struct {
	bun.BaseModel `bun:"table:event,alias:e"`

	Seq  int64      `bun:"seq,pk"`
	DID  syntax.DID `bun:"did"`
	Kind string     `bun:"kind"`
	Body []byte     `bun:"body"`
	Time time.Time  `bun:"time"`
}

// eventCounter is the one row that gives events their numbers.
type eventCounter struct {
	bun.BaseModel `bun:"table:event_counter,alias:c"`

	ID   int64     `bun:"id,pk"` // 1
	Last int64     `bun:"last"`
	Time time.Time `bun:"time"`
}

var (
	// Also when two processes start at once there is one row in the end.
	insertCounter = prepared(func(b *builder) bun.Query {
		return b.NewInsert().Model(new(eventCounter)).Value("id", "1").Value("last", "?", b.p()).Value("time", "0").
			On("CONFLICT (id) DO NOTHING").Returning("NULL")
	})
	raiseCounter = prepared(func(b *builder) bun.Query {
		start := b.p()
		return b.NewUpdate().Model((*eventCounter)(nil)).Set("last = ?", start).Where("id = 1").Where("last < ?", start)
	})
	countEvents = prepared(func(b *builder) bun.Query {
		n, now := b.p(), b.p()
		return b.NewUpdate().Model((*eventCounter)(nil)).Set("last = last + ?", n).
			Set("time = CASE WHEN time < ? THEN ? ELSE time END", now, now).Where("id = 1").Returning("last, time")
	})
	selectLastEvent = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*eventCounter)(nil)).Column("last").Where("id = 1")
	})
	insertEvent = prepared(func(b *builder) bun.Query { return b.insert(new(Event)) })
	// One statement counts and inserts; a counter that is missing is an error (seq IS NULL).
	insertEvents = prepared(func(b *builder) bun.Query { // Postgres'
		now, dids := b.p(), b.p()
		count := b.NewUpdate().Model((*eventCounter)(nil)).Set("last = last + cardinality(?::text[])", dids).
			Set("time = CASE WHEN time < ? THEN ? ELSE time END", now, now).Where("id = 1").Returning("last, time")
		numbered := b.NewSelect().
			ColumnExpr("(SELECT last FROM counted) - cardinality(?::text[]) + n AS seq", dids).
			ColumnExpr("did, kind, body").ColumnExpr("(SELECT time FROM counted) AS time").
			TableExpr("unnest(?::text[], ?::text[], ?::bytea[]) WITH ORDINALITY AS given (did, kind, body, n)", dids, b.p(), b.p())
		return b.NewInsert().With("counted", count).Model((*Event)(nil)).Column("seq", "did", "kind", "body", "time").
			TableExpr("(?) AS numbered", numbered).Returning("NULL")
	})
	selectEvents = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Event)(nil)).Where("seq > ?", b.p()), "seq")
	})
	deleteEvents = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Event)(nil)).Where("did = ?", b.p()).Where("seq < ?", b.p())
	})
)

func (tx *Tx) startSequence(ctx context.Context, start int64) error {
	if _, err := tx.exec(ctx, insertCounter, start); err != nil {
		return err
	}
	_, err := tx.exec(ctx, raiseCounter, start)
	return err
}

// AppendEvents appends events to the log when the transaction commits, in the order of the
// calls; numbers and times are given to them then, and those in e are not looked at.
// Numbers have no gaps, and events become visible in the order of their numbers; times never
// go back. So the transaction itself does not see them yet.
func (tx *Tx) AppendEvents(_ context.Context, e ...Event) error {
	tx.events = append(tx.events, e...)
	return nil
}

// last stores the events that were appended, or returns the statement that does. The
// counter stays locked until the transaction ends, so it is the last thing that one does.
func (tx *Tx) last(ctx context.Context) (*lastStatement, error) {
	if len(tx.events) == 0 {
		return nil, nil
	}
	if !tx.postgres {
		return nil, tx.storeEvents(ctx)
	}
	n := len(tx.events)
	dids, kinds, bodies := make([]string, n), make([]string, n), make([][]byte, n)
	for i, e := range tx.events {
		dids[i], kinds[i], bodies[i] = e.DID.String(), e.Kind, e.Body
	}
	return &lastStatement{insertEvents, []any{micros(tx.now()), dids, kinds, bodies}}, nil
}

func (tx *Tx) storeEvents(ctx context.Context) error {
	var last int64
	var now time.Time
	if err := tx.get(ctx, countEvents, []any{len(tx.events), tx.now()}, &last, &now); err != nil {
		return wrap(err, "count events")
	}
	for i, e := range tx.events {
		e.Seq, e.Time = last-int64(len(tx.events)-1-i), now
		if _, err := tx.exec(ctx, insertEvent, values(&e)...); err != nil {
			return wrap(err, "append event of %s", e.DID)
		}
	}
	return nil
}

// Events returns up to limit events with numbers above after, in order.
func (q *queries) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	events, err := many[Event](ctx, q, selectEvents, after, limit)
	return events, wrap(err, "read events")
}

// LastEvent returns the highest number given, or the configured start.
func (q *queries) LastEvent(ctx context.Context) (int64, error) {
	var last int64
	err := q.get(ctx, selectLastEvent, nil, &last)
	return last, wrap(err, "read event counter")
}

// EraseEvents removes the events of an account with numbers below before.
func (tx *Tx) EraseEvents(ctx context.Context, did syntax.DID, before int64) error {
	_, err := tx.exec(ctx, deleteEvents, did, before)
	return wrap(err, "erase events of %s", did)
}
