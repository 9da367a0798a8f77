package dbtest

import "portico/db"

// imports: an account has one unfinished import at most, the latest.
func (s *suite) imports() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.BeginImport(ctx, did(9), "a") })
	unfinished := func(n int, want string) {
		s.Helper()
		id, err := s.db.UnfinishedImport(ctx, did(n))
		s.ok(err)
		s.equal("unfinished import", id, want)
	}
	unfinished(1, "")
	s.must(func(tx *db.Tx) error { return tx.BeginImport(ctx, did(1), "a") })
	s.must(func(tx *db.Tx) error { return tx.BeginImport(ctx, did(2), "b") })
	s.must(func(tx *db.Tx) error { return tx.BeginImport(ctx, did(1), "c") })
	unfinished(1, "c")
	unfinished(2, "b")
	for range 2 { // the second time there is none
		s.must(func(tx *db.Tx) error { return tx.EndImport(ctx, did(1)) })
		unfinished(1, "")
	}
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	unfinished(2, "")
}
