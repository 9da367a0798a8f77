package dbtest

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"portico/db"
)

func (s *suite) adoptedSecrets() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	password := db.AdoptedSecret{DID: did(1), Kind: db.AdoptedPassword, Name: []byte{}, Beside: []byte("hash"), Sealed: []byte("p")}
	app := db.AdoptedSecret{DID: did(1), Kind: db.AdoptedAppPassword, Name: []byte("desk top ☎"), Beside: []byte("mac"), Sealed: []byte("a")}
	empty := db.AdoptedSecret{DID: did(1), Kind: db.AdoptedAppPassword, Name: []byte{}, Beside: []byte("mac"), Sealed: []byte{0, 255}}
	session := db.AdoptedSecret{DID: did(2), Kind: db.AdoptedSession, Name: []byte{0, 1}, Beside: []byte{}, Sealed: []byte("s")}
	equal := func(what string, got, want any) {
		s.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			s.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	has := func(n int, want ...db.AdoptedSecret) {
		s.Helper()
		got, err := s.db.AdoptedSecretsOf(ctx, did(n))
		s.ok(err)
		equal("secrets", got, want)
	}
	s.must(func(tx *db.Tx) error {
		nameless, bare := password, session // nil is as good as empty
		nameless.Name, bare.Beside = nil, nil
		return tx.PutAdoptedSecrets(ctx, []db.AdoptedSecret{nameless, app, empty, bare})
	})
	has(1, empty, app, password)
	has(2, session)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.PutAdoptedSecrets(ctx, []db.AdoptedSecret{session, {DID: did(9), Kind: db.AdoptedPassword, Sealed: []byte("p")}})
	})
	has(9)

	got, err := s.db.AdoptedSecret(ctx, did(1), db.AdoptedPassword, nil)
	s.ok(err)
	equal("password", *got, password)
	for _, missing := range []db.AdoptedSecret{{DID: did(2), Kind: db.AdoptedPassword}, {DID: did(1), Kind: db.AdoptedAppPassword, Name: []byte("x")}} {
		_, err = s.db.AdoptedSecret(ctx, missing.DID, missing.Kind, missing.Name)
		s.is(err, db.ErrNotFound)
	}

	// Another value stands for it, unless one does already that is not the given one.
	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.MoveAdoptedSecret(ctx, did(1), db.AdoptedPassword, nil, []byte("hash"), []byte("new hash")),
			tx.MoveAdoptedSecret(ctx, did(1), db.AdoptedPassword, nil, []byte("hash"), []byte("too late")),
			tx.MoveAdoptedSecret(ctx, did(1), db.AdoptedAppPassword, []byte("no such"), []byte("mac"), []byte("x")),
			tx.MoveAdoptedSecret(ctx, did(1), db.AdoptedAppPassword, app.Name, []byte("mac"), []byte("new mac")))
	})
	password.Beside, app.Beside = []byte("new hash"), []byte("new mac")
	has(1, empty, app, password)
	has(2, session)

	s.must(func(tx *db.Tx) error {
		other, gone := empty, password
		other.Sealed, gone.DID = []byte("another"), did(2)
		return errors.Join(
			tx.ResealAdoptedSecret(ctx, password, []byte("p2")),
			tx.ResealAdoptedSecret(ctx, other, []byte("x")),
			tx.ResealAdoptedSecret(ctx, gone, []byte("x")))
	})
	password.Sealed = []byte("p2")
	all, err := s.db.AdoptedSecrets(ctx, db.AdoptedSecret{}, 10)
	s.ok(err)
	equal("all", all, []db.AdoptedSecret{empty, app, password, session})
	page, err := s.db.AdoptedSecrets(ctx, empty, 2)
	s.ok(err)
	equal("page", page, all[1:3])
	rest, err := s.db.AdoptedSecrets(ctx, page[1], 2)
	s.ok(err)
	equal("rest", rest, all[3:])

	deleted := func(want int64) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			n, err := tx.DeleteAdoptedSecrets(ctx, 2)
			s.equal("deleted", n, want)
			return err
		})
	}
	deleted(2)
	has(1, password)
	has(2, session)
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(1)) })
	has(1)
	deleted(1)
	deleted(0)
	has(2)
}

// adoptedSessions belong together as those do that came from each other here.
func (s *suite) adoptedSessions() {
	ctx := s.Context()
	s.create(1)
	at := start0.Add(time.Minute)
	for n, id := range []string{"a", "b", "c", "other"} {
		row := db.Session{ID: []byte(id), DID: did(1), CreatedAt: start0.Add(time.Duration(n)), ExpiresAt: start0.Add(grace)}
		family, generation := []byte("a"), int64(n)
		switch id {
		case "a":
			row.NextID = []byte("b")
		case "other":
			family, generation = row.ID, 0
		}
		s.must(func(tx *db.Tx) error { return tx.InsertAdoptedSession(ctx, row, family, generation) })
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.InsertAdoptedSession(ctx, db.Session{ID: []byte("d"), DID: did(9), CreatedAt: at, ExpiresAt: at}, []byte("d"), 0)
	})
	_, err := s.rotate("a", "d", at)
	s.is(err, db.ErrStale)
	next, err := s.rotate("a", "b", at)
	s.ok(err)
	s.equal("successor", string(next.ID), "b")
	_, err = s.rotate("c", "d", at)
	s.ok(err)
	linked, err := s.db.LinkedSessions(ctx, did(1))
	s.ok(err)
	var got []string
	for _, l := range linked {
		got = append(got, fmt.Sprintf("%s: %s %d, %s", l.ID, l.Family, l.Generation, l.NextID))
	}
	s.equal("linked", got, []string{"a: a 0, b", "b: a 1, ", "c: a 2, d", "other: other 0, ", "d: a 3, "})
	s.must(func(tx *db.Tx) error { return tx.EndSession(ctx, []byte("b")) })
	left, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	if len(left) != 1 || string(left[0].ID) != "other" {
		s.Errorf("after signing out: %v", left)
	}
}
