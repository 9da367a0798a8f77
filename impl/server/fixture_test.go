package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/auth"
	"portico/impl/directory"
	"portico/impl/email"
	"portico/impl/emailcode"
	"portico/impl/handle"
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
// that stands still, a PLC directory of its own, and an internet of its own.
type fixture struct {
	testing.TB
	url       string
	directory string
	db        *db.DB
	clock     *clock
	service   *server.Service
	rotation  *atcrypto.PrivateKeyK256
	internet  *internet
	outbox    *outbox.Outbox // of which nothing is sent: tests read it
	log       *bytes.Buffer
}

// A clock stands still until it is told to go on.
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

// internet resolves what a test put there. Of documents it is a cache, whose
// entries do not age.
type internet struct {
	mu        sync.Mutex
	handles   map[syntax.Handle]syntax.DID
	documents map[syntax.DID]*resolve.Document
	cached    map[syntax.DID]*resolve.Document
}

func (i *internet) ResolveHandle(_ context.Context, h syntax.Handle) (syntax.DID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if did, ok := i.handles[h]; ok {
		return did, nil
	}
	return "", resolve.ErrNotFound
}

func (i *internet) Resolve(_ context.Context, did syntax.DID, fresh bool) (*resolve.Document, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if doc, ok := i.cached[did]; ok && !fresh {
		return doc, nil
	}
	doc, ok := i.documents[did]
	if !ok {
		delete(i.cached, did)
		return nil, resolve.ErrNotFound
	}
	i.cached[did] = doc
	return doc, nil
}

