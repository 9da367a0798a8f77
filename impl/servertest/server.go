// Package servertest runs a whole Portico server inside a test.
//
// [New] starts one: every namespace that the program serves, on a database, a PLC
// directory and an internet of its own, with a clock that stands still. Tests speak
// to it over real HTTP, look into it through its fields, and fail through it:
//
//	s := servertest.New(t)
//	alice := s.SignUp("alice")
//	s.Accepted(s.Get("getSession", alice.Access))
//	s.Refused(s.Post("confirmEmail", `{}`, alice.Access), 400, "InvalidRequest", `Missing required key "email" at $`)
//
// Only external tests (package x_test) of what it serves can import it.
package servertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	adminapi "portico/api/atproto/admin"
	identityapi "portico/api/atproto/identity"
	moderationapi "portico/api/atproto/moderation"
	repoapi "portico/api/atproto/repo"
	serverapi "portico/api/atproto/server"
	syncapi "portico/api/atproto/sync"
	tempapi "portico/api/atproto/temp"
	bskyapi "portico/api/bsky"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/account/factor"
	"portico/impl/account/factor/passkey"
	"portico/impl/account/move"
	"portico/impl/account/password"
	"portico/impl/account/serviceauth"
	"portico/impl/account/session"
	"portico/impl/account/token"
	"portico/impl/atproto/admin"
	"portico/impl/atproto/identity"
	"portico/impl/atproto/moderation"
	"portico/impl/atproto/repo"
	"portico/impl/atproto/server"
	syncmethods "portico/impl/atproto/sync"
	"portico/impl/atproto/temp"
	"portico/impl/authserver"
	"portico/impl/authserver/authorize"
	"portico/impl/blob"
	"portico/impl/blob/rows"
	"portico/impl/bsky"
	"portico/impl/budget"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
	"portico/impl/logging"
	"portico/impl/mail"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
	"portico/impl/mail/outbox"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
	"portico/impl/owner"
	"portico/impl/page"
	"portico/impl/portico/operator"
	"portico/impl/proxy"
	"portico/impl/proxy/upstream"
	"portico/impl/records"
	"portico/impl/repo/export"
	"portico/impl/repo/firehose"
	"portico/impl/repo/importer"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

// What every server of this package is called, and what opens it.
const (
	DID           = "did:web:pds.test"
	Endpoint      = "https://pds.test"
	AdminPassword = "a password: for the admin"
	GoodPassword  = "correct horse battery" // of whoever signs up
)

// A Server is Portico in the process of a test. Its fields may be read, and those of
// the services changed before the request that is to see it.
type Server struct {
	// TB is the test that fails when something does. A subtest may put itself here.
	testing.TB
	*Clock
	URL      string       // without a slash at the end
	Handler  http.Handler // what answers there
	DB       *db.DB
	PLC      *Directory
	Internet *Internet
	Outbox   *outbox.Outbox // of which nothing is sent
	Logged   *Log
	Rotation *atcrypto.PrivateKeyK256 // of the server, in every DID that it makes
	Keys     *keyring.Ring
	Budgets  *budget.Ledger
	Factors  *factor.Factors
	Tokens   *token.Issuer
	Domains  *domain.Domains

	// ModKey is #atproto of the moderation service, LabelKey its #atproto_label.
	ModKey   *atcrypto.PrivateKeyK256
	LabelKey *atcrypto.PrivateKeyP256

	Server   *server.Service
	Identity *identity.Service
	Admin    *admin.Service
	Operator *operator.Service
	Repo     *repo.Service
	Sync     *syncmethods.Service
	Blobs    *rows.Blobs
	Temp     *temp.Service
	Moves    *move.Moves
	Hosts    *host.Names
	// Unproven is why other host names do not lead to this server; they do if it is nil.
	Unproven error
	// Unwell is what is wrong with the server as its health tells.
	Unwell error

	Proxy      *proxy.Proxy
	Bsky       *bsky.Service
	Moderation *moderation.Service
	// AppView and Reports are the services that the options asked for.
	AppView, Reports *Upstream

	// Of OAuth. Web is where documents of apps are; those of permission sets are where
	// [Server.PublishSet] puts them.
	Clients *client.Clients
	Proofs  *dpop.Verifier
	Grants  *grant.Grants
	Sets    *permissionset.Sets
	Web     *Web

	sets      *publishedSets
	others    []*Server // the other nodes
	limiter   xrpc.Limiter
	canary    []byte
	blobs     string // their folder
	directory string // the URL of the PLC directory
	letIn     letIn
	namespace string
	routes    []xrpc.Route
	clock     uint           // the number of its record keys
	config    *server.Config // what [server.Service.Config] returns
}

