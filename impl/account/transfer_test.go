package account_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/repo"
	"portico/impl/repo/importer"
	"portico/impl/repo/store"
)

// hostTwo is where accounts move to.
const hostTwo = "https://two.test"

// transfers moves accounts of a server, of which steps may be followed by none for ten minutes.
func (s *server) transfers() *account.Transfers {
	return &account.Transfers{
		Accounts: s.Accounts, Identities: s.identities(),
		DIDs: &account.Verifier{Accounts: s.Accounts, Directory: s.client, Documents: offline{}},
	}
}

// two is the other host, which uses the directory of w.
func (w *world) two() (*world, *account.Transfers) {
	w.Helper()
	two := newWorld(w.TB, w.clock, dbtest.Open(w.TB, onClock(w.clock)))
	two.url, two.directory = w.url, w.directory
	s := two.server("two")
	s.Endpoint = hostTwo
	return two, s.transfers()
}

// moving is the state of the move that an account is in, "" for none, and whether it is active.
func (w *world) moving(did syntax.DID, state string, active bool) {
	w.Helper()
	a, err := w.db.AccountByDID(w.Context(), did)
	w.check(err)
	m, err := w.db.AccountMove(w.Context(), did)
	if errors.Is(err, db.ErrNotFound) {
		m, err = &db.AccountMove{}, nil
	}
	w.check(err)
	if m.State != state || a.Active() != active {
		w.Errorf("the account is active: %t, and its move is %q; want %t, %q", a.Active(), m.State, active, state)
	}
}

// at checks which host a DID names.
func (w *world) at(did syntax.DID, endpoint string) {
	w.Helper()
	data, err := w.directory.Data(w.Context(), did)
	w.check(err)
	if is := data.Services["atproto_pds"].Endpoint; is != endpoint {
		w.Errorf("the DID names %s, want %s", is, endpoint)
	}
}

// arrival is an account as the other host hears of it, whole or not.
func arrival(did syntax.DID, whole bool) account.Arrival {
	a := account.Arrival{DID: did, From: "https://pds.test", Handle: "alice.test", Email: "alice@example.com"}
	if whole {
		a.Proofs = &account.Proofs{PasswordHash: "hash of alice"}
	}
	return a
}

// come has an account come to the other host, whole, and returns what its DID is to say.
func (w *world) come(t *account.Transfers, did syntax.DID) account.Destination {
	w.Helper()
	_, err := t.Arrive(w.Context(), arrival(did, false))
	w.check(err)
	key, err := t.Arrive(w.Context(), arrival(did, true))
	w.check(err)
	keys, err := t.Accounts.RotationKeys(w.Context())
	w.check(err)
	return account.Destination{SigningKey: key, RotationKeys: keys, Handle: "alice.test"}
}

// point has an account that is stopped point to what it is to say.
func (w *world) point(t *account.Transfers, did syntax.DID, to account.Destination) error {
	w.Helper()
	packed, err := t.Pack(w.Context(), did)
	w.check(err)
	r, err := w.db.Repo(w.Context(), did)
	w.check(err)
	_, err = t.Point(w.Context(), did, to, store.CID(r.CommitCID).String(), packed.Version)
	return err
}

func refused(err error) bool {
	_, ok := errors.AsType[*account.TransferRefusal](err)
	return ok
}

