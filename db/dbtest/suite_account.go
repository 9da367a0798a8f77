package dbtest

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) accounts() {
	ctx := s.Context()
	want := db.Account{
		DID: did(1), Handle: "user1.test", Email: "user1@mail.test", EmailConfirmedAt: new(start0.Add(time.Microsecond)),
		EmailAuthFactor: true, PasswordHash: "$argon2id$…", CreatedAt: start0, DeactivatedAt: new(start0.Add(1 * time.Hour)),
		DeleteAfter: new(start0.Add(2 * time.Hour)), DeleteAnnouncedAt: new(start0.Add(3 * time.Hour)), TakedownRef: new(""),
		InvitesDisabled: true, TokensValidFrom: start0.Add(4 * time.Hour),
	}
	r := reservation(1)
	r.Account = want
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	for name, read := range map[string]func() (*db.Account, error){
		"did":    func() (*db.Account, error) { return s.db.AccountByDID(ctx, did(1)) },
		"handle": func() (*db.Account, error) { return s.db.AccountByHandle(ctx, "user1.test") },
		"email":  func() (*db.Account, error) { return s.db.AccountByEmail(ctx, "user1@mail.test") },
		"lock": func() (a *db.Account, err error) {
			err = s.write(func(tx *db.Tx) error { a, err = tx.LockAccount(ctx, did(1)); return err })
			return a, err
		},
		"list": func() (*db.Account, error) {
			all, err := s.db.Accounts(ctx, "", 10)
			if err == nil && len(all) == 0 {
				return nil, db.ErrNotFound
			}
			return &all[0], err
		},
	} {
		s.Run(name, func(t *testing.T) {
			if _, err := read(); err == nil {
				t.Error("an account under creation was found")
			}
		})
	}
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "me") })
	for _, read := range []func() (*db.Account, error){
		func() (*db.Account, error) { return s.db.AccountByDID(ctx, did(1)) },
		func() (*db.Account, error) { return s.db.AccountByHandle(ctx, "user1.test") },
		func() (*db.Account, error) { return s.db.AccountByEmail(ctx, "user1@mail.test") },
	} {
		got, err := read()
		s.ok(err)
		s.equal("account", *got, want)
	}

	// Without handle, email and password there may be many.
	for n := 2; n < 4; n++ {
		r := reservation(n)
		r.Account = db.Account{DID: did(n), CreatedAt: start0}
		s.must(func(tx *db.Tx) error {
			if err := tx.ReserveAccount(ctx, r); err != nil {
				return err
			}
			return tx.FinishAccount(ctx, did(n), "me")
		})
		got, err := s.db.AccountByDID(ctx, did(n))
		s.ok(err)
		s.equal("bare account", *got, r.Account)
	}
	for _, read := range []func() (*db.Account, error){
		func() (*db.Account, error) { return s.db.AccountByDID(ctx, did(9)) },
		func() (*db.Account, error) { return s.db.AccountByHandle(ctx, "") },
		func() (*db.Account, error) { return s.db.AccountByEmail(ctx, "") },
	} {
		_, err := read()
		s.is(err, db.ErrNotFound)
	}
	page, err := s.db.Accounts(ctx, did(1), 1)
	s.ok(err)
	if len(page) != 1 || page[0].DID != did(2) {
		s.Errorf("page after the first account: %v", page)
	}
}

func (s *suite) accountUpdates() {
	ctx := s.Context()
	a := s.create(1)
	s.create(2)
	a.Handle, a.Email, a.EmailConfirmedAt, a.EmailAuthFactor, a.PasswordHash = "other.test", "other@mail.test", new(start0), true, "other"
	a.DeactivatedAt, a.DeleteAfter, a.DeleteAnnouncedAt = new(start0), new(start0), new(start0)
	a.TakedownRef, a.InvitesDisabled, a.TokensValidFrom = new("ref"), true, start0
	s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, a) })
	got, err := s.db.AccountByHandle(ctx, "other.test")
	s.ok(err)
	s.equal("updated", got, a)
	s.ok(s.db.Available(ctx, "user1.test", "user1@mail.test"))

	*a = db.Account{DID: a.DID, CreatedAt: a.CreatedAt}
	s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, a) })
	got, err = s.db.AccountByDID(ctx, a.DID)
	s.ok(err)
	s.equal("emptied", got, a)

	s.fails(db.ErrHandleTaken, func(tx *db.Tx) error {
		return tx.UpdateAccount(ctx, &db.Account{DID: did(1), Handle: "user2.test", CreatedAt: start0})
	})
	s.fails(db.ErrEmailTaken, func(tx *db.Tx) error {
		return tx.UpdateAccount(ctx, &db.Account{DID: did(1), Email: "user2@mail.test", CreatedAt: start0})
	})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.UpdateAccount(ctx, &db.Account{DID: did(9), CreatedAt: start0})
	})
}

