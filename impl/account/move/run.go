package move

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
)

const (
	page    = 500 // rows that are made, and read, at once
	workers = 4
	// claim is how long one row may take: far more than the requests in it.
	claim = 2 * time.Minute
	// minRest is longer than a request to the directory, and than the names of before may
	// be in use after a turn: see [host.MaxAge].
	minRest, maxRest = 5 * time.Second, time.Minute
	// firstDelay and maxDelay are between attempts: with them the directory gets fewer
	// operations for a DID in an hour than it takes.
	firstDelay, maxDelay = time.Minute, 6 * time.Hour
	// maxWait is longer than a row waits for its turn: one whose turn is later still was noted
	// by a clock that was wrong.
	maxWait = 25 * time.Hour
	// maxRefusals is how often the directory refuses an operation before its DID is left.
	maxRefusals = 5
	// maxFailures ends a run: a directory that is down costs a timeout each time.
	maxFailures = 5
	maxReason   = 200 // of the words of a directory
)

// Run goes on with the move that is under way, if there is one, for up to the time of
// Slice. It is a job of the scheduler; that it runs twice at once does no harm. Of the
// errors of single DIDs it returns none: they are tried again later.
func (m *Moves) Run(ctx context.Context) error {
	until := m.Now().Add(cmp.Or(m.Slice, time.Minute))
	for {
		s, err := m.State(ctx)
		if err != nil {
			return err
		}
		if s == nil || s.Ended() || m.Now().Before(m.paused()) {
			return nil
		}
		kind, ok := m.Kinds[s.Kind]
		if !ok {
			return fmt.Errorf("there are no moves of the kind %q", s.Kind)
		}
		if err := kind.Ready(s); err != nil {
			return fmt.Errorf("go on with the move of all DIDs: %w", err)
		}
		if err := m.addRows(ctx); err != nil {
			return err
		}
		due, err := m.DB.DueDIDMoves(ctx, m.Now(), page)
		if err != nil {
			return err
		}
		if len(due) == 0 {
			return m.advance(ctx, kind, s)
		}
		enough, err := m.work(ctx, kind, s, due, until)
		if err != nil || enough {
			return err
		}
	}
}

// Resume has the DIDs looked at at once that the last process was at when it died. It is for
// a process that has the database to itself, before its first Run: see [db.DB.Exclusive].
//
// An operation of that process may still be on its way. What follows from what the directory
// says now is the same operation as long as the move goes the same way, so the one that comes
// later is not accepted; and where it was turned meanwhile, its rows rest all the same.
func (m *Moves) Resume(ctx context.Context) error {
	s, err := m.State(ctx)
	if err != nil || s == nil || s.Ended() {
		return err
	}
	return m.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.ReleaseDIDMoves(ctx, m.Now())
		return err
	})
}

func (m *Moves) rest() time.Duration { return min(max(cmp.Or(m.Rest, maxRest), minRest), maxRest) }

// addRows makes rows of the accounts that have none.
func (m *Moves) addRows(ctx context.Context) error {
	for last := syntax.DID(""); ; {
		var added []syntax.DID
		err := m.DB.Write(ctx, func(tx *db.Tx) (err error) {
			added, err = tx.AddDIDMoves(ctx, last, page, m.Now())
			return err
		})
		if err != nil || len(added) < page {
			return err
		}
		last = slices.Max(added)
	}
}

// advance enters the next phase, if no DID waits and the move does not wait for its operator.
func (m *Moves) advance(ctx context.Context, kind Kind, s *State) error {
	n, err := m.DB.CountDIDMoves(ctx)
	if err != nil {
		return err
	}
	if n.Waiting > 0 {
		return m.DB.Write(ctx, func(tx *db.Tx) error { return tx.HastenDIDMoves(ctx, m.Now().Add(maxWait), m.Now()) })
	}
	next := s.Phase
	switch s.Phase {
	case Moving:
		next = Moved
	case Finishing:
		next = Finished
	case Undoing:
		next = Undone
	}
	// A time that is to come was noted by a clock that was wrong.
	since := m.Now().Sub(s.PhaseAt)
	if next == s.Phase || s.Phase != Moving && since < m.rest() && since > -m.rest() {
		return nil
	}
	entered := s.next(next, m.Now())
	err = m.DB.Write(ctx, func(tx *db.Tx) error {
		if err := entered.store(ctx, tx); err != nil {
			return err
		}
		return kind.Enter(ctx, tx, entered)
	})
	if errors.Is(err, db.ErrStale) {
		return nil // the operator was faster
	}
	if err == nil {
		m.Log.InfoContext(ctx, "all DIDs were looked at", "kind", s.Kind, "phase", string(next), "done", n.Done, "left", n.Left)
	}
	return err
}

