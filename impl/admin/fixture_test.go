package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
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

	api "portico/api/atproto/admin"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/admin"
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

// A fixture is a server with com.atproto.admin and com.atproto.server, spoken to
// over real HTTP, with a clock that stands still, a PLC directory of its own, and
// an internet of its own.
type fixture struct {
	testing.TB
	url        string
	db         *db.DB
	mu         sync.Mutex
	now        time.Time
	plc        *plc.Client
	plcDown    bool
	handles    map[syntax.Handle]syntax.DID
	documents  map[syntax.DID]*resolve.Document
	modKey     *atcrypto.PrivateKeyK256 // #atproto of the moderation service
	labelKey   *atcrypto.PrivateKeyP256 // #atproto_label of it
	outbox     *outbox.Outbox
	identities *account.Identities
}

const (
	adminPassword = "a password: for the admin"
	goodPassword  = "correct horse battery"
	modService    = "did:web:mod.example"
)

func (f *fixture) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func (f *fixture) ResolveHandle(_ context.Context, h syntax.Handle) (syntax.DID, error) {
	if did, ok := f.handles[h]; ok {
		return did, nil
	}
	return "", resolve.ErrNotFound
}

// Resolve reads what the test put into the internet, and else the directory.
func (f *fixture) Resolve(ctx context.Context, did syntax.DID, _ bool) (*resolve.Document, error) {
	if doc, ok := f.documents[did]; ok {
		return doc, nil
	}
	raw, err := f.plc.Document(ctx, did)
	if err != nil {
		return nil, err
	}
	return resolve.ParseDocument(did, raw)
}

// publish puts a DID with these keys into the internet.
func (f *fixture) publish(did syntax.DID, handle string, keys map[string]atcrypto.PrivateKey) {
	f.Helper()
	type object map[string]any
	var methods []object
	for name, key := range keys {
		public, err := key.PublicKey()
		if err != nil {
			f.Fatal(err)
		}
		methods = append(methods, object{
			"id": did.String() + "#" + name, "type": "Multikey", "controller": did, "publicKeyMultibase": public.Multibase(),
		})
	}
	raw, err := json.Marshal(object{"id": did, "alsoKnownAs": []string{"at://" + handle}, "verificationMethod": methods})
	if err != nil {
		f.Fatal(err)
	}
	if f.documents[did], err = resolve.ParseDocument(did, raw); err != nil {
		f.Fatal(err)
	}
}

func newFixture(t testing.TB, change ...func(*options)) *fixture {
	t.Helper()
	f := &fixture{
		TB: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		handles: map[syntax.Handle]syntax.DID{}, documents: map[syntax.DID]*resolve.Document{},
	}
	o := options{modService: modService}
	for _, c := range change {
		c(&o)
	}
	f.db = o.db
	if f.db == nil {
		f.db = dbtest.Open(t, func(c *db.Config) { c.Now = f.Now })
	}
	log := slog.New(slog.DiscardHandler)
	directoryHandler := directory.New(directory.NewMemory(), f.Now, "test", log)
	plcServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.plcDown {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		directoryHandler.ServeHTTP(w, r)
	}))
	t.Cleanup(plcServer.Close)
	f.plc = &plc.Client{URL: plcServer.URL, Deadline: 50 * time.Millisecond, Backoff: time.Millisecond}
	rotation := must(atcrypto.GeneratePrivateKeyK256())
	f.modKey, f.labelKey = must(atcrypto.GeneratePrivateKeyK256()), must(atcrypto.GeneratePrivateKeyP256())
	f.publish(modService, "mod.example", map[string]atcrypto.PrivateKey{"atproto": f.modKey, "atproto_label": f.labelKey})
	keys := must(keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32)))
	if err := keys.Unlock(must(keys.NewCanary())); err != nil {
		t.Fatal(err)
	}
	tokens := &token.Issuer{
		Secret: []byte("a secret of thirty-two characters"), ServiceDID: "did:web:pds.test", Now: f.Now, Rand: rand.Reader,
	}
	sessions := &session.Sessions{DB: f.db, Tokens: tokens, Keys: keys, Now: f.Now}
	f.outbox = &outbox.Outbox{DB: f.db, Keys: keys, Holder: "test", Now: f.Now, Log: log}
	accounts := &account.Accounts{
		DB: f.db, Directory: f.plc, Sessions: sessions, Keys: keys, Rotation: rotation, Endpoint: "https://pds.test",
		Holder: "test", Lease: time.Minute, Now: f.Now, Rand: rand.Reader, Log: log,
	}
	dids := &account.Verifier{Accounts: accounts, Directory: f.plc, Documents: f}
	rules := &handle.Rules{Domains: []string{".test"}, Reserved: handle.Reserved(nil, nil)}
	passwords := password.NewHasher(password.Config{Rand: rand.Reader, Params: password.Params{Memory: 64, Time: 1, Threads: 1}})
	brand := mail.Brand{ServiceName: "Test PDS"}
	f.identities = &account.Identities{Accounts: accounts, Directory: f.plc, Documents: f, Foreign: f, Rules: rules}
	service := &admin.Service{
		DB: f.db, Accounts: accounts, DIDs: dids, Identities: f.identities,
		Credentials: account.Credentials{Outbox: f.outbox, Brand: brand, Now: f.Now},
		Passwords:   passwords, Outbox: f.outbox, PasswordMinLength: 8, Now: f.Now,
	}
	owners := &server.Service{
		DB: f.db, Accounts: accounts, DIDs: dids, Sessions: sessions, Passwords: passwords, Handles: rules,
		Emails: &email.Rules{}, Resolve: f, Outbox: f.outbox, Brand: brand, Now: f.Now, Rand: rand.Reader, Log: log,
		Codes: &emailcode.Codes{DB: f.db, Keys: keys, Outbox: f.outbox, Brand: brand, Now: f.Now, Rand: rand.Reader},
		Config: server.Config{
			ServiceDID: "did:web:pds.test", Hostname: "pds.test", HandleDomains: []string{".test"}, PasswordMinLength: 8, SendsMail: true,
		},
	}
	gate := &auth.Gate{
		DB: f.db, Tokens: tokens, AdminPassword: adminPassword, ModService: o.modService,
		Services: &serviceauth.Verifier{Audiences: []string{"did:web:pds.test"}, Resolver: f, Now: f.Now},
	}
	e := echo.New()
	routes := xrpc.NewServer(e, xrpc.Options{Logger: log, Now: f.Now, CheckOutput: true, Protected: serviceauth.Protected})
	if err := api.Register(routes, service, admin.Policy{Gate: gate}); err != nil {
		t.Fatal(err)
	}
	if err := serverapi.Register(routes, owners, server.Policy{Gate: gate}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	f.url = s.URL
	return f
}

