package dbtest

import (
	"time"

	"portico/db"
)

func (s *suite) hostNames() {
	ctx := s.Context()
	names, err := s.db.HostNames(ctx)
	s.ok(err)
	s.equal("names at first", len(names), 0)
	put := func(n db.HostName) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.PutHostName(ctx, n) })
	}
	one := db.HostName{Name: "b.example.com", Since: start0}
	two := db.HostName{Name: "a.example.com", Since: start0.Add(time.Microsecond), Until: new(start0.Add(time.Hour))}
	put(two)
	put(one)
	names, err = s.db.HostNames(ctx)
	s.ok(err)
	s.equal("names", names, []db.HostName{one, two})
	one.Until, two.Until = two.Until, nil
	put(one)
	put(two)
	names, err = s.db.HostNames(ctx)
	s.ok(err)
	s.equal("names the other way round", names, []db.HostName{one, two})
}

func (s *suite) takenHandles() {
	ctx := s.Context()
	taken := func(want ...db.TakenHandle) {
		s.Helper()
		got, err := s.db.TakenHandles(ctx, "test", "example.com", 10)
		s.ok(err)
		s.equal("taken handles", got, want)
	}
	s.create(1) // user1.test
	s.create(2)
	s.create(3)
	s.must(s.rename(3, "user1.sub.test", nil))
	taken()
	// Names under another domain, and of more labels, are nobody's.
	s.create(4)
	s.must(s.rename(4, "user1.sub.example.com", nil))
	taken()
	s.must(s.rename(4, "user1.example.com", nil))
	one := db.TakenHandle{DID: did(1), Wanted: "user1.example.com", By: did(4)}
	taken(one)
	// So is one that may come back.
	s.create(5)
	s.must(s.rename(5, "other.example.org", &db.HandleChange{DID: did(5), Before: "user2.example.com", Holder: "one", LeaseUntil: start0}))
	two := db.TakenHandle{DID: did(2), Wanted: "user2.example.com", By: did(5)}
	taken(one, two)
	got, err := s.db.TakenHandles(ctx, "test", "example.com", 1)
	s.ok(err)
	s.equal("taken handles, one", got, []db.TakenHandle{one})
	s.must(s.rename(4, "", nil))
	taken(two)
}
