package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/db"
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
	"portico/impl/authserver/authorize"
	"portico/impl/blob/rows"
	"portico/impl/bsky"
	"portico/impl/budget"
	"portico/impl/handover"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/host/proof"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
	"portico/impl/job"
	"portico/impl/keyring"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
	"portico/impl/mail/outbox"
	"portico/impl/owner"
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

// parts are the wired services that run needs to know.
type parts struct {
	echo      *echo.Echo
	methods   *xrpc.Server
	accounts  *account.Accounts
	dids      *account.Identities
	letters   *outbox.Outbox
	guesses   *account.Guesses
	deletes   *account.Deletions
	moves     *move.Moves
	blobs     *rows.Blobs
	operators *operator.Service
	store     *db.DB
	health    *health
	origins   *origins
	names     *host.Names
	hose      *firehose.Firehose
	exports   *export.Exports
	crawlers  *syncmethods.Crawlers
	appended  chan struct{} // events, for the crawlers
	sched     *job.Scheduler
	passing   *proxy.Proxy
	passwords *password.Hasher
	plcs      []*plc.Client
	budgets   *budget.Ledger
	retry     time.Duration
	log       *slog.Logger

	publicURL  string
	hashMemory int64 // bytes that password hashes take at most

	live *live
	apps *appParts
}

