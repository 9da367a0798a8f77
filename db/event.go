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
	insertEvent  = prepared(func(b *builder) bun.Query { return b.insert(new(Event)) })
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

// AppendEvents gives every event its number and time, also in e itself, and
// stores it. Numbers have no gaps, and events become visible in the order of
// their numbers; times never go back. The counter stays locked until the
// transaction ends, so this is the last thing that a transaction does.
func (tx *Tx) AppendEvents(ctx context.Context, e ...Event) error {
	if len(e) == 0 {
		return nil
	}
	var last int64
	var now time.Time
	if err := tx.get(ctx, countEvents, []any{len(e), tx.now()}, &last, &now); err != nil {
		return wrap(err, "count events")
	}
	for i := range e {
		e[i].Seq, e[i].Time = last-int64(len(e)-1-i), now
		if _, err := tx.exec(ctx, insertEvent, values(&e[i])...); err != nil {
			return wrap(err, "append event of %s", e[i].DID)
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
