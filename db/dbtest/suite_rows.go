package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func (s *suite) signingKeys() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	changed := db.SigningKey{DID: did(1), Purpose: "atproto", Public: "did:key:other", Sealed: []byte{0, 1, 255}}
	s.must(func(tx *db.Tx) error { return tx.PutSigningKey(ctx, changed) })
	got, err := s.db.SigningKey(ctx, did(1), "atproto")
	s.ok(err)
	s.equal("key", *got, changed)
	_, err = s.db.SigningKey(ctx, did(1), "label")
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.PutSigningKey(ctx, key(did(9))) })

	all, err := s.db.SigningKeys(ctx, "", "", 10)
	s.ok(err)
	s.equal("all", all, []db.SigningKey{changed, key(did(2))})
	rest, err := s.db.SigningKeys(ctx, did(1), "atproto", 10)
	s.ok(err)
	s.equal("rest", rest, all[1:])

	// The sealed form of a key is replaced, but no other key by it.
	s.must(func(tx *db.Tx) error {
		return errors.Join(
			tx.ResealSigningKey(ctx, changed, []byte{1}),
			tx.ResealSigningKey(ctx, db.SigningKey{DID: did(2), Purpose: "atproto", Public: "did:key:former"}, []byte{1}),
			tx.ResealSigningKey(ctx, key(did(9)), []byte{1}))
	})
	changed.Sealed = []byte{1}
	all, err = s.db.SigningKeys(ctx, "", "", 10)
	s.ok(err)
	s.equal("resealed", all, []db.SigningKey{changed, key(did(2))})
}

func (s *suite) reservedKeys() {
	ctx := s.Context()
	reserve := func(k db.ReservedKey) (kept *db.ReservedKey) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) { kept, err = tx.ReserveKey(ctx, k); return err })
		return kept
	}
	first := db.ReservedKey{
		ID: did(1).String(), DID: did(1), Public: "did:key:1", Sealed: []byte("1"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour),
	}
	s.equal("reserved", *reserve(first), first)
	second := first
	second.Public, second.Sealed, second.CreatedAt, second.ExpiresAt = "did:key:2", []byte("2"), start0.Add(time.Minute), start0.Add(2*time.Hour)
	s.equal("reserved again", *reserve(second), first)
	nameless := db.ReservedKey{ID: "did:key:3", Public: "did:key:3", Sealed: []byte("3"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour)}
	s.equal("without DID", *reserve(nameless), nameless)

	got, err := s.db.ReservedKey(ctx, did(1).String())
	s.ok(err)
	s.equal("read", *got, first)
	s.clock.Store(new(start0.Add(time.Hour)))
	_, err = s.db.ReservedKey(ctx, did(1).String())
	s.is(err, db.ErrNotFound)
	second.CreatedAt = start0.Add(time.Hour)
	s.equal("after the first expired", *reserve(second), second)

	all, err := s.db.ReservedKeys(ctx, "", 10)
	s.ok(err)
	s.equal("all", all, []db.ReservedKey{nameless, second})
	rest, err := s.db.ReservedKeys(ctx, nameless.ID, 10)
	s.ok(err)
	s.equal("rest", rest, all[1:])
	s.must(func(tx *db.Tx) error { return tx.ResealReservedKey(ctx, nameless, []byte("sealed anew")) })
	s.must(func(tx *db.Tx) error { return tx.ResealReservedKey(ctx, first, []byte("of a key that was replaced")) })
	nameless.Sealed = []byte("sealed anew")
	all, err = s.db.ReservedKeys(ctx, "", 1)
	s.ok(err)
	s.equal("sealed anew", all, []db.ReservedKey{nameless})
	got, err = s.db.ReservedKey(ctx, did(1).String())
	s.ok(err)
	s.equal("the other", *got, second)

	s.must(func(tx *db.Tx) error { return tx.DeleteReservedKeys(ctx, did(1)) })
	_, err = s.db.ReservedKey(ctx, did(1).String())
	s.is(err, db.ErrNotFound)

	// A key is taken by one.
	s.equal("reserved once more", *reserve(second), second)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.TakeReservedKey(ctx, first) }) // another key of the DID
	s.must(func(tx *db.Tx) error { return tx.TakeReservedKey(ctx, second) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.TakeReservedKey(ctx, second) })
}

func (s *suite) events() {
	ctx := s.Context()
	last, err := s.db.LastEvent(ctx)
	s.ok(err)
	s.equal("last of none", last, int64(0))
	s.must(func(tx *db.Tx) error { return tx.AppendEvents(ctx) })
	given := []db.Event{{DID: did(1), Kind: "identity", Body: []byte{1}, Cut1: 1, Cut2: 2}, {DID: did(1), Kind: "account", Body: []byte{2}}}
	s.must(func(tx *db.Tx) error { return tx.AppendEvents(ctx, given...) })
	// A transaction that fails leaves no gap, a clock that goes back no disorder.
	failed := errors.New("failed")
	s.fails(failed, func(tx *db.Tx) error {
		if err := tx.AppendEvents(ctx, db.Event{DID: did(2), Kind: "account", Body: []byte{3}}); err != nil {
			return err
		}
		return failed
	})
	s.clock.Store(new(start0.Add(-time.Hour)))
	s.must(func(tx *db.Tx) error {
		return tx.AppendEvents(ctx, db.Event{DID: did(2), Kind: "sync", Body: []byte{4}})
	})
	s.clock.Store(new(start0.Add(time.Hour)))
	s.must(func(tx *db.Tx) error {
		return tx.AppendEvents(ctx, db.Event{DID: did(1), Kind: "commit", Body: []byte{5}})
	})

	want := []db.Event{
		{Seq: 1, DID: did(1), Kind: "identity", Body: []byte{1}, Time: start0, Cut1: 1, Cut2: 2},
		{Seq: 2, DID: did(1), Kind: "account", Body: []byte{2}, Time: start0},
		{Seq: 3, DID: did(2), Kind: "sync", Body: []byte{4}, Time: start0},
		{Seq: 4, DID: did(1), Kind: "commit", Body: []byte{5}, Time: start0.Add(time.Hour)},
	}
	got, err := s.db.Events(ctx, 0, 10)
	s.ok(err)
	s.equal("events", got, want)
	got, err = s.db.Events(ctx, 1, 2)
	s.ok(err)
	s.equal("page", got, want[1:3])
	s.must(func(tx *db.Tx) error { return tx.EraseEvents(ctx, did(1), 4) })
	got, err = s.db.Events(ctx, 0, 10)
	s.ok(err)
	s.equal("after erasing", got, want[2:])
	last, err = s.db.LastEvent(ctx)
	s.ok(err)
	s.equal("last", last, int64(4))
}