func (s *suite) accountDeletion() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	s.must(func(tx *db.Tx) error {
		for n := 1; n <= 2; n++ {
			if err := fill(ctx, tx, n); err != nil {
				return err
			}
		}
		return tx.AppendEvents(ctx, db.Event{DID: did(1), Kind: "account", Body: []byte("1")},
			db.Event{DID: did(2), Kind: "account", Body: []byte("2")})
	})
	s.must(func(tx *db.Tx) error {
		if err := tx.DeleteAccount(ctx, did(1)); err != nil {
			return err
		}
		if err := tx.EraseEvents(ctx, did(1), math.MaxInt64); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, db.Event{DID: did(1), Kind: "account", Body: []byte("deleted")})
	})
	_, err := s.db.AccountByDID(ctx, did(1))
	s.is(err, db.ErrNotFound)
	s.ok(s.db.Available(ctx, "user1.test", "user1@mail.test"))
	_, err = s.db.SigningKey(ctx, did(1), "atproto")
	s.is(err, db.ErrNotFound)
	_, err = s.db.Repo(ctx, did(1))
	s.is(err, db.ErrNotFound)
	nodes, err := s.db.Nodes(ctx, did(1), nil, 10)
	s.ok(err)
	s.equal("nodes", len(nodes), 0)
	_, err = s.db.EmailCode(ctx, "confirm_email", did(1), []byte("mac"))
	s.is(err, db.ErrNotFound)
	sessions, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	apps, err := s.db.AppPasswords(ctx, did(1))
	s.ok(err)
	if len(sessions)+len(apps) > 0 {
		s.Errorf("left behind: sessions %v, app passwords %v", sessions, apps)
	}
	var kinds []string
	events, err := s.db.Events(ctx, 0, 10)
	s.ok(err)
	for _, e := range events {
		kinds = append(kinds, string(e.DID)+" "+string(e.Body))
	}
	s.equal("events", kinds, []string{did(2).String() + " 2", did(1).String() + " deleted"})
	// A code of the deleted owner still works, the use it made still counts.
	s.ok(s.db.InviteAvailable(ctx, "code-of-1"))
	shared, err := s.db.Invite(ctx, "code-of-1")
	s.ok(err)
	s.equal("owner", shared.ForAccount, "deleted")

	if _, err := s.db.Repo(ctx, did(2)); err != nil {
		s.Errorf("the other account: %v", err)
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(1)) })
	s.create(1) // its DID may come back, and finds nothing
	apps, err = s.db.AppPasswords(ctx, did(1))
	s.ok(err)
	if len(apps) > 0 {
		s.Errorf("old app passwords are alive: %v", apps)
	}
}