// engines runs a test on a server with each engine.
func engines(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	var f *fixture
	now := func() time.Time {
		if f == nil {
			return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		}
		return f.Now()
	}
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		f = newFixture(t, func(o *options) { o.db = d })
		test(t, f)
		f = nil
	}, func(c *db.Config) { c.Now = now })
}

// options are what a test may want to be different.
type options struct {
	modService syntax.DID
	db         *db.DB
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An answer is what came back.
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

// send makes a request to a method by its whole name, a POST when there is a body.
func (f *fixture) send(nsid, body, authorization string) answer {
	f.Helper()
	verb, r := http.MethodGet, io.Reader(nil)
	if body != "" {
		verb, r = http.MethodPost, strings.NewReader(body)
	}
	request := must(http.NewRequestWithContext(f.Context(), verb, f.url+"/xrpc/"+nsid, r))
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	text := must(io.ReadAll(response.Body))
	return answer{response.StatusCode, response.Header, string(text)}
}

func basic(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

// ask is a query of com.atproto.admin by the operator.
func (f *fixture) ask(method string) answer {
	f.Helper()
	return f.send("com.atproto.admin."+method, "", basic("admin", adminPassword))
}

// do is a procedure of com.atproto.admin by the operator.
func (f *fixture) do(method, body string) answer {
	f.Helper()
	return f.send("com.atproto.admin."+method, body, basic("admin", adminPassword))
}

// serverDo is a procedure of com.atproto.server.
func (f *fixture) serverDo(method, body, authorization string) answer {
	f.Helper()
	return f.send("com.atproto.server."+method, body, authorization)
}

// post is a procedure without a body.
func (f *fixture) post(nsid, authorization string) answer {
	f.Helper()
	request := must(http.NewRequestWithContext(f.Context(), http.MethodPost, f.url+"/xrpc/"+nsid, nil))
	request.Header.Set("Authorization", authorization)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.Fatal(err)
	}
	defer response.Body.Close()
	return answer{response.StatusCode, response.Header, string(must(io.ReadAll(response.Body)))}
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

func (f *fixture) accepted(a answer) answer {
	f.Helper()
	if a.status != http.StatusOK {
		f.Fatalf("answer %d %s, want 200", a.status, a.body)
	}
	return a
}

// silent checks that a procedure without output succeeded.
func (f *fixture) silent(a answer) {
	f.Helper()
	if a.status != http.StatusOK || a.body != "" || a.header.Get("Content-Type") != "" ||
		a.header.Get("Cache-Control") != "private" || !strings.Contains(a.header.Get("Vary"), "Authorization") {
		f.Errorf("answer %d %q %v, want an empty private 200", a.status, a.body, a.header)
	}
}

// A user is somebody who signed up.
type user struct {
	did             syntax.DID
	handle, email   string
	access, refresh string
}

func (f *fixture) signUp(name string) user { return f.signUpWith(name, "") }

func (f *fixture) signUpWith(name, code string) user {
	f.Helper()
	in := map[string]any{"handle": name + ".test", "email": name + "@example.com", "password": goodPassword}
	if code != "" {
		in["inviteCode"] = code
	}
	a := f.accepted(f.serverDo("createAccount", string(must(json.Marshal(in))), ""))
	return user{
		did: syntax.DID(a.text(f, "did")), handle: name + ".test", email: name + "@example.com",
		access: "Bearer " + a.text(f, "accessJwt"), refresh: "Bearer " + a.text(f, "refreshJwt"),
	}
}

func (f *fixture) signIn(identifier, text string) answer {
	f.Helper()
	return f.serverDo("createSession", `{"identifier":"`+identifier+`","password":"`+text+`"}`, "")
}

func (f *fixture) account(did syntax.DID) *db.Account {
	f.Helper()
	a, err := f.db.AccountByDID(f.Context(), did)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

func (f *fixture) setAccount(did syntax.DID, change func(*db.Account)) {
	f.Helper()
	f.write(func(tx *db.Tx) error {
		a, err := tx.LockAccount(f.Context(), did)
		if err != nil {
			return err
		}
		change(a)
		return tx.UpdateAccount(f.Context(), a)
	})
}

func (f *fixture) write(do func(*db.Tx) error) {
	f.Helper()
	if err := f.db.Write(f.Context(), do); err != nil {
		f.Fatal(err)
	}
}

// invite stores a code.
func (f *fixture) invite(code string, uses int, owner string) {
	f.Helper()
	f.write(func(tx *db.Tx) error {
		return tx.InsertInvites(f.Context(), db.Invite{Code: code, Uses: uses, ForAccount: owner, CreatedBy: "admin", CreatedAt: f.Now()})
	})
}