// eventPages: a page has enough with the event that makes it as large as is asked for.
func (s *suite) eventPages() {
	ctx := s.Context()
	select {
	case <-s.db.EventsAppended():
		if s.db.Exclusive() { // else whoever begins to listen to other processes is woken
			s.Fatal("woken for nothing")
		}
	default:
	}
	sizes := []int{10, 0, 20, 100_000, 5, 5}
	s.must(func(tx *db.Tx) error {
		var events []db.Event
		for _, n := range sizes {
			events = append(events, db.Event{DID: did(1), Kind: "commit", Body: make([]byte, n)})
		}
		return tx.AppendEvents(ctx, events...)
	})
	select {
	case <-s.db.EventsAppended():
	default:
		s.Fatal("not woken")
	}
	for _, c := range []struct {
		after       int64
		limit, size int
		want        []int
	}{
		{0, 10, 1, []int{10}},
		{0, 10, 10, []int{10}},
		{0, 10, 11, []int{10, 0, 20}},
		{0, 10, 31, []int{10, 0, 20, 100_000}},
		{0, 2, 31, []int{10, 0}},
		{3, 10, 1, []int{100_000}},
		{3, 10, 100_005, []int{100_000, 5}},
		{0, 10, 1 << 30, sizes},
		{0, 10, 0, nil},
		{6, 10, 1 << 20, nil},
	} {
		page, err := s.db.EventPage(ctx, c.after, c.limit, c.size)
		s.ok(err)
		var got []int
		for i, e := range page {
			got = append(got, len(e.Body))
			s.equal("number", e.Seq, c.after+1+int64(i))
		}
		s.equal(fmt.Sprintf("%d of %d bytes after %d", c.limit, c.size, c.after), got, c.want)
	}
}

// oldEvents go in pages, and the number of the last one is kept.
func (s *suite) oldEvents() {
	ctx := s.Context()
	drop := func(before time.Time, limit int) (more bool) {
		s.must(func(tx *db.Tx) (err error) {
			more, err = tx.DropEvents(ctx, before, limit)
			return err
		})
		return more
	}
	outdated := func() int64 {
		n, err := s.db.LastOutdated(ctx)
		s.ok(err)
		return n
	}
	s.equal("more of none", drop(start0, 3), false)
	s.equal("outdated of none", outdated(), int64(0))
	for range 4 {
		s.must(func(tx *db.Tx) error {
			e := db.Event{DID: did(1), Kind: "account", Body: []byte{1}}
			return tx.AppendEvents(ctx, e, e)
		})
		s.clock.Store(new(s.now().Add(time.Hour)))
	}
	limit := start0.Add(3 * time.Hour)
	s.equal("more", drop(limit, 4), true)
	s.equal("outdated", outdated(), int64(4))
	s.equal("more at the end", drop(limit, 4), false)
	s.equal("outdated at the end", outdated(), int64(6))
	s.equal("more again", drop(limit, 4), false)
	s.equal("outdated again", outdated(), int64(6))
	left, err := s.db.Events(ctx, 0, 10)
	s.ok(err)
	if len(left) != 2 || left[0].Seq != 7 || !left[0].Time.Equal(limit) {
		s.Errorf("left: %v", left)
	}
	// With nothing left the counter goes on.
	s.equal("the rest", drop(limit.Add(time.Hour), 4), false)
	s.equal("outdated of all", outdated(), int64(8))
	last, err := s.db.LastEvent(ctx)
	s.ok(err)
	s.equal("last", last, int64(8))
}

const (
	grace = 2 * time.Hour
	life  = 90 * 24 * time.Hour
)

func (s *suite) insertSession(id string, d syntax.DID) db.Session {
	s.Helper()
	row := db.Session{ID: []byte(id), DID: d, CreatedAt: start0, ExpiresAt: start0.Add(life)}
	s.must(func(tx *db.Tx) error { return tx.InsertSession(s.Context(), row) })
	return row
}

func (s *suite) rotate(id, next string, now time.Time) (got *db.Session, err error) {
	err = s.write(func(tx *db.Tx) error {
		got, err = rotate(s.Context(), tx, []byte(id), []byte(next), now, grace, life)
		return err
	})
	return got, err
}

func (s *suite) sessions() {
	ctx := s.Context()
	s.create(1)
	first := s.insertSession("first", did(1))
	second := db.Session{
		ID: []byte("second"), DID: did(1), AppPassword: new("app"), CreatedAt: start0.Add(time.Second), ExpiresAt: start0.Add(time.Hour),
	}
	s.must(func(tx *db.Tx) error { return tx.InsertSession(ctx, second) })
	all, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	s.equal("sessions", all, []db.Session{second, first})
	one, err := s.db.Session(ctx, []byte("first"))
	s.ok(err)
	s.equal("session", *one, first)
	_, err = s.db.Session(ctx, []byte("third"))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.InsertSession(ctx, db.Session{ID: []byte("x"), DID: did(9), CreatedAt: start0, ExpiresAt: start0})
	})
}

func (s *suite) sessionRotation() {
	ctx := s.Context()
	s.create(1)
	s.must(func(tx *db.Tx) error {
		return tx.InsertSession(ctx, db.Session{
			ID: []byte("a"), DID: did(1), AppPassword: new("app"), CreatedAt: start0, ExpiresAt: start0.Add(life),
		})
	})
	at := start0.Add(time.Hour)
	b := db.Session{ID: []byte("b"), DID: did(1), AppPassword: new("app"), CreatedAt: at, ExpiresAt: at.Add(life)}
	got, err := s.rotate("a", "b", at)
	s.ok(err)
	s.equal("successor", *got, b)
	a, err := s.db.Session(ctx, []byte("a"))
	s.ok(err)
	s.equal("predecessor", *a, db.Session{
		ID: []byte("a"), DID: did(1), AppPassword: new("app"), CreatedAt: start0, ExpiresAt: at.Add(grace), NextID: []byte("b"),
	})

	// Again within the grace: the same successor, and the grace is not extended.
	got, err = s.rotate("a", "b", at.Add(time.Hour))
	s.ok(err)
	s.equal("successor again", *got, b)
	a, err = s.db.Session(ctx, []byte("a"))
	s.ok(err)
	s.equal("grace", a.ExpiresAt, at.Add(grace))
	_, err = s.rotate("a", "c", at.Add(time.Hour))
	s.is(err, db.ErrStale)

	// A successor that is gone is made again.
	if _, err = s.rotate("a", "b", at.Add(grace-time.Microsecond)); err != nil {
		s.Error(err)
	}
	_, err = s.rotate("a", "b", at.Add(grace))
	s.is(err, db.ErrNotFound)
	_, err = s.rotate("nothing", "b", at)
	s.is(err, db.ErrNotFound)

	// A session that ends before the grace would keeps its end.
	s.must(func(tx *db.Tx) error {
		return tx.InsertSession(ctx, db.Session{ID: []byte("short"), DID: did(1), CreatedAt: start0, ExpiresAt: at.Add(time.Minute)})
	})
	_, err = s.rotate("short", "s2", at)
	s.ok(err)
	short, err := s.db.Session(ctx, []byte("short"))
	s.ok(err)
	s.equal("short end", short.ExpiresAt, at.Add(time.Minute))
}

