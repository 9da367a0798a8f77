package account_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/identity/plc"
)

func TestCreate(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		user, operator := didKey(t, newKey(t)), didKey(t, newKey(t))
		s.Recovery, r.RecoveryKey, r.InviteCode = operator, user, "welcome"
		w.invite("welcome")

		created, err := s.Create(t.Context(), r)
		w.check(err)
		did := created.Account.DID
		w.exists(did, r)
		w.settled()

		data, err := w.directory.Data(t.Context(), did)
		w.check(err)
		if want := []string{user, operator, didKey(t, w.rotation)}; !slices.Equal(data.RotationKeys, want) {
			t.Errorf("rotation keys %v, want the user's, the operator's and ours: %v", data.RotationKeys, want)
		}
		document, err := w.directory.Document(t.Context(), did)
		w.check(err)
		if got, want := compact(t, created.Document), compact(t, document); got != want {
			t.Errorf("document\n%s\nwant the directory's\n%s", got, want)
		}
		verifyCommit(t, w, did, data.VerificationMethods["atproto"])

		// The session is a real one.
		claims, err := s.sessions.Tokens.VerifyRefresh(created.Tokens.Refresh)
		w.check(err)
		if claims.DID != did {
			t.Errorf("refresh token is for %s", claims.DID)
		}
		if _, _, err := s.sessions.Refresh(t.Context(), did, claims.ID); err != nil {
			t.Error(err)
		}
		if got, want := w.requests(), []string{"POST"}; !slices.Equal(got, want) {
			t.Errorf("requests to the directory %q, want %q", got, want)
		}
	})
}

func compact(t testing.TB, b json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// verifyCommit lets indigo verify the stored commit with key.
func verifyCommit(t testing.TB, w *world, did syntax.DID, key string) {
	t.Helper()
	public, err := atcrypto.ParsePublicDIDKey(key)
	w.check(err)
	state, err := w.db.Repo(t.Context(), did)
	w.check(err)
	var commit repo.Commit
	w.check(commit.UnmarshalCBOR(bytes.NewReader(state.CommitBlock)))
	if err := commit.VerifyStructure(); err != nil {
		t.Error(err)
	}
	if err := commit.VerifySignature(public); err != nil {
		t.Error(err)
	}
	if commit.DID != did.String() || commit.Rev != state.Rev {
		t.Errorf("commit is of %s at %s, want %s at %s", commit.DID, commit.Rev, did, state.Rev)
	}
	node, err := w.db.Node(t.Context(), did, db.Place{})
	w.check(err)
	if !bytes.Equal(node.CID, commit.Data.Bytes()) || !bytes.Equal(state.DataCID, node.CID) {
		t.Errorf("tree %x, in the row %x, in the commit %s", node.CID, state.DataCID, commit.Data)
	}
}

func TestBroughtDID(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		r.DID = "did:web:alice.example.com"
		created, err := s.Create(t.Context(), r)
		w.check(err)
		w.exists(r.DID, r)
		if a := created.Account; !a.Deactivated() || a.DeleteAfter == nil || !a.DeleteAfter.Equal(noon.Add(72*time.Hour)) {
			t.Errorf("deactivated %v, to be deleted %v; want now, and in three days", a.DeactivatedAt, a.DeleteAfter)
		}
		if created.Document != nil {
			t.Errorf("document %s, want none", created.Document)
		}
		if asked := w.requests(); len(asked) > 0 {
			t.Errorf("requests to the directory: %q", asked)
		}
		if _, err := s.Create(t.Context(), account.Request{Handle: "bob.test", DID: r.DID}); !errors.Is(err, db.ErrDIDTaken) {
			t.Errorf("the DID once more: %v", err)
		}
	})
}

// Whoever is slower is told what was taken, and the directory hears nothing of it.
func TestTaken(t *testing.T) {
	w := lite(t)
	s := w.server("one")
	_, err := s.Create(t.Context(), request("alice"))
	w.check(err)
	w.requests()
	for _, tt := range []struct {
		name   string
		change func(*account.Request)
		want   error
	}{
		{"handle", func(r *account.Request) { r.Handle = "alice.test" }, db.ErrHandleTaken},
		{"email", func(r *account.Request) { r.Email = "alice@example.com" }, db.ErrEmailTaken},
		{"invite", func(r *account.Request) { r.InviteCode = "unheard-of" }, db.ErrInviteUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("bob")
			tt.change(&r)
			if _, err := s.Create(t.Context(), r); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if asked := w.requests(); len(asked) > 0 {
				t.Errorf("requests to the directory: %q", asked)
			}
			w.settled()
		})
	}
}

