package dbtest

import (
	"sync"
	"time"

	"portico/db"
)

func (s *suite) handleDomains() {
	ctx := s.Context()
	all, err := s.db.HandleDomains(ctx)
	s.ok(err)
	s.equal("domains at first", len(all), 0)
	put := func(d db.HandleDomain) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			if err := tx.LockHandleDomains(ctx); err != nil {
				return err
			}
			return tx.PutHandleDomain(ctx, d)
		})
	}
	one := db.HandleDomain{Domain: "b.example.com", InvitePolicy: "closed", At: start0}
	two := db.HandleDomain{Domain: "c.example.com", At: start0}
	three := db.HandleDomain{Domain: "a.example.com", InvitePolicy: "open", At: start0.Add(time.Microsecond)}
	put(three)
	put(two)
	put(one)
	all, err = s.db.HandleDomains(ctx)
	s.ok(err)
	s.equal("domains", all, []db.HandleDomain{one, two, three})
	two = db.HandleDomain{Domain: "c.example.com", Removed: true, At: start0.Add(time.Second)}
	put(two)
	all, err = s.db.HandleDomains(ctx)
	s.ok(err)
	s.equal("domains", all, []db.HandleDomain{one, three, two})
	for _, wrong := range []db.HandleDomain{
		{Domain: "d.example.com", InvitePolicy: "anybody", At: start0}, {Domain: "D.example.com", At: start0},
	} {
		if err := s.write(func(tx *db.Tx) error { return tx.PutHandleDomain(ctx, wrong) }); err == nil {
			s.Errorf("%v was stored", wrong)
		}
	}
}

func (s *suite) handlesAt() {
	ctx := s.Context()
	count := func(domain string, want int) {
		s.Helper()
		n, err := s.db.HandlesAt(ctx, domain)
		s.ok(err)
		s.equal("handles at "+domain, n, want)
	}
	count("test", 0)
	s.create(1) // user1.test
	s.create(2)
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(3)) })
	count("test", 3)
	count("1.test", 0)
	// Of nested domains, a handle counts for the one that it is right under.
	s.must(s.rename(1, "user1.sub.test", nil))
	count("test", 2)
	count("sub.test", 1)
	// One that may come back counts, and so does the domain itself as a handle.
	change := db.HandleChange{DID: did(2), Before: "user2.test", Holder: "one", LeaseUntil: start0}
	s.must(s.rename(2, "sub.test", &change))
	count("test", 2)
	count("sub.test", 2)
	change.Before = "user2.sub.test"
	s.must(func(tx *db.Tx) error { return tx.PutHandleChange(ctx, change) })
	count("test", 2) // sub.test and user3.test
	count("sub.test", 2)
	s.must(s.rename(2, "", nil))
	count("test", 1)
	count("sub.test", 2)
}

// What is held does not change, and who waited sees what it changed to.
func (s *suite) raceHandleDomains() {
	ctx := s.Context()
	for round := range 20 {
		at := start0.Add(time.Duration(round) * time.Second)
		s.must(func(tx *db.Tx) error {
			return tx.PutHandleDomain(ctx, db.HandleDomain{Domain: "example.com", At: at})
		})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				err := s.db.Write(ctx, func(tx *db.Tx) error {
					if err := tx.HoldHandleDomains(ctx); err != nil {
						return err
					}
					before, err := tx.HandleDomains(ctx)
					if err != nil {
						return err
					}
					after, err := tx.HandleDomains(ctx)
					if err == nil && (len(before) != 1 || before[0] != after[0]) {
						s.Errorf("round %d: %v became %v", round, before, after)
					}
					return err
				})
				if err != nil {
					s.Error(err)
				}
			})
		}
		for range 2 {
			all.Go(func() {
				err := s.db.Write(ctx, func(tx *db.Tx) error {
					if err := tx.LockHandleDomains(ctx); err != nil {
						return err
					}
					now, err := tx.HandleDomains(ctx)
					if err != nil {
						return err
					}
					now[0].At = now[0].At.Add(time.Millisecond)
					return tx.PutHandleDomain(ctx, now[0])
				})
				if err != nil {
					s.Error(err)
				}
			})
		}
		all.Wait()
		now, err := s.db.HandleDomains(ctx)
		s.ok(err)
		// Neither of the two changes overwrote the other.
		s.equal("changes", now[0].At, at.Add(2*time.Millisecond))
	}
}
