package account_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/account/session"
	"portico/impl/account/token"
	"portico/impl/budget"
	"portico/impl/identity/directory"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
)

// clock stands still until it is told to go on.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// reach sets the clock to the time d after noon.
func (c *clock) reach(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = noon.Add(d)
}

// A world is a database and a PLC directory with what stands between it and the
// servers.
type world struct {
	testing.TB
	db        *db.DB
	clock     *clock
	rotation  *atcrypto.PrivateKeyK256
	keys      *keyring.Ring
	directory *plc.Client // the honest way to it

	url string
	mu  sync.Mutex
	// fault stands in for the directory where it returns true.
	fault func(w http.ResponseWriter, r *http.Request, real http.Handler) bool
	asked []string // verb and path after the DID of every request of a server
}

func onClock(c *clock) dbtest.Option { return func(o *db.Config) { o.Now = c.Now } }

// worlds runs a test in a fresh world of each engine.
func worlds(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	c := &clock{now: noon}
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		c.reach(0)
		test(t, newWorld(t, c, d))
	}, onClock(c))
}

func lite(t *testing.T) *world {
	t.Helper()
	c := &clock{now: noon}
	return newWorld(t, c, dbtest.Open(t, onClock(c)))
}

func newWorld(t testing.TB, c *clock, d *db.DB) *world {
	t.Helper()
	w := &world{TB: t, db: d, clock: c, rotation: newKey(t)}
	ring, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
	w.check(err)
	canary, err := ring.NewCanary()
	w.check(err)
	w.check(ring.Unlock(canary))
	w.keys = ring

	real := directory.New(directory.NewMemory(), c.Now, "test", slog.New(slog.DiscardHandler))
	honest := httptest.NewServer(real)
	t.Cleanup(honest.Close)
	w.directory = &plc.Client{URL: honest.URL, Timeout: time.Minute}
	between := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(r.URL.Path[1:], "/")
		w.mu.Lock()
		w.asked = append(w.asked, strings.TrimSpace(r.Method+" "+path))
		fault := w.fault
		w.mu.Unlock()
		if fault == nil || !fault(rw, r, real) {
			real.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(between.Close)
	w.url = between.URL
	return w
}

func newKey(t testing.TB) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := keyring.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func didKey(t testing.TB, key atcrypto.PrivateKey) string {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public.DIDKey()
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// spoil puts a fault between the servers and the directory; nil ends it.
func (w *world) spoil(fault func(http.ResponseWriter, *http.Request, http.Handler) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// requests are those that servers have made since the last call.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

// posts is a fault of operations alone.
func posts(fault func(http.ResponseWriter, *http.Request, http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	return func(w http.ResponseWriter, r *http.Request, real http.Handler) bool {
		if r.Method == http.MethodPost {
			fault(w, r, real)
			return true
		}
		return false
	}
}

func answer(status int, body string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// down is a directory that answers 500 to everything.
func down(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	answer(http.StatusInternalServerError, `{"message":"Internal Server Error"}`)(w, r, nil)
	return true
}

// A server is one process that makes accounts.
type server struct {
	*account.Accounts
	sessions *session.Sessions
	client   *plc.Client
	hooks    *hooks
}

// hooks are what a test wants to happen around the directory and the session of
// one server.
type hooks struct {
	account.Directory
	before func(syntax.DID)
	after  func(syntax.DID)
	random io.Reader // of the session's token
}

func (h *hooks) Register(ctx context.Context, did syntax.DID, op plc.Operation) error {
	if h.before != nil {
		h.before(did)
	}
	err := h.Directory.Register(ctx, did, op)
	if h.after != nil {
		h.after(did)
	}
	return err
}

func (h *hooks) Read(b []byte) (int, error) { return h.random.Read(b) }

// errCrash is what a server dies of: it unwinds the stack without a word.
var errCrash = errors.New("crash")

type crashes struct{}

func (crashes) Read([]byte) (int, error) { panic(errCrash) }

func (w *world) server(name string) *server {
	// A client that has looked three times takes it that its deadline is over.
	client := &plc.Client{URL: w.url, Timeout: time.Minute, Deadline: time.Minute}
	var mu sync.Mutex
	pauses := 0
	client.Sleep = func(context.Context, time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		if pauses++; pauses%3 == 0 {
			return context.DeadlineExceeded
		}
		return nil
	}
	h := &hooks{Directory: client, random: rand.Reader}
	sessions := &session.Sessions{DB: w.db, Keys: w.keys, Budgets: w.budgets(), Now: w.clock.Now, Tokens: &token.Issuer{
		Secret: []byte("a secret of thirty-two characters"), ServiceDID: "did:web:pds.test", Now: w.clock.Now, Rand: h,
	}}
	return &server{hooks: h, client: client, sessions: sessions, Accounts: &account.Accounts{
		DB: w.db, Directory: h, Sessions: sessions, Keys: w.keys, Budgets: w.budgets(), Rotation: w.rotation,
		Endpoint: "https://pds.test", Holder: name, Lease: time.Minute,
		Now: w.clock.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler),
	}}
}

func (w *world) budgets() *budget.Ledger {
	return &budget.Ledger{DB: w.db, Keys: w.keys, Now: w.clock.Now}
}

// crashing calls Create and expects the server to die in it.
func (w *world) crashing(s *server, r account.Request) (did syntax.DID) {
	w.Helper()
	before := s.hooks.before
	s.hooks.before = func(d syntax.DID) {
		did = d
		if before != nil {
			before(d)
		}
	}
	defer func() {
		if recover() != errCrash {
			w.Fatal("the server did not crash")
		}
	}()
	_, err := s.Create(w.Context(), r)
	w.Fatalf("Create returned %v", err)
	return did
}

func request(name string) account.Request {
	return account.Request{
		Handle: syntax.Handle(name + ".test"), Email: name + "@example.com", PasswordHash: "hash of " + name,
	}
}

// invite stores a code with one use.
func (w *world) invite(code string) {
	w.Helper()
	w.check(w.db.Write(w.Context(), func(tx *db.Tx) error {
		return tx.InsertInvites(w.Context(), db.Invite{Code: code, Uses: 1, ForAccount: "admin", CreatedBy: "admin", CreatedAt: noon})
	}))
}

// genesis is the operation that the directory or, before it, the database has.
func (w *world) registered(did syntax.DID) bool {
	w.Helper()
	_, err := w.directory.Audit(w.Context(), did)
	if err != nil && !errors.Is(err, plc.ErrNotFound) {
		w.Fatal(err)
	}
	return err == nil
}

func (w *world) tombstoned(did syntax.DID) bool {
	w.Helper()
	op, err := w.directory.Last(w.Context(), did)
	w.check(err)
	return op.Type() == plc.TypeTombstone
}

// exists checks that the account of r is whole and that its owner can log in.
func (w *world) exists(did syntax.DID, r account.Request) {
	w.Helper()
	a, err := w.db.AccountByDID(w.Context(), did)
	if err != nil {
		w.Errorf("account %s: %v", r.Handle, err)
		return
	}
	if a.Handle != r.Handle || a.Email != r.Email || a.PasswordHash != r.PasswordHash {
		w.Errorf("account is %s, %q, %q", a.Handle, a.Email, a.PasswordHash)
	}
	if state, err := w.db.Repo(w.Context(), did); err != nil || state.Nodes != 1 || state.Records != 0 {
		w.Errorf("repository of %s: %+v, %v; want one of an empty tree", r.Handle, state, err)
	}
	if _, err := w.db.SigningKey(w.Context(), did, "atproto"); err != nil {
		w.Error(err)
	}
	if _, err := w.server("login").sessions.Start(w.Context(), a, nil); err != nil {
		w.Errorf("log in to %s: %v", r.Handle, err)
	}
	kinds := w.events(did)
	want := []string{"#identity", "#account", "#commit", "#sync"}
	if r.DID != "" {
		want = nil
	}
	if !slices.Equal(kinds, want) {
		w.Errorf("events of %s: %v, want %v", r.Handle, kinds, want)
	}
	if r.InviteCode != "" {
		if err := w.db.InviteAvailable(w.Context(), r.InviteCode); !errors.Is(err, db.ErrInviteUnavailable) {
			w.Errorf("invite of %s: %v, want it used", r.Handle, err)
		}
	}
}

func (w *world) events(did syntax.DID) (kinds []string) {
	w.Helper()
	events, err := w.db.Events(w.Context(), 0, 1000)
	w.check(err)
	for _, e := range events {
		if e.DID == did {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// free checks that nothing of r is taken.
func (w *world) free(did syntax.DID, r account.Request) {
	w.Helper()
	if _, err := w.db.AccountByDID(w.Context(), did); !errors.Is(err, db.ErrNotFound) {
		w.Errorf("account %s: %v, want none", r.Handle, err)
	}
	if err := w.db.Available(w.Context(), r.Handle, r.Email); err != nil {
		w.Errorf("handle and email of %s: %v, want them free", r.Handle, err)
	}
	if _, err := w.db.SigningKey(w.Context(), did, "atproto"); !errors.Is(err, db.ErrNotFound) {
		w.Errorf("key of %s: %v, want none", r.Handle, err)
	}
	if kinds := w.events(did); kinds != nil {
		w.Errorf("events of %s: %v", r.Handle, kinds)
	}
	if r.InviteCode != "" {
		if err := w.db.InviteAvailable(w.Context(), r.InviteCode); err != nil {
			w.Errorf("invite of %s: %v, want it free", r.Handle, err)
		}
	}
}

// cleanups is what is left to be cleaned up: how often each was looked for.
func (w *world) cleanups() (looks []int) {
	w.Helper()
	nothing := errors.New("roll back")
	err := w.db.Write(w.Context(), func(tx *db.Tx) error {
		all, err := tx.ClaimCleanups(w.Context(), "test", noon.AddDate(10, 0, 0), noon, 1000)
		if err != nil {
			return err
		}
		looks = nil
		for _, c := range all {
			looks = append(looks, c.Attempts)
		}
		return nothing
	})
	if !errors.Is(err, nothing) {
		w.Fatal(err)
	}
	return looks
}

// unfinished is how many accounts are under creation.
func (w *world) unfinished() (n int) {
	w.Helper()
	nothing := errors.New("roll back")
	err := w.db.Write(w.Context(), func(tx *db.Tx) error {
		all, err := tx.ClaimUnfinished(w.Context(), "test", noon.AddDate(10, 0, 0), noon, true, 1000)
		n = len(all)
		return errors.Join(nothing, err)
	})
	if !errors.Is(err, nothing) {
		w.Fatal(err)
	}
	return n
}

func (w *world) settled() {
	w.Helper()
	if n := w.unfinished(); n > 0 {
		w.Errorf("%d accounts are under creation", n)
	}
	if looks := w.cleanups(); len(looks) > 0 {
		w.Errorf("%d creations are to be cleaned up", len(looks))
	}
}
