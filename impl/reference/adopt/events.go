package adopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
	"portico/impl/repo/event"
)

// kinds are those of events that there still are, by what the reference calls them. Others
// have gone from the protocol: their numbers stay free.
var kinds = map[string]string{"append": "#commit", "sync": "#sync", "identity": "#identity", "account": "#account"}

// eventsAtATime is how many bytes of events are written in one transaction.
const eventsAtATime = 8 << 20

// events adopts the events of the window, all of them anew, and the counter: no number is
// given again. Whoever asks from before the window is told that something is missing. What
// the old server had no time to announce is announced then.
func (a *Adoption) events(ctx context.Context) error {
	last, lastAt, err := a.Source.LastEvent(ctx)
	if err != nil {
		return err
	}
	var at time.Time
	if lastAt != "" {
		if at, err = reference.ParseTime(lastAt); err != nil {
			return fmt.Errorf("time of the last event: %w", err)
		}
	}
	w := &eventWriter{Adoption: a, rows: Count{Of: "events"}, last: last}
	if a.Window > 0 {
		if w.outdated, err = a.Source.LastBefore(ctx, a.Now().Add(-a.Window)); err != nil {
			return err
		}
	}
	if err := a.Target.WriteAlone(ctx, func(tx *db.Tx) error { return tx.ForgetEvents(ctx) }); err != nil {
		return err
	}
	for row, err := range a.Source.Events(ctx, w.outdated) {
		if err == nil {
			err = w.take(ctx, row)
		}
		if err != nil {
			return err
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	a.report.LastEvent = last
	w.tell()
	return a.Target.WriteAlone(ctx, func(tx *db.Tx) error {
		if err := tx.SetLastEvent(ctx, last, at, w.outdated); err != nil {
			return err
		}
		return a.announce(ctx, tx)
	})
}

// eventWriter writes events, some MB in a transaction.
type eventWriter struct {
	*Adoption
	rows     Count // but for those that are left out because of their age
	outdated int64 // the last of these
	last     int64

	page []db.Event
	size int
}

func (w *eventWriter) take(ctx context.Context, row reference.Event) error {
	w.rows.Source++
	at, err := reference.ParseTime(row.SequencedAt)
	if err != nil {
		return fmt.Errorf("event %d: %w", row.Seq, err)
	}
	kind, known := kinds[row.Type]
	switch {
	case row.Invalidated:
		w.rows.drop("they were withdrawn")
		return nil
	case !known:
		w.rows.drop("there are no events of their kind any more")
		return nil
	}
	e := db.Event{Seq: row.Seq, DID: syntax.DID(row.DID), Kind: kind, Body: row.Body, Time: at}
	if e.Cut1, e.Cut2, err = event.Cuts(row.Body); err != nil {
		w.rows.drop("they are damaged")
		w.found(Finding{Name: "event-damaged", DID: e.DID, Text: fmt.Sprintf("event %d cannot be read: relays are not told of it", e.Seq)})
		return nil
	}
	w.rows.Adopted++
	w.page = append(w.page, e)
	if w.size += len(e.Body); w.size >= eventsAtATime {
		return w.flush(ctx)
	}
	return nil
}

func (w *eventWriter) flush(ctx context.Context) error {
	err := w.Target.WriteAlone(ctx, func(tx *db.Tx) error {
		for _, e := range w.page {
			if err := tx.AdoptEvent(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(w.page); n > 0 {
		w.progress("events", w.page[n-1].Seq, w.last)
	}
	clear(w.page)
	w.page, w.size = w.page[:0], 0
	return err
}

// tell puts into the report what became of the events. How many there are of those that
// are too old the plan has counted.
func (w *eventWriter) tell() {
	for _, c := range w.report.Counts {
		if c.Of == w.rows.Of && c.Source > w.rows.Source {
			w.rows.drop("they are older than what is kept")
			w.rows.Dropped += c.Source - w.rows.Source - 1
			w.rows.Source = c.Source
		}
	}
	w.count(w.rows)
}

// announce appends what relays do not know: that an active repository stands further than
// the last event about it, because the old server died in between, and that accounts are
// gone whose deletion the adoption finishes.
func (a *Adoption) announce(ctx context.Context, tx *db.Tx) error {
	known, err := a.Source.LastRevs(ctx)
	if err != nil {
		return err
	}
	for row, err := range a.Source.Actors(ctx) {
		if err != nil {
			return err
		}
		did := syntax.DID(row.DID)
		acct, err := tx.AccountByDID(ctx, did)
		if errors.Is(err, db.ErrNotFound) {
			if err := a.announceDeletion(ctx, tx, did); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if rev := known[row.DID]; rev != "" && acct.Active() {
			if err := a.announceRoot(ctx, tx, did, rev); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Adoption) announceDeletion(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	last, err := tx.LastEvent(ctx)
	if err != nil {
		return err
	}
	if err := tx.EraseEvents(ctx, did, last+1); err != nil {
		return err
	}
	a.found(Finding{Name: "deletion-finished", DID: did, Text: "the repository is gone: the deletion that was cut off is finished, and announced"})
	return tx.AppendEvents(ctx, account.Events(did, event.Account(did, "deleted"))...)
}

func (a *Adoption) announceRoot(ctx context.Context, tx *db.Tx, did syntax.DID, known string) error {
	r, err := tx.Repo(ctx, did)
	if err != nil {
		return err
	}
	if r.Rev <= known {
		return nil
	}
	e, err := account.SyncEvent(did, r)
	if err != nil {
		return err
	}
	a.found(Finding{Name: "sync-appended", DID: did, Text: "the repository stands at " + r.Rev + ", and relays were told of " + known + " last: they are told"})
	return tx.AppendEvents(ctx, account.Events(did, e)...)
}