// Whatever half of a departure is left, ten minutes later the job makes of it what the directory
// says.
func TestDepartureBrokenOff(t *testing.T) {
	// A departure is left at noon. The directory has what late holds back, or is spoiled, from then.
	type left struct {
		*world
		*account.Transfers
		did  syntax.DID
		to   account.Destination
		late func() int // delivers the operation that was on its way, and returns the answer
	}
	stop := func(l *left) {
		_, err := l.Stop(l.Context(), l.did, hostTwo)
		l.check(err)
	}
	// refusing points, and the directory refuses.
	refusing := func(l *left) {
		stop(l)
		l.spoil(posts(answer(http.StatusBadRequest, `{"message":"not today"}`)))
		if err := l.world.point(l.Transfers, l.did, l.to); err == nil {
			l.Error("the directory refused, and all is well")
		}
		l.spoil(nil)
	}
	// underWay points, and the operation is on its way for long.
	underWay := func(l *left) {
		stop(l)
		l.spoil(posts(func(rw http.ResponseWriter, r *http.Request, real http.Handler) {
			body, _ := io.ReadAll(r.Body)
			l.late = func() int {
				again := r.Clone(context.Background())
				again.Body = io.NopCloser(bytes.NewReader(body))
				said := httptest.NewRecorder()
				real.ServeHTTP(said, again)
				return said.Code
			}
			rw.WriteHeader(http.StatusInternalServerError)
		}))
		if err := l.world.point(l.Transfers, l.did, l.to); err == nil {
			l.Error("nobody answered, and all is well")
		}
		l.spoil(nil)
	}
	run := func(l *left) { l.check(l.Run(l.Context())) }

	for _, tt := range []struct {
		name   string
		do     func(l *left)
		state  string
		active bool
		at     string
	}{
		{"stopped", func(l *left) {
			stop(l)
			l.clock.reach(10*time.Minute - 1)
			run(l)
			l.moving(l.did, "stopped", false) // the command may be at it
			l.clock.reach(10 * time.Minute)
		}, "", true, "https://pds.test"},
		{"stopped again", func(l *left) {
			stop(l)
			l.clock.reach(9 * time.Minute)
			stop(l)
			l.clock.reach(19*time.Minute - 1)
			run(l)
			l.moving(l.did, "stopped", false)
			l.clock.reach(19 * time.Minute)
		}, "", true, "https://pds.test"},
		{"stopped, and no directory", func(l *left) {
			stop(l)
			l.spoil(down)
			l.clock.reach(10 * time.Minute)
		}, "", true, "https://pds.test"},
		{"pointing, taken", func(l *left) {
			stop(l)
			l.check(l.world.point(l.Transfers, l.did, l.to))
			l.moving(l.did, "pointing", false)
			l.clock.reach(10 * time.Minute)
		}, "gone", false, hostTwo},
		{"pointing, refused", func(l *left) {
			refusing(l)
			l.moving(l.did, "stopped", false)
			l.clock.reach(10 * time.Minute)
			l.spoil(posts(answer(http.StatusBadRequest, `{"message":"too many operations"}`)))
		}, "", true, "https://pds.test"},
		{"pointing, refused, and another on its way", func(l *left) {
			underWay(l)
			refusing(l)
			l.moving(l.did, "pointing", false)
			if status := l.late(); status != http.StatusOK {
				l.Errorf("late, the directory says %d", status)
			}
			l.clock.reach(10 * time.Minute)
		}, "gone", false, hostTwo},
		{"pointing, and no operation is taken any more", func(l *left) {
			underWay(l)
			l.spoil(posts(answer(http.StatusBadRequest, `{"message":"too many operations"}`)))
			for n := range 6 {
				l.clock.reach(time.Duration(n) * 10 * time.Minute)
				run(l)
				l.moving(l.did, []string{"pointing", "undoing"}[min(n, 1)], false)
			}
			l.clock.reach(time.Hour)
		}, "", true, "https://pds.test"},
		{"pointing, taken late", func(l *left) {
			underWay(l)
			if status := l.late(); status != http.StatusOK {
				l.Errorf("late, the directory says %d", status)
			}
			l.clock.reach(10 * time.Minute)
		}, "gone", false, hostTwo},
		{"pointing, on its way for ever", func(l *left) {
			underWay(l)
			l.clock.reach(10 * time.Minute)
			run(l)
			if status := l.late(); status == http.StatusOK {
				l.Error("the directory took what had been turned back")
			}
		}, "", true, "https://pds.test"},
		{"pointing, taken as it is turned back", func(l *left) {
			underWay(l)
			l.clock.reach(10 * time.Minute)
			l.spoil(posts(func(rw http.ResponseWriter, r *http.Request, real http.Handler) {
				l.spoil(nil)
				if status := l.late(); status != http.StatusOK {
					l.Errorf("late, the directory says %d", status)
				}
				real.ServeHTTP(rw, r)
			}))
			run(l)
			l.moving(l.did, "pointing", false)
			l.clock.reach(20 * time.Minute)
		}, "gone", false, hostTwo},
		{"pointing, and no directory", func(l *left) {
			stop(l)
			l.check(l.world.point(l.Transfers, l.did, l.to))
			l.spoil(down)
			l.clock.reach(10 * time.Minute)
			run(l)
			l.moving(l.did, "pointing", false)
			l.requests()
			l.clock.reach(20*time.Minute - 1)
			run(l)
			if asked := l.requests(); len(asked) > 0 {
				l.Errorf("the directory was asked before its time: %v", asked)
			}
			l.spoil(nil)
			l.clock.reach(20 * time.Minute)
		}, "gone", false, hostTwo},
		{"undoing, and no directory", func(l *left) {
			underWay(l)
			l.spoil(posts(answer(http.StatusInternalServerError, "")))
			l.clock.reach(10 * time.Minute)
			run(l)
			l.moving(l.did, "undoing", false)
			l.spoil(nil)
			l.clock.reach(20 * time.Minute)
		}, "", true, "https://pds.test"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				_, there := w.two()
				did := w.signUp("alice")
				l := &left{world: w, Transfers: w.server("one").transfers(), did: did, to: w.come(there, did)}
				tt.do(l)
				run(l)
				w.spoil(nil)
				w.moving(did, tt.state, tt.active)
				w.at(did, tt.at)
				if tt.active { // the network was told so last
					if kinds := w.events(did); strings.Join(kinds[len(kinds)-3:], " ") != "#account #identity #sync" {
						t.Errorf("events %v", kinds)
					}
				}
				w.clock.reach(2 * time.Hour)
				run(l) // there is nothing left to do
				w.moving(did, tt.state, tt.active)
			})
		})
	}
}

