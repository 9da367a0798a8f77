package dbtest

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) permissionSets() {
	ctx := s.Context()
	const known, made = "com.example.auth", "com.example.madeUp"
	_, err := s.db.PermissionSet(ctx, known)
	s.is(err, db.ErrNotFound)
	put := func(set db.PermissionSet) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.PutPermissionSet(ctx, set) })
		got, err := s.db.PermissionSet(ctx, set.NSID)
		s.ok(err)
		s.equal("permission set", got, &set)
	}
	put(db.PermissionSet{NSID: known, FetchedAt: start0, TriedAt: start0.Add(time.Hour)})
	put(db.PermissionSet{NSID: known, Document: `{"id":"com.example.auth"}`, FetchedAt: start0, TriedAt: start0})
	put(db.PermissionSet{NSID: made, FetchedAt: start0, TriedAt: start0})

	there := func(at time.Time, want ...syntax.NSID) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.Purge(ctx, at) })
		var got []syntax.NSID
		for _, nsid := range []syntax.NSID{known, made} {
			if _, err := s.db.PermissionSet(ctx, nsid); err == nil {
				got = append(got, nsid)
			} else {
				s.is(err, db.ErrNotFound)
			}
		}
		s.equal("permission sets", got, want)
	}
	there(start0.Add(time.Hour-time.Microsecond), known, made)
	there(start0.Add(time.Hour), known)
	there(start0.Add(60*24*time.Hour-time.Microsecond), known)
	there(start0.Add(60 * 24 * time.Hour))
}