// Options are what a test may want to be different.
type Options struct {
	// Namespace completes method names without a dot. Default com.atproto.server.
	Namespace string
	// Config is that of com.atproto.server. Its ServiceDID, Hostname and
	// PasswordMinLength hold for the other namespaces too; its ModService is that of
	// the options.
	Config server.Config
	// HandleDomains are the configured ones. Default .test alone.
	HandleDomains  []string
	InviteRequired bool
	// DB is the database; an empty SQLite one if nil. Its clock is its own.
	DB    *db.DB
	Clock *Clock // default: one that stands at [Start]
	// ModService is the moderation service that is trusted, "" for none. Default
	// [ModService].
	ModService syntax.DID
	// RecoveryKey is a did:key above the server's own in every DID that it makes.
	RecoveryKey string
	// Firehose lets com.atproto.sync.subscribeRepos stream events.
	Firehose bool
	// Limiter counts requests, as is off in production unless switched on.
	Limiter        bool
	TrustedProxies int
	// MaxImport is the largest archive that is imported, in bytes; 0: any.
	MaxImport int64
	// AppView and Reports let the server have an app view, and a service that moderates and
	// takes reports.
	AppView, Reports bool
	// Quarantine is the rule by which those who sign up are held, "" for none.
	Quarantine string
	// TrustedClients are the client_ids of apps that the operator trusts.
	TrustedClients []string
	// Lifetimes are those of OAuth, in place of the usual ones.
	Lifetimes grant.Lifetimes
	// Branding is how the pages look where apps are let in.
	Branding page.Branding
	Captcha  *authorize.Captcha
	// Exempt are addresses that budgets count as nobody's.
	Exempt []netip.Addr
	// Nodes is how many servers answer, one request after the other, each with memory of its own,
	// on one Postgres database. 0 is what [NodesVariable] says, or one. Where DB is one of SQLite there is
	// one.
	Nodes int
}

// NodesVariable names how many nodes a server of a test has that says nothing of it. Where it is
// set its database is one of Postgres, if the test brings none.
const NodesVariable = "PORTICO_TEST_NODES"

// New starts a server that runs until the test ends.
func New(t testing.TB, change ...func(*Options)) *Server {
	t.Helper()
	o := Options{
		Namespace: "com.atproto.server", ModService: ModService, Clock: NewClock(), HandleDomains: []string{".test"},
		Config: server.Config{
			ServiceDID: DID, Hostname: "pds.test", PasswordMinLength: 8, SendsMail: true,
			BlobUploadLimit: 5242880,
		},
	}
	for _, c := range change {
		c(&o)
	}
	o.Config.ModService = o.ModService
	if o.Nodes == 0 {
		o.Nodes, _ = strconv.Atoi(os.Getenv(NodesVariable))
	}
	s := &Server{
		TB: t, Clock: o.Clock, DB: o.DB, Logged: new(Log),
		Rotation: Must(keyring.NewKey(rand.Reader)),
		ModKey:   Must(atcrypto.GeneratePrivateKeyK256()), LabelKey: Must(atcrypto.GeneratePrivateKeyP256()),
		Web: new(Web), sets: &publishedSets{now: o.Clock.Now, documents: map[syntax.NSID]string{}},
		limiter: xrpc.NewMemoryLimiter(o.Clock.Now), blobs: t.TempDir(), clock: 1,
	}
	if s.DB == nil {
		open := dbtest.Open
		if o.Nodes > 1 || os.Getenv(NodesVariable) != "" {
			open = dbtest.Postgres
		}
		s.DB = open(t, func(c *db.Config) { c.Now = s.Now })
	}
	var theirs []*db.DB
	for range o.Nodes - 1 {
		if d := dbtest.Again(t, s.DB); d != nil {
			theirs = append(theirs, d)
		}
	}
	s.node(&o, s, len(theirs) > 0)
	for _, d := range theirs {
		n := &Server{
			TB: t, Clock: s.Clock, DB: d, Logged: s.Logged, Rotation: s.Rotation, ModKey: s.ModKey, LabelKey: s.LabelKey,
			Web: s.Web, sets: s.sets, limiter: s.limiter, blobs: s.blobs, clock: uint(len(s.others)) + 2,
		}
		n.node(&o, s, true)
		s.others = append(s.others, n)
	}
	if len(s.others) > 0 {
		var handlers []http.Handler
		for _, n := range s.Nodes() {
			handlers = append(handlers, n.Handler)
		}
		next := new(atomic.Uint64)
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers[next.Add(1)%uint64(len(handlers))].ServeHTTP(w, r)
		})
	}
	h := httptest.NewServer(s.Handler)
	t.Cleanup(h.Close)
	s.URL = h.URL
	return s
}