// work takes the rows one after the other, several at a time, until a time. It says whether
// that has come, or there is another reason not to go on now.
func (m *Moves) work(ctx context.Context, kind Kind, s *State, due []db.DIDMove, until time.Time) (enough bool, err error) {
	b := &batch{Moves: m, kind: kind, state: s, stored: s}
	queue := make(chan db.DIDMove)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for row := range queue {
				b.take(ctx, row)
			}
		})
	}
	for _, row := range due {
		if enough = b.enough() || !m.Now().Before(until); enough || ctx.Err() != nil {
			break
		}
		m.wait(ctx)
		queue <- row
	}
	close(queue)
	all.Wait()
	if ctx.Err() != nil {
		return true, ctx.Err()
	}
	if b.changed {
		if err := b.change(ctx); err != nil && !errors.Is(err, db.ErrStale) {
			return true, err
		}
	}
	return enough || b.enough(), b.err
}

// wait keeps the rate.
func (m *Moves) wait(ctx context.Context) {
	rate := 0.0
	if m.Rate != nil {
		rate = m.Rate()
	}
	if rate <= 0 {
		return
	}
	t := time.NewTimer(time.Duration(float64(time.Second) / rate))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (m *Moves) paused() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pause
}

// A batch is some rows that are worked on together.
type batch struct {
	*Moves
	kind  Kind
	state *State

	mu       sync.Mutex
	failures int // one after the other
	stop     bool
	err      error // of the database

	noting  sync.Mutex
	stored  *State // state with the last change
	changed bool   // so that it was noted
}

// change notes that a DID is changed now. It returns db.ErrStale when the move was changed
// since the batch began.
func (b *batch) change(ctx context.Context) error {
	next := *b.stored
	next.LastAt = b.Now()
	if err := b.DB.Write(ctx, func(tx *db.Tx) error { return next.store(ctx, tx) }); err != nil {
		return err
	}
	b.stored = &next
	return nil
}

// firstChange is change for the first DID of the batch. With that of its end, and whatever a
// crash leaves of them, the last change was not long after the one that is noted.
func (b *batch) firstChange(ctx context.Context) error {
	b.noting.Lock()
	defer b.noting.Unlock()
	if b.changed {
		return nil
	}
	if err := b.change(ctx); err != nil {
		return err
	}
	b.changed = true
	return nil
}

func (b *batch) enough() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stop || b.failures >= maxFailures
}