func (s *suite) sessionEnd() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	chain := func() {
		s.insertSession("a", did(1))
		for _, pair := range [][2]string{{"a", "b"}, {"b", "c"}, {"c", "d"}} {
			_, err := s.rotate(pair[0], pair[1], start0)
			s.ok(err)
		}
	}
	s.insertSession("else", did(1))
	s.insertSession("other", did(2))
	for _, id := range []string{"a", "b", "c", "d"} {
		chain()
		s.must(func(tx *db.Tx) error { return tx.EndSession(ctx, []byte(id)) })
		left, err := s.db.Sessions(ctx, did(1))
		s.ok(err)
		if len(left) != 1 || string(left[0].ID) != "else" {
			s.Errorf("after ending %s: %v", id, left)
		}
		_, err = s.rotate("a", "b", start0)
		s.is(err, db.ErrNotFound)
	}
	s.must(func(tx *db.Tx) error { return tx.EndSession(ctx, []byte("nothing")) })

	s.must(func(tx *db.Tx) error { return tx.EndSessions(ctx, did(1)) })
	left, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	if len(left) > 0 {
		s.Errorf("after ending all: %v", left)
	}
	if _, err := s.db.Session(ctx, []byte("other")); err != nil {
		s.Errorf("the other account's session: %v", err)
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.EndSessions(ctx, did(9)) })
}

