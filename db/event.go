package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An Event is what the network is told about an account.
type Event struct {
	Seq  int64
	DID  syntax.DID
	Kind string
	Body []byte
	Time time.Time
}

func (tx *Tx) startSequence(ctx context.Context, start int64) error {
	// Also when two processes start at once there is one row in the end.
	_, err := tx.execText(ctx, `INSERT INTO event_counter (id, last, time) VALUES (1, ?, 0) ON CONFLICT (id) DO NOTHING`, start)
	if err != nil {
		return err
	}
	_, err = tx.execText(ctx, `UPDATE event_counter SET last = ? WHERE id = 1 AND last < ?`, start, start)
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
	var now stamp
	at := micros(tx.now())
	err := tx.getText(ctx, `UPDATE event_counter SET last = last + ?, time = CASE WHEN time < ? THEN ? ELSE time END
		WHERE id = 1 RETURNING last, time`, []any{len(e), at, at}, &last, &now)
	if err != nil {
		return wrap(err, "count events")
	}
	for i := range e {
		e[i].Seq, e[i].Time = last-int64(len(e)-1-i), time.Time(now)
		_, err := tx.execText(ctx, `INSERT INTO event (seq, did, kind, body, time) VALUES (?, ?, ?, ?, ?)`,
			e[i].Seq, string(e[i].DID), e[i].Kind, e[i].Body, micros(e[i].Time))
		if err != nil {
			return wrap(err, "append event of %s", e[i].DID)
		}
	}
	return nil
}

// Events returns up to limit events with numbers above after, in order.
func (q *queries) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	var events []Event
	err := q.eachText(ctx, `SELECT seq, did, kind, body, time FROM event WHERE seq > ? ORDER BY seq LIMIT ?`, []any{after, limit},
		func(row *sql.Rows) error {
			var e Event
			err := row.Scan(&e.Seq, (*string)(&e.DID), &e.Kind, &e.Body, (*stamp)(&e.Time))
			events = append(events, e)
			return err
		})
	return events, wrap(err, "read events")
}

// LastEvent returns the highest number given, or the configured start.
func (q *queries) LastEvent(ctx context.Context) (int64, error) {
	var last int64
	err := q.getText(ctx, `SELECT last FROM event_counter WHERE id = 1`, nil, &last)
	return last, wrap(err, "read event counter")
}

// EraseEvents removes the events of an account with numbers below before.
func (tx *Tx) EraseEvents(ctx context.Context, did syntax.DID, before int64) error {
	_, err := tx.execText(ctx, `DELETE FROM event WHERE did = ? AND seq < ?`, string(did), before)
	return wrap(err, "erase events of %s", did)
}
