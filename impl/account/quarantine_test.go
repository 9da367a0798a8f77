package account_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/repo/event"
)

// hold makes an account in quarantine.
func (w *world) hold(s *server, r account.Request) syntax.DID {
	w.Helper()
	if r.Quarantine == "" {
		r.Quarantine = db.HeldUntilConfirmed
	}
	created, err := s.Create(w.Context(), r)
	w.check(err)
	if !created.Account.Held() || created.Tokens.Access == "" || len(created.Document) == 0 {
		w.Fatalf("created %+v", created)
	}
	return created.Account.DID
}

// change changes the row of an account.
func (w *world) change(did syntax.DID, how func(*db.Account)) {
	w.Helper()
	w.check(w.db.Write(w.Context(), func(tx *db.Tx) error {
		a, err := tx.LockAccount(w.Context(), did)
		if err != nil {
			return err
		}
		how(a)
		return tx.UpdateAccount(w.Context(), a)
	}))
}

func (w *world) confirm(did syntax.DID) {
	w.Helper()
	w.change(did, func(a *db.Account) { a.EmailConfirmedAt = new(w.clock.Now()) })
}

// held is the row of an account in quarantine, nil if it is not there.
func (w *world) held(did syntax.DID) *db.Quarantined {
	w.Helper()
	h, err := w.db.Quarantined(w.Context(), did)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	w.check(err)
	return h
}

// says appends an event as whatever changes an account does.
func (w *world) says(did syntax.DID) {
	w.Helper()
	w.check(w.db.Write(w.Context(), func(tx *db.Tx) error {
		return tx.AppendEvents(w.Context(), account.Events(did, event.Account(did, ""))...)
	}))
}

// released checks that the network knows of an account what it is to know.
func (w *world) released(did syntax.DID) {
	w.Helper()
	a, err := w.db.AccountByDID(w.Context(), did)
	w.check(err)
	if a.Held() || w.held(did) != nil {
		w.Errorf("%s is in quarantine", did)
	}
	if got, want := w.events(did), []string{"#identity", "#account", "#sync"}; !slices.Equal(got, want) {
		w.Errorf("events of %s are %v, want %v", did, got, want)
	}
	if !w.registered(did) {
		w.Errorf("%s is not in the directory", did)
	}
}

// unheard checks that nobody was told anything of a DID.
func (w *world) unheard(did syntax.DID) {
	w.Helper()
	if kinds := w.events(did); kinds != nil {
		w.Errorf("events of %s: %v, want none", did, kinds)
	}
	if w.registered(did) {
		w.Errorf("%s is in the directory", did)
	}
}

// Nothing leaves of an account in quarantine: no request to the directory, no event,
// however it is changed, taken down, restored and deleted; and no number is spent on it.
func TestHeldAccountLeavesNothing(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		r.InviteCode = "welcome"
		w.invite("welcome")
		before, err := w.db.LastEvent(t.Context())
		w.check(err)
		did := w.hold(s, r)
		w.says(did)
		w.check(s.Deactivate(t.Context(), did, time.Time{}))
		w.check(s.Activate(t.Context(), did))
		w.check(s.TakeDown(t.Context(), did, "spam"))
		w.check(s.Restore(t.Context(), did))
		w.check(s.Announce(t.Context(), did))
		w.unheard(did)
		w.check(s.Release(t.Context())) // nobody has confirmed the address
		w.unheard(did)
		if h := w.held(did); h == nil || h.State != db.Held {
			t.Errorf("in quarantine is %+v", h)
		}

		w.check(s.Remove(t.Context(), did))
		w.unheard(did)
		w.settled()
		if err := w.db.Available(t.Context(), r.Handle, r.Email); err != nil {
			t.Errorf("handle and address are not free: %v", err)
		}
		last, err := w.db.LastEvent(t.Context())
		w.check(err)
		if last != before {
			t.Errorf("%d numbers of events were spent", last-before)
		}
		if asked := w.requests(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}

		// Of one beside it that is not held everything is said.
		other, err := s.Create(t.Context(), request("bob"))
		w.check(err)
		w.exists(other.Account.DID, request("bob"))
	})
}

