package account_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/identity/plc"
)

// A process dies somewhere in a sign-up. Another one takes the account up once the
// lease has run out, and completes it or gives it up.
func TestCrash(t *testing.T) {
	afterReserving := func(s *server) { s.hooks.before = func(syntax.DID) { panic(errCrash) } }
	afterRegistering := func(s *server) { s.hooks.after = func(syntax.DID) { panic(errCrash) } }
	whileCompleting := func(s *server) { s.hooks.random = crashes{} }
	for _, tt := range []struct {
		name      string
		signed    bool // the genesis is the client's
		die       func(*server)
		completed bool
	}{
		{"after reserving", false, afterReserving, false},
		{"after registering", false, afterRegistering, true},
		{"while completing", false, whileCompleting, true},
		{"after reserving for a client's genesis", true, afterReserving, false},
		{"after registering a client's genesis", true, afterRegistering, true},
		{"while completing with a client's genesis", true, whileCompleting, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				r := request("alice")
				r.InviteCode = "welcome"
				w.invite("welcome")
				dead := w.server("dead")
				if tt.signed {
					r.Genesis = w.sign(dead, r.Handle)
				}
				tt.die(dead)
				did := w.crashing(dead, r)
				if _, err := w.db.AccountByDID(t.Context(), did); !errors.Is(err, db.ErrNotFound) {
					t.Errorf("the account is there already: %v", err)
				}

				s := w.server("alive")
				w.clock.reach(59 * time.Second)
				w.check(s.Resume(t.Context(), false))
				if w.unfinished() != 1 {
					t.Error("an account was taken up while its lease was running")
				}
				w.clock.reach(time.Minute)
				w.check(s.Resume(t.Context(), false))
				if tt.completed {
					w.exists(did, r)
				} else {
					w.free(did, r)
					w.clock.reach(48 * time.Hour)
					for range account.DefaultCleanupDelays {
						w.check(s.CleanUp(t.Context()))
					}
					if w.registered(did) {
						t.Error("the DID is in the directory")
					}
				}
				w.settled()
			})
		})
	}
}

// sign is a genesis of a client's, with a key that a server has reserved for it.
func (w *world) sign(s *server, h syntax.Handle) *account.SignedGenesis {
	w.Helper()
	key, err := s.NewReservedKey("")
	w.check(err)
	key.ExpiresAt = noon.Add(time.Hour)
	w.check(w.db.Write(w.Context(), func(tx *db.Tx) error {
		_, err := tx.ReserveKey(w.Context(), *key)
		return err
	}))
	own := newKey(w)
	op := plc.NewGenesis([]string{didKey(w, own), didKey(w, w.rotation)}, key.Public, h, s.Endpoint)
	w.check(op.Sign(own))
	text, err := json.Marshal(op)
	w.check(err)
	g, err := s.AcceptGenesis(w.Context(), text, h)
	w.check(err)
	return g
}

// What is left to be cleaned up of a DID is over once an account has the DID, whatever
// the directory says.
func TestCleanUpOfADIDThatAnAccountHas(t *testing.T) {
	c := &clock{now: noon}
	var dir string
	w := newWorld(t, c, dbtest.Open(t, onClock(c), func(o *db.Config) { dir = o.Dir }))
	s := w.server("one")
	created, err := s.Create(t.Context(), request("alice"))
	w.check(err)
	did := created.Account.DID
	// No reservation leaves it so.
	raw, err := sql.Open("sqlite", filepath.Join(dir, "portico.sqlite"))
	w.check(err)
	defer raw.Close()
	op, err := w.directory.Last(t.Context(), did)
	w.check(err)
	genesis, err := json.Marshal(op)
	w.check(err)
	_, err = raw.ExecContext(t.Context(), "INSERT INTO cleanup (did, genesis, aborted_at, next_at) VALUES (?, ?, 0, 0)", did.String(), genesis)
	w.check(err)

	w.requests()
	w.check(s.CleanUp(t.Context()))
	if asked := w.requests(); len(asked) > 0 || w.tombstoned(did) {
		t.Errorf("the directory is asked %q; DID ended: %v", asked, w.tombstoned(did))
	}
	w.settled()
}

// Where a process has the database to itself, what its predecessor left is taken up
// at once, and what it does itself is not.
func TestCrashOfPredecessor(t *testing.T) {
	w := lite(t)
	dead := w.server("dead")
	dead.hooks.after = func(syntax.DID) { panic(errCrash) }
	left := w.crashing(dead, request("alice"))

	s := w.server("alive")
	s.hooks.before = func(syntax.DID) { w.check(s.Resume(t.Context(), true)) }
	created, err := s.Create(t.Context(), request("bob"))
	w.check(err)
	w.exists(left, request("alice"))
	w.exists(created.Account.DID, request("bob"))
	w.settled()
}

