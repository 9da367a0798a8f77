package dbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// racers is how many try at once.
const racers = 20

func (s *suite) raceReserve(change func(r *db.Reservation)) map[error]int {
	return s.race(racers, func(ctx context.Context, i int) error {
		r := reservation(i + 1)
		change(&r)
		return s.db.Write(ctx, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	})
}

func (s *suite) raceHandle() {
	got := s.raceReserve(func(r *db.Reservation) { r.Account.Handle = "one.test" })
	s.equal("outcomes", got, map[error]int{nil: 1, db.ErrHandleTaken: racers - 1})
}

func (s *suite) raceEmail() {
	got := s.raceReserve(func(r *db.Reservation) { r.Account.Email = "one@mail.test" })
	s.equal("outcomes", got, map[error]int{nil: 1, db.ErrEmailTaken: racers - 1})
}

func (s *suite) raceDID() {
	got := s.raceReserve(func(r *db.Reservation) { r.Account.DID, r.Key.DID = did(1), did(1) })
	s.equal("outcomes", got, map[error]int{nil: 1, db.ErrDIDTaken: racers - 1})
}

func (s *suite) raceInvite(uses int) {
	ctx := s.Context()
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "code", Uses: uses, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	})
	got := s.raceReserve(func(r *db.Reservation) { r.InviteCode = "code" })
	s.equal("outcomes", got, map[error]int{nil: uses, db.ErrInviteUnavailable: racers - uses})
	code, err := s.db.Invite(ctx, "code")
	s.ok(err)
	if code.Spent != uses || len(code.Used) != uses {
		s.Errorf("uses: %+v", code)
	}
}

func (s *suite) raceRotation() {
	ctx := s.Context()
	s.create(1)
	s.insertSession("a", did(1))
	got := s.race(racers, func(ctx context.Context, _ int) error {
		next, err := s.rotate("a", "b", start0)
		if err == nil && string(next.ID) != "b" {
			err = fmt.Errorf("successor %q", next.ID)
		}
		return err
	})
	s.equal("outcomes", got, map[error]int{nil: racers})
	all, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	s.equal("rows", len(all), 2)
}

// raceRotationAndEnd: however a refresh and a sign-out or a reset fall together,
// no session is left.
func (s *suite) raceRotationAndEnd() {
	ctx := s.Context()
	s.create(1)
	for round := range 10 {
		s.insertSession("a", did(1))
		got := s.race(8, func(ctx context.Context, i int) error {
			if i != 3 {
				_, err := s.rotate("a", fmt.Sprint("b", i%2), start0)
				if errors.Is(err, db.ErrStale) {
					return nil
				}
				return err
			}
			return s.db.Write(ctx, func(tx *db.Tx) error {
				if round%2 == 0 {
					return tx.EndSession(ctx, []byte("a"))
				}
				return tx.EndSessions(ctx, did(1))
			})
		})
		if got[nil]+got[db.ErrNotFound] != 8 {
			s.Errorf("outcomes: %v", got)
		}
		left, err := s.db.Sessions(ctx, did(1))
		s.ok(err)
		if len(left) > 0 {
			s.Fatalf("round %d left %v", round, left)
		}
	}
}

