package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// An Event is what the network is told about an account.
type Event struct {
	bun.BaseModel `bun:"table:event,alias:e"`

	Seq  int64      `bun:"seq,pk"`
	DID  syntax.DID `bun:"did"`
	Kind string     `bun:"kind"`
	Body []byte     `bun:"body"`
	Time time.Time  `bun:"time"`
	// Cut1 and Cut2 are where in Body the number and the time go, both 0 where that was
	// not said.
	Cut1 int `bun:"cut1"`
	Cut2 int `bun:"cut2"`
}

// eventCounter is the one row that gives events their numbers.
type eventCounter struct {
	bun.BaseModel `bun:"table:event_counter,alias:c"`

	ID       int64     `bun:"id,pk"` // 1
	Last     int64     `bun:"last"`
	Time     time.Time `bun:"time"`
	Outdated int64     `bun:"outdated"` // the highest number that was removed because of its age
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
		quiet := b.NewSelect().Model((*Quarantined)(nil)).ColumnExpr("1").Where("q.did = given.did").Where(silent)
		audible := b.NewSelect().ColumnExpr("did, kind, body, cut1, cut2, row_number() OVER (ORDER BY n) AS n").
			TableExpr("unnest(?::text[], ?::text[], ?::bytea[], ?::int[], ?::int[]) WITH ORDINALITY AS given (did, kind, body, cut1, cut2, n)",
				dids, b.p(), b.p(), b.p(), b.p()).Where("NOT EXISTS (?)", quiet)
		count := b.NewUpdate().Model((*eventCounter)(nil)).Set("last = last + (SELECT count(*) FROM audible)").
			Set("time = CASE WHEN time < ? THEN ? ELSE time END", now, now).Where("id = 1").Returning("last, time")
		numbered := b.NewSelect().
			ColumnExpr("(SELECT last FROM counted) - (SELECT count(*) FROM audible) + n AS seq").
			ColumnExpr("did, kind, body, cut1, cut2").ColumnExpr("(SELECT time FROM counted) AS time").
			TableExpr("audible")
		return b.NewInsert().With("audible", audible).With("counted", count).Model((*Event)(nil)).Column("seq", "did", "kind", "body", "cut1", "cut2", "time").
			TableExpr("(?) AS numbered", numbered).Returning("NULL")
	})
	selectEvents = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Event)(nil)).Where("seq > ?", b.p()), "seq")
	})
	// Postgres sends what its client has no use for any more, so it counts the sizes
	// itself, for which no body is read. SQLite reads rows as they are asked for.
	selectEventPage = prepared(func(b *builder) bun.Query {
		after, size := b.p(), b.p()
		if b.Dialect().Name() != dialect.PG {
			return b.limit(b.NewSelect().Model((*Event)(nil)).Where("seq > ?", after).Where("? > 0", size), "seq")
		}
		page := b.limit(b.NewSelect().Model((*Event)(nil)).
			ColumnExpr("e.*, sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS before").Where("seq > ?", after), "seq")
		return b.NewSelect().Model((*Event)(nil)).ModelTableExpr("(?) AS e", page).Where("before < ?", size).OrderExpr("seq")
	})
	selectOutdated = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*eventCounter)(nil)).Column("outdated").Where("id = 1")
	})
	// Numbers rise with times, so that what is old is at the beginning.
	selectOld = prepared(func(b *builder) bun.Query {
		gone := b.NewSelect().Model((*eventCounter)(nil)).Column("outdated").Where("id = 1")
		first := b.limit(b.NewSelect().Model((*Event)(nil)).Column("seq", "time").Where("seq > (?)", gone), "seq")
		return b.NewSelect().TableExpr("(?) AS e", first).ColumnExpr("coalesce(max(seq), 0)").Where("time < ?", b.p())
	})
	deleteThrough  = prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*Event)(nil)).Where("seq <= ?", b.p()) })
	updateOutdated = prepared(func(b *builder) bun.Query {
		through := b.p()
		return b.NewUpdate().Model((*eventCounter)(nil)).Set("outdated = ?", through).Where("id = 1").Where("outdated < ?", through)
	})
	deleteEvents = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*Event)(nil)).Where("did = ?", b.p()).Where("seq < ?", b.p())
	})
)

func (tx *Tx) startSequence(ctx context.Context, start int64) error {
	if _, err := tx.exec(ctx, insertCounter, start); err != nil {
		return err
	}
	if _, err := tx.exec(ctx, raiseCounter, start); err != nil {
		return err
	}
	return tx.leaveBackup(ctx)
}

// backedUpAt is the meta value of a copy that nobody has written to yet: when it was made.
const backedUpAt = "backed up at"

// startedOn is the meta value of a database that was a backup: when that was made.
const startedOn = "started on a backup of"