// A refusal of the only attempt is final: everything is free at once and there is
// nothing to look for.
func TestRefused(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		r.InviteCode = "welcome"
		w.invite("welcome")
		w.spoil(posts(answer(http.StatusBadRequest, `{"message":"Not today"}`)))
		var did syntax.DID
		s.hooks.before = func(d syntax.DID) { did = d }
		_, err := s.Create(t.Context(), r)
		refused, ok := errors.AsType[*plc.Refused](err)
		if !ok || refused.Status != 400 || refused.Message != "Not today" {
			t.Errorf("%v, want the directory's refusal", err)
		}
		w.free(did, r)
		w.settled()

		w.spoil(nil)
		created, err := s.Create(t.Context(), r)
		w.check(err)
		w.exists(created.Account.DID, r)
	})
}

// A directory that nobody listens at keeps a client waiting for a moment only, and
// leaves nothing to look for.
func TestUnreachable(t *testing.T) {
	w := lite(t)
	s, r := w.server("one"), request("alice")
	closed := httptest.NewServer(nil)
	closed.Close()
	s.client.URL, s.client.Backoff = closed.URL, 6*time.Second // longer than is waited for in all
	var did syntax.DID
	s.hooks.before = func(d syntax.DID) { did = d }
	if _, err := s.Create(t.Context(), r); !errors.Is(err, account.ErrDirectory) || !errors.Is(err, plc.ErrUnreachable) {
		t.Errorf("%v, want ErrDirectory", err)
	}
	w.free(did, r)
	w.settled()
}

// An answer that never came: everything is free at once, and the directory is
// asked about the DID after a minute, an hour and a day.
func TestUnknown(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		r.InviteCode = "welcome"
		w.invite("welcome")
		w.spoil(posts(answer(http.StatusBadGateway, "")))
		var did syntax.DID
		s.hooks.before = func(d syntax.DID) { did = d }
		if _, err := s.Create(t.Context(), r); !errors.Is(err, account.ErrDirectory) || !errors.Is(err, plc.ErrUnknown) {
			t.Errorf("%v, want ErrDirectory", err)
		}
		w.free(did, r)
		if w.unfinished() != 0 || !slices.Equal(w.cleanups(), []int{0}) {
			t.Errorf("%d unfinished, clean-ups %v; want one that waits", w.unfinished(), w.cleanups())
		}

		w.requests()
		for _, step := range []struct {
			at    time.Duration
			asked int
			left  []int // looks that each waiting clean-up has had
		}{
			{59 * time.Second, 0, []int{0}},
			{time.Minute, 1, []int{1}},
			{time.Minute, 0, []int{1}},
			{time.Hour - time.Second, 0, []int{1}},
			{time.Hour, 1, []int{2}},
			{24*time.Hour - time.Second, 0, []int{2}},
			{24 * time.Hour, 1, nil},
			{48 * time.Hour, 0, nil},
		} {
			w.clock.reach(step.at)
			w.check(s.CleanUp(t.Context()))
			if asked := w.requests(); len(asked) != step.asked {
				t.Errorf("after %v the directory is asked %q, want %d questions", step.at, asked, step.asked)
			}
			if left := w.cleanups(); !slices.Equal(left, step.left) {
				t.Errorf("after %v clean-ups are left with looks %v, want %v", step.at, left, step.left)
			}
		}
	})
}

// givenUp is an account that was given up while the directory did not answer. Its
// genesis may yet arrive, see [world.arrive].
func givenUp(w *world, s *server, r account.Request) (did syntax.DID) {
	w.Helper()
	w.spoil(down)
	defer w.spoil(nil)
	s.hooks.before = func(d syntax.DID) { did = d }
	if _, err := s.Create(w.Context(), r); !errors.Is(err, account.ErrDirectory) {
		w.Fatalf("%v, want ErrDirectory", err)
	}
	return did
}

// An operation that arrives after its account was given up is undone by the next
// look, whichever that is.
func TestTurnsUpLate(t *testing.T) {
	for look, at := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
		t.Run(at.String(), func(t *testing.T) {
			w := lite(t)
			s := w.server("one")
			did := givenUp(w, s, request("alice"))
			for _, before := range account.DefaultCleanupDelays[:look] {
				w.clock.reach(before)
				w.check(s.CleanUp(t.Context()))
			}
			w.arrive(did)
			w.clock.reach(at)
			w.check(s.CleanUp(t.Context()))
			if !w.tombstoned(did) {
				t.Error("the DID is alive")
			}
			w.settled()
		})
	}
}