// raceEvents: whoever reads while others append sees every event at once and in
// order.
func (s *suite) raceEvents() {
	ctx := s.Context()
	const writers, each = 8, 10
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		var last int64
		for finished := false; ; {
			events, err := s.db.Events(ctx, last, 1000)
			if err != nil {
				s.Error(err)
				return
			}
			for _, e := range events {
				if e.Seq != last+1 {
					s.Errorf("event %d after %d", e.Seq, last)
					return
				}
				last = e.Seq
			}
			if finished {
				return
			}
			select {
			case <-done:
				finished = true
			default:
			}
		}
	})
	var aborted atomic.Int64
	boom := errors.New("boom")
	got := s.race(writers, func(ctx context.Context, i int) error {
		for n := range each {
			fail := n%5 == 4
			err := s.db.Write(ctx, func(tx *db.Tx) error {
				e := db.Event{DID: did(i), Kind: "account", Body: []byte{byte(n)}}
				if err := tx.AppendEvents(ctx, e, e); err != nil {
					return err
				}
				if fail {
					return boom
				}
				return nil
			})
			if fail && errors.Is(err, boom) {
				aborted.Add(1)
				continue
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	close(done)
	reader.Wait()
	s.equal("outcomes", got, map[error]int{nil: writers})
	last, err := s.db.LastEvent(ctx)
	s.ok(err)
	s.equal("last", last, 2*(writers*each-aborted.Load()))
	all, err := s.db.Events(ctx, 0, 1000)
	s.ok(err)
	s.equal("events", int64(len(all)), last)
}

func (s *suite) raceBudget() {
	const limit = 7
	var admitted atomic.Int64
	got := s.race(racers, func(ctx context.Context, _ int) error {
		return s.db.Write(ctx, func(tx *db.Tx) error {
			left, _, err := tx.SpendBudget(ctx, "kind", "key", limit, time.Hour, start0)
			if left >= 0 && err == nil {
				admitted.Add(1)
			}
			return err
		})
	})
	s.equal("outcomes", got, map[error]int{nil: racers})
	s.equal("admitted", admitted.Load(), int64(limit))
	left, _, err := s.db.BudgetLeft(s.Context(), "kind", "key", limit, start0)
	s.ok(err)
	s.equal("left", left, limit-racers)
}

// raceClaims: what two holders claim at once is disjoint and complete.
func (s *suite) raceClaims() {
	ctx := s.Context()
	const rows = 12
	for n := 1; n <= 2*rows; n++ {
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(n)) })
		s.must(func(tx *db.Tx) error {
			if n > rows {
				return tx.AbortAccount(ctx, did(n), "me", start0)
			}
			return tx.QueueMail(ctx, &db.Mail{To: fmt.Sprint(n, "@mail.test"), Kind: "x", CreatedAt: start0, ExpiresAt: start0.Add(life)})
		})
	}
	now := start0.Add(time.Hour)
	for name, claim := range map[string]func(tx *db.Tx, holder string) ([]string, error){
		"unfinished": func(tx *db.Tx, holder string) (ids []string, err error) {
			found, err := tx.ClaimUnfinished(ctx, holder, now, now.Add(time.Minute), false, 2)
			for _, u := range found {
				ids = append(ids, u.Account.DID.String())
			}
			return ids, err
		},
		"cleanups": func(tx *db.Tx, holder string) (ids []string, err error) {
			found, err := tx.ClaimCleanups(ctx, holder, now, now.Add(time.Minute), 2)
			for _, c := range found {
				ids = append(ids, c.DID.String())
			}
			return ids, err
		},
		"mails": func(tx *db.Tx, holder string) (ids []string, err error) {
			found, err := tx.ClaimMails(ctx, db.MailClaim{Holder: holder, Now: now, Until: now.Add(time.Minute), Limit: 2, Others: 2, PerCause: 2})
			for _, m := range found {
				ids = append(ids, fmt.Sprint(m.ID))
			}
			return ids, err
		},
	} {
		var mu sync.Mutex
		claimed := make(map[string]int)
		got := s.race(4, func(ctx context.Context, i int) error {
			for {
				var ids []string
				err := s.db.Write(ctx, func(tx *db.Tx) (err error) {
					ids, err = claim(tx, fmt.Sprint("holder ", i))
					return err
				})
				if err != nil || len(ids) == 0 {
					return err
				}
				if len(ids) > 2 {
					return fmt.Errorf("%d rows, limit 2", len(ids))
				}
				mu.Lock()
				for _, id := range ids {
					claimed[id]++
				}
				mu.Unlock()
			}
		})
		s.equal(name, got, map[error]int{nil: 4})
		for id, n := range claimed {
			if n > 1 {
				s.Errorf("%s: %s was claimed %d times", name, id, n)
			}
		}
		s.equal(name+" claimed", len(claimed), rows)
	}
}

// raceFinishAndAbort: an account is completed or given up, never both.
func (s *suite) raceFinishAndAbort() {
	for n := 1; n <= 10; n++ {
		ctx := s.Context()
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(n)) })
		got := s.race(2, func(ctx context.Context, i int) error {
			return s.db.Write(ctx, func(tx *db.Tx) error {
				if i == 0 {
					return tx.FinishAccount(ctx, did(n), "me")
				}
				return tx.AbortAccount(ctx, did(n), "me", start0)
			})
		})
		s.equal("outcomes", got, map[error]int{nil: 1, db.ErrLeaseLost: 1})
		var cleanups []db.Cleanup
		s.must(func(tx *db.Tx) (err error) {
			cleanups, err = tx.ClaimCleanups(ctx, "me", start0, start0.Add(life), 10)
			return err
		})
		_, err := s.db.AccountByDID(ctx, did(n))
		if (err == nil) == (len(cleanups) == 1) {
			s.Errorf("account: %v, clean-ups: %v", err, cleanups)
		}
	}
}

func (s *suite) raceCodes() {
	ctx := s.Context()
	s.create(1)
	mac := func(i int) []byte { return fmt.Append(nil, "mac", i) }
	got := s.race(racers, func(ctx context.Context, i int) error {
		return s.db.Write(ctx, func(tx *db.Tx) error {
			return tx.InsertCode(ctx, db.EmailCode{
				Purpose: "reset_password", DID: did(1), MAC: mac(i), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour), Email: "x@mail.test",
			}, 3)
		})
	})
	s.equal("outcomes", got, map[error]int{nil: racers})
	live := 0
	for i := range racers {
		if _, err := s.db.EmailCode(ctx, "reset_password", syntax.DID(""), mac(i)); err == nil {
			live++
		}
	}
	s.equal("live codes", live, 3)
}