// sessionFamilies: however often a client refreshes and signs in, what is kept of it has
// a bound, and ending it is a matter of so many rows.
func (s *suite) sessionFamilies() {
	ctx := s.Context()
	s.create(1)
	s.insertSession("else", did(1))
	link := func(n int) string { return fmt.Sprintf("link %04d", n) }
	s.insertSession(link(0), did(1))
	s.must(func(tx *db.Tx) error {
		for n := range 1000 {
			if _, err := rotate(ctx, tx, []byte(link(n)), []byte(link(n+1)), start0.Add(time.Second), grace, life); err != nil {
				return err
			}
		}
		return nil
	})
	all, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	s.equal("sessions of two families", len(all), 64+1)
	s.equal("the oldest", string(all[0].ID), link(1000-63))
	_, err = s.rotate(link(1000-64), link(1000-63), start0.Add(time.Second))
	s.is(err, db.ErrNotFound)
	// The oldest that is left gives its successor again, and loses no younger one.
	_, err = s.rotate(link(1000-63), link(1000-62), start0.Add(time.Second))
	s.ok(err)
	s.must(func(tx *db.Tx) error { return tx.EndSession(ctx, []byte(link(1000-30))) })
	left, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	if len(left) != 1 || string(left[0].ID) != "else" {
		s.Errorf("after signing out: %v", left)
	}

	// Sessions of app passwords take no place from those of the account's own.
	s.must(func(tx *db.Tx) error {
		for n := range 503 {
			err := tx.InsertSession(ctx, db.Session{
				ID: []byte(link(n)), DID: did(1), AppPassword: new("app"), CreatedAt: start0.Add(time.Duration(n) * time.Second), ExpiresAt: start0.Add(life),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	left, err = s.db.Sessions(ctx, did(1))
	s.ok(err)
	s.equal("sessions", len(left), 500+1)
	for id, want := range map[string]error{"else": nil, link(2): db.ErrNotFound, link(3): nil} {
		_, err := s.db.Session(ctx, []byte(id))
		s.is(err, want)
	}
}

func (s *suite) importedHashes() {
	ctx := s.Context()
	imported := func(want bool) {
		s.Helper()
		got, err := s.db.ImportedHashes(ctx)
		s.ok(err)
		s.equal("imported hashes", got, want)
	}
	setHash := func(hash string) {
		s.must(func(tx *db.Tx) error {
			a, err := tx.LockAccount(ctx, did(1))
			if err != nil {
				return err
			}
			a.PasswordHash = hash
			return tx.UpdateAccount(ctx, a)
		})
	}
	imported(false)
	s.create(1)
	setHash("salt:hash")
	imported(true)
	setHash("$argon2id$v=19$m=19456,t=2,p=1$salt$hash")
	imported(false)
	setHash("")
	imported(false)
	s.must(func(tx *db.Tx) error {
		return tx.InsertAppPassword(ctx, db.AppPassword{DID: did(1), Name: "old", Scrypt: "hash", CreatedAt: start0})
	})
	imported(true)
	s.must(func(tx *db.Tx) error { return tx.SetAppPasswordMAC(ctx, did(1), "old", []byte("mac")) })
	imported(false)
}

func (s *suite) appPasswords() {
	ctx := s.Context()
	s.create(1)
	one := db.AppPassword{DID: did(1), Name: "one", MAC: []byte("mac1"), CreatedAt: start0}
	two := db.AppPassword{DID: did(1), Name: "two", Scrypt: "salt:hash", Privileged: true, CreatedAt: start0.Add(time.Second)}
	s.must(func(tx *db.Tx) error { return tx.InsertAppPassword(ctx, one) })
	s.must(func(tx *db.Tx) error { return tx.InsertAppPassword(ctx, two) })
	s.fails(db.ErrNameTaken, func(tx *db.Tx) error { return tx.InsertAppPassword(ctx, one) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error {
		return tx.InsertAppPassword(ctx, db.AppPassword{DID: did(9), Name: "x", CreatedAt: start0})
	})
	all, err := s.db.AppPasswords(ctx, did(1))
	s.ok(err)
	s.equal("app passwords", all, []db.AppPassword{
		{DID: did(1), Name: "two", Privileged: true, CreatedAt: start0.Add(time.Second)}, {DID: did(1), Name: "one", CreatedAt: start0},
	})
	got, err := s.db.AppPasswordByMAC(ctx, did(1), []byte("mac1"))
	s.ok(err)
	s.equal("by MAC", *got, one)
	_, err = s.db.AppPasswordByMAC(ctx, did(1), nil)
	s.is(err, db.ErrNotFound)

	s.must(func(tx *db.Tx) error { return tx.SetAppPasswordMAC(ctx, did(1), "two", []byte("mac2")) })
	two.MAC, two.Scrypt = []byte("mac2"), ""
	got, err = s.db.AppPasswordByName(ctx, did(1), "two")
	s.ok(err)
	s.equal("with our hash", *got, two)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SetAppPasswordMAC(ctx, did(1), "three", nil) })
	_, err = s.db.AppPasswordByName(ctx, did(1), "three")
	s.is(err, db.ErrNotFound)

	s.must(func(tx *db.Tx) error {
		return tx.InsertSession(ctx, db.Session{ID: []byte("plain"), DID: did(1), CreatedAt: start0, ExpiresAt: start0.Add(life)})
	})
	for _, name := range []string{"one", "two", ""} {
		s.must(func(tx *db.Tx) error {
			return tx.InsertSession(ctx, db.Session{
				ID: []byte("session " + name), DID: did(1), AppPassword: new(name), CreatedAt: start0, ExpiresAt: start0.Add(life),
			})
		})
	}
	s.must(func(tx *db.Tx) error { return tx.DeleteAppPassword(ctx, did(1), "one") })
	s.must(func(tx *db.Tx) error { return tx.DeleteAppPassword(ctx, did(1), "one") })
	_, err = s.db.AppPasswordByMAC(ctx, did(1), []byte("mac1"))
	s.is(err, db.ErrNotFound)
	_, err = s.db.Session(ctx, []byte("session one"))
	s.is(err, db.ErrNotFound)
	left, err := s.db.Sessions(ctx, did(1))
	s.ok(err)
	s.equal("sessions left", len(left), 3)
	// An empty name is a name, and not that of a session without an app password.
	s.must(func(tx *db.Tx) error { return tx.DeleteAppPassword(ctx, did(1), "") })
	_, err = s.db.Session(ctx, []byte("session "))
	s.is(err, db.ErrNotFound)
	plain, err := s.db.Session(ctx, []byte("plain"))
	s.ok(err)
	s.equal("app password of a session without", plain.AppPassword, (*string)(nil))
}

func (s *suite) emailCodes() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	code := func(n int, purpose, mac string, at time.Duration) db.EmailCode {
		return db.EmailCode{
			Purpose: purpose, DID: did(n), MAC: []byte(mac), CreatedAt: start0.Add(at), ExpiresAt: start0.Add(at + 15*time.Minute),
			Email: "user@mail.test",
		}
	}
	insert := func(c db.EmailCode) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.InsertCode(ctx, c, 3) })
	}
	has := func(want bool, purpose string, d syntax.DID, mac string) {
		s.Helper()
		_, err := s.db.EmailCode(ctx, purpose, d, []byte(mac))
		if err != nil && !errors.Is(err, db.ErrNotFound) || (err == nil) != want {
			s.Errorf("%s %s %s: got %v, want found: %v", purpose, d, mac, err, want)
		}
	}
	insert(code(1, "confirm_email", "a", 0))
	insert(code(1, "reset_password", "b", 0))
	got, err := s.db.EmailCode(ctx, "confirm_email", did(1), []byte("a"))
	s.ok(err)
	s.equal("code", *got, code(1, "confirm_email", "a", 0))
	got, err = s.db.EmailCode(ctx, "reset_password", "", []byte("b"))
	s.ok(err)
	s.equal("code of any account", *got, code(1, "reset_password", "b", 0))
	has(false, "reset_password", did(1), "a") // kinds never mix
	has(false, "confirm_email", "", "b")
	has(false, "confirm_email", did(2), "a")

	// Three of a purpose are kept, the newest; those of others do not count.
	insert(code(2, "confirm_email", "z", 0))
	for i, mac := range []string{"c", "d", "e"} {
		insert(code(1, "confirm_email", mac, time.Duration(i+1)*time.Second))
	}
	has(false, "confirm_email", did(1), "a")
	for _, mac := range []string{"c", "d", "e"} {
		has(true, "confirm_email", did(1), mac)
	}
	has(true, "confirm_email", did(2), "z")
	has(true, "reset_password", did(1), "b")
	live := func(email string, at time.Duration) int {
		s.Helper()
		n, err := s.db.LiveCodes(ctx, "confirm_email", did(1), email, start0.Add(at))
		s.ok(err)
		return n
	}
	s.equal("live codes", []int{live("user@mail.test", 0), live("other@mail.test", 0)}, []int{3, 0})
	s.equal("later", []int{live("user@mail.test", 15*time.Minute+time.Second), live("user@mail.test", time.Hour)}, []int{2, 0})
	insert(code(1, "confirm_email", "zz", 0)) // the newest is kept even if the clock went back
	has(true, "confirm_email", did(1), "zz")
	has(false, "confirm_email", did(1), "c")

	s.must(func(tx *db.Tx) error { return tx.DeleteCodes(ctx, did(1), "confirm_email", "update_email") })
	has(false, "confirm_email", did(1), "e")
	has(true, "reset_password", did(1), "b")
	s.must(func(tx *db.Tx) error { return tx.DeleteCodes(ctx, did(1)) })
	has(false, "reset_password", did(1), "b")
	has(true, "confirm_email", did(2), "z")
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.InsertCode(ctx, code(9, "confirm_email", "a", 0), 3) })
}