// A transaction that changes accounts of both kinds says what is of the known one, and
// numbers have no gap.
func TestEventsOfHeldAccountsAreLeftOut(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		held := w.hold(s, request("alice"))
		created, err := s.Create(t.Context(), request("bob"))
		w.check(err)
		known := created.Account.DID
		before, err := w.db.LastEvent(t.Context())
		w.check(err)
		w.check(w.db.Write(t.Context(), func(tx *db.Tx) error {
			for _, did := range []syntax.DID{held, known, held, held, known} {
				if err := tx.AppendEvents(t.Context(), account.Events(did, event.Account(did, ""))...); err != nil {
					return err
				}
			}
			return nil
		}))
		events, err := w.db.Events(t.Context(), before, 10)
		w.check(err)
		if len(events) != 2 || events[0].Seq != before+1 || events[1].Seq != before+2 || events[0].DID != known || events[1].DID != known {
			t.Errorf("events after %d: %+v", before, events)
		}
	})
}

// An account is released once its owner has confirmed the address: the directory has it
// first, then it is there, and then the network hears of it.
func TestRelease(t *testing.T) {
	for _, rule := range []string{db.HeldUntilConfirmed, db.HeldUntilApproved} {
		t.Run(rule, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				s, r := w.server("one"), request("alice")
				r.Quarantine = rule
				did := w.hold(s, r)
				first, err := w.db.Repo(t.Context(), did)
				w.check(err)
				w.confirm(did)
				if rule == db.HeldUntilApproved {
					w.check(s.Release(t.Context()))
					w.unheard(did)
					w.check(s.Approve(t.Context(), did))
				}
				s.hooks.before = func(did syntax.DID) {
					if a, err := w.db.AccountByDID(context.Background(), did); err != nil || !a.Held() {
						t.Errorf("before the directory has it, the account is %+v, %v", a, err)
					}
				}
				w.check(s.Release(t.Context()))
				w.released(did)
				w.settled()
				now, err := w.db.Repo(t.Context(), did)
				w.check(err)
				if now.Rev <= first.Rev || string(now.DataCID) != string(first.DataCID) {
					t.Errorf("the repository is at %s, and was at %s", now.Rev, first.Rev)
				}
				if err := s.Approve(t.Context(), did); !errors.Is(err, db.ErrNotFound) {
					t.Errorf("approve again: %v", err)
				}
				w.check(s.Release(t.Context()))
				w.says(did)
				if kinds := w.events(did); len(kinds) != 4 {
					t.Errorf("events %v", kinds)
				}
				w.check(s.Remove(t.Context(), did))
				if kinds := w.events(did); !slices.Equal(kinds, []string{"#account"}) {
					t.Errorf("events of one that was deleted after its release: %v", kinds)
				}
			})
		})
	}
}

// A process dies somewhere in a release. Another one takes the account up once the lease
// has run out, and nothing is said twice.
func TestCrashInRelease(t *testing.T) {
	for name, die := range map[string]func(*server){
		"before registering": func(s *server) { s.hooks.before = func(syntax.DID) { panic(errCrash) } },
		"after registering":  func(s *server) { s.hooks.after = func(syntax.DID) { panic(errCrash) } },
		"after showing":      func(s *server) { s.Shown(func() { panic(errCrash) }) },
	} {
		t.Run(name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				dead := w.server("dead")
				did := w.hold(dead, request("alice"))
				w.confirm(did)
				die(dead)
				func() {
					defer func() {
						if recover() != errCrash {
							t.Fatal("the server did not crash")
						}
					}()
					t.Fatalf("Release returned %v", dead.Release(t.Context()))
				}()
				if kinds := w.events(did); kinds != nil {
					t.Errorf("events %v", kinds)
				}
				alive := w.server("alive")
				w.clock.reach(59 * time.Second)
				w.check(alive.Release(t.Context()))
				if w.held(did) == nil {
					t.Error("the account was taken up while its lease was running")
				}
				w.clock.reach(time.Minute)
				w.check(alive.Release(t.Context()))
				w.released(did)
				w.settled()
			})
		})
	}
}