// Fill gives account d a row in every table that can have one.
func Fill(ctx context.Context, tx *db.Tx, d syntax.DID) error {
	for _, f := range []func() error{
		func() error { return tx.InsertRepo(ctx, d, repo("commit", "rev", 0)) },
		func() error { return tx.PutNode(ctx, d, node("", 0, "node", "rev")) },
		func() error { return tx.PutRecords(ctx, d, record("a.b.c/1", "rev")) },
		func() error { return tx.AddCollection(ctx, d, "a.b.c") },
		func() error {
			return tx.InsertBlob(ctx, d, db.Blob{CID: []byte("blob"), MIME: "image/png", TempKey: "key", CreatedAt: start0})
		},
		func() error { return tx.PutRecordBlobs(ctx, d, mentions("path", "blob")) },
		func() error {
			return tx.InsertAppPassword(ctx, db.AppPassword{DID: d, Name: "app", MAC: []byte("mac"), CreatedAt: start0})
		},
		func() error {
			return tx.PutHandleChange(ctx, db.HandleChange{DID: d, Holder: "me", LeaseUntil: start0})
		},
		func() error {
			return tx.PutAccountMove(ctx, db.AccountMove{DID: d, State: db.MoveGone, Host: "https://two.test", Since: start0})
		},
		func() error {
			return tx.InsertSession(ctx, db.Session{
				ID: []byte("session of " + d), DID: d, AppPassword: new("app"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour),
			})
		},
		func() error {
			return tx.InsertCode(ctx, db.EmailCode{
				Purpose: "confirm_email", DID: d, MAC: []byte("mac"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour), Email: "x@mail.test",
			}, 3)
		},
		func() error {
			return tx.QueueMail(ctx, &db.Mail{
				To: "x@mail.test", Kind: "confirm_email", DID: d, Sealed: []byte("x"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour),
			})
		},
		func() error {
			return tx.InsertInvites(ctx, db.Invite{
				Code: "code-of-" + string(d[len(d)-1]), Uses: 1, ForAccount: d.String(), CreatedBy: d.String(), CreatedAt: start0,
			})
		},
		func() error {
			_, err := tx.ReserveKey(ctx, db.ReservedKey{
				ID: d.String(), DID: d, Public: "did:key:z", Sealed: []byte("x"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour),
			})
			return err
		},
		func() error { return tx.PutDIDDocument(ctx, d, []byte("{}"), start0) },
		func() error {
			return tx.RecordAudit(ctx, db.AuditEntry{DID: d, At: start0, Actor: d.String(), Event: "sign-in"})
		},
		func() error { return tx.KnowAddress(ctx, d, "192.0.2.1", start0, 20) },
		func() error { return tx.PutPreferences(ctx, d, preferences(`{"$type":"a.b.c"}`)) },
		func() error { return tx.NoteGuessed(ctx, d, start0, start0.Add(time.Hour)) },
		func() error { return tx.PutTOTP(ctx, db.TOTP{DID: d, Sealed: []byte("sealed"), CreatedAt: start0}) },
		func() error { return tx.ReplaceRecoveryCodes(ctx, d, []byte("mac")) },
		func() error { return tx.InsertPasskey(ctx, passkey("of "+d.String(), d, start0), 20) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func fill(ctx context.Context, tx *db.Tx, n int) error { return Fill(ctx, tx, did(n)) }

func (s *suite) dueDeletions() {
	ctx := s.Context()
	for n := 1; n <= 3; n++ {
		a := s.create(n)
		if n < 3 {
			a.DeleteAfter = new(start0.Add(time.Duration(3-n) * time.Hour))
			s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, a) })
		}
	}
	for _, c := range []struct {
		before time.Time
		want   []syntax.DID
	}{
		{start0, nil},
		{start0.Add(time.Hour), []syntax.DID{did(2)}},
		{start0.Add(9 * time.Hour), []syntax.DID{did(2), did(1)}},
	} {
		due, err := s.db.DueDeletions(ctx, c.before, 10)
		s.ok(err)
		var got []syntax.DID
		for _, a := range due {
			got = append(got, a.DID)
		}
		s.equal("due", got, c.want)
	}
}