func (s *suite) mail() {
	ctx := s.Context()
	_, _, err := s.db.NextMail(ctx)
	s.is(err, db.ErrNotFound)
	failed := errors.New("failed")
	queue := func(to string, err error) (id int64) {
		got := s.write(func(tx *db.Tx) error {
			m := db.Mail{
				To: to, Kind: "confirm_email", DID: did(1), Sealed: []byte("body"), CreatedAt: start0, ExpiresAt: start0.Add(time.Hour),
			}
			if err := tx.QueueMail(ctx, &m); err != nil {
				return err
			}
			id = m.ID
			return err
		})
		if !errors.Is(got, err) {
			s.Fatal(got)
		}
		return id
	}
	queue("nobody@mail.test", failed)
	if s.db.Exclusive() { // else whoever begins to listen to other processes is woken, too
		select {
		case <-s.db.MailQueued():
			s.Error("woken by a transaction that failed")
		default:
		}
	}
	id1 := queue("one@mail.test", nil)
	select {
	case <-s.db.MailQueued():
	case <-time.After(2 * time.Minute):
		s.Error("not woken")
	}
	id2 := queue("two@mail.test", nil)
	next, expires, err := s.db.NextMail(ctx)
	s.ok(err)
	s.equal("next", next, start0)
	s.equal("expires", expires, start0.Add(time.Hour))

	claim := func(now time.Time, limit int) (claimed []db.Mail) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) {
			claimed, err = tx.ClaimMails(ctx, db.MailClaim{Holder: "me", Now: now, Until: now.Add(time.Minute), Limit: limit, Others: limit, PerCause: 2})
			return err
		})
		return claimed
	}
	s.equal("too early", claim(start0.Add(-time.Second), 10), []db.Mail(nil))
	s.equal("claimed", claim(start0, 1), []db.Mail{{
		ID: id1, To: "one@mail.test", Kind: "confirm_email", DID: did(1), Sealed: []byte("body"), CreatedAt: start0,
		ExpiresAt: start0.Add(time.Hour), NextAt: start0.Add(time.Minute), Attempts: 1, State: "sending",
	}})
	if got := claim(start0, 10); len(got) != 1 || got[0].ID != id2 {
		s.Errorf("the second: %v", got)
	}
	s.must(func(tx *db.Tx) error { return tx.MailSent(ctx, id1) })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.MailSent(ctx, id1) })
	s.fails(db.ErrLeaseLost, func(tx *db.Tx) error { return tx.MailFailed(ctx, id1, "late", time.Time{}) })
	sent, err := s.db.MailByID(ctx, id1)
	s.ok(err)
	if sent.State != "sent" || sent.Sealed != nil || sent.SentAt == nil || !sent.SentAt.Equal(start0) {
		s.Errorf("sent: %+v", sent)
	}

	s.must(func(tx *db.Tx) error { return tx.MailFailed(ctx, id2, "451 later", start0.Add(10*time.Minute)) })
	s.equal("backing off", claim(start0.Add(time.Minute), 10), []db.Mail(nil))
	again := claim(start0.Add(10*time.Minute), 10)
	if len(again) != 1 || again[0].Attempts != 2 || again[0].LastError != "451 later" || string(again[0].Sealed) != "body" {
		s.Errorf("second attempt: %v", again)
	}
	// Its sender died: somebody else takes over when the time is up.
	if got := claim(start0.Add(11*time.Minute), 10); len(got) != 1 || got[0].Attempts != 3 {
		s.Errorf("after a crash: %v", got)
	}
	s.must(func(tx *db.Tx) error { return tx.MailFailed(ctx, id2, "550 unknown", time.Time{}) })
	dead, err := s.db.MailByID(ctx, id2)
	s.ok(err)
	if dead.State != "failed" || dead.Sealed != nil || dead.LastError != "550 unknown" {
		s.Errorf("given up: %+v", dead)
	}

	id3 := queue("three@mail.test", nil)
	s.equal("expired", claim(start0.Add(time.Hour), 10), []db.Mail(nil))
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Hour)) })
	late, err := s.db.MailByID(ctx, id3)
	s.ok(err)
	if late.State != "expired" || late.Sealed != nil {
		s.Errorf("expired: %+v", late)
	}
	all, err := s.db.Mails(ctx, 0, 2)
	s.ok(err)
	if len(all) != 2 || all[0].ID != id3 || all[1].ID != id2 || all[0].To != "three@mail.test" {
		s.Errorf("newest two: %v", all)
	}
	older, err := s.db.Mails(ctx, id3, 1)
	s.ok(err)
	if len(older) != 1 || older[0].ID != id2 {
		s.Errorf("the one before: %v", older)
	}
	_, err = s.db.MailByID(ctx, 999)
	s.is(err, db.ErrNotFound)
}

func (s *suite) mailOrder() {
	ctx := s.Context()
	queue := func(to, cause string, urgent bool, pile int, owner syntax.DID) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			return tx.QueueMail(ctx, &db.Mail{
				To: to, Kind: "x", DID: owner, CreatedAt: start0, ExpiresAt: start0.Add(time.Hour), Urgent: urgent, Pile: pile, Cause: cause,
			})
		})
	}
	queue("a@mail.test", "spammer", false, 0, did(1))
	queue("a@mail.test", "spammer", false, 1, did(1))
	queue("b@mail.test", "spammer", false, 2, did(1))
	queue("c@mail.test", "", false, 0, did(1))
	queue("a@mail.test", "alice", true, 2, "")
	queue("d@mail.test", "spammer", true, 3, "")
	to, from, all, err := s.db.WaitingMails(ctx, "a@mail.test", "spammer")
	s.ok(err)
	s.equal("waiting", []int{to, from, all}, []int{3, 4, 6})
	_, from, _, err = s.db.WaitingMails(ctx, "a@mail.test", "")
	s.ok(err)
	s.equal("waiting of no cause", from, 0)

	claim := func(limit, others int) (ids []int64) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			ids = nil
			claimed, err := tx.ClaimMails(ctx, db.MailClaim{
				Holder: "me", Now: start0, Until: start0.Add(time.Minute), Limit: limit, Others: others, PerCause: 2,
			})
			for _, m := range claimed {
				ids = append(ids, m.ID)
			}
			return err
		})
		return ids
	}
	s.equal("codes go first", claim(1, 1), []int64{5})
	s.equal("no place for others", claim(4, 0), []int64{6})
	// One conversation with a@ is going on, and one letter of the spammer's.
	s.equal("then the smallest piles", claim(4, 4), []int64{4, 3})
	s.equal("the spammer has two", claim(4, 4), []int64(nil))
	s.must(func(tx *db.Tx) error { return tx.MailSent(ctx, 5) })
	s.must(func(tx *db.Tx) error { return tx.MailFailed(ctx, 6, "550", time.Time{}) })
	s.equal("one recipient, one conversation", claim(4, 4), []int64{1})
	s.equal("still", claim(4, 4), []int64(nil))

	// A letter that is about no account does not keep the address.
	for id, want := range map[int64]string{5: "", 6: "", 1: "a@mail.test"} {
		m, err := s.db.MailByID(ctx, id)
		s.ok(err)
		s.equal("recipient", m.To, want)
	}
}