// What becomes of an account whose release stopped half-way and that goes then: its DID,
// if the directory has it, ends. One that everybody may have seen is deleted as any other.
func TestHeldAccountDeletedHalfWay(t *testing.T) {
	for _, tt := range []struct {
		name       string
		die        func(*server)
		registered bool
		events     []string
	}{
		{"before registering", func(s *server) { s.hooks.before = func(syntax.DID) { panic(errCrash) } }, false, nil},
		{"after registering", func(s *server) { s.hooks.after = func(syntax.DID) { panic(errCrash) } }, true, nil},
		{"after showing", func(s *server) { s.Shown(func() { panic(errCrash) }) }, true, []string{"#account"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				s := w.server("one")
				did := w.hold(s, request("alice"))
				w.confirm(did)
				tt.die(s)
				func() {
					defer func() { _ = recover() }()
					_ = s.Release(t.Context())
				}()
				alive := w.server("alive")
				w.check(alive.Remove(t.Context(), did))
				if kinds := w.events(did); !slices.Equal(kinds, tt.events) {
					t.Errorf("events %v", kinds)
				}
				w.clock.reach(48 * time.Hour)
				for range account.DefaultCleanupDelays {
					w.check(alive.CleanUp(t.Context()))
				}
				if got := w.registered(did); got != tt.registered || got && w.tombstoned(did) != (tt.events == nil) {
					t.Errorf("in the directory: %v", got)
				}
				w.check(alive.Release(t.Context()))
				w.settled()
				if kinds := w.events(did); !slices.Equal(kinds, tt.events) {
					t.Errorf("events %v", kinds)
				}
			})
		})
	}
}

// The directory says no, nothing, or 500. The account stays where it is, the operator can
// read why, and a later attempt releases it.
func TestReleaseWithAFaultyDirectory(t *testing.T) {
	for _, tt := range []struct {
		name          string
		fault         func(http.ResponseWriter, *http.Request, http.Handler) bool
		state, reason string
	}{
		{"refused", posts(answer(400, `{"message":"Not today"}`)), db.Held, "the directory refuses: Not today"},
		{"down", down, db.HeldSent, "the directory does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				s := w.server("one")
				did := w.hold(s, request("alice"))
				w.confirm(did)
				w.spoil(tt.fault)
				w.check(s.Release(t.Context()))
				h := w.held(did)
				if h == nil || h.State != tt.state || h.Reason != tt.reason || h.Attempts != 1 || !h.NextAt.Equal(noon.Add(time.Minute)) {
					t.Errorf("in quarantine is %+v", h)
				}
				w.check(s.Release(t.Context())) // it is not its time
				if h := w.held(did); h == nil || h.Attempts != 1 {
					t.Errorf("in quarantine is %+v", h)
				}
				w.clock.reach(time.Minute)
				w.check(s.Release(t.Context()))
				if h := w.held(did); h == nil || h.Attempts != 2 || !h.NextAt.Equal(noon.Add(3*time.Minute)) {
					t.Errorf("in quarantine is %+v", h)
				}
				w.spoil(nil)
				w.check(s.Approve(t.Context(), did)) // the operator has mended it
				w.check(s.Release(t.Context()))
				w.released(did)
			})
		})
	}
}

