package identity_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	api "portico/api/atproto/identity"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/auth"
	"portico/impl/directory"
	"portico/impl/email"
	"portico/impl/emailcode"
	"portico/impl/handle"
	"portico/impl/identity"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/outbox"
	"portico/impl/password"
	"portico/impl/plc"
	"portico/impl/resolve"
	"portico/impl/server"
	"portico/impl/serviceauth"
	"portico/impl/session"
	"portico/impl/token"
)

// A fixture is a server in this process, spoken to over real HTTP, with a clock
// that stands still, a PLC directory of its own, and handles of the world that a
// test makes.
type fixture struct {
	testing.TB
	url       string
	db        *db.DB
	clock     *clock
	tokens    *token.Issuer
	rotation  *atcrypto.PrivateKeyK256
	directory *plc.Client // the honest way to it
	outbox    *outbox.Outbox
	world     *world

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request) bool // stands in for the directory where it returns true
	asked []string                                          // of the directory
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world has the handles that other hosts give away, and remembers who was asked
// for.
type world struct {
	mu      sync.Mutex
	handles map[syntax.Handle]syntax.DID
	asked   []syntax.Handle
	*resolve.Cache
}

func (w *world) ResolveHandle(_ context.Context, h syntax.Handle) (syntax.DID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, h)
	if did, ok := w.handles[h]; ok {
		return did, nil
	}
	return "", resolve.ErrNotFound
}

func (w *world) point(h syntax.Handle, did syntax.DID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handles[h] = did
}

type options struct {
	limiter  bool
	recovery string
	engine   *db.DB
}