// StartedOnBackup is when the backup was made on which the server was started last, to the
// second; zero when it never was.
func (q *queries) StartedOnBackup(ctx context.Context) (time.Time, error) {
	text, err := q.Meta(ctx, startedOn)
	if errors.Is(err, ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	made, err := time.Parse(time.RFC3339, string(text))
	return made, wrap(err, "meta value %s", startedOn)
}

// backupGap is how far the numbers of a backup are raised, and by one more for each
// millisecond since it was made: the server may have given as many after that.
const backupGap = 1_000_000

// leaveBackup raises the counter of a database that was a backup until now, so that no
// number is given to a second event.
func (tx *Tx) leaveBackup(ctx context.Context) error {
	text, err := tx.Meta(ctx, backedUpAt)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	made, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("meta value %s: %w", backedUpAt, err)
	}
	last, err := tx.LastEvent(ctx)
	if err != nil {
		return err
	}
	if _, err := tx.exec(ctx, raiseCounter, last+backupGap+max(0, tx.now().Sub(made).Milliseconds())); err != nil {
		return err
	}
	if err := tx.PutMeta(ctx, startedOn, text); err != nil {
		return err
	}
	return tx.DeleteMeta(ctx, backedUpAt)
}

// AppendEvents appends events to the log when the transaction commits, in the order of the
// calls; numbers and times are given to them then, and those in e are not looked at.
// Numbers have no gaps, and events become visible in the order of their numbers; times never
// go back. So the transaction itself does not see them yet. Those of accounts that are held
// in quarantine at the end of the transaction are dropped, and take no number.
func (tx *Tx) AppendEvents(_ context.Context, e ...Event) error {
	tx.events = append(tx.events, e...)
	return nil
}

// storeEvents stores the events that were appended. The counter stays locked until the
// transaction ends, so it is the last thing that one does, in one round trip with COMMIT.
func (tx *Tx) storeEvents(ctx context.Context) error {
	if len(tx.events) == 0 {
		return nil
	}
	if !tx.postgres {
		return tx.storeEventsSingly(ctx)
	}
	if tx.hushed != nil {
		tx.events = slices.DeleteFunc(tx.events, func(e Event) bool { return tx.hushed[e.DID] })
	}
	n := len(tx.events)
	dids, kinds, bodies := make([]string, n), make([]string, n), make([][]byte, n)
	cuts1, cuts2 := make([]int, n), make([]int, n)
	for i, e := range tx.events {
		dids[i], kinds[i], bodies[i] = e.DID.String(), e.Kind, e.Body
		cuts1[i], cuts2[i] = e.Cut1, e.Cut2
	}
	return tx.later(ctx, "append events", insertEvents, tx.now(), dids, kinds, bodies, cuts1, cuts2)
}

func (tx *Tx) storeEventsSingly(ctx context.Context) error {
	var last int64
	var now time.Time
	audible, err := tx.audible(ctx, tx.events)
	if err != nil || len(audible) == 0 {
		return err
	}
	if err := tx.get(ctx, countEvents, []any{len(audible), tx.now()}, &last, &now); err != nil {
		return wrap(err, "count events")
	}
	for i, e := range audible {
		e.Seq, e.Time = last-int64(len(audible)-1-i), now
		if _, err := tx.exec(ctx, insertEvent, values(&e)...); err != nil {
			return wrap(err, "append event of %s", e.DID)
		}
	}
	return nil
}

// EventsAppended receives when a transaction has committed that appended events, of this
// process or, on Postgres, of another one; those of several may be one. There is one channel
// for all. Those of others may get lost: look at the events now and then without.
func (db *DB) EventsAppended() <-chan struct{} { return db.appended }

// Events returns up to limit events with numbers above after, in order.
func (q *queries) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	events, err := many[Event](ctx, q, selectEvents, after, limit)
	return events, wrap(err, "read events")
}

// EventPage is [queries.Events] that has enough with the event whose body makes those of
// the page size bytes or more: it is at most one event larger than size.
func (q *queries) EventPage(ctx context.Context, after int64, limit, size int) ([]Event, error) {
	var page []Event
	err := q.each(ctx, selectEventPage, []any{after, size, limit}, func(row scanner) error {
		if size <= 0 {
			return errEnough
		}
		page = append(page, Event{})
		e := &page[len(page)-1]
		err := row.Scan(places(e)...)
		size -= len(e.Body)
		return err
	})
	return page, wrap(err, "read events")
}

// LastOutdated returns the highest number of an event that [Tx.DropEvents] removed, 0
// when there was none.
func (q *queries) LastOutdated(ctx context.Context) (int64, error) {
	var through int64
	err := q.get(ctx, selectOutdated, nil, &through)
	return through, wrap(err, "read number of last outdated event")
}

// DropEvents removes events from before a time, the oldest first, and reports whether
// there may be more of them than the limit of one call.
func (tx *Tx) DropEvents(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	var through int64
	if err := tx.get(ctx, selectOld, []any{limit, before}, &through); err != nil {
		return false, wrap(err, "find old events")
	}
	if through == 0 {
		return false, nil
	}
	n, err := tx.exec(ctx, deleteThrough, through)
	if err != nil {
		return false, wrap(err, "drop old events")
	}
	// The counter is locked until the transaction ends, as in AppendEvents.
	_, err = tx.exec(ctx, updateOutdated, through)
	return n >= int64(limit), wrap(err, "drop old events")
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
