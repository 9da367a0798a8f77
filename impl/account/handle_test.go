package account_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
)

// offline resolves nothing.
type offline struct{}

func (offline) Resolve(context.Context, syntax.DID, bool) (*resolve.Document, error) {
	return nil, resolve.ErrNotFound
}

func (s *server) identities() *account.Identities {
	return &account.Identities{Accounts: s.Accounts, Directory: s.client, Documents: offline{}}
}

func (w *world) signUp(name string) syntax.DID {
	w.Helper()
	created, err := w.server("sign-up").Create(w.Context(), request(name))
	w.check(err)
	return created.Account.DID
}

// named checks the handle of an account, here and in the directory, and whether the
// change to it is over.
func (w *world) named(did syntax.DID, here, there syntax.Handle, over bool) {
	w.Helper()
	a, err := w.db.AccountByDID(w.Context(), did)
	w.check(err)
	data, err := w.directory.Data(w.Context(), did)
	w.check(err)
	_, err = w.db.HandleChange(w.Context(), did)
	if a.Handle != here || data.Handle() != there.String() || errors.Is(err, db.ErrNotFound) != over {
		w.Errorf("account is %s, its DID %s, over: %v; want %s, %s, %v", a.Handle, data.Handle(), errors.Is(err, db.ErrNotFound), here, there, over)
	}
}

// renames is how often the network was told of a handle since the account was made.
func (w *world) renames(did syntax.DID, want int) {
	w.Helper()
	got := 0
	for _, kind := range w.events(did)[4:] {
		if kind == "#identity" {
			got++
		}
	}
	if got != want {
		w.Errorf("%d events of the identity, want %d", got, want)
	}
}

func TestChangeHandle(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		did, s := w.signUp("alice"), w.server("one")
		for i, h := range []syntax.Handle{"alicia.test", "alicia.test", "alice.test"} {
			w.requests()
			w.check(s.identities().ChangeHandle(t.Context(), did, h))
			w.named(did, h, h, true)
			w.renames(did, i+1)
			if got := w.requests(); !slices.Equal(got, []string{"GET log/last", "POST"}) {
				t.Errorf("asked the directory %q", got)
			}
		}
		log, err := w.db.Audit(t.Context(), did, 10)
		w.check(err)
		if len(log) < 3 || log[0].Event != "handle_changed" || log[0].Detail != "from alicia.test to alice.test" {
			t.Errorf("log is %+v", log)
		}
		w.check(w.db.HandleFree(t.Context(), "alicia.test", ""))
	})
}

// A directory that does not take the operation leaves the account as it was.
func TestChangeHandleRefused(t *testing.T) {
	refused, failed := new(plc.Refused), new(plc.Error)
	for _, tt := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, http.Handler) bool
		want  func(error) bool
	}{
		{"operation refused", posts(answer(400, `{"message":"no"}`)), func(err error) bool { return errors.As(err, &refused) && refused.Message == "no" }},
		{"directory down", down, func(err error) bool { return errors.As(err, &failed) && failed.Status == 500 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				did, s := w.signUp("alice"), w.server("one")
				w.spoil(tt.fault)
				if err := s.identities().ChangeHandle(t.Context(), did, "alicia.test"); !tt.want(err) {
					t.Errorf("got %v", err)
				}
				w.named(did, "alice.test", "alice.test", true)
				w.renames(did, 0)
				w.check(w.db.HandleFree(t.Context(), "alicia.test", ""))
				w.spoil(nil)
				w.check(s.identities().ChangeHandle(t.Context(), did, "alicia.test"))
				w.named(did, "alicia.test", "alicia.test", true)
			})
		})
	}
}