// wire makes the services out of the settings. What a reload may change of these they ask
// what r has in force.
func wire(ctx context.Context, s *settings, r *reloader, store *db.DB, keys *keyring.Ring, directoryURL string, log *slog.Logger) (*parts, error) {
	now := r.live
	holder, err := holderName()
	if err != nil {
		return nil, err
	}
	hosts, err := host.Open(ctx, store, host.Config{Name: s.PublicURL.Host, Now: time.Now, Log: log})
	if err != nil {
		return nil, err
	}
	others := func() []string { return hosts.State(context.Background()).Audiences() }
	tokens := &token.Issuer{Secret: []byte(s.JWTSecret), ServiceDID: s.ServiceDID.String(), Others: others, Now: time.Now, Rand: rand.Reader}
	budgets := &budget.Ledger{DB: store, Keys: keys, Exempt: now.exempt, Now: time.Now}
	if !s.Development {
		budgets.Hidden = func() { log.Warn(hiddenClients) }
	}
	sessions := &session.Sessions{DB: store, Tokens: tokens, Keys: keys, Budgets: budgets, Now: time.Now}
	blobs, err := openBlobs(ctx, s, now.blobQuota, store, log)
	if err != nil {
		return nil, err
	}
	accounts := &account.Accounts{
		DB: store, Blobs: blobs, Sessions: sessions, Keys: keys, Budgets: budgets,
		Rotation: s.RotationKey, Recovery: s.RecoveryDIDKey, Endpoint: s.PublicURL.String(), Hosts: hosts, Holder: holder,
		Lease: s.SignupLease, CleanupDelays: s.SignupCleanupAfter, Now: time.Now, Rand: rand.Reader, Log: log,
		Quarantine: account.Quarantine{Terms: now.quarantine},
	}
	if s.OldRotationKey != nil {
		accounts.OldRotation = s.OldRotationKey
	}
	patient := &plc.Client{URL: directoryURL, Hold: accounts.MayPublish, Deadline: account.Patience(s.SignupLease)}
	accounts.Directory = patient
	plcs := &plc.Client{URL: directoryURL, Hold: accounts.MayPublish}
	strangers := resolve.NewClient(!s.SSRFProtection)
	documents := &resolve.Cache{
		Fetch: (&resolve.DIDs{Directory: directoryURL, Web: strangers, Timeout: s.ResolverTimeout}).Fetch,
		Pay:   func(ctx context.Context) error { return auth.LookUp(ctx, budgets) },
		Store: newDocumentStore(store), Now: time.Now, Log: log, StaleAfter: s.DIDCacheStale, ExpireAfter: s.DIDCacheMax,
	}
	apps, err := wireApps(s, now, store, keys, budgets, strangers, documents, log)
	if err != nil {
		return nil, err
	}
	handles := &resolve.Handles{Client: strangers, Timeout: s.ResolverTimeout}
	if len(s.BackupNameservers) > 0 {
		handles.Backup = resolve.NameServers(s.BackupNameservers)
	}
	gate := &auth.Gate{
		DB: store, Budgets: budgets, Now: time.Now, Tokens: tokens, AdminPassword: now.adminPassword, ModService: s.ModService.DID,
		Proofs: apps.proofs, Grants: apps.grants,
		Services: &serviceauth.Verifier{Audiences: []string{s.ServiceDID.String()}, Others: others, Resolver: documents, Now: time.Now},
	}
	letters := &outbox.Outbox{DB: store, Keys: keys, Sender: now.sender, Holder: holder, Now: time.Now, Log: log}
	sessions.Outbox, sessions.Brand = letters, now.brand
	dids := &account.Verifier{Accounts: accounts, Directory: plcs, Documents: documents}
	passwords := password.NewHasher(password.Config{
		Rand: rand.Reader, Concurrency: s.HashConcurrency, Queue: s.HashQueue, Memory: int(s.MemoryLimit / 2 >> 10),
		Params: password.Params{Memory: uint32(s.HashMemory) * 1024, Time: 2, Threads: 1},
	})
	domains, err := domain.Open(ctx, store, domain.Config{
		Configured: now.domains, Hostname: s.Hostname, Twin: hosts.Twin, Now: time.Now, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("read domains of handles: %w", err)
	}
	warnOfOpenSignUp(ctx, s, domains, log)
	r.changed = append(r.changed, func() {
		domains.Forget()
		warnOfOpenSignUp(ctx, now.settings(), domains, log)
	})
	rules := &handle.Rules{Reserved: now.reserved}
	ownDIDs := &account.Identities{
		Accounts: accounts, Directory: plcs, Documents: documents, Foreign: handles, Rules: rules,
		Domains: domains,
	}
	codes := &emailcode.Codes{DB: store, Keys: keys, Budgets: budgets, Outbox: letters, Brand: now.brand, Now: time.Now, Rand: rand.Reader}
	factors := &factor.Factors{DB: store, Keys: keys, Budgets: budgets, Sessions: sessions, Outbox: letters, Brand: now.brand, Now: time.Now, Rand: rand.Reader}
	factors.Site, err = passkey.New(s.PublicURL.Scheme+"://"+s.PublicURL.Host, s.ServiceName)
	if err != nil && !errors.Is(err, passkey.ErrHost) {
		return nil, err
	}
	phones := s.phones(now.serviceName, store, keys, budgets, letters)
	service := &server.Service{
		DB: store, Budgets: budgets, Accounts: accounts, DIDs: dids, Sessions: sessions,
		Passwords: passwords, Handles: rules, Domains: domains,
		Emails:  &email.Rules{Disposable: email.Disposable()},
		Resolve: identities{handles, documents},
		Config:  now.server,
		Codes:   codes, Factors: factors, Phones: phones, Outbox: letters, Brand: now.brand,
		Now: time.Now, Wait: wait, Rand: rand.Reader, Log: log,
	}

	names := &identity.Service{
		DB: store, Budgets: budgets, Accounts: accounts, Identities: ownDIDs, Codes: codes, Domains: domains,
		Resolve: identities{handles, documents}, Directory: plcs, Log: log,
	}
	if s.AppView.URL != nil {
		names.AppView = identity.NewAppView(s.AppView.URL.String(), s.ResolverTimeout)
	}
	administration := &admin.Service{
		DB: store, Blobs: blobs, Accounts: accounts, DIDs: dids, Identities: ownDIDs,
		Credentials: account.Credentials{Budgets: budgets, Outbox: letters, Brand: now.brand, Now: time.Now},
		Passwords:   passwords, Outbox: letters, PasswordMinLength: now.passwordMinLength, Now: time.Now,
	}
	operators := &operator.Service{
		DB: store, Blobs: blobs, Accounts: accounts, Handles: rules, Budgets: budgets, Identities: ownDIDs, Credentials: administration.Credentials, Domains: domains, DIDs: dids,
		Passwords: passwords, PasswordMinLength: now.passwordMinLength, Now: time.Now, TrustedProxies: now.trustedProxies,
	}

	retry := cmp.Or(s.SignupRetry, time.Minute)
	var rest time.Duration
	if len(s.SignupCleanupAfter) > 0 {
		rest = s.SignupCleanupAfter[0] // that much later what was on its way is found, or is no more
	}
	operators.Hosts = &move.HostMove{
		Accounts: accounts, Domains: domains, Outbox: letters, Brand: now.brand, ServiceDID: s.ServiceDID.String(),
		Prove: (&proof.Prover{Client: resolve.Through(http.ProxyFromEnvironment, strangers), MAC: tokens.Proof, Rand: rand.Reader}).Prove,
	}
	operators.Moves = &move.Moves{
		DB: store, Accounts: accounts, Directory: plcs, Now: time.Now, Log: log,
		Kinds:   map[string]move.Kind{move.Key: &move.KeyMove{Accounts: accounts, Now: time.Now}, move.Host: operators.Hosts},
		Refresh: func(ctx context.Context, did syntax.DID) { _, _ = documents.Resolve(ctx, did, true) },
		Rate:    now.plcRate, Slice: retry, Rest: rest,
	}

	operators.Transfers = &account.Transfers{Accounts: accounts, Identities: ownDIDs, DIDs: dids, Lease: s.MoveLease}

	hose := firehose.New(firehose.Stored(store), log, firehose.Options{})
	operators.Firehose = hose
	nodes := tree.NewCache(nodeCache)
	exports := export.New(store, s.DataDirectory, export.Bounds{})
	repositories := &repo.Service{
		DB: store, Blobs: blobs, Keys: record.NewKeys(time.Now, mathrand.UintN(32), mathrand.UintN), Documents: documents, Accounts: accounts,
		Records: &records.Writer{DB: store, Blobs: blobs, Keys: keys, Cache: nodes, Quota: now.recordQuota, Now: time.Now},
	}
	operators.Imports = &importer.Importer{
		DB: store, Dir: s.DataDirectory, MaxRecords: now.recordQuota, Now: time.Now, Finish: accounts.FinishImport, Bounds: importer.Bounds{Bytes: max(importer.DefaultBytes, 2*s.MaxImportSize)},
	}
	if s.AcceptImports {
		repositories.Imports = operators.Imports
	}

	s.Proxy.Private = !s.SSRFProtection
	for _, other := range []otherService{s.AppView, s.ModService, s.ReportService} {
		if other.URL != nil {
			s.Proxy.Own = append(s.Proxy.Own, other.named("").URL)
		}
	}
	passing := &proxy.Proxy{
		Client: upstream.New(s.Proxy), Self: proxy.Service{DID: s.ServiceDID, URL: s.PublicURL.String()},
		Here:    func(ctx context.Context, url string) bool { return hosts.State(ctx).Serves(url) },
		AppView: s.AppView.named(proxy.AppViewID), Moderation: s.ModService.named(proxy.LabelerID),
		Reports: cmp.Or(s.ReportService, s.ModService).named(proxy.LabelerID), Documents: documents, Keys: accounts, Gate: gate,
		PreferCompressed: s.ProxyPacked, ReuseTokens: s.ProxyReuse, Now: time.Now, Rand: rand.Reader, Log: log,
	}
	repositories.Proxy = passing
	health := newHealth(store)
	operators.Health = operator.Health{Version: s.Version, Began: time.Now(), Check: health.check, Notices: &r.log.notices}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	options := xrpc.Options{
		Logger: log, Callers: now.callers, CheckOutput: s.DevMode, Fallback: passing.Fallback,
		Health: health.check, Version: s.Version, Sending: handover.Sending, Pages: sitePaths, Unlogged: []string{owner.InvitePath},
	}
	err = r.make(func(now *inForce) (err error) {
		now.owner, err = owner.New(owner.Config{
			Origin: s.PublicURL.Scheme + "://" + s.PublicURL.Host, ServiceName: now.ServiceName, Contact: now.ContactEmail, SendsMail: now.sendsMail(),
			Methods: e, DB: store, Keys: keys, Tokens: tokens, Budgets: budgets, Factors: factors, Grants: apps.grants, Now: time.Now, Rand: rand.Reader, Log: log,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.make(func(now *inForce) (err error) {
		now.letIn, err = authorize.New(authorize.Config{
			Origin: apps.issuer, ServiceName: now.ServiceName, SendsMail: now.sendsMail(), Branding: now.branding(), Captcha: now.captcha(captchaClient, budgets),
			Methods: e, Clients: apps.clients, Grants: apps.grants, Sets: apps.sets,
			Factors: factors, DB: store, Keys: keys, Tokens: tokens, Budgets: budgets, Now: time.Now, Rand: rand.Reader, Log: log,
		})
		return err
	}); err != nil {
		return nil, err
	}
	behind := &services{
		apps: apps.endpoints, letIn: now.page(func(now *inForce) http.Handler { return now.letIn }),
		server: service, identity: names, admin: administration, operator: operators,
		temp: &temp.Service{
			DB: store, Accounts: accounts, Phones: phones, Budgets: budgets, Handles: rules, Domains: domains, Emails: service.Emails, Now: time.Now, Rand: rand.Reader,
		},
		repo: repositories, gate: gate, appView: s.AppView.URL != nil,
		report: &moderation.Service{Proxy: passing, CheckOutput: s.DevMode}, maxBlob: s.BlobUploadLimit, maxImport: s.MaxImportSize,
		sync: &syncmethods.Service{
			DB: store, Blobs: blobs, Firehose: hose, Hostname: s.PublicURL.Host, Now: time.Now,
			Exports: exports, Nodes: nodes,
		},
		bsky:  &bsky.Service{DB: store, Proxy: passing, ImageURL: s.AppViewImages, PublicURL: s.PublicURL.String(), Now: time.Now, Log: log},
		pages: &pages{settings: now.settings, accounts: accounts, domains: domains, names: hosts, proof: tokens.Proof},
		owner: now.page(func(now *inForce) http.Handler { return now.owner }),
	}
	if s.PublicConsole {
		err := r.make(func(now *inForce) (err error) {
			now.console, err = newConsole(now.settings, netip.AddrPort{}, e, store, keys, log)
			return err
		})
		if err != nil {
			return nil, err
		}
		behind.pages.console = now.page(func(now *inForce) http.Handler { return now.console })
	}
	methods, err := behind.register(e, options, s.HandleDomains[0])
	if err != nil {
		return nil, err
	}
	return &parts{
		echo: e, methods: methods, accounts: accounts, dids: ownDIDs, letters: letters,
		guesses: &account.Guesses{DB: store, Outbox: letters, Brand: now.brand, Now: time.Now},
		deletes: &account.Deletions{Accounts: accounts, DIDs: dids, Outbox: letters, Brand: now.brand, Min: s.DeleteAfterMin},
		blobs:   blobs, moves: operators.Moves, operators: operators,
		store: store, health: health, log: log, retry: retry, live: now,
		hose: hose, exports: exports,
		passing: passing, passwords: passwords, plcs: []*plc.Client{patient, plcs}, budgets: budgets,
		names:    hosts,
		appended: make(chan struct{}, 1),
		crawlers: &syncmethods.Crawlers{Hosts: now.crawlers, Hostname: nameForCrawlers(hosts), HTTP: crawlerClient, Now: time.Now, Log: log},
		sched:    &job.Scheduler{DB: store, Holder: holder, Now: time.Now, Log: log},

		publicURL:  s.PublicURL.String(),
		hashMemory: passwords.Memory(),

		apps: apps,
	}, nil
}

// named is the service, under the name that it has in its DID document.
func (o otherService) named(id string) proxy.Service {
	if o.URL == nil {
		return proxy.Service{}
	}
	return proxy.Service{DID: o.DID, ID: id, URL: strings.TrimSuffix(o.URL.String(), "/")}
}

// nameForCrawlers is the name that the server goes by, which a move may have changed a
// moment ago: relays take accounts only from the host that their DIDs name.
func nameForCrawlers(hosts *host.Names) func(context.Context) string {
	return func(ctx context.Context) string {
		s := hosts.State(ctx)
		if s.Disagrees() {
			return "" // under the one nothing is to be found, and under the other nobody else
		}
		return s.Name
	}
}

// crawlerClient reaches private addresses too: the operator chose the relays, and no host
// that these redirect to.
var crawlerClient = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// nodeCache is how many bytes the nodes of trees may take that were used lately.
const nodeCache = 32 << 20

// hiddenClients is what is wrong where all requests come from this machine or a private
// network.
const hiddenClients = "nobody who signs in has an address of their own: the proxy in front of the server has to add " +
	"X-Forwarded-For (see PORTICO_TRUSTED_PROXIES), or a single caller can keep others from signing in"

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// holderName names this process in leases. The random part tells it from an
// earlier one of the same number, whose leases are not its own.
func holderName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this process: %w", err)
	}
	var random [8]byte
	rand.Read(random[:]) // never fails
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), hex.EncodeToString(random[:])), nil
}