func (s *suite) invites() {
	ctx := s.Context()
	owner := s.create(1)
	s.must(func(tx *db.Tx) error {
		if err := tx.InsertInvites(ctx); err != nil {
			return err
		}
		return tx.InsertInvites(ctx,
			db.Invite{Code: "b", Uses: 2, ForAccount: did(1).String(), CreatedBy: did(1).String(), CreatedAt: start0},
			db.Invite{Code: "a", Uses: 1, Disabled: true, ForAccount: did(1).String(), CreatedBy: "admin", CreatedAt: start0},
			db.Invite{Code: "z", Uses: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: start0},
			db.Invite{Code: "y", Uses: 1, ForAccount: "did:plc:gone", CreatedBy: "admin", CreatedAt: start0.Add(time.Second)})
	})
	s.ok(s.db.InviteAvailable(ctx, "b"))
	s.ok(s.db.InviteAvailable(ctx, "y")) // the owner need not exist
	s.is(s.db.InviteAvailable(ctx, "a"), db.ErrInviteUnavailable)
	s.is(s.db.InviteAvailable(ctx, "B"), db.ErrInviteUnavailable)
	s.is(s.db.InviteAvailable(ctx, ""), db.ErrInviteUnavailable)

	for n := 2; n <= 3; n++ {
		s.clock.Store(new(start0.Add(time.Duration(n) * time.Minute)))
		r := reservation(n)
		r.InviteCode = "b"
		s.must(func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	}
	s.is(s.db.InviteAvailable(ctx, "b"), db.ErrInviteUnavailable)
	want := []db.Invite{
		{Code: "a", Uses: 1, Disabled: true, ForAccount: did(1).String(), CreatedBy: "admin", CreatedAt: start0},
		{
			Code: "b", Uses: 2, Spent: 2, ForAccount: did(1).String(), CreatedBy: did(1).String(), CreatedAt: start0,
			Used: []db.InviteUse{
				{Code: "b", By: did(3), At: start0.Add(3 * time.Minute)}, {Code: "b", By: did(2), At: start0.Add(2 * time.Minute)},
			},
		},
	}
	got, err := s.db.InvitesFor(ctx, did(1).String())
	s.ok(err)
	s.equal("invites", got, want)
	one, err := s.db.Invite(ctx, "b")
	s.ok(err)
	s.equal("invite", *one, want[1])
	_, err = s.db.Invite(ctx, "none")
	s.is(err, db.ErrNotFound)

	// A deleted invitee still counts.
	s.must(func(tx *db.Tx) error { return tx.FinishAccount(ctx, did(2), "me") })
	s.must(func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(2)) })
	s.is(s.db.InviteAvailable(ctx, "b"), db.ErrInviteUnavailable)

	// The owner's takedown holds as long as it lasts.
	s.must(func(tx *db.Tx) error {
		return tx.InsertInvites(ctx, db.Invite{Code: "c", Uses: 1, ForAccount: did(1).String(), CreatedBy: "admin", CreatedAt: start0})
	})
	owner.TakedownRef = new("ref")
	s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, owner) })
	s.is(s.db.InviteAvailable(ctx, "c"), db.ErrInviteUnavailable)
	r := reservation(4)
	r.InviteCode = "c"
	s.fails(db.ErrInviteUnavailable, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) })
	owner.TakedownRef, owner.DeactivatedAt = nil, new(start0)
	s.must(func(tx *db.Tx) error { return tx.UpdateAccount(ctx, owner) })
	s.ok(s.db.InviteAvailable(ctx, "c"))

	s.must(func(tx *db.Tx) error { return tx.DisableInvites(ctx, nil, nil) })
	s.must(func(tx *db.Tx) error { return tx.DisableInvites(ctx, []string{"z"}, []string{"did:plc:gone"}) })
	for code, want := range map[string]error{"z": db.ErrInviteUnavailable, "y": db.ErrInviteUnavailable, "c": nil} {
		s.is(s.db.InviteAvailable(ctx, code), want)
	}
}

func (s *suite) budgets() {
	ctx := s.Context()
	spend := func(key string, now time.Time) (left int, reset time.Time) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) {
			left, reset, err = tx.SpendBudget(ctx, "kind", key, 2, time.Hour, now)
			return err
		})
		return left, reset
	}
	check := func(what string, gotLeft int, gotReset time.Time, wantLeft int, wantReset time.Time) {
		s.Helper()
		if gotLeft != wantLeft || !gotReset.Equal(wantReset) {
			s.Errorf("%s: got %d until %v, want %d until %v", what, gotLeft, gotReset, wantLeft, wantReset)
		}
	}
	left := func(now time.Time) (int, time.Time) {
		s.Helper()
		n, reset, err := s.db.BudgetLeft(ctx, "kind", "key", 2, now)
		s.ok(err)
		return n, reset
	}
	end := start0.Add(time.Hour)
	n, reset := left(start0)
	check("untouched", n, reset, 2, time.Time{})
	for i, want := range []int{1, 0, -1, -2} {
		n, reset := spend("key", start0.Add(time.Duration(i)*time.Minute))
		check(fmt.Sprint("spent ", i+1), n, reset, want, end)
	}
	n, reset = spend("other", start0)
	check("another key", n, reset, 1, end)
	n, reset = left(end.Add(-time.Microsecond))
	check("left at the end", n, reset, -2, end)
	n, reset = left(end)
	check("left after the end", n, reset, 2, time.Time{})
	n, reset = spend("key", end)
	check("next window", n, reset, 1, end.Add(time.Hour))
	for _, kind := range []string{"kind/below", "kindred"} {
		s.must(func(tx *db.Tx) error {
			_, _, err := tx.SpendBudget(ctx, kind, "key", 2, time.Hour, end)
			return err
		})
	}
	open := []db.Spending{{Kind: "kind", Spent: 1, Reset: end.Add(time.Hour)}, {Kind: "kind/below", Spent: 1, Reset: end.Add(time.Hour)}, {Kind: "kindred", Spent: 1, Reset: end.Add(time.Hour)}}
	for now, want := range map[time.Time][]db.Spending{end: open, end.Add(time.Hour): nil} {
		got, err := s.db.Spendings(ctx, "key", now)
		s.ok(err)
		s.equal("spendings", got, want)
	}
	s.must(func(tx *db.Tx) error { return tx.ClearBudget(ctx, "kind", "key") })
	for kind, want := range map[string]int{"kind/below": 2, "kindred": 1} {
		n, _, err := s.db.BudgetLeft(ctx, kind, "key", 2, end)
		s.ok(err)
		if n != want {
			s.Errorf("%s: %d left after clearing, want %d", kind, n, want)
		}
	}
	n, reset = left(end)
	check("cleared", n, reset, 2, time.Time{})
	s.must(func(tx *db.Tx) error { return tx.ForgetBudgets(ctx, "key") })
	got, err := s.db.Spendings(ctx, "key", end)
	s.ok(err)
	s.equal("spendings of a forgotten key", got, []db.Spending(nil))
}