// Nodes are the servers that answer, the first of them s itself, at whose URL they take turns. The
// handlers of the others answer as that node does; they have no URL.
func (s *Server) Nodes() []*Server { return append([]*Server{s}, s.others...) }

// CatchUp lets as much time go by as a node may take to see what the operator changed on another:
// none where there is one.
func (s *Server) CatchUp() {
	if len(s.others) > 0 {
		s.Advance(max(host.MaxAge, domain.MaxAge))
	}
}

// node wires one server, of which first may be another that others ask, too. What is shared among
// them is out in the world: the database, the blobs, the directory, and what counts requests.
func (s *Server) node(o *Options, first *Server, several bool) {
	t := s.TB
	s.namespace = o.Namespace
	notices := new(logging.Notices)
	log := notices.Keep(slog.New(slog.NewTextHandler(s.Logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	var out *world
	if s == first {
		s.PLC, s.directory = newDirectory(t, s.Now, log)
	} else {
		s.PLC, s.directory, out = first.PLC, first.directory, first.Internet.world
	}
	directoryURL := s.directory
	var store *db.DB
	if several {
		store = s.DB
	}
	s.Internet = newInternet(out, directoryURL, store, s.Now, log)
	if s == first {
		s.Publish(ModService, "mod.example", map[string]atcrypto.PrivateKey{"atproto": s.ModKey, "atproto_label": s.LabelKey})
	}
	s.Keys = Must(keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32)))
	if s.canary = first.canary; s == first {
		s.canary = Must(s.Keys.NewCanary())
	}
	s.Check(s.Keys.Unlock(s.canary))

	holder := fmt.Sprintf("test %p", s)
	if !several {
		holder = "test"
	}
	s.Hosts = Must(host.Open(context.Background(), s.DB, host.Config{Name: host.Of(Endpoint), Now: s.Now, Log: log}))
	// A directory that failed once is not waited for; one that a busy machine makes slow is.
	client := &plc.Client{URL: directoryURL, Timeout: time.Minute, Deadline: time.Minute, Sleep: func(context.Context, time.Duration) error {
		return context.DeadlineExceeded
	}}
	s.Tokens = &token.Issuer{
		Secret: []byte("a secret of thirty-two characters"), ServiceDID: o.Config.ServiceDID.String(), Now: s.Now, Rand: rand.Reader,
		Others: s.audiences,
	}
	s.Budgets = &budget.Ledger{DB: s.DB, Keys: s.Keys, Exempt: func() []netip.Addr { return o.Exempt }, Now: s.Now}
	s.Internet.Pay = func(ctx context.Context) error { return auth.LookUp(ctx, s.Budgets) }
	sessions := &session.Sessions{DB: s.DB, Tokens: s.Tokens, Keys: s.Keys, Budgets: s.Budgets, Now: s.Now}
	s.Outbox = &outbox.Outbox{DB: s.DB, Keys: s.Keys, Holder: holder, Now: s.Now, Log: log}
	s.Blobs = &rows.Blobs{DB: s.DB, Store: Must(blob.OpenDisk(s.blobs, "", blob.Bounds{})), Now: s.Now, Log: log}
	t.Cleanup(func() { s.Check(s.Blobs.Wait(context.Background())) })
	accounts := &account.Accounts{
		DB: s.DB, Blobs: s.Blobs, Directory: client, Sessions: sessions, Keys: s.Keys, Budgets: s.Budgets, Rotation: s.Rotation, Recovery: o.RecoveryKey,
		Endpoint: Endpoint, Hosts: s.Hosts, Holder: holder, Lease: time.Minute, CleanupDelays: account.DefaultCleanupDelays, Now: s.Now, Rand: rand.Reader, Log: log,
	}
	accounts.Quarantine.Terms = func() account.Terms { return account.Terms{Rule: o.Quarantine} }
	client.Hold = accounts.MayPublish
	dids := &account.Verifier{Accounts: accounts, Directory: client, Documents: s.Internet}
	// The cheapest hash there is: what it costs is not what these tests are about.
	passwords := password.NewHasher(password.Config{Rand: rand.Reader, Params: password.Params{Memory: 64, Time: 1, Threads: 1}})
	reserved := handle.Reserved(nil, nil)
	rules := &handle.Rules{Reserved: func() handle.Names { return reserved }}
	s.Domains = Must(domain.Open(context.Background(), s.DB, domain.Config{
		Configured: func() domain.Configured {
			return domain.Configured{Domains: o.HandleDomains, InviteRequired: o.InviteRequired}
		}, Hostname: o.Config.Hostname, Now: s.Now, Log: log,
		Twin: func(ctx context.Context, tx *db.Tx, h string) (string, error) { return s.Hosts.Twin(ctx, tx, h) },
	}))
	identities := &account.Identities{Accounts: accounts, Directory: client, Documents: s.Internet, Foreign: s.Internet, Rules: rules, Domains: s.Domains}
	brand := func() mail.Brand { return mail.Brand{ServiceName: "Test PDS"} }
	sessions.Outbox, sessions.Brand = s.Outbox, brand
	s.config = &o.Config
	minLength := func() int { return s.config.PasswordMinLength }
	codes := &emailcode.Codes{DB: s.DB, Keys: s.Keys, Budgets: s.Budgets, Outbox: s.Outbox, Brand: brand, Now: s.Now, Rand: rand.Reader}
	s.Factors = &factor.Factors{DB: s.DB, Keys: s.Keys, Budgets: s.Budgets, Sessions: sessions, Outbox: s.Outbox, Brand: brand, Now: s.Now, Rand: rand.Reader, Site: Must(passkey.New(Endpoint, "Test PDS"))}
	s.Server = &server.Service{
		DB: s.DB, Budgets: s.Budgets, Accounts: accounts, DIDs: dids, Sessions: sessions, Passwords: passwords, Handles: rules, Domains: s.Domains,
		Emails: &email.Rules{Disposable: email.Disposable()}, Resolve: s.Internet, Config: func() server.Config { return *s.config },
		Codes: codes, Factors: s.Factors, Outbox: s.Outbox, Brand: brand, Now: s.Now, Rand: rand.Reader, Log: log,
	}
	s.Identity = &identity.Service{
		DB: s.DB, Budgets: s.Budgets, Accounts: accounts, Identities: identities, Codes: codes, Domains: s.Domains, Resolve: s.Internet,
		Directory: client, Log: log,
	}
	s.Admin = &admin.Service{
		DB: s.DB, Blobs: s.Blobs, Accounts: accounts, DIDs: dids, Identities: identities,
		Credentials: account.Credentials{Budgets: s.Budgets, Outbox: s.Outbox, Brand: brand, Now: s.Now},
		Passwords:   passwords, Outbox: s.Outbox, PasswordMinLength: minLength, Now: s.Now,
	}
	s.Operator = &operator.Service{
		DB: s.DB, Blobs: s.Blobs, Accounts: accounts, Handles: rules, Budgets: s.Budgets, Identities: identities, Credentials: s.Admin.Credentials, Domains: s.Domains, DIDs: dids, Passwords: passwords,
		PasswordMinLength: minLength, TrustedProxies: func() int { return o.TrustedProxies },
	}
	s.Operator.Health = operator.Health{Version: "test", Began: Start, Check: func(context.Context) error { return first.Unwell }, Notices: notices}
	s.Operator.Now = s.Now
	s.Operator.Hosts = &move.HostMove{
		Accounts: accounts, Domains: s.Domains, Outbox: s.Outbox, Brand: brand, ServiceDID: o.Config.ServiceDID.String(),
		Prove: func(context.Context, string, string) error { return first.Unproven },
	}
	s.Moves = &move.Moves{
		DB: s.DB, Accounts: accounts, Directory: client, Now: s.Now, Log: log,
		Kinds: map[string]move.Kind{move.Key: &move.KeyMove{Accounts: accounts, Now: s.Now}, move.Host: s.Operator.Hosts},
	}
	s.Operator.Moves = s.Moves
	s.Operator.Transfers = &account.Transfers{Accounts: accounts, Identities: identities, DIDs: dids}
	s.Sync = &syncmethods.Service{
		DB: s.DB, Blobs: s.Blobs, Firehose: firehose.New(firehose.Stored(s.DB), log, firehose.Options{}), Hostname: o.Config.Hostname, Now: s.Now,
		Exports: export.New(s.DB, t.TempDir(), export.Bounds{}),
	}
	s.Operator.Firehose = s.Sync.Firehose
	if o.Firehose {
		s.stream()
	}
	s.Temp = &temp.Service{
		DB: s.DB, Accounts: accounts, Budgets: s.Budgets, Handles: rules, Domains: s.Domains, Emails: s.Server.Emails, Now: s.Now, Rand: rand.Reader,
	}
	s.Repo = &repo.Service{
		DB: s.DB, Blobs: s.Blobs, Keys: record.NewKeys(s.Now, s.clock, mathrand.UintN), Documents: s.Internet, Accounts: accounts,
		Records: &records.Writer{DB: s.DB, Blobs: s.Blobs, Keys: s.Keys, Cache: tree.NewCache(1 << 20), Now: s.Now},
		Imports: &importer.Importer{DB: s.DB, Dir: t.TempDir(), Now: s.Now, Finish: accounts.FinishImport},
	}
	s.Operator.Imports = s.Repo.Imports

	s.apps(o, log)
	gate := &auth.Gate{
		Proofs: s.Proofs, Grants: s.Grants,
		DB: s.DB, Budgets: s.Budgets, Now: s.Now, Tokens: s.Tokens, AdminPassword: func() string { return AdminPassword }, ModService: o.ModService,
		Services: &serviceauth.Verifier{Audiences: []string{o.Config.ServiceDID.String()}, Others: s.audiences, Resolver: s.Internet, Now: s.Now},
	}
	s.Proxy = &proxy.Proxy{
		Client: upstream.New(upstream.Options{Private: true}), Self: proxy.Service{DID: DID, URL: Endpoint},
		Documents: s.Internet, Keys: accounts, Gate: gate, Now: s.Now, Rand: rand.Reader, Log: log,
	}
	if o.AppView {
		if s.AppView = first.AppView; s == first {
			s.AppView = s.NewUpstream("did:web:appview.example", proxy.AppViewID)
		}
		s.Proxy.AppView = s.AppView.Service
	}
	if o.Reports {
		if s.Reports = first.Reports; s == first {
			s.Reports = s.NewUpstream("did:web:reports.example", proxy.LabelerID)
		}
		s.Proxy.Moderation, s.Proxy.Reports = s.Reports.Service, s.Reports.Service
	}
	s.Bsky = &bsky.Service{DB: s.DB, Proxy: s.Proxy, PublicURL: Endpoint, Now: s.Now, Log: log}
	s.Repo.Proxy = s.Proxy
	s.Moderation = &moderation.Service{Proxy: s.Proxy, CheckOutput: true}
	callers := &xrpc.Callers{TrustedProxies: o.TrustedProxies}
	if o.Limiter {
		callers.Limiter = s.limiter
	}
	xo := xrpc.Options{
		Logger: log, Now: s.Now, CheckOutput: true, Fallback: s.Proxy.Fallback, Version: "test", Callers: func() *xrpc.Callers { return callers },
		Pages: []string{owner.Path, owner.InvitePath, authserver.Root, authserver.MetadataPath}, Unlogged: []string{owner.InvitePath},
	}
	e := echo.New()
	routes := xrpc.NewServer(e, xo)
	s.Check(serverapi.Register(e, routes, s.Server, server.Policy{Gate: gate}))
	s.Check(identityapi.Register(e, routes, s.Identity, identity.Policy{Gate: gate}))
	s.Check(adminapi.Register(e, routes, s.Admin, admin.Policy{Gate: gate}))
	s.Check(operatorapi.Register(e, routes, s.Operator, operator.Policy{Gate: gate}))
	s.Check(syncapi.Register(e, routes, s.Sync, syncmethods.Policy{Gate: gate}))
	s.Check(repoapi.Register(e, routes, s.Repo, repo.Policy{Gate: gate, MaxBlob: o.Config.BlobUploadLimit, MaxImport: o.MaxImport}))
	s.Check(tempapi.Register(e, routes, s.Temp, temp.Policy{Gate: gate}))
	s.Check(moderationapi.Register(e, routes, s.Moderation, moderation.Policy{Gate: gate}))
	s.Check(bskyapi.Register(e, routes, s.Bsky, bsky.Policy{Gate: gate, AppView: o.AppView}))
	s.routes = routes.Methods()
	s.Handler = e
	pages := Must(owner.New(owner.Config{
		Origin: Endpoint, ServiceName: "Test PDS", Contact: "contact@pds.test", SendsMail: o.Config.SendsMail,
		Methods: e, DB: s.DB, Keys: s.Keys, Tokens: s.Tokens, Budgets: s.Budgets, Factors: s.Factors, Grants: s.Grants, Now: s.Now, Rand: rand.Reader, Log: log,
	}))
	for _, path := range []string{owner.Path, owner.Path + "/*", owner.InvitePath + "/*"} {
		e.Any(path, echo.WrapHandler(pages))
	}
	letIn := Must(authorize.New(authorize.Config{
		Origin: Endpoint, ServiceName: "Test PDS", SendsMail: o.Config.SendsMail, Branding: o.Branding, Captcha: o.Captcha, Methods: e, Clients: s.Clients, Grants: s.Grants, Sets: s.Sets,
		DB: s.DB, Keys: s.Keys, Factors: s.Factors, Tokens: s.Tokens, Budgets: s.Budgets, Now: s.Now, Rand: rand.Reader, Log: log,
	}))
	for _, path := range []string{authorize.Path, authorize.Path + "/*"} {
		e.Any(path, echo.WrapHandler(letIn))
	}
	endpoints := authserver.New(authserver.Config{
		Issuer: Endpoint, Clients: s.Clients, Proofs: s.Proofs, Grants: s.Grants, Sets: s.Sets, Budgets: s.Budgets, Log: log,
	})
	for path, methods := range authserver.Methods {
		e.Match(methods, path, echo.WrapHandler(endpoints))
	}
}

// apps makes what lets apps into accounts.
func (s *Server) apps(o *Options, log *slog.Logger) {
	s.Sets = &permissionset.Sets{Store: s.sets, Now: s.Now, Log: log}
	lifetimes := o.Lifetimes
	if lifetimes == (grant.Lifetimes{}) {
		const day = 24 * time.Hour
		lifetimes = grant.Lifetimes{
			Access: 20 * time.Minute, PublicSession: 7 * day, PublicRefresh: day, ConfidentialSession: 730 * day, ConfidentialRefresh: 90 * day, Remembered: 7 * day,
		}
	}
	s.Grants = &grant.Grants{
		DB: s.DB, Keys: s.Keys, Budgets: s.Budgets, Now: s.Now, Rand: rand.Reader, Secret: []byte("another secret of thirty-two bytes"), Issuer: Endpoint,
		Audience: func() string { return s.config.ServiceDID.String() }, Lifetimes: func() grant.Lifetimes { return lifetimes }, Expand: s.Sets.Expand,
	}
	s.Proofs = &dpop.Verifier{URL: Endpoint, Now: s.Now, Nonces: dpop.NewNonces(bytes.Repeat([]byte{8}, 32), s.Now), Once: s.Grants.Once}
	s.Clients = &client.Clients{
		Fetch: &http.Client{Transport: s.Web}, Largest: 512 << 10, Pay: func(ctx context.Context) error { return auth.LookUp(ctx, s.Budgets) },
		Trusted: func() []string { return o.TrustedClients }, Issuer: Endpoint, Now: s.Now, Once: s.Grants.Once,
	}
}

// audiences are those of the names that the server has beside its own.
func (s *Server) audiences() []string { return s.Hosts.State(context.Background()).Audiences() }

// Rename has the server start anew with another host name in its settings.
func (s *Server) Rename(name string) {
	s.Helper()
	did := syntax.DID(host.ServiceDID(name))
	s.config.ServiceDID, s.config.Hostname = did, name
	for _, n := range s.Nodes() {
		n.Hosts = Must(host.Open(context.Background(), n.DB, host.Config{Name: name, Now: n.Now, Log: n.Server.Log}))
		n.Server.Accounts.Hosts, n.Server.Accounts.Endpoint = n.Hosts, host.URL(name)
		n.Tokens.ServiceDID, n.Operator.Hosts.ServiceDID = did.String(), did.String()
		n.Proxy.Self = proxy.Service{DID: did, URL: host.URL(name)}
		n.Proxy.Gate.Services.Audiences = []string{did.String()}
	}
}

// Rotate has the server start anew with another rotation key, beside the one that it had.
func (s *Server) Rotate() {
	s.Helper()
	old := s.Server.Accounts.Rotation
	s.Rotation = Must(keyring.NewKey(rand.Reader))
	s.startWith(old)
}

// ForgetOldKey has the server start anew without the rotation key that it had before [Server.Rotate].
func (s *Server) ForgetOldKey() { s.startWith(nil) }

// startWith starts the server anew with a rotation key beside its own, or with none.
func (s *Server) startWith(old atcrypto.PrivateKeyExportable) {
	for _, n := range s.Nodes() {
		was := n.Server.Accounts
		now := &account.Accounts{
			DB: was.DB, Blobs: was.Blobs, Directory: was.Directory, Sessions: was.Sessions, Keys: was.Keys, Budgets: was.Budgets,
			Rotation: s.Rotation, OldRotation: old, Recovery: was.Recovery, Endpoint: was.Endpoint, Hosts: was.Hosts, Holder: was.Holder,
			Lease: was.Lease, CleanupDelays: was.CleanupDelays, Now: was.Now, Rand: was.Rand, Log: was.Log,
		}
		now.Quarantine.Terms = was.Quarantine.Terms
		n.Rotation = s.Rotation
		n.Server.Accounts, n.Server.DIDs.Accounts = now, now
		n.Identity.Accounts, n.Identity.Identities.Accounts = now, now
		n.Admin.Accounts, n.Operator.Accounts, n.Repo.Accounts = now, now, now
		n.Moves.Accounts, n.Operator.Hosts.Accounts = now, now
		n.Moves.Kinds[move.Key] = &move.KeyMove{Accounts: now, Now: n.Now}
	}
}

// stream streams events until the test ends.
func (s *Server) stream() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Sync.Firehose.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-s.DB.EventsAppended():
				s.Sync.Firehose.Wake()
			case <-ctx.Done():
				return
			}
		}
	})
	s.Cleanup(func() { cancel(); running.Wait() })
}