// An account that was taken down or switched off while it was held is not released before
// it is on again.
func TestOnlyActiveAccountsAreReleased(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		did := w.hold(s, request("alice"))
		w.confirm(did)
		w.check(s.TakeDown(t.Context(), did, "spam"))
		w.check(s.Release(t.Context()))
		w.unheard(did)
		w.check(s.Restore(t.Context(), did))
		w.check(s.Deactivate(t.Context(), did, time.Time{}))
		w.check(s.Release(t.Context()))
		w.unheard(did)
		w.check(s.Activate(t.Context(), did))

		// Taken down between two steps.
		s.hooks.after = func(did syntax.DID) { w.change(did, func(a *db.Account) { a.TakedownRef = new("late") }) }
		w.check(s.Release(t.Context()))
		if h := w.held(did); h == nil || h.State != db.HeldSent || w.events(did) != nil {
			t.Errorf("in quarantine is %+v; events %v", h, w.events(did))
		}
		s.hooks.after = nil
		w.check(s.Restore(t.Context(), did))
		w.clock.reach(time.Minute)
		w.check(s.Release(t.Context()))
		w.released(did)
	})
}

// No more accounts are released in an hour than the operator says, those that were approved
// first.
func TestReleasesAreMetered(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		var terms account.Terms
		terms.Releases = 3
		s.Quarantine.Terms = func() account.Terms { return terms }
		var dids []syntax.DID
		for i := range 7 {
			r := request(fmt.Sprint("person", i))
			r.Email = strings.Replace(r.Email, "example.com", fmt.Sprintf("mail%d.test", i), 1)
			did := w.hold(s, r)
			dids = append(dids, did)
			if i < 6 {
				w.confirm(did)
			}
		}
		w.check(s.Approve(t.Context(), dids[6]))
		out := func() (n int) {
			for _, did := range dids {
				if w.held(did) == nil {
					w.released(did)
					n++
				}
			}
			return n
		}
		w.check(s.Release(t.Context()))
		if w.held(dids[6]) != nil || out() != 3 {
			t.Errorf("%d are out, the approved one: %v", out(), w.held(dids[6]) == nil)
		}
		w.clock.reach(59 * time.Minute)
		w.check(s.Release(t.Context()))
		if out() != 3 {
			t.Errorf("%d are out within the hour", out())
		}
		w.clock.reach(time.Hour)
		w.check(s.Release(t.Context()))
		if out() != 6 {
			t.Errorf("%d are out in the second hour", out())
		}
		w.clock.reach(2 * time.Hour)
		w.check(s.Release(t.Context()))
		if out() != 7 {
			t.Errorf("%d are out in the third hour", out())
		}
	})
}

// What the directory refuses spends nothing of what others wait for, however often it is
// tried.
func TestARefusedReleaseSpendsNothing(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		var terms account.Terms
		terms.Releases = 1
		s.Quarantine.Terms = func() account.Terms { return terms }
		refused := w.hold(s, request("alice"))
		w.confirm(refused)
		w.spoil(posts(answer(400, `{"message":"Not today"}`)))
		for i := range 12 { // more often than a domain has releases in a day
			if h := w.held(refused); h.Rule != db.HeldUntilConfirmed {
				t.Fatalf("after %d attempts in quarantine is %+v", i, h)
			}
			w.clock.reach(w.held(refused).NextAt.Sub(noon))
			w.check(s.Release(t.Context()))
		}
		w.spoil(nil)
		bob := w.hold(s, request("bob"))
		w.confirm(bob)
		w.check(s.Release(t.Context()))
		w.released(bob)
		w.unheard(refused)
	})
}