// take does one row from beginning to end.
func (b *batch) take(ctx context.Context, row db.DIDMove) {
	err := b.DB.Write(ctx, func(tx *db.Tx) error {
		claimed := row
		if err := tx.ClaimDIDMove(ctx, &claimed, b.Now().Add(claim)); err != nil {
			return err
		}
		row = claimed
		return nil
	})
	if errors.Is(err, db.ErrNotFound) {
		return // somebody else has it
	}
	var out outcome
	if err == nil {
		claimed := row.NextAt
		if out, err = b.look(ctx, row); err == nil {
			err = b.settle(ctx, row, out, claimed)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.err, b.stop = err, true
	}
	if out.unanswered {
		b.failures++
	} else {
		b.failures = 0
	}
	b.stop = b.stop || out.pause
}

// outcome is what came of a row.
type outcome struct {
	state      string
	reason     string
	step       Step
	delay      time.Duration // of one that waits; 0: by the attempts
	free       bool          // the attempt does not count
	unanswered bool          // by the directory
	pause      bool          // the directory wants to be left alone for the delay
	held       bool          // in quarantine: its DID is in no directory
}

func waits(delay time.Duration, reason string) outcome {
	return outcome{state: db.DIDWaiting, delay: delay, free: true, reason: reason}
}

func left(reason string) outcome { return outcome{state: db.DIDLeft, reason: reason} }

// look finds out what is to become of a DID, and posts the operation that it takes. The
// error is one of the database.
func (b *batch) look(ctx context.Context, row db.DIDMove) (outcome, error) {
	a, err := b.DB.StandingByDID(ctx, row.DID)
	if errors.Is(err, db.ErrNotFound) {
		return left(LeftNotFound), nil // and so is the row
	}
	if err != nil {
		return outcome{}, err
	}
	if a.Creating {
		return waits(b.rest(), "its creation is under way"), nil
	}
	if a.Held() {
		return outcome{state: db.DIDDone, held: true}, nil // its release does the rest
	}
	_, err = b.DB.HandleChange(ctx, row.DID)
	if err == nil {
		return waits(b.rest(), "a change of its handle is under way"), nil
	}
	if !errors.Is(err, db.ErrNotFound) {
		return outcome{}, err
	}
	if row.DID.Method() != "plc" {
		return left(LeftWeb), nil
	}
	last, err := b.Directory.Last(ctx, row.DID)
	if err != nil {
		// A 404 without a word comes from something in between.
		if failed, ok := errors.AsType[*plc.Error](err); ok && errors.Is(err, plc.ErrNotFound) && failed.Message != "" {
			return left(LeftNotFound), nil
		}
		return b.failed(row, err), nil
	}
	d, ok := last.Data()
	if !ok {
		return left(LeftTombstoned), nil
	}
	if ours, err := b.Accounts.Controls(d); err != nil {
		return outcome{}, err
	} else if !ours {
		return left(LeftNoKey), nil
	}
	step, err := b.kind.Step(ctx, b.state, a, last)
	switch {
	case err != nil:
		return outcome{}, err
	case step.Left != "":
		return left(step.Left), nil
	case step.Operation == nil:
		if step.tried = row.Attempts > 1; step.tried && b.Refresh != nil {
			b.Refresh(ctx, row.DID)
		}
		return outcome{state: db.DIDDone, step: step}, nil
	}
	return b.post(ctx, row, step, last)
}

// post sends the operation of a step, and asks the directory what it has then, whatever it
// answered: where an operation was accepted and lost, a DID would count as moved that is not,
// and the key be thrown away that it needs.
func (b *batch) post(ctx context.Context, row db.DIDMove, step Step, last plc.Operation) (outcome, error) {
	if err := b.Accounts.Sign(step.Operation, last); err != nil {
		return outcome{}, fmt.Errorf("sign operation of %s: %w", row.DID, err)
	}
	if err := b.firstChange(ctx); errors.Is(err, db.ErrStale) {
		out := waits(b.rest(), "the move was changed")
		out.pause = true
		return out, nil
	} else if err != nil {
		return outcome{}, err
	}
	defer b.Accounts.DIDChanged(row.DID)
	out := outcome{state: db.DIDDone, step: step}
	failure := b.Directory.Submit(ctx, row.DID, step.Operation)
	now, err := b.Directory.Last(ctx, row.DID)
	switch {
	case err != nil:
		// The operation may be there, which the next attempt is to know.
		out = b.failed(row, err)
		out.free = false
	case now.Same(step.Operation):
	case !now.Same(last):
		out = waits(b.rest(), "another operation came first, or after")
		out.free = false
	case failure != nil:
		out = b.failed(row, failure)
	case row.Attempts >= maxRefusals:
		out = left(LeftRefused + ": " + notThere)
	default:
		out = outcome{state: db.DIDWaiting, reason: notThere}
	}
	if out.state == db.DIDDone && b.Refresh != nil && documentChanged(last, step.Operation) {
		b.Refresh(ctx, row.DID)
	}
	return out, nil
}

// notThere is what there is to say of a directory that lost what it accepted.
const notThere = "the directory has accepted the operation, and does not have it"

// documentChanged reports whether two operations make different documents: rotation keys
// are not in there.
func documentChanged(before, after plc.Operation) bool {
	x, _ := before.Data()
	y, _ := after.Data()
	return !slices.Equal(x.AlsoKnownAs, y.AlsoKnownAs) || !maps.Equal(x.Services, y.Services) ||
		!maps.Equal(x.VerificationMethods, y.VerificationMethods)
}

// failed is what a failure of the directory makes of a row.
func (b *batch) failed(row db.DIDMove, err error) outcome {
	reason := cut(err.Error())
	e, _ := errors.AsType[*plc.Error](err)
	switch {
	case e == nil || e.Unanswered():
		return outcome{state: db.DIDWaiting, unanswered: true, reason: reason}
	case e.TooMany():
		delay := min(max(e.RetryAfter, firstDelay), time.Hour)
		b.Moves.mu.Lock()
		b.pause = b.Now().Add(delay)
		b.Moves.mu.Unlock()
		out := waits(delay, reason)
		out.pause = true
		return out
	}
	// "To many operations within last hour (max 10)", or day, or week.
	if _, period, limited := strings.Cut(e.Message, "operations within last "); limited {
		delay := 24 * time.Hour
		if strings.HasPrefix(period, "hour") {
			delay = time.Hour
		}
		return waits(delay, reason)
	}
	if row.Attempts >= maxRefusals {
		return left(LeftRefused + ": " + cut(e.Message))
	}
	return outcome{state: db.DIDWaiting, reason: reason}
}

// cut is what is kept of the words of a directory, which repeats whole operations.
func cut(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return text
}

// settle stores what came of a row.
func (b *batch) settle(ctx context.Context, row db.DIDMove, out outcome, claimed time.Time) error {
	// The operation may be there: a stop of the process does not keep us from writing so.
	ctx = context.WithoutCancel(ctx)
	row.State, row.Reason = out.state, out.reason
	if out.free {
		row.Attempts--
	}
	row.NextAt = b.Now().Add(cmp.Or(out.delay, backoff(row.Attempts)))
	err := b.DB.Write(ctx, func(tx *db.Tx) error {
		row := row
		if out.held {
			a, err := tx.LockAccount(ctx, row.DID)
			if err != nil {
				return err
			}
			if !a.Held() { // it was released meanwhile
				row.State, row.NextAt = db.DIDWaiting, b.Now()
			}
		}
		if err := tx.SettleDIDMove(ctx, row, claimed); err != nil {
			return err
		}
		if row.State != db.DIDDone {
			return nil
		}
		return b.kind.Settle(ctx, tx, b.state, row.DID, out.step)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil // it took so long that others took it up, or all begins anew
	}
	if err != nil {
		return err
	}
	if row.State != db.DIDDone {
		b.Log.InfoContext(ctx, "DID not moved", "did", row.DID, "state", row.State, "reason", row.Reason)
	}
	return nil
}

func backoff(attempts int) time.Duration {
	return min(firstDelay<<min(max(attempts-1, 0), 12), maxDelay)
}