func TestCleanUp(t *testing.T) {
	update := func(w *world, did syntax.DID, genesis plc.Operation) {
		op, err := plc.Update(genesis, func(d *plc.Data) { d.Services = nil })
		w.check(err)
		w.check(op.Sign(w.rotation))
		w.check(w.directory.Submit(w.Context(), did, op))
	}
	tombstone := func(w *world, did syntax.DID, genesis plc.Operation) {
		op, err := plc.NewTombstone(genesis)
		w.check(err)
		w.check(op.Sign(w.rotation))
		w.check(w.directory.Submit(w.Context(), did, op))
	}
	for _, tt := range []struct {
		name  string
		after func(*world, syntax.DID, plc.Operation) // after the genesis
		fault func(http.ResponseWriter, *http.Request, http.Handler) bool
		asked []string
		last  string // type of the operation that counts
		left  []int
	}{
		{"untouched", nil, nil, []string{"GET log/audit", "POST"}, "plc_tombstone", nil},
		{"superseded", update, nil, []string{"GET log/audit"}, "plc_operation", nil},
		{"tombstoned", tombstone, nil, []string{"GET log/audit"}, "plc_tombstone", nil},
		{"directory down", nil, down, []string{"GET log/audit"}, "plc_operation", []int{0}},
		{"tombstone lost", nil, posts(answer(http.StatusBadGateway, "")), []string{"GET log/audit", "POST"}, "plc_operation", []int{0}},
		{"answer lost", nil, posts(func(w http.ResponseWriter, r *http.Request, real http.Handler) {
			real.ServeHTTP(nowhere{}, r)
			w.WriteHeader(http.StatusBadGateway)
		}), []string{"GET log/audit", "POST"}, "plc_tombstone", []int{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := lite(t)
			s := w.server("one")
			did := givenUp(w, s, request("alice"))
			genesis := w.arrive(did)
			if tt.after != nil {
				tt.after(w, did, genesis)
			}
			w.clock.reach(time.Minute)
			w.requests()
			w.spoil(tt.fault)
			w.check(s.CleanUp(t.Context()))
			if asked := w.requests(); !slices.Equal(asked, tt.asked) {
				t.Errorf("the directory is asked %q, want %q", asked, tt.asked)
			}
			if op, err := w.directory.Last(t.Context(), did); err != nil || op.Type() != tt.last {
				t.Errorf("last operation is a %s, %v; want %s", op.Type(), err, tt.last)
			}
			if left := w.cleanups(); !slices.Equal(left, tt.left) {
				t.Errorf("clean-ups left with looks %v, want %v", left, tt.left)
			}

			// What failed is done when the lease has run out, and counts as no look.
			w.spoil(nil)
			w.clock.reach(3 * time.Minute)
			w.check(s.CleanUp(t.Context()))
			w.settled()
			if tt.name != "superseded" && !w.tombstoned(did) {
				t.Error("the DID is alive")
			}
		})
	}
}

// nowhere is a ResponseWriter whose answer nobody gets.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// A directory that is down is not asked about everything that waits, and what was
// asked about first does not keep the rest waiting when it is back.
func TestDirectoryDown(t *testing.T) {
	w := lite(t)
	s := w.server("one")
	for i := range 12 {
		givenUp(w, s, request(fmt.Sprintf("alice-%d", i)))
		crashed := w.server(fmt.Sprintf("crashed %d", i))
		crashed.hooks.after = func(syntax.DID) { panic(errCrash) }
		w.crashing(crashed, request(fmt.Sprintf("bob-%d", i)))
	}
	w.clock.reach(2 * time.Minute)
	w.spoil(down)
	w.requests()
	w.check(s.Resume(t.Context(), false))
	if asked := w.requests(); len(asked) != 5 {
		t.Errorf("Resume asks %d times, want 5", len(asked))
	}
	w.check(s.CleanUp(t.Context()))
	if asked := w.requests(); len(asked) != 5 {
		t.Errorf("CleanUp asks %d times, want 5", len(asked))
	}

	// Those whose lease is still running are the five that failed.
	w.spoil(nil)
	w.check(s.Resume(t.Context(), false))
	if n := w.unfinished(); n != 5 {
		t.Errorf("%d accounts are unfinished, want 5", n)
	}
	w.clock.reach(4 * time.Minute)
	w.check(s.Resume(t.Context(), false))
	w.clock.reach(48 * time.Hour)
	w.check(s.CleanUp(t.Context()))
	w.settled()
}

// The client hanging up stops nothing.
func TestCallerHangsUp(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		s, r := w.server("one"), request("alice")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.hooks.before = func(syntax.DID) { cancel() }
		created, err := s.Create(ctx, r)
		w.check(err)
		w.exists(created.Account.DID, r)
		w.settled()
	})
}

// The time for the directory fits into the lease.
func TestPatience(t *testing.T) {
	for _, tt := range []struct{ lease, want time.Duration }{
		{0, 20 * time.Second},
		{2 * time.Minute, 20 * time.Second},
		{40 * time.Second, 20 * time.Second},
		{10 * time.Second, 5 * time.Second},
	} {
		if got := account.Patience(tt.lease); got != tt.want {
			t.Errorf("with a lease of %v the directory has %v, want %v", tt.lease, got, tt.want)
		}
	}
}
