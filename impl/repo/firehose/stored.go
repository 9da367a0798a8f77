package firehose

import (
	"context"
	"fmt"
	"time"

	"portico/db"
	"portico/impl/repo/event"
)

// Stored is the log in d.
func Stored(d *db.DB) Log { return stored{d} }

type stored struct{ *db.DB }

func (s stored) Events(ctx context.Context, after int64, limit, size int) ([]Event, error) {
	return eventsOf(s.EventPage(ctx, after, limit, size))
}

func (s stored) Past(ctx context.Context, after int64, limit, size int) (page []Event, through int64, err error) {
	// What the standby has while the primary is away is not enough: the ring may be ahead of it.
	page, err = db.Read(ctx, s.DB, func(r *db.Reader) ([]Event, error) {
		page, err := eventsOf(r.EventPage(ctx, after, limit, size))
		if err == nil {
			through, err = r.LastOutdated(ctx)
		}
		return page, err
	})
	return page, through, err
}

func eventsOf(page []db.Event, err error) ([]Event, error) {
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(page))
	for i, e := range page {
		events[i] = Event{e.Seq, e.Time, e.DID, event.Event{Kind: e.Kind, Body: e.Body, Cut1: e.Cut1, Cut2: e.Cut2}}
		page[i] = db.Event{} // a page is bounded once
	}
	return events, nil
}

// dropped is how many events are removed at a time: others write in between.
const dropped = 200

// DropBefore removes the events in d from before a time.
func DropBefore(ctx context.Context, d *db.DB, before time.Time) error {
	for more := true; more; {
		err := d.WriteAlone(ctx, func(tx *db.Tx) (err error) {
			more, err = tx.DropEvents(ctx, before, dropped)
			return err
		})
		if err != nil {
			return fmt.Errorf("drop events from before %s: %w", before.Format(time.RFC3339), err)
		}
	}
	return nil
}