// Engines runs a test, as a subtest, on a server with each engine of the database.
func Engines(t *testing.T, test func(t *testing.T, s *Server), change ...func(*Options)) {
	t.Helper()
	var clock *Clock
	dbtest.Engines(t, func(t *testing.T, d *db.DB) {
		here := func(o *Options) { o.DB, o.Clock = d, clock }
		test(t, New(t, append([]func(*Options){here}, change...)...))
	}, func(c *db.Config) {
		clock = NewClock()
		c.Now = clock.Now
	})
}

// In completes method names without a dot by a namespace.
func In(namespace string) func(*Options) { return func(o *Options) { o.Namespace = namespace } }

// Routes are the methods of the server's namespace, as they are served.
func (s *Server) Routes() []xrpc.Route {
	var mine []xrpc.Route
	for _, r := range s.routes {
		if strings.HasPrefix(r.NSID, s.namespace+".") {
			mine = append(mine, r)
		}
	}
	return mine
}

// EveryRoute are the methods of all namespaces.
func (s *Server) EveryRoute() []xrpc.Route { return s.routes }

// Check ends the test where there is an error.
func (s *Server) Check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// Must is v, of what cannot fail in a test; it panics if it does.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Start is when the clock of a server begins: noon of the first of March 2026.
var Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A Clock stands still until it is told to go on.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at [Start].
func NewClock() *Clock { return &Clock{now: Start} }

// Now is the time that it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance lets it show d more.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A Log is all that a server logged, from level debug on.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to it.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is what was written until now.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
