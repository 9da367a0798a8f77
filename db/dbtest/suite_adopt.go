package dbtest

import (
	"time"

	"portico/db"
)

// adoption: what another server has had is stored as it was there, also a second time.
func (s *suite) adoption() {
	ctx := s.Context()
	at := start0.Add(-time.Hour)
	takedown := ""
	first := db.Account{DID: did(1), Handle: "user1.test", Email: "user1@mail.test", PasswordHash: "salt:hash", CreatedAt: at, TakedownRef: &takedown}
	second := db.Account{DID: did(2), CreatedAt: at, DeactivatedAt: &at, DeleteAfter: &start0}
	for range 2 {
		s.must(func(tx *db.Tx) error {
			if err := tx.ForgetAdopted(ctx); err != nil {
				return err
			}
			for _, a := range []db.Account{first, second} {
				if err := tx.AdoptAccount(ctx, a, key(a.DID)); err != nil {
					return err
				}
			}
			for i, id := range []string{"a", "b"} {
				session := db.Session{ID: []byte(id), DID: did(1), CreatedAt: at, ExpiresAt: start0.Add(time.Hour)}
				if err := tx.InsertAdoptedSession(ctx, session, []byte("a"), int64(i)); err != nil {
					return err
				}
			}
			return tx.AdoptInvite(ctx, db.Invite{
				Code: "code", Uses: 3, Spent: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: at,
				Used: []db.InviteUse{{Code: "code", By: did(7), At: at}},
			})
		})
	}
	for _, want := range []db.Account{first, second} {
		got, err := s.db.AccountByDID(ctx, want.DID)
		s.ok(err)
		s.equal("adopted account", *got, want)
	}
	i, err := s.db.Invite(ctx, "code")
	s.ok(err)
	s.equal("used invite", i.Used, []db.InviteUse{{Code: "code", By: did(7), At: at}})
	s.equal("uses of invite", i.Spent, 1)
	n, err := s.db.CountAdopted(ctx)
	s.ok(err)
	s.equal("rows", n, db.AdoptedRows{Accounts: 2, Sessions: 2, Invites: 1, InviteUses: 1})

	second.Handle = "user1.test"
	s.fails(db.ErrHandleTaken, func(tx *db.Tx) error { return tx.AdoptAccount(ctx, second, key(did(2))) })
	second.Handle, second.Email = "", "user1@mail.test"
	s.fails(db.ErrEmailTaken, func(tx *db.Tx) error { return tx.AdoptAccount(ctx, second, key(did(2))) })
	second.Email, second.DeleteAfter = "", nil
	s.must(func(tx *db.Tx) error { return tx.AdoptAccount(ctx, second, key(did(2))) })
	got, err := s.db.AccountByDID(ctx, did(2))
	s.ok(err)
	s.equal("account adopted again", *got, second)

	// Signing out ends the whole family.
	s.must(func(tx *db.Tx) error { return tx.EndSession(ctx, []byte("b")) })
	_, err = s.db.Session(ctx, []byte("a"))
	s.is(err, db.ErrNotFound)
}

// adoptedEvents: numbers and times are those that events had, with their gaps.
func (s *suite) adoptedEvents() {
	ctx := s.Context()
	events := []db.Event{
		{Seq: 88, DID: did(1), Kind: "#commit", Body: []byte("one"), Time: start0.Add(-time.Hour), Cut1: 1, Cut2: 2},
		{Seq: 90, DID: did(9), Kind: "#account", Body: []byte("two"), Time: start0.Add(-time.Minute), Cut1: 1, Cut2: 1},
	}
	for range 2 {
		s.must(func(tx *db.Tx) error {
			if err := tx.ForgetEvents(ctx); err != nil {
				return err
			}
			for _, e := range events {
				if err := tx.AdoptEvent(ctx, e); err != nil {
					return err
				}
			}
			return tx.SetLastEvent(ctx, 95, start0.Add(-time.Minute), 87)
		})
	}
	got, err := s.db.Events(ctx, 0, 10)
	s.ok(err)
	s.equal("adopted events", got, events)
	outdated, err := s.db.LastOutdated(ctx)
	s.ok(err)
	s.equal("last outdated", outdated, int64(87))

	s.must(func(tx *db.Tx) error {
		return tx.AppendEvents(ctx, db.Event{DID: did(1), Kind: "#sync", Body: []byte("three")})
	})
	got, err = s.db.Events(ctx, 90, 10)
	s.ok(err)
	s.equal("first event of its own", got, []db.Event{{Seq: 96, DID: did(1), Kind: "#sync", Body: []byte("three"), Time: start0}})
}