func newFixture(t testing.TB, change ...func(*options)) *fixture {
	t.Helper()
	var o options
	for _, c := range change {
		c(&o)
	}
	f := &fixture{TB: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	log := slog.New(slog.DiscardHandler)
	real := directory.New(directory.NewMemory(), f.clock.Now, "test", log)
	honest := httptest.NewServer(real)
	t.Cleanup(honest.Close)
	f.directory = &plc.Client{URL: honest.URL}
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		_, path, _ := strings.Cut(r.URL.Path[1:], "/")
		f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+path))
		fault := f.fault
		f.mu.Unlock()
		if fault == nil || !fault(w, r) {
			real.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(between.Close)
	client := &plc.Client{URL: between.URL, Deadline: time.Second, Sleep: func(context.Context, time.Duration) error {
		return context.DeadlineExceeded
	}}
	f.world = &world{handles: map[syntax.Handle]syntax.DID{}, Cache: &resolve.Cache{
		Fetch: (&resolve.DIDs{Directory: between.URL, Web: resolve.NewClient(true)}).Fetch,
		Store: resolve.NewMemory(100), Now: f.clock.Now, Log: log,
	}}
	if f.db = o.engine; f.db == nil {
		f.db = dbtest.Open(t, func(c *db.Config) { c.Now = f.clock.Now })
	}
	var err error
	f.rotation, err = keyring.NewKey(rand.Reader)
	f.check(err)
	keys, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
	f.check(err)
	canary, err := keys.NewCanary()
	f.check(err)
	f.check(keys.Unlock(canary))
	f.tokens = &token.Issuer{
		Secret: []byte("a secret of thirty-two characters"), ServiceDID: "did:web:pds.test", Now: f.clock.Now, Rand: rand.Reader,
	}
	sessions := &session.Sessions{DB: f.db, Tokens: f.tokens, Keys: keys, Now: f.clock.Now}
	f.outbox = &outbox.Outbox{DB: f.db, Keys: keys, Holder: "test", Now: f.clock.Now, Log: log}
	accounts := &account.Accounts{
		DB: f.db, Directory: client, Sessions: sessions, Keys: keys, Rotation: f.rotation, Recovery: o.recovery,
		Endpoint: "https://pds.test", Holder: "test", Lease: time.Minute, Now: f.clock.Now, Rand: rand.Reader, Log: log,
	}
	rules := &handle.Rules{Domains: []string{".test", ".at.pds.test"}, Reserved: handle.Reserved(nil, nil)}
	brand := mail.Brand{ServiceName: "Test PDS"}
	codes := &emailcode.Codes{DB: f.db, Keys: keys, Outbox: f.outbox, Brand: brand, Now: f.clock.Now, Rand: rand.Reader}
	signUps := &server.Service{
		DB: f.db, Sessions: sessions, Accounts: accounts,
		DIDs:      &account.Verifier{Accounts: accounts, Directory: client, Documents: f.world},
		Passwords: password.NewHasher(password.Config{Rand: rand.Reader, Params: password.Params{Memory: 64, Time: 1, Threads: 1}}),
		Handles:   rules, Emails: &email.Rules{Disposable: email.Disposable()}, Resolve: f.world,
		Config: server.Config{ServiceDID: "did:web:pds.test", Hostname: "pds.test", HandleDomains: rules.Domains, PasswordMinLength: 8},
		Codes:  codes, Outbox: f.outbox, Brand: brand, Now: f.clock.Now, Rand: rand.Reader, Log: log,
	}
	service := &identity.Service{
		DB: f.db, Accounts: accounts, Codes: codes, Handles: rules, Resolve: f.world, Directory: client, Log: log,
		Identities: &account.Identities{Accounts: accounts, Directory: client, Documents: f.world, Foreign: f.world, Rules: rules},
	}
	xo := xrpc.Options{Logger: log, Now: f.clock.Now, CheckOutput: true, Protected: serviceauth.Protected, Version: "test"}
	if o.limiter {
		xo.Limiter = xrpc.NewMemoryLimiter(f.clock.Now)
	}
	gate := &auth.Gate{
		DB: f.db, Tokens: f.tokens, AdminPassword: "a password for the admin",
		Services: &serviceauth.Verifier{Audiences: []string{"did:web:pds.test"}, Resolver: f.world, Now: f.clock.Now},
	}
	e := echo.New()
	routes := xrpc.NewServer(e, xo)
	f.check(serverapi.Register(routes, signUps, server.Policy{Gate: gate}))
	f.check(api.Register(routes, service, identity.Policy{Gate: gate}))
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// spoil puts a fault between the server and the directory; nil ends it.
func (f *fixture) spoil(fault func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// requests are those made of the directory since the last call.
func (f *fixture) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

// says is a fault that answers the requests of one verb, all for "".
func says(verb string, status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != cmp.Or(verb, r.Method) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// hangsUp is a directory that gives no answer.
func hangsUp(w http.ResponseWriter, _ *http.Request) bool {
	panic(http.ErrAbortHandler)
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) fields(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("answer %d %q: %v", a.status, a.body, err)
	}
	return m
}

func (a answer) text(t testing.TB, name string) string {
	t.Helper()
	s, ok := a.fields(t)[name].(string)
	if !ok {
		t.Fatalf("answer %d %s has no text %q", a.status, a.body, name)
	}
	return s
}

// call sends a request to a method of com.atproto.identity, or to another whose
// whole name is given. header is the Authorization, "" for none.
func (f *fixture) call(verb, method, body, header string) answer {
	f.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	if !strings.HasPrefix(method, "com.") {
		method = "com.atproto.identity." + method
	}
	request, err := http.NewRequestWithContext(f.Context(), verb, f.url+"/xrpc/"+method, r)
	f.check(err)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if header != "" {
		request.Header.Set("Authorization", header)
	}
	response, err := http.DefaultClient.Do(request)
	f.check(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	f.check(err)
	return answer{response.StatusCode, response.Header, string(text)}
}

func (f *fixture) get(method, header string) answer {
	f.Helper()
	return f.call(http.MethodGet, method, "", header)
}

func (f *fixture) post(method, body, header string) answer {
	f.Helper()
	return f.call(http.MethodPost, method, body, header)
}

func (f *fixture) refused(a answer, status int, name, message string) {
	f.Helper()
	var body struct{ Error, Message string }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		f.Errorf("answer %d %q: %v", a.status, a.body, err)
		return
	}
	if a.status != status || body.Error != name || body.Message != message {
		f.Errorf("answer\n%d %s %q, want\n%d %s %q", a.status, body.Error, body.Message, status, name, message)
	}
}

func (f *fixture) accepted(a answer) answer {
	f.Helper()
	if a.status != http.StatusOK {
		f.Fatalf("answer %d %s, want 200", a.status, a.body)
	}
	return a
}

// empty checks that the answer is that of a method without output.
func (f *fixture) empty(a answer) {
	f.Helper()
	if f.accepted(a); a.body != "" || a.header.Get("Content-Type") != "" {
		f.Errorf("answer %q of type %q, want nothing", a.body, a.header.Get("Content-Type"))
	}
}

// A user is somebody who signed up.
type user struct {
	did    syntax.DID
	handle string
	email  string
	bearer string // Authorization header
	key    string // signing key, a did:key
}

func (f *fixture) signUp(name string) user {
	f.Helper()
	a := f.accepted(f.post("com.atproto.server.createAccount",
		`{"handle":"`+name+`.test","email":"`+name+`@example.com","password":"correct horse battery"}`, ""))
	u := user{
		did: syntax.DID(a.text(f, "did")), handle: name + ".test", email: name + "@example.com",
		bearer: "Bearer " + a.text(f, "accessJwt"),
	}
	key, err := f.db.SigningKey(f.Context(), u.did, "atproto")
	f.check(err)
	u.key = key.Public
	f.requests()
	return u
}

// scoped is the Authorization of u with a token of another scope.
func (f *fixture) scoped(u user, scope token.Scope) string {
	return "Bearer " + f.tokens.Access(u.did, scope, f.clock.Now())
}

func (f *fixture) setAccount(did syntax.DID, change func(*db.Account)) {
	f.Helper()
	f.check(f.db.Write(f.Context(), func(tx *db.Tx) error {
		a, err := tx.LockAccount(f.Context(), did)
		if err != nil {
			return err
		}
		change(a)
		return tx.UpdateAccount(f.Context(), a)
	}))
}

func (f *fixture) takeDown(did syntax.DID) {
	f.Helper()
	f.setAccount(did, func(a *db.Account) { a.TakedownRef = new("test") })
}

func (f *fixture) deactivate(did syntax.DID) {
	f.Helper()
	f.setAccount(did, func(a *db.Account) { a.DeactivatedAt = new(f.clock.Now()) })
}

func (f *fixture) remove(did syntax.DID) {
	f.Helper()
	f.check(f.db.Write(f.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(f.Context(), did) }))
}

var codePattern = regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`)

// code is the code in the last letter of a kind.
func (f *fixture) code(kind string) string {
	f.Helper()
	mails, err := f.outbox.List(f.Context(), 100)
	f.check(err)
	for _, m := range mails {
		if m.Kind == kind {
			_, l, err := f.outbox.Read(f.Context(), m.ID)
			f.check(err)
			return codePattern.FindString(l.Text)
		}
	}
	f.Fatalf("no letter of kind %s", kind)
	return ""
}

// signature asks for a code for signPlcOperation.
func (f *fixture) signature(u user) string {
	f.Helper()
	f.empty(f.post("requestPlcOperationSignature", "", u.bearer))
	return f.code("plc_operation")
}

// sign has the server sign an operation with the fields given as the inside of a
// JSON object.
func (f *fixture) sign(u user, fields string) plc.Operation {
	f.Helper()
	if fields != "" {
		fields = "," + fields
	}
	a := f.accepted(f.post("signPlcOperation", `{"token":"`+f.signature(u)+`"`+fields+`}`, u.bearer))
	var out struct{ Operation plc.Operation }
	f.check(json.Unmarshal([]byte(a.body), &out))
	return out.Operation
}

// submission is the body of submitPlcOperation.
func (f *fixture) submission(op plc.Operation) string {
	f.Helper()
	b, err := json.Marshal(map[string]any{"operation": op})
	f.check(err)
	return string(b)
}

// signed is an operation, made of JSON values, with the server's signature.
func (f *fixture) signed(fields map[string]any) plc.Operation {
	f.Helper()
	b, err := json.Marshal(fields)
	f.check(err)
	op, err := plc.ParseObject(b)
	f.check(err)
	f.check(plc.Operation(op).Sign(f.rotation))
	return op
}

// last is what the directory has of a DID, and how many operations.
func (f *fixture) last(did syntax.DID) (plc.Data, int) {
	f.Helper()
	log, err := f.directory.Log(f.Context(), did)
	f.check(err)
	d, _ := log[len(log)-1].Data()
	return d, len(log)
}

// tombstone ends a DID.
func (f *fixture) tombstone(did syntax.DID) {
	f.Helper()
	last, err := f.directory.Last(f.Context(), did)
	f.check(err)
	op, err := plc.NewTombstone(last)
	f.check(err)
	f.check(op.Sign(f.rotation))
	f.check(f.directory.Submit(f.Context(), did, op))
}

// identityEvents are the handles that the network was told of, in the order of
// events; "-" for an event without.
func (f *fixture) identityEvents(did syntax.DID) (handles []string) {
	f.Helper()
	events, err := f.db.Events(f.Context(), 0, 1000)
	f.check(err)
	for _, e := range events {
		if e.DID != did || e.Kind != "#identity" {
			continue
		}
		// DAG-CBOR of a map of did and, if it is there, handle, which comes last, after
		// one byte of its length.
		_, h, ok := strings.Cut(string(e.Body), "handle")
		if !ok {
			handles = append(handles, "-")
			continue
		}
		handles = append(handles, h[1:])
	}
	return handles
}

func (f *fixture) told(did syntax.DID, want ...string) {
	f.Helper()
	if got := f.identityEvents(did); !slices.Equal(got, want) {
		f.Errorf("the network was told of %q, want %q", got, want)
	}
}

func (f *fixture) didKey(key *atcrypto.PrivateKeyK256) string {
	f.Helper()
	public, err := key.PublicKey()
	f.check(err)
	return public.DIDKey()
}