// An account of a DID that was brought is given up: its owner comes back with it.
func TestCrashWithBroughtDID(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		r := request("alice")
		r.DID = "did:web:alice.example.com"
		dead := w.server("dead")
		dead.hooks.random = crashes{}
		w.crashing(dead, r)

		s := w.server("alive")
		if _, err := s.Create(t.Context(), r); !errors.Is(err, db.ErrDIDTaken) {
			t.Errorf("%v, want ErrDIDTaken while the lease runs", err)
		}
		w.clock.reach(time.Minute)
		w.check(s.Resume(t.Context(), false))
		w.free(r.DID, r)
		w.settled()
		_, err := s.Create(t.Context(), r)
		w.check(err)
		w.exists(r.DID, r)
		if asked := w.requests(); len(asked) > 0 {
			t.Errorf("requests to the directory: %q", asked)
		}
	})
}

// An account whose owner has done something with the DID meanwhile is not
// completed over their head, and their DID is left alone.
func TestResumeOfTakenAwayDID(t *testing.T) {
	w := lite(t)
	user := newKey(t)
	r := request("alice")
	r.RecoveryKey = didKey(t, user)
	dead := w.server("dead")
	dead.hooks.after = func(did syntax.DID) {
		last, err := w.directory.Last(t.Context(), did)
		w.check(err)
		op, err := plc.Update(last, func(d *plc.Data) { d.RotationKeys = []string{didKey(t, user)} })
		w.check(err)
		w.check(op.Sign(user))
		w.check(w.directory.Submit(t.Context(), did, op))
		panic(errCrash)
	}
	did := w.crashing(dead, r)

	s := w.server("alive")
	w.clock.reach(time.Minute)
	w.check(s.Resume(t.Context(), false))
	w.free(did, r)
	w.clock.reach(time.Hour)
	w.check(s.CleanUp(t.Context()))
	if w.tombstoned(did) {
		t.Error("the DID was tombstoned")
	}
	w.settled()
}

// While the directory can't be asked an account stays as it is, owned by nobody
// else and given to nobody else.
func TestResumeWithoutDirectory(t *testing.T) {
	w := lite(t)
	dead := w.server("dead")
	dead.hooks.after = func(syntax.DID) { panic(errCrash) }
	did := w.crashing(dead, request("alice"))

	s := w.server("alive")
	w.spoil(down)
	for minutes := range 5 {
		w.clock.reach(time.Duration(1+minutes) * time.Minute)
		w.check(s.Resume(t.Context(), false))
		if err := w.db.Available(t.Context(), "alice.test", ""); !errors.Is(err, db.ErrHandleTaken) || w.unfinished() != 1 {
			t.Fatalf("the account was given up: %v", err)
		}
	}
	w.spoil(nil)
	w.clock.reach(time.Hour)
	w.check(s.Resume(t.Context(), false))
	w.exists(did, request("alice"))
	w.settled()
}

// The first process was asleep for longer than its lease, and another gave the
// account up before the genesis arrived: the sign-up fails, and its DID ends.
func TestLeaseLostToOneWhoAborted(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		slow, other := w.server("slow"), w.server("other")
		r := request("alice")
		var did syntax.DID
		slow.hooks.before = func(d syntax.DID) {
			did = d
			w.clock.reach(time.Minute)
			w.check(other.Resume(t.Context(), false))
		}
		if _, err := slow.Create(t.Context(), r); !errors.Is(err, db.ErrLeaseLost) {
			t.Errorf("%v, want ErrLeaseLost", err)
		}
		w.free(did, r)
		if !w.registered(did) || w.tombstoned(did) {
			t.Error("the test is not about what it says")
		}
		w.clock.reach(2 * time.Minute)
		w.check(other.CleanUp(t.Context()))
		if !w.tombstoned(did) {
			t.Error("the DID is alive")
		}
		w.settled()
	})
}

// The first process was asleep, and another completed the account: the caller gets
// what it asked for.
func TestLeaseLostToOneWhoCompleted(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		slow, other := w.server("slow"), w.server("other")
		r := request("alice")
		slow.hooks.after = func(syntax.DID) {
			w.clock.reach(time.Minute)
			w.check(other.Resume(t.Context(), false))
		}
		created, err := slow.Create(t.Context(), r)
		w.check(err)
		w.exists(created.Account.DID, r)
		w.settled()
		claims, err := slow.sessions.Tokens.VerifyRefresh(created.Tokens.Refresh)
		w.check(err)
		if _, _, err := slow.sessions.Refresh(t.Context(), created.Account.DID, claims.ID); err != nil {
			t.Error(err)
		}
	})
}

// Another has taken the account up and is still at it: neither its work nor the
// account is touched.
func TestLeaseLostToOneAtWork(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		slow := w.server("slow")
		r := request("alice")
		var did syntax.DID
		slow.hooks.after = func(d syntax.DID) {
			did = d
			w.clock.reach(time.Minute)
			w.check(w.db.Write(t.Context(), func(tx *db.Tx) error {
				_, err := tx.ClaimUnfinished(t.Context(), "other", w.clock.Now(), noon.Add(time.Hour), false, 1)
				return err
			}))
		}
		if _, err := slow.Create(t.Context(), r); !errors.Is(err, db.ErrLeaseLost) {
			t.Errorf("%v, want ErrLeaseLost", err)
		}
		if w.unfinished() != 1 || w.cleanups() != nil {
			t.Error("the account was taken from its new holder")
		}
		w.clock.reach(2 * time.Hour)
		w.check(slow.Resume(t.Context(), false))
		w.exists(did, r)
	})
}