// Of one mail domain ten accounts are released in a day, whatever address they signed up
// with; the others wait for the operator. Everybody has addresses at large providers.
func TestReleasesOfAMailDomain(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		var terms account.Terms
		terms.Releases, terms.LargeMailDomains = 1000, []string{"city.example"}
		s.Quarantine.Terms = func() account.Terms { return terms }
		var dids []syntax.DID
		for i := range 12 {
			for _, domain := range []string{"farm.test", "gmail.com", "city.example"} {
				r := request(fmt.Sprintf("person%d-%s", i, strings.ReplaceAll(domain, ".", "-")))
				r.Email = fmt.Sprintf("person%d@%s", i, domain)
				if domain == "farm.test" && i%2 == 0 {
					r.Email = fmt.Sprintf("person%d@elsewhere%d.test", i, i)
				}
				did := w.hold(s, r)
				w.confirm(did)
				if domain == "farm.test" {
					w.change(did, func(a *db.Account) { a.Email = fmt.Sprintf("person%d@farm.test", i) })
					dids = append(dids, did)
				}
			}
		}
		w.check(s.Release(t.Context()))
		var waiting []syntax.DID
		for _, did := range dids {
			if h := w.held(did); h != nil {
				waiting = append(waiting, did)
				if h.Rule != db.HeldUntilApproved || h.MailDomain != "farm.test" ||
					h.Reason != "more accounts with addresses at farm.test than are released in a day" {
					t.Errorf("in quarantine is %+v", h)
				}
			}
		}
		all, err := w.db.HeldAccounts(t.Context(), db.HeldFilter{}, time.Time{}, "", 100)
		w.check(err)
		if len(waiting) != 2 || len(all) != 2 {
			t.Fatalf("%d of the domain wait, of %d in all", len(waiting), len(all))
		}
		w.clock.reach(25 * time.Hour)
		w.check(s.Release(t.Context()))
		if w.held(waiting[0]) == nil {
			t.Error("who waits for the operator was released the day after")
		}
		w.check(s.Approve(t.Context(), waiting[0]))
		w.check(s.Release(t.Context()))
		w.released(waiting[0])
	})
}

// Who has a domain has all below it, and gets no more releases for that.
func TestReleasesBelowAMailDomain(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		var terms account.Terms
		terms.Releases = 1000
		s.Quarantine.Terms = func() account.Terms { return terms }
		var dids []syntax.DID
		for i := range 12 {
			for _, domain := range []string{"%d.farm.co.uk", "town%d.co.uk"} {
				r := request(fmt.Sprintf("person%d-%d", i, len(dids)))
				r.Email = fmt.Sprintf("person@"+domain, i)
				dids = append(dids, w.hold(s, r))
				w.confirm(dids[len(dids)-1])
			}
		}
		w.check(s.Release(t.Context()))
		waiting := 0
		for _, did := range dids {
			if h := w.held(did); h != nil {
				waiting++
				if h.Reason != "more accounts with addresses at farm.co.uk than are released in a day" || !strings.HasSuffix(h.MailDomain, ".farm.co.uk") {
					t.Errorf("in quarantine is %+v", h)
				}
			}
		}
		if waiting != 2 {
			t.Errorf("%d wait for the operator, want 2", waiting)
		}
	})
}

// Who does not confirm the address in seven days is gone, and handle and address are free.
func TestUnconfirmedAccountsExpire(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		gone := w.hold(s, request("alice"))
		confirmed, approved := request("bob"), request("carol")
		confirmed.Quarantine = db.HeldUntilApproved
		approved.Quarantine = db.HeldUntilApproved
		bob, carol := w.hold(s, confirmed), w.hold(s, approved)
		w.confirm(bob)
		w.check(s.Approve(t.Context(), carol))
		w.clock.reach(7*24*time.Hour - time.Second)
		w.check(s.ExpireHeld(t.Context()))
		if w.held(gone) == nil {
			t.Error("deleted before seven days were over")
		}
		w.clock.reach(7 * 24 * time.Hour)
		w.check(s.ExpireHeld(t.Context()))
		w.free(gone, request("alice"))
		w.unheard(gone)
		w.settled()
		if w.held(bob) == nil || w.held(carol) == nil {
			t.Error("one that was confirmed, or approved, is gone")
		}
	})
}