func (s *suite) creation() {
	ctx := s.Context()
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(1)) })
	s.is(s.db.Available(ctx, "user1.test", "user1@mail.test"), db.ErrHandleTaken)
	s.handlesTaken([]syntax.Handle{"user2.test", "user1.test"}, "user1.test")
	s.is(s.db.Available(ctx, "", "user1@mail.test"), db.ErrEmailTaken)
	s.ok(s.db.Available(ctx, "", ""))
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "once", Uses: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	})

	for _, c := range []struct {
		name   string
		change func(r *db.Reservation)
		want   error
	}{
		{"everything taken", func(r *db.Reservation) { *r = reservation(1); r.InviteCode = "none" }, db.ErrDIDTaken},
		{"handle", func(r *db.Reservation) { r.Account.Handle, r.Account.Email = "user1.test", "user1@mail.test" }, db.ErrHandleTaken},
		{"email", func(r *db.Reservation) { r.Account.Email, r.InviteCode = "user1@mail.test", "none" }, db.ErrEmailTaken},
		{"invite", func(r *db.Reservation) { r.InviteCode = "none" }, db.ErrInviteUnavailable},
	} {
		s.Run(c.name, func(t *testing.T) {
			r := reservation(2)
			c.change(&r)
			(&suite{T: t, db: s.db}).fails(c.want, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
		})
	}

	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "somebody else") })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(1), "somebody else", start0) })
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "me") })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "me") })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(1), "me", start0) })
	got, err := s.db.SigningKey(ctx, did(1), "atproto")
	s.ok(err)
	s.equal("key", *got, key(did(1)))

	r := reservation(2)
	r.InviteCode = "once"
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	s.is(s.db.InviteAvailable(ctx, "once"), db.ErrInviteUnavailable)
	code, err := s.db.Invite(ctx, "once")
	s.ok(err)
	s.equal("uses", code.Used, []db.InviteUse{{Code: "once", By: did(2), At: start0}})
	for n, want := range map[int]bool{1: false, 2: true} {
		invited, err := s.db.Invited(ctx, did(n))
		s.ok(err)
		s.equal("invited", invited, want)
	}
}

func (s *suite) creationGivenUp() {
	ctx := s.Context()
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "once", Uses: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	})
	r := reservation(1)
	r.InviteCode = "once"
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(1), "me", start0.Add(time.Minute)) })
	s.ok(s.db.Available(ctx, "user1.test", "user1@mail.test"))
	s.ok(s.db.InviteAvailable(ctx, "once"))
	code, err := s.db.Invite(ctx, "once")
	s.ok(err)
	s.equal("invite", *code, db.Invite{Code: "once", Uses: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	_, err = s.db.SigningKey(ctx, did(1), "atproto")
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "me") })

	// Without a next look, or without a genesis of this server's, nothing is left.
	brought, signed := reservation(2), reservation(4)
	brought.Genesis, signed.ClientSigned = nil, true
	for _, c := range []struct {
		r    db.Reservation
		look time.Time
	}{{reservation(3), time.Time{}}, {brought, start0}, {signed, start0}} {
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, c.r) })
		s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, c.r.Account.DID, "me", c.look) })
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, c.r) })
	}
	s.must(func(tx *db.Tx) error {
		due, err := tx.ClaimCleanups(ctx, "me", start0.Add(time.Hour), start0.Add(2*time.Hour), 10)
		s.equal("clean-ups", due, []db.Cleanup{{DID: did(1), Genesis: r.Genesis, AbortedAt: start0}})
		return err
	})

	// Whoever is at a clean-up may be about to end the DID. A reservation ends one that
	// waits, or whose holder died.
	s.fails(db.ErrDIDTaken, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	s.clock.Store(new(start0.Add(2 * time.Hour)))
	for range 2 {
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
		s.equal("clean-ups of a DID that is reserved", claimed(s), []db.Cleanup(nil))
		s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(1), "me", start0.Add(3*time.Hour)) })
	}
	s.equal("clean-ups after it was given up again", claimed(s), []db.Cleanup{{DID: did(1), Genesis: r.Genesis, AbortedAt: start0.Add(2 * time.Hour)}})
}

// claimed are all clean-ups that there are.
func claimed(s *suite) (all []db.Cleanup) {
	s.Helper()
	s.must(func(tx *db.Tx) (err error) {
		all, err = tx.ClaimCleanups(s.Context(), "me", start0.Add(100*time.Hour), start0.Add(101*time.Hour), 10)
		return err
	})
	return all
}