func (s *suite) jobs() {
	ctx := s.Context()
	claim := func(holder string, now time.Time) (mine bool) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) {
			mine, err = tx.ClaimJob(ctx, "job", holder, now, now.Add(time.Minute))
			return err
		})
		return mine
	}
	for _, c := range []struct {
		holder string
		at     time.Duration
		want   bool
	}{
		{"me", 0, true}, {"you", 0, false}, {"me", 30 * time.Second, true}, {"you", time.Minute, false},
		{"you", 90 * time.Second, true}, {"me", 2 * time.Minute, false},
	} {
		if got := claim(c.holder, start0.Add(c.at)); got != c.want {
			s.Errorf("%s after %v: got %v", c.holder, c.at, got)
		}
	}
	s.must(func(tx *db.Tx) error { return tx.ReleaseJob(ctx, "job", "me") })
	if claim("me", start0.Add(2*time.Minute)) {
		s.Error("released somebody else's job")
	}
	s.must(func(tx *db.Tx) error { return tx.ReleaseJob(ctx, "job", "you") })
	if !claim("me", start0.Add(2*time.Minute)) {
		s.Error("a released job is not free")
	}
}

func (s *suite) didDocuments() {
	ctx := s.Context()
	_, _, err := s.db.DIDDocument(ctx, did(1))
	s.is(err, db.ErrNotFound)
	put := func(doc string, at time.Time) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.PutDIDDocument(ctx, did(1), []byte(doc), at) })
	}
	put("a stranger's", start0)
	_, _, err = s.db.DIDDocument(ctx, did(1))
	s.is(err, db.ErrNotFound)
	s.create(1)
	put("old", start0)
	put("new", start0.Add(time.Second))
	put("late answer", start0)
	doc, at, err := s.db.DIDDocument(ctx, did(1))
	s.ok(err)
	if string(doc) != "new" || !at.Equal(start0.Add(time.Second)) {
		s.Errorf("got %q of %v", doc, at)
	}
	s.must(func(tx *db.Tx) error { return tx.DeleteDIDDocument(ctx, did(1)) })
	_, _, err = s.db.DIDDocument(ctx, did(1))
	s.is(err, db.ErrNotFound)
}

func (s *suite) meta() {
	ctx := s.Context()
	_, err := s.db.Meta(ctx, "canary")
	s.is(err, db.ErrNotFound)
	for _, value := range []string{"one", "two"} {
		s.must(func(tx *db.Tx) error { return tx.PutMeta(ctx, "canary", []byte(value)) })
		got, err := s.db.Meta(ctx, "canary")
		s.ok(err)
		s.equal("value", string(got), value)
	}
	swap := func(before, after string) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.SwapMeta(ctx, "canary", []byte(before), []byte(after)) }
	}
	s.fails(db.ErrStale, swap("one", "three"))
	s.must(swap("two", "three"))
	s.fails(db.ErrStale, swap("two", "four"))
	fresh := func(tx *db.Tx) error { return tx.SwapMeta(ctx, "parrot", nil, []byte("one")) }
	s.must(fresh)
	s.fails(db.ErrStale, fresh)
	for name, want := range map[string]string{"canary": "three", "parrot": "one"} {
		got, err := s.db.Meta(ctx, name)
		s.ok(err)
		s.equal(name, string(got), want)
	}
	for range 2 {
		s.must(func(tx *db.Tx) error { return tx.DeleteMeta(ctx, "canary") })
	}
	_, err = s.db.Meta(ctx, "canary")
	s.is(err, db.ErrNotFound)
}

func (s *suite) plc() {
	ctx := s.Context()
	used, err := s.db.HasPLCOperations(ctx)
	s.ok(err)
	s.equal("used", used, false)
	op := func(n int, cid string, at time.Duration) *db.PLCOperation {
		return &db.PLCOperation{DID: did(n), CID: cid, Operation: []byte(`{"cid":"` + cid + `"}`), CreatedAt: start0.Add(at)}
	}
	all := []*db.PLCOperation{op(1, "a", 0), op(2, "x", time.Second), op(1, "b", 2*time.Second), op(1, "c", 3*time.Second)}
	for i, o := range all {
		s.must(func(tx *db.Tx) error {
			if err := tx.LockPLC(ctx); err != nil {
				return err
			}
			if i == 3 {
				return tx.AppendPLCOperation(ctx, o, "b")
			}
			return tx.AppendPLCOperation(ctx, o)
		})
	}
	all[2].Nullified = true
	log, err := s.db.PLCOperations(ctx, did(1))
	s.ok(err)
	s.equal("log", log, []db.PLCOperation{*all[0], *all[2], *all[3]})
	log, err = s.db.PLCOperations(ctx, did(9))
	s.ok(err)
	s.equal("empty log", len(log), 0)
	export, err := s.db.PLCExport(ctx, all[0].Seq, 2)
	s.ok(err)
	s.equal("export by number", export, []db.PLCOperation{*all[1], *all[2]})
	export, err = s.db.PLCExportAfter(ctx, start0.Add(time.Second), 9)
	s.ok(err)
	s.equal("export by time", export, []db.PLCOperation{*all[2], *all[3]})
	used, err = s.db.HasPLCOperations(ctx)
	s.ok(err)
	s.equal("used", used, true)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.AppendPLCOperation(ctx, op(2, "y", time.Minute), "nothing") })
	if err := s.write(func(tx *db.Tx) error { return tx.AppendPLCOperation(ctx, op(1, "a", time.Minute)) }); err == nil {
		s.Error("the same operation was stored twice")
	}
}