// Two processes that resume at once share the work and do nothing twice.
func TestResumeAtOnce(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		var registered, absent []syntax.DID
		person := func(i int) account.Request { return request(fmt.Sprintf("person-%d", i)) }
		for i := range 20 {
			dead := w.server(fmt.Sprintf("dead %d", i))
			if i%2 == 0 {
				dead.hooks.after = func(syntax.DID) { panic(errCrash) }
				registered = append(registered, w.crashing(dead, person(i)))
			} else {
				dead.hooks.before = func(syntax.DID) { panic(errCrash) }
				absent = append(absent, w.crashing(dead, person(i)))
			}
		}
		w.clock.reach(time.Minute)
		w.requests()
		var all sync.WaitGroup
		for _, name := range []string{"one", "two"} {
			s := w.server(name)
			all.Go(func() {
				if err := s.Resume(t.Context(), false); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for i, did := range registered {
			w.exists(did, person(2*i))
		}
		for i, did := range absent {
			w.free(did, person(2*i+1))
		}
		if asked := w.requests(); len(asked) != 20 {
			t.Errorf("the directory is asked %d times about 20 accounts", len(asked))
		}
		if n := w.unfinished(); n != 0 {
			t.Errorf("%d accounts are unfinished", n)
		}

		for _, did := range absent[:5] {
			w.arrive(did)
		}
		w.clock.reach(2 * time.Minute)
		for _, name := range []string{"one", "two"} {
			s := w.server(name)
			all.Go(func() {
				if err := s.CleanUp(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, did := range absent[:5] {
			if !w.tombstoned(did) {
				t.Errorf("%s is alive", did)
			}
		}
		if left := w.cleanups(); !slices.Equal(left, []int{1, 1, 1, 1, 1}) {
			t.Errorf("clean-ups left with looks %v, want five with one each", left)
		}
	})
}

// A sign-up and the one that resumes it, in all orders that the machine comes up
// with: there is an account or a clean-up, never both and never neither.
func TestCreateAgainstResume(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		other := w.server("other")
		for i := range 20 {
			s, r := w.server("one"), request(fmt.Sprintf("person-%d", i))
			s.Lease = time.Nanosecond // anybody's at once
			var did syntax.DID
			ready := make(chan struct{})
			s.hooks.before = func(d syntax.DID) { did = d; close(ready) }
			var all sync.WaitGroup
			all.Go(func() {
				<-ready
				w.clock.reach(time.Duration(i+1) * time.Millisecond)
				if err := other.Resume(t.Context(), false); err != nil {
					t.Error(err)
				}
			})
			_, err := s.Create(t.Context(), r)
			all.Wait()
			if err == nil {
				w.exists(did, r)
			} else {
				if !errors.Is(err, db.ErrLeaseLost) {
					t.Error(err)
				}
				// The loser may have been told before the winner was done.
				if _, err := w.db.AccountByDID(t.Context(), did); errors.Is(err, db.ErrNotFound) {
					w.free(did, r)
				}
			}
		}
		if n := w.unfinished(); n != 0 {
			t.Errorf("%d accounts are unfinished", n)
		}
		w.clock.reach(48 * time.Hour)
		w.check(other.CleanUp(t.Context()))
		w.settled()
		accounts, err := w.db.Accounts(t.Context(), "", 100)
		w.check(err)
		for i := range 20 {
			r := request(fmt.Sprintf("person-%d", i))
			here := slices.ContainsFunc(accounts, func(a db.Account) bool { return a.Handle == r.Handle })
			if free := w.db.Available(t.Context(), r.Handle, r.Email) == nil; free == here {
				t.Errorf("%s: account %v, free %v", r.Handle, here, free)
			}
		}
	})
}

// arrive lets the genesis of a creation that was given up reach the directory.
func (w *world) arrive(did syntax.DID) (genesis plc.Operation) {
	w.Helper()
	nothing := errors.New("roll back")
	err := w.db.Write(w.Context(), func(tx *db.Tx) error {
		all, err := tx.ClaimCleanups(w.Context(), "test", noon.AddDate(10, 0, 0), noon, 1000)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(c db.Cleanup) bool { return c.DID == did })
		if i < 0 {
			return fmt.Errorf("%s is not to be cleaned up", did)
		}
		genesis, err = plc.Parse(all[i].Genesis)
		return errors.Join(nothing, err)
	})
	if !errors.Is(err, nothing) {
		w.Fatal(err)
	}
	w.check(w.directory.Submit(w.Context(), did, genesis))
	return genesis
}