func (s *suite) creationLease() {
	ctx := s.Context()
	r := reservation(1)
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	until, err := s.db.CreationLease(ctx, did(1))
	s.ok(err)
	s.equal("lease", until, r.LeaseUntil)
	claim := func(now time.Time) func(*db.Tx) error {
		return func(tx *db.Tx) error {
			u, err := tx.ClaimCreation(ctx, did(1), "you", now, now.Add(time.Minute))
			if err == nil {
				s.equal("claimed", *u, db.Unfinished{Account: r.Account, Key: r.Key, Genesis: r.Genesis})
			}
			return err
		}
	}
	s.fails(db.ErrLeaseLost, claim(until.Add(-time.Microsecond)))
	s.must(claim(until))
	s.fails(db.ErrLeaseLost, claim(until)) // you have it
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "you") })
	s.fails(db.ErrLeaseLost, claim(until.Add(time.Hour)))
	_, err = s.db.CreationLease(ctx, did(1))
	s.is(err, db.ErrNotFound)
}

func (s *suite) unfinished() {
	ctx := s.Context()
	claim := func(holder string, now time.Time, force bool, limit int) (dids []syntax.DID) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			found, err := tx.ClaimUnfinished(ctx, holder, now, now.Add(time.Minute), force, limit)
			dids = nil
			for _, u := range found {
				dids = append(dids, u.Account.DID)
			}
			return err
		})
		return dids
	}
	r := reservation(1)
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "twice", Uses: 2, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0})
	})
	r.InviteCode = "twice"
	brought := reservation(2)
	brought.Genesis = nil
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, brought) })
	s.create(3)

	s.equal("lease still runs", claim("you", start0.Add(time.Minute-time.Microsecond), false, 10), []syntax.DID(nil))
	s.equal("own, forced", claim("me", start0, true, 10), []syntax.DID(nil))
	s.equal("others', forced", claim("you", start0, true, 10), []syntax.DID{did(1), did(2)})
	s.equal("run out", claim("me", start0.Add(time.Minute), false, 1), []syntax.DID{did(1)})
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "you") })

	var found []db.Unfinished
	s.must(func(tx *db.Tx) (err error) {
		found, err = tx.ClaimUnfinished(ctx, "her", start0.Add(time.Hour), start0.Add(2*time.Hour), false, 10)
		return err
	})
	s.equal("unfinished", found, []db.Unfinished{
		{Account: r.Account, Key: key(did(1)), Genesis: r.Genesis, InviteCode: "twice"},
		{Account: brought.Account, Key: key(did(2))},
	})
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(1), "her") })
	s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(2), "her", start0) })
	s.equal("nothing left", claim("me", start0.Add(9*time.Hour), true, 10), []syntax.DID(nil))
}

func (s *suite) cleanups() {
	ctx := s.Context()
	for n := 1; n <= 2; n++ {
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, reservation(n)) })
		s.must(func(tx *db.Tx) error { return tx.AbortAccount(ctx, did(n), "me", start0.Add(time.Minute)) })
	}
	claim := func(holder string, now time.Time, limit int) (due []db.Cleanup) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) {
			due, err = tx.ClaimCleanups(ctx, holder, now, now.Add(time.Minute), limit)
			return err
		})
		return due
	}
	if due := claim("me", start0, 10); len(due) > 0 {
		s.Errorf("not due yet: %v", due)
	}
	if due := claim("me", start0.Add(time.Minute), 1); len(due) != 1 || due[0].DID != did(1) || due[0].Attempts != 0 {
		s.Errorf("due: %v", due)
	}
	if due := claim("you", start0.Add(time.Minute), 10); len(due) != 1 || due[0].DID != did(2) {
		s.Errorf("due for another: %v", due)
	}
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishCleanup(ctx, did(1), "you") })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.PostponeCleanup(ctx, did(1), "you", start0) })
	s.must(func(tx *db.Tx) error { return tx.PostponeCleanup(ctx, did(1), "me", start0.Add(time.Hour)) })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.FinishCleanup(ctx, did(1), "me") })
	s.must(func(tx *db.Tx) error { return tx.FinishCleanup(ctx, did(2), "you") })
	if due := claim("you", start0.Add(time.Hour), 10); len(due) != 1 || due[0].DID != did(1) || due[0].Attempts != 1 {
		s.Errorf("postponed: %v", due)
	}
	// A holder that died leaves it to the next one.
	if due := claim("me", start0.Add(2*time.Hour), 10); len(due) != 1 {
		s.Errorf("abandoned: %v", due)
	}
}
