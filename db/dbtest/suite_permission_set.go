package dbtest

import (
	"fmt"
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

	// Those beyond the bound go that were asked for least lately.
	s.must(func(tx *db.Tx) error {
		for i := range db.MaxPermissionSets + 3 {
			set := db.PermissionSet{NSID: syntax.NSID(fmt.Sprintf("com.example.set%d", i)), Document: "{}", FetchedAt: start0, TriedAt: start0.Add(time.Duration(i) * time.Second)}
			if err := tx.PutPermissionSet(ctx, set); err != nil {
				return err
			}
		}
		return nil
	})
	for i, want := range map[int]error{0: db.ErrNotFound, 2: db.ErrNotFound, 3: nil, db.MaxPermissionSets + 2: nil} {
		_, err := s.db.PermissionSet(ctx, syntax.NSID(fmt.Sprintf("com.example.set%d", i)))
		s.is(err, want)
	}
}