// An account that came whole lives at its host as soon as its DID says so, and not before,
// whoever goes on copying.
func TestArrivalBrokenOff(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(w, two *world, here, there *account.Transfers, did syntax.DID)
		state  string
		active bool
	}{
		{"coming", func(w, _ *world, _, there *account.Transfers, did syntax.DID) {
			_, err := there.Arrive(w.Context(), arrival(did, false))
			w.check(err)
			w.requests()
			w.clock.reach(24 * time.Hour)
			w.check(there.Run(w.Context()))
			if asked := w.requests(); len(asked) > 0 {
				w.Errorf("the directory was asked: %v", asked)
			}
		}, "coming", false},
		{"ready, and the DID does not say so", func(w, two *world, _, there *account.Transfers, did syntax.DID) {
			w.come(there, did)
			w.clock.reach(time.Minute)
			w.check(there.Run(w.Context()))
			two.moving(did, "ready", false)
			w.requests()
			w.clock.reach(11*time.Minute - 1)
			w.check(there.Run(w.Context()))
			if asked := w.requests(); len(asked) > 0 {
				w.Errorf("the directory was asked before its time: %v", asked)
			}
			w.clock.reach(11 * time.Minute)
		}, "ready", false},
		{"ready, and the DID says so", func(w, two *world, here, there *account.Transfers, did syntax.DID) {
			w.departs(here, did, w.come(there, did))
			w.clock.reach(time.Minute - 1)
			w.check(there.Run(w.Context()))
			two.moving(did, "ready", false)
			w.clock.reach(time.Minute)
		}, "", true},
		{"ready, and no directory", func(w, two *world, here, there *account.Transfers, did syntax.DID) {
			w.departs(here, did, w.come(there, did))
			w.spoil(down)
			w.clock.reach(time.Minute)
			w.check(there.Run(w.Context()))
			two.moving(did, "ready", false)
			w.spoil(nil)
			w.clock.reach(11 * time.Minute)
		}, "", true},
		{"ready, and another command begins", func(w, two *world, here, there *account.Transfers, did syntax.DID) {
			to := w.come(there, did)
			key, err := there.Arrive(w.Context(), arrival(did, false))
			w.check(err)
			if key != to.SigningKey {
				w.Errorf("its key is %s, and was %s", key, to.SigningKey)
			}
			w.departs(here, did, to) // the first one goes on
			w.clock.reach(time.Minute)
		}, "", true},
		{"ready, and nothing older comes any more", func(w, two *world, here, there *account.Transfers, did syntax.DID) {
			to := w.come(there, did)
			row, err := two.db.Repo(w.Context(), did)
			w.check(err)
			two.imports(there, did, syntax.TID(row.Rev), "")
			two.imports(there, did, syntax.NewTIDFromTime(noon.Add(-time.Hour), 0), "What is here already is newer")
			w.departs(here, did, to)
			w.clock.reach(time.Minute)
			w.check(there.Run(w.Context()))
			two.imports(there, did, syntax.NewTIDFromTime(noon.Add(time.Hour), 0), "The account is not on its way here")
		}, "", true},
		{"ready, and half of an import", func(w, two *world, here, there *account.Transfers, did syntax.DID) {
			to := w.come(there, did)
			w.check(two.db.Write(w.Context(), func(tx *db.Tx) error { return tx.BeginImport(w.Context(), did, "half") }))
			w.departs(here, did, to)
			w.clock.reach(time.Minute)
			w.check(there.Run(w.Context()))
			two.moving(did, "ready", false)
			w.check(two.db.Write(w.Context(), func(tx *db.Tx) error { return tx.EndImport(w.Context(), did) }))
			w.clock.reach(11 * time.Minute)
		}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				two, there := w.two()
				did := w.signUp("alice")
				tt.do(w, two, w.server("one").transfers(), there, did)
				w.check(there.Run(t.Context()))
				two.moving(did, tt.state, tt.active)
				a, err := two.db.AccountByDID(t.Context(), did)
				w.check(err)
				if hash := a.PasswordHash; (hash == "hash of alice") != (tt.state != "coming") {
					t.Errorf("its password's hash is %q", hash)
				}
			})
		})
	}
}