// An answer that does not come is no refusal: the change was made, or is finished
// when the directory is back, and until then nobody gets the handle from before.
func TestChangeHandleWithLostAnswers(t *testing.T) {
	lost := posts(func(rw http.ResponseWriter, r *http.Request, real http.Handler) {
		real.ServeHTTP(httptest.NewRecorder(), r)
		rw.WriteHeader(http.StatusGatewayTimeout)
	})
	blind := func(post bool) func(rw http.ResponseWriter, r *http.Request, real http.Handler) bool {
		return func(rw http.ResponseWriter, r *http.Request, real http.Handler) bool {
			switch {
			case r.Method == http.MethodPost && post:
				return lost(rw, r, real)
			case r.Method == http.MethodPost || r.URL.Path[len(r.URL.Path)-len("/audit"):] == "/audit":
				return down(rw, r, real)
			}
			return false
		}
	}
	t.Run("found in the log", func(t *testing.T) {
		w := lite(t)
		did := w.signUp("alice")
		w.spoil(lost)
		w.check(w.server("one").identities().ChangeHandle(t.Context(), did, "alicia.test"))
		w.named(did, "alicia.test", "alicia.test", true)
	})
	for _, posted := range []bool{true, false} {
		name := map[bool]string{true: "accepted", false: "not accepted"}[posted]
		there := map[bool]syntax.Handle{true: "alicia.test", false: "alice.test"}[posted]
		begin := func(w *world) syntax.DID {
			did, s := w.signUp("alice"), w.server("one")
			w.spoil(blind(posted))
			if err := s.identities().ChangeHandle(w.Context(), did, "alicia.test"); !errors.Is(err, account.ErrDirectory) {
				w.Errorf("got %v", err)
			}
			w.named(did, "alicia.test", there, false)
			w.renames(did, 0)
			if err := w.db.Available(w.Context(), "alice.test", ""); !errors.Is(err, db.ErrHandleTaken) {
				w.Errorf("the handle from before: %v", err)
			}
			return did
		}
		t.Run(name+", resumed", func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				did, s := begin(w), w.server("two")
				w.check(s.identities().Resume(t.Context(), false)) // still away
				if !posted {
					w.named(did, "alicia.test", there, false)
				}
				w.spoil(nil)
				w.check(s.identities().Resume(t.Context(), false))
				w.named(did, "alicia.test", "alicia.test", true)
				w.renames(did, 1)
				w.check(w.db.Available(t.Context(), "alice.test", ""))
			})
		})
		for _, h := range []syntax.Handle{"alicia.test", "alice.test", "alma.test"} {
			t.Run(name+", then "+h.String(), func(t *testing.T) {
				w := lite(t)
				did := begin(w)
				w.spoil(nil)
				w.check(w.server("two").identities().ChangeHandle(t.Context(), did, h))
				w.named(did, h, h, true)
				w.renames(did, 2)
			})
		}
	}
}

// A process dies in a change. Its lease keeps others off for a while; then the
// change is made.
func TestChangeHandleCrash(t *testing.T) {
	for name, die := range map[string]func(*server){
		"before the operation": func(s *server) { s.hooks.before = func(syntax.DID) { panic(errCrash) } },
		"after the operation":  func(s *server) { s.hooks.after = func(syntax.DID) { panic(errCrash) } },
	} {
		t.Run(name, func(t *testing.T) {
			worlds(t, func(t *testing.T, w *world) {
				did, dead := w.signUp("alice"), w.server("dead")
				die(dead)
				func() {
					defer func() {
						if recover() != errCrash {
							t.Fatal("the server did not crash")
						}
					}()
					_ = dead.identities().ChangeHandle(t.Context(), did, "alicia.test")
				}()
				s := w.server("alive")
				w.clock.reach(59 * time.Second)
				w.check(s.identities().Resume(t.Context(), false))
				if err := s.identities().ChangeHandle(t.Context(), did, "alma.test"); !errors.Is(err, account.ErrHandleChanging) {
					t.Errorf("in the middle of another change: %v", err)
				}
				if _, err := w.db.HandleChange(t.Context(), did); err != nil {
					t.Errorf("a change was taken up while its lease was running: %v", err)
				}
				w.clock.reach(time.Minute)
				w.check(s.identities().Resume(t.Context(), false))
				w.named(did, "alicia.test", "alicia.test", true)
				w.renames(did, 1)
			})
		})
	}
	t.Run("at the start of the only process", func(t *testing.T) {
		w := lite(t)
		did, dead := w.signUp("alice"), w.server("dead")
		dead.hooks.before = func(syntax.DID) { panic(errCrash) }
		func() {
			defer func() { _ = recover() }()
			_ = dead.identities().ChangeHandle(t.Context(), did, "alicia.test")
		}()
		w.check(w.server("alive").identities().Resume(t.Context(), true))
		w.named(did, "alicia.test", "alicia.test", true)
	})
}

// Many want the same handle at once, new accounts among them. One gets it, and no
// DID names it but that one's.
func TestChangeHandleRace(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		dids := []syntax.DID{w.signUp("user1"), w.signUp("user2"), w.signUp("user3"), w.signUp("user4")}
		errs := make([]error, len(dids)+1)
		var all sync.WaitGroup
		for i, did := range dids {
			all.Go(func() { errs[i] = w.server("race").identities().ChangeHandle(t.Context(), did, "alice.test") })
		}
		all.Go(func() { _, errs[len(dids)] = w.server("race").Create(t.Context(), request("alice")) })
		all.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, db.ErrHandleTaken) {
				t.Errorf("racer %d: %v", i, err)
			}
			if i == len(dids) {
				break
			}
			want := syntax.Handle([]string{"user1.test", "user2.test", "user3.test", "user4.test"}[i])
			if err == nil {
				want = "alice.test"
			}
			w.named(dids[i], want, want, true)
		}
		if won != 1 {
			t.Errorf("%d racers won", won)
		}
	})
}