// Several processes release at once: each account is released by one.
func TestReleasesRace(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		var dids []syntax.DID
		first := w.server("first")
		for i := range 12 {
			r := request(fmt.Sprint("person", i))
			r.Email = fmt.Sprintf("person%d@gmail.com", i)
			did := w.hold(first, r)
			w.confirm(did)
			dids = append(dids, did)
		}
		var all sync.WaitGroup
		for i := range 4 {
			s := w.server(fmt.Sprint("server", i))
			all.Go(func() {
				if err := s.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, did := range dids {
			w.released(did)
		}
	})
}

// Who brought a DID is not held; under the rule that the operator approves, it can be told
// from those who may be activated.
func TestBroughtAccountsInQuarantine(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		r := request("alice")
		r.DID, r.Quarantine = "did:plc:ewvi7nxzyoun6zhxrhs64oiz", db.HeldUntilConfirmed
		created, err := s.Create(t.Context(), r)
		w.check(err)
		if created.Account.Held() || w.held(r.DID) != nil {
			t.Error("held until the address is confirmed")
		}
		other := request("bob")
		other.DID, other.Quarantine = "did:plc:44ybard66vv44zksje25o7dz", db.HeldUntilApproved
		created, err = s.Create(t.Context(), other)
		w.check(err)
		if h := w.held(other.DID); created.Account.Held() || h == nil || h.State != db.HeldBrought {
			t.Errorf("in quarantine is %+v", h)
		}
		w.check(s.Approve(t.Context(), other.DID))
		if w.held(other.DID) != nil {
			t.Error("still in quarantine after the operator has approved it")
		}
	})
}

// A client's own genesis is kept too. Its owner may have registered it meanwhile.
func TestReleaseOfAClientsGenesis(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprint("registered early: ", early), func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				s, r := w.server("one"), request("alice")
				r.Genesis = w.sign(s, r.Handle)
				did := w.hold(s, r)
				if early {
					w.check(w.directory.Submit(t.Context(), did, r.Genesis.Operation()))
				}
				w.confirm(did)
				w.check(s.Release(t.Context()))
				w.released(did)
			})
		})
	}
}

func TestAddressRange(t *testing.T) {
	s := lite(t).server("one")
	for address, want := range map[string]string{
		"198.51.100.7": "198.51.100.0/24", "::ffff:198.51.100.7": "198.51.100.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"fe80::1%eth0": "", "127.0.0.1": "", "10.1.2.3": "",
	} {
		if got := s.AddressRange(netip.MustParseAddr(address)); got != want {
			t.Errorf("range of %s is %q, want %q", address, got, want)
		}
	}
	if got := s.AddressRange(netip.Addr{}); got != "" {
		t.Errorf("range of no address is %q", got)
	}
}

// An account that everybody may have seen, and that is taken down before the network has
// heard of it, is heard of as one that is taken down.
func TestTakenDownAfterShowing(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		dead := w.server("dead")
		did := w.hold(dead, request("alice"))
		w.confirm(did)
		dead.Shown(func() { panic(errCrash) })
		func() {
			defer func() { _ = recover() }()
			_ = dead.Release(t.Context())
		}()
		alive := w.server("alive")
		w.check(alive.TakeDown(t.Context(), did, "spam"))
		w.clock.reach(time.Minute)
		w.check(alive.Release(t.Context()))
		if kinds := w.events(did); !slices.Equal(kinds, []string{"#identity", "#account"}) || w.held(did) != nil {
			t.Errorf("events %v, in quarantine is %+v", kinds, w.held(did))
		}
		w.check(alive.Restore(t.Context(), did))
		if kinds := w.events(did); len(kinds) != 3 {
			t.Errorf("events %v", kinds)
		}
	})
}

// A genesis that the directory refuses again and again waits for the operator in the end.
func TestRefusedReleasesEnd(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s := w.server("one")
		did := w.hold(s, request("alice"))
		w.confirm(did)
		w.spoil(posts(answer(400, `{"message":"Never"}`)))
		for i := range 24 {
			w.clock.reach(time.Duration(i) * 3 * time.Hour)
			w.check(s.Release(t.Context()))
		}
		if h := w.held(did); h == nil || h.Attempts != 20 || h.Rule != db.HeldUntilApproved || h.State != db.Held {
			t.Errorf("in quarantine is %+v", h)
		}
		w.spoil(nil)
		w.check(s.Approve(t.Context(), did))
		w.check(s.Release(t.Context()))
		w.released(did)
	})
}