// departs has the DID of an account name the other host.
func (w *world) departs(t *account.Transfers, did syntax.DID, to account.Destination) {
	w.Helper()
	_, err := t.Stop(w.Context(), did, hostTwo)
	w.check(err)
	w.check(w.point(t, did, to))
	w.at(did, hostTwo)
}

// imports checks whether a repository may come with an account, "" for yes.
func (w *world) imports(t *account.Transfers, did syntax.DID, rev syntax.TID, refusal string) {
	w.Helper()
	err := w.db.Write(w.Context(), func(tx *db.Tx) error {
		if _, err := tx.LockAccount(w.Context(), did); err != nil {
			return err
		}
		return t.MayImport(w.Context(), tx, did, importer.Imported{Parsed: &repo.Commit{Rev: rev}})
	})
	if refusal == "" && err != nil || refusal != "" && (!refused(err) || !strings.Contains(err.Error(), refusal)) {
		w.Errorf("rev %s: %v, want %q", rev, err, refusal)
	}
}

// A point that is still trying when its move was turned back, and another one begun, does not
// have the DID say what is outdated.
func TestPointOfAMoveBefore(t *testing.T) {
	w := lite(t)
	_, there := w.two()
	did := w.signUp("alice")
	here := w.server("one").transfers()
	to := w.come(there, did)
	_, err := here.Stop(t.Context(), did, hostTwo)
	w.check(err)
	begun := false
	w.spoil(posts(func(rw http.ResponseWriter, r *http.Request, real http.Handler) {
		if begun {
			real.ServeHTTP(rw, r)
			return
		}
		begun = true
		// In the moment before the operation comes, all is turned back and begun anew.
		w.check(here.Abandon(t.Context(), did))
		_, err := here.Stop(t.Context(), did, hostTwo)
		w.check(err)
		other := to
		other.SigningKey = didKey(t, newKey(t))
		w.spoil(posts(answer(http.StatusInternalServerError, "")))
		_ = w.point(here, did, other) // nobody answers
		w.spoil(nil)
		real.ServeHTTP(rw, r)
	}))
	if err := w.point(here, did, to); !refused(err) {
		t.Errorf("the point of before: %v", err)
	}
	w.at(did, "https://pds.test")
}