// identity puts a DID with a new signing key into the internet.
func (i *internet) identity(t testing.TB, did syntax.DID) *atcrypto.PrivateKeyK256 {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := resolve.ParseDocument(did, []byte(`{"@context":["https://www.w3.org/ns/did/v1"],"id":"`+did.String()+`",
		"verificationMethod":[{"id":"`+did.String()+`#atproto","type":"Multikey","controller":"`+did.String()+
		`","publicKeyMultibase":"`+strings.TrimPrefix(public.DIDKey(), "did:key:")+`"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.documents[did] = doc
	return key
}

func onClock(c *clock) dbtest.Option { return func(o *db.Config) { o.Now = c.Now } }

// options are what a test may want to be different.
type options struct {
	config    server.Config
	directory account.Directory
	handler   http.Handler // of the PLC directory
	limiter   bool
	trusted   int
	engine    *db.DB
}

const adminPassword = "a password for the admin"

func newFixture(t testing.TB, change ...func(*options)) *fixture {
	t.Helper()
	f := &fixture{
		TB:    t,
		clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
		log:   new(bytes.Buffer),
		internet: &internet{
			handles: map[syntax.Handle]syntax.DID{}, documents: map[syntax.DID]*resolve.Document{},
			cached: map[syntax.DID]*resolve.Document{},
		},
	}
	o := options{config: server.Config{
		ServiceDID: "did:web:pds.test", Hostname: "pds.test", HandleDomains: []string{".test"}, PasswordMinLength: 8, SendsMail: true,
		BlobUploadLimit: 5242880,
	}}
	log := slog.New(slog.NewTextHandler(&lockedWriter{w: f.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.handler = directory.New(directory.NewMemory(), f.clock.Now, "test", log)
	for _, c := range change {
		c(&o)
	}
	plcServer := httptest.NewServer(o.handler)
	t.Cleanup(plcServer.Close)
	f.directory = plcServer.URL
	if o.directory == nil {
		o.directory = &plc.Client{URL: f.directory, Sleep: func(context.Context, time.Duration) error { return nil }}
	}
	f.db = o.engine
	if f.db == nil {
		f.db = dbtest.Open(t, onClock(f.clock))
	}
	var err error
	f.rotation, err = atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	canary, err := keys.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Unlock(canary); err != nil {
		t.Fatal(err)
	}
	tokens := &token.Issuer{
		Secret: []byte("a secret of thirty-two characters"), ServiceDID: o.config.ServiceDID.String(),
		Now: f.clock.Now, Rand: rand.Reader,
	}
	sessions := &session.Sessions{DB: f.db, Tokens: tokens, Keys: keys, Now: f.clock.Now}
	f.outbox = &outbox.Outbox{DB: f.db, Keys: keys, Holder: "test", Now: f.clock.Now, Log: log}
	f.service = &server.Service{
		DB: f.db, Sessions: sessions,
		Accounts: &account.Accounts{
			DB: f.db, Directory: o.directory, Sessions: sessions, Keys: keys, Rotation: f.rotation,
			Endpoint: "https://pds.test", Holder: "test", Lease: time.Minute, Looks: account.DefaultLooks,
			Now: f.clock.Now, Rand: rand.Reader, Log: log,
		},
		// The cheapest hash there is: what it costs is not what these tests are about.
		Passwords: password.NewHasher(password.Config{Rand: rand.Reader, Params: password.Params{Memory: 64, Time: 1, Threads: 1}}),
		Handles:   &handle.Rules{Domains: o.config.HandleDomains, Reserved: handle.Reserved(nil, nil)},
		Emails:    &email.Rules{Disposable: email.Disposable()},
		Resolve:   f.internet,
		Config:    o.config,
		Codes: &emailcode.Codes{
			DB: f.db, Keys: keys, Outbox: f.outbox, Brand: mail.Brand{ServiceName: "Test PDS"}, Now: f.clock.Now, Rand: rand.Reader,
		},
		Outbox: f.outbox,
		Brand:  mail.Brand{ServiceName: "Test PDS"},
		Now:    f.clock.Now, Rand: rand.Reader, Log: log,
	}
	f.service.DIDs = &account.Verifier{
		Accounts: f.service.Accounts, Directory: &plc.Client{URL: f.directory}, Documents: f.internet,
	}
	e := echo.New()
	xo := xrpc.Options{
		Logger: log, Now: f.clock.Now, CheckOutput: true, Protected: serviceauth.Protected, Version: "test",
		TrustedProxies: o.trusted,
	}
	if o.limiter {
		xo.Limiter = xrpc.NewMemoryLimiter(f.clock.Now)
	}
	gate := &auth.Gate{
		DB: f.db, Tokens: tokens, AdminPassword: adminPassword,
		Services: &serviceauth.Verifier{
			Audiences: []string{o.config.ServiceDID.String()}, Resolver: f.internet, Now: f.clock.Now,
		},
	}
	if err := api.Register(xrpc.NewServer(e, xo), f.service, server.Policy{Gate: gate}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// fields is the answer's body as an object.
func (a answer) fields(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("answer %d %q: %v", a.status, a.body, err)
	}
	return m
}

// text is a string field of the answer.
func (a answer) text(t testing.TB, name string) string {
	t.Helper()
	s, ok := a.fields(t)[name].(string)
	if !ok {
		t.Fatalf("answer %d %s has no text %q", a.status, a.body, name)
	}
	return s
}

// call sends a request to a method of com.atproto.server: a POST when body is
// not empty or the method takes none. headers are pairs of name and value.
func (f *fixture) call(verb, method, body string, headers ...string) answer {
	f.Helper()
	a, err := f.try(verb, method, body, headers...)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// try is call for goroutines other than the test's own.
func (f *fixture) try(verb, method, body string, headers ...string) (answer, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	request, err := http.NewRequest(verb, f.url+"/xrpc/com.atproto.server."+method, r)
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

func (f *fixture) get(method string, headers ...string) answer {
	f.Helper()
	return f.call(http.MethodGet, method, "", headers...)
}

func (f *fixture) post(method, body string, headers ...string) answer {
	f.Helper()
	return f.call(http.MethodPost, method, body, headers...)
}

// refused checks status, name and message of an error.
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

// accepted checks that the answer is 200.
func (f *fixture) accepted(a answer) answer {
	f.Helper()
	if a.status != http.StatusOK {
		f.Fatalf("answer %d %s, want 200", a.status, a.body)
	}
	return a
}

// bearer is the header of a token.
func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// A user is somebody who signed up.
type user struct {
	did             syntax.DID
	handle          string
	email           string
	access, refresh string
}

const goodPassword = "correct horse battery"

// signUp makes an account NAME.test with goodPassword.
func (f *fixture) signUp(name string) user {
	f.Helper()
	a := f.accepted(f.post("createAccount", `{"handle":"`+name+`.test","email":"`+name+`@example.com","password":"`+goodPassword+`"}`))
	return user{
		did: syntax.DID(a.text(f, "did")), handle: name + ".test", email: name + "@example.com",
		access: a.text(f, "accessJwt"), refresh: a.text(f, "refreshJwt"),
	}
}

// setAccount changes the account row behind the server's back.
func (f *fixture) setAccount(did syntax.DID, change func(*db.Account)) {
	f.Helper()
	err := f.db.Write(f.Context(), func(tx *db.Tx) error {
		a, err := tx.LockAccount(f.Context(), did)
		if err != nil {
			return err
		}
		change(a)
		return tx.UpdateAccount(f.Context(), a)
	})
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) takeDown(did syntax.DID) {
	f.Helper()
	f.setAccount(did, func(a *db.Account) { a.TakedownRef = new("test") })
}

// invite stores a code.
func (f *fixture) invite(code string, uses int, owner string) {
	f.Helper()
	err := f.db.Write(f.Context(), func(tx *db.Tx) error {
		return tx.InsertInvites(f.Context(), db.Invite{
			Code: code, Uses: uses, ForAccount: owner, CreatedBy: "admin", CreatedAt: f.clock.Now(),
		})
	})
	if err != nil {
		f.Fatal(err)
	}
}