func (s *suite) audit() {
	ctx := s.Context()
	entries := []db.AuditEntry{
		{DID: did(1), At: start0, Actor: did(1).String(), Address: "192.0.2.1", Event: "sign-in", Detail: "app password one"},
		{At: start0, Actor: "admin", Event: "start"},
		{DID: did(1), At: start0.Add(time.Second), Actor: "admin", Event: "takedown"},
	}
	for _, e := range entries {
		s.must(func(tx *db.Tx) error { return tx.RecordAudit(ctx, e) })
	}
	got, err := s.db.Audit(ctx, did(1), 10)
	s.ok(err)
	newest := got[0].ID
	for i := range got {
		got[i].ID = 0
	}
	s.equal("entries", got, []db.AuditEntry{entries[2], entries[0]})
	got, err = s.db.Audit(ctx, "", 10)
	s.ok(err)
	got[0].ID = 0
	s.equal("entries about none", got, []db.AuditEntry{entries[1]})

	// Pages go by the order of writing, whatever the clock says and whoever writes.
	s.must(func(tx *db.Tx) error { return tx.RecordAudit(ctx, entries[0]) })
	got, err = s.db.AuditBefore(ctx, did(1), newest, 10)
	s.ok(err)
	s.equal("entries before", len(got), 1)
	s.equal("entry before", got[0].At, start0)
	got, err = s.db.AuditBefore(ctx, did(1), math.MinInt64, 10)
	s.ok(err)
	s.equal("entries before all", len(got), 0)

	s.must(func(tx *db.Tx) error { return tx.PurgeAudit(ctx, start0) })
	got, err = s.db.Audit(ctx, did(1), 10)
	s.ok(err)
	s.equal("entries kept", len(got), 1)
	s.equal("entry kept", got[0].Event, "takedown")
}

func (s *suite) purge() {
	ctx := s.Context()
	s.create(1)
	s.must(func(tx *db.Tx) error { return Fill(ctx, tx, did(1)) }) // everything ends an hour later
	end := start0.Add(time.Hour)
	present := func() (kinds []string) {
		s.Helper()
		for _, c := range []struct {
			kind string
			read func() error
		}{
			{"session", func() error { _, err := s.db.Session(ctx, []byte("session of "+did(1))); return err }},
			{"key", func() error { _, err := s.db.ReservedKey(ctx, did(1).String()); return err }},
			{"code", func() error { _, err := s.db.EmailCode(ctx, "confirm_email", did(1), []byte("mac")); return err }},
			{"mail", func() error {
				all, err := s.db.Mails(ctx, 0, 1)
				if err == nil && len(all) == 0 {
					err = db.ErrNotFound
				}
				return err
			}},
			{"app password", func() error { _, err := s.db.AppPasswordByName(ctx, did(1), "app"); return err }},
		} {
			if err := c.read(); err == nil {
				kinds = append(kinds, c.kind)
			} else if !errors.Is(err, db.ErrNotFound) {
				s.Fatal(err)
			}
		}
		return kinds
	}
	for _, c := range []struct {
		at   time.Time
		want []string
	}{
		{end.Add(-time.Microsecond), []string{"session", "key", "code", "mail", "app password"}},
		{end, []string{"code", "mail", "app password"}},
		{end.Add(24 * time.Hour), []string{"mail", "app password"}},
		{start0.Add(30 * 24 * time.Hour), []string{"app password"}},
	} {
		s.must(func(tx *db.Tx) error { return tx.Purge(ctx, c.at) })
		s.equal("present at "+c.at.String(), present(), c.want)
	}
}

func (s *suite) transactions() {
	ctx := s.Context()
	put := func(tx *db.Tx, name string) error { return tx.PutMeta(ctx, name, []byte("x")) }
	has := func(name string) bool {
		_, err := s.db.Meta(ctx, name)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			s.Fatal(err)
		}
		return err == nil
	}
	failed := errors.New("failed")
	s.fails(failed, func(tx *db.Tx) error { return errors.Join(put(tx, "error"), failed) })
	func() {
		defer func() {
			if p := recover(); p != "panic" {
				s.Errorf("recovered %v", p)
			}
		}()
		s.must(func(tx *db.Tx) error {
			s.ok(put(tx, "panic"))
			panic("panic")
		})
	}()
	cancelled, cancel := context.WithCancel(ctx)
	err := s.db.Write(cancelled, func(tx *db.Tx) error {
		err := put(tx, "cancelled")
		cancel()
		return err
	})
	s.is(err, context.Canceled)
	s.is(s.db.Write(cancelled, func(tx *db.Tx) error { return put(tx, "cancelled") }), context.Canceled)
	// Whoever gives up is told so by the statement that comes next, whatever kind it is.
	for name, statement := range map[string]func(ctx context.Context, tx *db.Tx) error{
		"written late": func(ctx context.Context, tx *db.Tx) error { return tx.PutMeta(ctx, "written late", []byte("x")) },
		"read late":    func(ctx context.Context, tx *db.Tx) error { _, err := tx.Repo(ctx, did(1)); return err },
		"built late":   func(ctx context.Context, tx *db.Tx) error { return tx.DisableInvites(ctx, []string{"code"}, nil) },
	} {
		late, cancel := context.WithCancel(ctx)
		err := s.db.Write(late, func(tx *db.Tx) error {
			s.ok(tx.PutMeta(late, name, []byte("x")))
			cancel()
			if err := statement(late, tx); err != nil && !errors.Is(err, db.ErrNotFound) {
				return err
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || errors.Is(err, sql.ErrConnDone) {
			s.Errorf("%s: got error %v, want %v alone", name, err, context.Canceled)
		}
	}
	for _, name := range []string{"error", "panic", "cancelled", "written late", "read late", "built late"} {
		if has(name) {
			s.Errorf("%s: committed", name)
		}
	}
	// A broken transaction leaves the next one alone, and a Tx reads its own writes.
	s.must(func(tx *db.Tx) error {
		if err := put(tx, "good"); err != nil {
			return err
		}
		_, err := tx.Meta(ctx, "good")
		return err
	})
	if !has("good") {
		s.Error("not committed")
	}
	_, err = s.db.AccountByDID(cancelled, did(1))
	s.is(err, context.Canceled)
	s.ok(s.db.Ping(ctx))
}

// rotate exchanges a session for its successor, as a client that comes from nowhere does.
func rotate(ctx context.Context, tx *db.Tx, id, nextID []byte, now time.Time, grace, life time.Duration) (*db.Session, error) {
	s, err := tx.LockSession(ctx, id, "", now)
	if err != nil {
		return nil, err
	}
	return tx.Exchange(ctx, s, nextID, now, grace, life)
}
