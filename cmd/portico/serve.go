package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/account/invite"
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
	"portico/impl/blob/rows"
	"portico/impl/bsky"
	"portico/impl/budget"
	webconsole "portico/impl/console"
	"portico/impl/identity/directory"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/host/proof"
	"portico/impl/identity/plc"
	"portico/impl/identity/resolve"
	"portico/impl/job"
	"portico/impl/keyring"
	"portico/impl/logging"
	"portico/impl/mail/email"
	"portico/impl/mail/emailcode"
	"portico/impl/mail/outbox"
	"portico/impl/owner"
	"portico/impl/portico/operator"
	"portico/impl/proxy"
	"portico/impl/proxy/upstream"
	"portico/impl/records"
	"portico/impl/reference/adopt"
	"portico/impl/repo/export"
	"portico/impl/repo/firehose"
	"portico/impl/repo/importer"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

// How long the server waits: for requests to end at a stop, for a client to send
// its header, and between two requests of one connection.
const (
	stopTimeout   = 30 * time.Second
	headerTimeout = 10 * time.Second
	idleTimeout   = 90 * time.Second
)

// run serves by s, which c has read, until ctx is done, then lets the requests under way
// finish and closes the database. What an operator wants to know at a start goes to
// stdout, the log to standard error. A start that fails leaves the data as they were, so
// whatever can fail without them comes first.
func run(ctx context.Context, c configuration, s *settings, stdout io.Writer) (err error) {
	signal.Ignore(syscall.SIGPIPE) // the server outlives whoever reads its log
	log, closeLog := logging.New(os.Stderr, s.LogLevel, s.LogFormat == "json")
	defer closeLog()
	notices := new(logging.Notices)
	log = notices.Keep(log)
	for _, warning := range s.Warnings {
		log.Warn(warning)
	}
	defer explainHangups(log)()
	if err := checkAdopted(ctx, s); err != nil {
		return err
	}
	at, err := listen(s)
	if err != nil {
		return err
	}
	defer at.close()
	defer serveMetrics(s, at.metrics, log)()
	limiter, stopLimiter, err := openLimiter(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopLimiter()) }()
	store, err := openData(ctx, c, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	keys, err := openKeys(ctx, s, store)
	if err != nil {
		return err
	}
	origins, err := newOrigins(s, store, log)
	if err != nil {
		return err
	}
	directoryURL, stopDirectory := serveDirectory(s, at.directory, store, log)
	defer stopDirectory()

	parts, err := wire(ctx, s, store, keys, directoryURL, limiter, log)
	if err != nil {
		return err
	}
	parts.operators.Health.Notices = notices
	origins.names, parts.origins = parts.names, origins
	if err := origins.warn(ctx); err != nil {
		return err
	}
	stopConsole, err := serveConsole(s, at.console, parts, keys, log)
	if err != nil {
		return err
	}
	defer stopConsole()
	collector.Do(func() { tuneCollector(s, parts.hashMemory) })
	stopStream := background(ctx, parts.stream)
	defer stopStream()
	stopJobs := background(ctx, parts.runJobs)
	defer stopJobs()

	h := &http.Server{
		Handler: parts.echo, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if err := adopt.Forget(s.DataDirectory); err != nil {
		return fmt.Errorf("remember the first start after the adoption: %w", err)
	}
	announce(stdout, s, directoryURL)
	debug.FreeOSMemory() // most of what the start took
	served := make(chan error, 1)
	go func() { served <- h.Serve(at.server) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping")
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err = h.Shutdown(stop)
	// Whoever follows the firehose gets what was written until here.
	stopJobs()
	stopStream()
	if err := errors.Join(err, parts.methods.EndSubscriptions(stop)); err != nil {
		return fmt.Errorf("requests still under way at the stop: %w", err)
	}
	return parts.blobs.Wait(stop)
}

// background runs f, beyond the end of ctx, until stop is called, which waits for it.
func background(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() { cancel(); running.Wait() }
}

// listeners are the sockets of a server. Those who connect wait until it serves.
type listeners struct {
	server    net.Listener
	directory net.Listener // of the embedded PLC directory, nil without one
	metrics   net.Listener // of what is for the operator alone, nil without one
	console   net.Listener // of the operator's pages, nil without one
}

func listen(s *settings) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.server, err = net.Listen("tcp", s.listenAddress()); err != nil {
		return l, fmt.Errorf("listen (PDS_PORT, PORTICO_BIND): %w", err)
	}
	if s.PLCURL == nil {
		l.directory, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(s.PLCPort)))
		if err != nil {
			return l, fmt.Errorf("listen for the embedded PLC directory (PORTICO_PLC_PORT): %w", err)
		}
	}
	if s.MetricsBind.IsValid() {
		if l.metrics, err = net.Listen("tcp", s.MetricsBind.String()); err != nil {
			return l, fmt.Errorf("listen (PORTICO_METRICS_BIND): %w", err)
		}
	}
	if s.ConsoleBind.IsValid() {
		if l.console, err = net.Listen("tcp", s.ConsoleBind.String()); err != nil {
			return l, fmt.Errorf("listen (PORTICO_CONSOLE_BIND): %w", err)
		}
	}
	return l, nil
}

// close ends what was not ended yet.
func (l listeners) close() {
	for _, listener := range []net.Listener{l.server, l.directory, l.metrics, l.console} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// explainHangups says in the log what SIGHUP does, which is nothing, until stop is
// called.
func explainHangups(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				log.Warn("SIGHUP changes nothing: settings are read at the start, and the log is no file to be opened again; restart for other settings")
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(hangups); close(done) }
}

// openData opens the database, and before it the secrets that it is used with. Where
// they do not go together both are left, or made to be, as they were.
func openData(ctx context.Context, c configuration, s *settings, log *slog.Logger) (*db.DB, error) {
	absent := absentDirectories(s.DataDirectory)
	warned := len(s.Warnings)
	if err := c.fill(s); err != nil {
		return nil, err
	}
	for _, warning := range s.Warnings[warned:] {
		log.Warn(warning)
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Dir: s.DataDirectory, Serves: s.localURL(), Synchronous: s.SQLiteSynchronous,
		SequenceStart: s.SequenceStart, Slow: s.SlowStatement, Logger: log,
		Check: func(ctx context.Context, tx *db.Tx) error {
			for _, check := range []func(context.Context, *settings, *db.Tx) error{checkDirectory, checkSecrets, checkKeys} {
				if err := check(ctx, s, tx); err != nil {
					return err
				}
			}
			return nil
		},
	})
	switch {
	case errors.Is(err, db.ErrLocked):
		return nil, fmt.Errorf("open database: %w", err) // the other may have read our secrets
	case errors.Is(err, db.ErrSchemaAhead):
		err = unfit(fmt.Errorf("%w: start the version that brought it there, or restore the backup from before", err))
	case err == nil && s.SecretsFile != "" && !exists(s.SecretsFile):
		err = errors.Join(fmt.Errorf("%s was taken away during the start: start again", s.SecretsFile), store.Close())
	}
	if err == nil {
		return store, nil
	}
	where := ""
	if s.DatabaseURL != "" {
		where = " (PORTICO_DATABASE_URL)"
	}
	return nil, errors.Join(fmt.Errorf("open database%s: %w", where, err), s.takeBack(absent))
}

// takeBack removes the secrets that this start has made, unless there is a database of
// theirs, and those of the directories that are empty then.
func (s *settings) takeBack(directories []string) error {
	if !s.SecretsMade || s.DatabaseURL == "" && exists(s.databaseFile()) {
		return nil
	}
	if err := removeIfThere(s.SecretsFile); err != nil {
		return fmt.Errorf("take back the new secrets: %w", err)
	}
	for _, dir := range directories {
		if os.Remove(dir) != nil {
			break // somebody has put something there
		}
	}
	return nil
}

// absentDirectories is dir and those above it that do not exist, the innermost first.
func absentDirectories(dir string) []string {
	var absent []string
	for ; !exists(dir); dir = filepath.Dir(dir) {
		absent = append(absent, dir)
	}
	return absent
}

// checkDirectory refuses to take DIDs that nobody else knows into the world.
func checkDirectory(ctx context.Context, s *settings, tx *db.Tx) error {
	if s.PLCURL == nil {
		return nil
	}
	used, err := tx.HasPLCOperations(ctx)
	if err != nil {
		return err
	}
	if used && !s.Development {
		return unfit(errors.New("the accounts of this database were made with the embedded PLC directory of a " +
			"development server: their DIDs exist nowhere else. Use an empty data directory (PDS_DATA_DIRECTORY) " +
			"or database (PORTICO_DATABASE_URL)"))
	}
	return nil
}

// checkSecrets refuses to go on with a database of accounts when the secrets it
// was used with are gone. For a database in a file this was found out earlier.
func checkSecrets(ctx context.Context, s *settings, tx *db.Tx) error {
	if !s.SecretsMade {
		return nil
	}
	accounts, err := tx.Accounts(ctx, "", 1)
	if err != nil || len(accounts) == 0 {
		return err
	}
	return unfit(fmt.Errorf("the database has accounts, but %s, which has the secrets they were made with, is gone. "+
		"Restore it, or set the variables it held to their old values (portico config names them)", s.SecretsFile))
}

// serveDirectory serves the embedded PLC directory at listener, where none is
// configured, and returns the URL of the directory to use.
func serveDirectory(s *settings, listener net.Listener, store *db.DB, log *slog.Logger) (url string, stop func()) {
	if s.PLCURL != nil {
		return s.PLCURL.String(), func() {}
	}
	h := &http.Server{
		Handler:           directory.New(plcStore{store}, time.Now, s.Version, log),
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
	}
	go h.Serve(listener)
	return "http://" + listener.Addr().String(), func() { h.Close() }
}

// announce says where everything is.
func announce(w io.Writer, s *settings, directoryURL string) {
	fmt.Fprintf(w, "Portico %s listens on %s as %s\n", s.Version, s.listenAddress(), s.PublicURL)
	if s.ConsoleBind.IsValid() {
		fmt.Fprintf(w, "  console    http://%s%s\n", s.ConsoleBind, webconsole.Home)
	}
	if !s.Development {
		return
	}
	fmt.Fprintf(w, "  data       %s\n", s.DataDirectory)
	if s.SecretsFile != "" {
		fmt.Fprintf(w, "  secrets    %s\n", s.SecretsFile)
	}
	fmt.Fprintf(w, "  directory  %s\n", withoutUser(directoryURL))
	fmt.Fprintf(w, "  methods    %s/docs\n", s.PublicURL)
	fmt.Fprintf(w, `
Sign up:

  curl %s/xrpc/com.atproto.server.createAccount -H 'content-type: application/json' \
    -d '{"handle":"alice%s","email":"alice@example.com","password":"correct horse"}'

`, s.PublicURL, s.HandleDomains[0])
}

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
	crawlers  *syncmethods.Crawlers
	sched     *job.Scheduler
	retry     time.Duration
	log       *slog.Logger

	hashMemory int64 // bytes that password hashes take at most

	auditKeep time.Duration // how old entries of the record get
	eventKeep time.Duration // how old events get
}

// wire makes the services out of the settings. A nil limiter counts no requests.
func wire(ctx context.Context, s *settings, store *db.DB, keys *keyring.Ring, directoryURL string, limiter xrpc.Limiter, log *slog.Logger) (*parts, error) {
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
	budgets := &budget.Ledger{DB: store, Keys: keys, Exempt: s.RateLimitBypassIPs, Now: time.Now}
	if !s.Development {
		budgets.Hidden = func() { log.Warn(hiddenClients) }
	}
	sessions := &session.Sessions{DB: store, Tokens: tokens, Keys: keys, Budgets: budgets, Now: time.Now}
	blobs, err := openBlobs(s, store, log)
	if err != nil {
		return nil, err
	}
	accounts := &account.Accounts{
		DB: store, Blobs: blobs, Sessions: sessions, Keys: keys, Budgets: budgets,
		Rotation: s.RotationKey, Recovery: s.RecoveryDIDKey, Endpoint: s.PublicURL.String(), Hosts: hosts, Holder: holder,
		Lease: s.SignupLease, CleanupDelays: s.SignupCleanupAfter, Now: time.Now, Rand: rand.Reader, Log: log,
		Quarantine: account.Quarantine{Rule: s.Quarantine, Releases: s.ReleasesPerHour, LargeMailDomains: s.LargeMailDomains},
	}
	if s.OldRotationKey != nil {
		accounts.OldRotation = s.OldRotationKey
	}
	accounts.Directory = &plc.Client{URL: directoryURL, Hold: accounts.MayPublish, Deadline: account.Patience(s.SignupLease)}
	plcs := &plc.Client{URL: directoryURL, Hold: accounts.MayPublish}
	strangers := resolve.NewClient(!s.SSRFProtection)
	documents := &resolve.Cache{
		Fetch: (&resolve.DIDs{Directory: directoryURL, Web: strangers, Timeout: s.ResolverTimeout}).Fetch,
		Pay:   func(ctx context.Context) error { return auth.LookUp(ctx, budgets) },
		Store: newDocumentStore(store), Now: time.Now, Log: log, StaleAfter: s.DIDCacheStale, ExpireAfter: s.DIDCacheMax,
	}
	handles := &resolve.Handles{Client: strangers, Timeout: s.ResolverTimeout}
	if len(s.BackupNameservers) > 0 {
		handles.Backup = resolve.NameServers(s.BackupNameservers)
	}
	gate := &auth.Gate{
		DB: store, Budgets: budgets, Now: time.Now, Tokens: tokens, AdminPassword: string(s.AdminPassword), ModService: s.ModService.DID,
		Services: &serviceauth.Verifier{Audiences: []string{s.ServiceDID.String()}, Others: others, Resolver: documents, Now: time.Now},
	}
	letters := &outbox.Outbox{DB: store, Keys: keys, Holder: holder, Now: time.Now, Log: log}
	if letters.Sender, err = sender(s, log); err != nil {
		return nil, err
	}
	dids := &account.Verifier{Accounts: accounts, Directory: plcs, Documents: documents}
	passwords := password.NewHasher(password.Config{
		Rand: rand.Reader, Concurrency: s.HashConcurrency, Queue: s.HashQueue, Memory: int(s.MemoryLimit / 2 >> 10),
		Params: password.Params{Memory: uint32(s.HashMemory) * 1024, Time: 2, Threads: 1},
	})
	domains, err := domain.Open(ctx, store, domain.Config{
		Configured: s.HandleDomains, InviteRequired: s.InviteRequired, Hostname: s.Hostname, Twin: hosts.Twin, Now: time.Now, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("read domains of handles: %w", err)
	}
	warnOfOpenSignUp(ctx, s, domains, log)
	rules := &handle.Rules{Reserved: handle.Reserved(s.ReservedHandles, s.UnreservedHandles)}
	ownDIDs := &account.Identities{
		Accounts: accounts, Directory: plcs, Documents: documents, Foreign: handles, Rules: rules,
		Domains: domains,
	}
	codes := &emailcode.Codes{DB: store, Keys: keys, Budgets: budgets, Outbox: letters, Brand: s.brand(), Now: time.Now, Rand: rand.Reader}
	phones := s.phones(store, keys, budgets, letters)
	service := &server.Service{
		DB: store, Budgets: budgets, Accounts: accounts, DIDs: dids, Sessions: sessions,
		Passwords: passwords, Handles: rules, Domains: domains,
		Emails:  &email.Rules{Disposable: email.Disposable()},
		Resolve: identities{handles, documents},
		Config: server.Config{
			ServiceDID: s.ServiceDID, ModService: s.ModService.DID, Hostname: s.Hostname,
			InviteEarning: invite.Earning{Interval: s.InviteInterval, Epoch: s.InviteEpoch},
			PrivacyPolicy: s.PrivacyPolicyURL, TermsOfService: s.TermsOfServiceURL, ContactEmail: s.ContactEmail,
			SendsMail:          s.SMTPURL != nil || s.Development,
			DocumentInSessions: s.DIDDocWithSession, PasswordMinLength: s.PasswordMinLength, SignUpsPerDay: s.SignUpsPerDay,
			BlobUploadLimit: s.BlobUploadLimit,
		},
		Codes: codes, Phones: phones, Outbox: letters, Brand: s.brand(),
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
		Credentials: account.Credentials{Budgets: budgets, Outbox: letters, Brand: s.brand(), Now: time.Now},
		Passwords:   passwords, Outbox: letters, PasswordMinLength: s.PasswordMinLength, Now: time.Now,
	}
	operators := &operator.Service{
		DB: store, Blobs: blobs, Accounts: accounts, Handles: rules, Budgets: budgets, Identities: ownDIDs, Credentials: administration.Credentials, Domains: domains, DIDs: dids,
		Passwords: passwords, PasswordMinLength: s.PasswordMinLength, Now: time.Now,
	}

	retry := cmp.Or(s.SignupRetry, time.Minute)
	var rest time.Duration
	if len(s.SignupCleanupAfter) > 0 {
		rest = s.SignupCleanupAfter[0] // that much later what was on its way is found, or is no more
	}
	operators.Hosts = &move.HostMove{
		Accounts: accounts, Domains: domains, Outbox: letters, Brand: s.brand(), ServiceDID: s.ServiceDID.String(),
		Prove: (&proof.Prover{Client: resolve.Through(http.ProxyFromEnvironment, strangers), MAC: tokens.Proof, Rand: rand.Reader}).Prove,
	}
	operators.Moves = &move.Moves{
		DB: store, Accounts: accounts, Directory: plcs, Now: time.Now, Log: log,
		Kinds:   map[string]move.Kind{move.Key: &move.KeyMove{Accounts: accounts, Now: time.Now}, move.Host: operators.Hosts},
		Refresh: func(ctx context.Context, did syntax.DID) { _, _ = documents.Resolve(ctx, did, true) },
		Rate:    float64(s.PLCRate), Slice: retry, Rest: rest,
	}

	hose := firehose.New(firehose.Stored(store), log, firehose.Options{})
	operators.Firehose = hose
	nodes := tree.NewCache(nodeCache)
	repositories := &repo.Service{
		DB: store, Blobs: blobs, Keys: record.NewKeys(time.Now, mathrand.UintN(32)), Documents: documents, Accounts: accounts,
		Records: &records.Writer{DB: store, Blobs: blobs, Keys: keys, Cache: nodes, Quota: s.RecordQuota, Now: time.Now},
	}
	operators.Imports = &importer.Importer{
		DB: store, Dir: s.DataDirectory, MaxRecords: s.RecordQuota, Now: time.Now, Finish: accounts.FinishImport, Bounds: importer.Bounds{Bytes: max(importer.DefaultBytes, 2*s.MaxImportSize)},
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
	operators.Health = operator.Health{Version: s.Version, Began: time.Now(), Check: health.check, Notices: new(logging.Notices)}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	options := xrpc.Options{
		Logger: log, Limiter: limiter, BypassKey: string(s.RateLimitBypassKey), BypassIPs: s.RateLimitBypassIPs,
		TrustedProxies: s.TrustedProxies, CheckOutput: s.DevMode, Fallback: passing.Fallback,
		Health: health.check, Version: s.Version, Pages: sitePaths, Unlogged: []string{owner.InvitePath},
	}
	owners, err := owner.New(owner.Config{
		Origin: s.PublicURL.Scheme + "://" + s.PublicURL.Host, ServiceName: s.ServiceName, Contact: s.ContactEmail, SendsMail: service.Config.SendsMail,
		Methods: e, DB: store, Keys: keys, Tokens: tokens, Budgets: budgets, Now: time.Now, Rand: rand.Reader, Log: log,
	})
	if err != nil {
		return nil, err
	}
	behind := &services{
		server: service, identity: names, admin: administration, operator: operators,
		temp: &temp.Service{
			DB: store, Accounts: accounts, Phones: phones, Budgets: budgets, Handles: rules, Domains: domains, Emails: service.Emails, Now: time.Now, Rand: rand.Reader,
		},
		repo: repositories, gate: gate, appView: s.AppView.URL != nil,
		report: &moderation.Service{Proxy: passing, CheckOutput: s.DevMode}, maxBlob: s.BlobUploadLimit, maxImport: s.MaxImportSize,
		sync: &syncmethods.Service{
			DB: store, Blobs: blobs, Firehose: hose, Hostname: s.PublicURL.Host, Now: time.Now,
			Exports: export.New(store, s.DataDirectory, export.Bounds{}), Nodes: nodes,
		},
		bsky:  &bsky.Service{DB: store, Proxy: passing, ImageURL: s.AppViewImages, PublicURL: s.PublicURL.String(), Now: time.Now, Log: log},
		pages: &pages{settings: s, accounts: accounts, domains: domains, names: hosts, proof: tokens.Proof},
		owner: owners,
	}
	if s.PublicConsole {
		if behind.pages.console, err = newConsole(s, netip.AddrPort{}, e, store, keys, log); err != nil {
			return nil, err
		}
	}
	methods, err := behind.register(e, options, s.HandleDomains[0])
	if err != nil {
		return nil, err
	}
	return &parts{
		echo: e, methods: methods, accounts: accounts, dids: ownDIDs, letters: letters,
		guesses: &account.Guesses{DB: store, Outbox: letters, Brand: s.brand(), Now: time.Now},
		deletes: &account.Deletions{Accounts: accounts, DIDs: dids, Outbox: letters, Brand: s.brand(), Min: s.DeleteAfterMin},
		blobs:   blobs, moves: operators.Moves, operators: operators,
		store: store, health: health, log: log, retry: retry, auditKeep: s.AuditKeep,
		hose: hose, eventKeep: s.BackfillLimit,
		names:    hosts,
		crawlers: &syncmethods.Crawlers{Hosts: s.Crawlers, Hostname: nameForCrawlers(hosts), HTTP: crawlerClient, Now: time.Now, Log: log},
		sched:    &job.Scheduler{DB: store, Holder: holder, Now: time.Now, Log: log},

		hashMemory: passwords.Memory(),
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

// runJobs settles what the last process left behind, and does the regular work
// until ctx is done.
func (p *parts) runJobs(ctx context.Context) {
	if p.store.Exclusive() {
		if err := p.accounts.Resume(ctx, true); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume unfinished accounts", "error", err)
		}
		if err := p.dids.Resume(ctx, true); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume changes of handles", "error", err)
		}
		if err := p.moves.Resume(ctx); err != nil && ctx.Err() == nil {
			p.log.ErrorContext(ctx, "resume the move of all DIDs", "error", err)
		}
	}
	var worker sync.WaitGroup
	defer worker.Wait()
	worker.Go(func() { p.letters.Run(ctx) })
	worker.Go(func() { p.health.run(ctx) })
	worker.Go(func() { p.releaseSoon(ctx) })
	worker.Go(func() { warnOfBucket(ctx, p.blobs, p.log) })
	p.sched.Run(ctx,
		job.Job{Name: "unfinished accounts", Every: p.retry, Run: func(ctx context.Context) error {
			return p.accounts.Resume(ctx, false)
		}},
		job.Job{Name: "changes of handles", Every: p.retry, Run: func(ctx context.Context) error {
			return p.dids.Resume(ctx, false)
		}},
		job.Job{Name: "move of all DIDs", Every: p.retry, Run: p.moves.Run},
		job.Job{Name: "releases from quarantine", Every: p.retry, Run: p.accounts.Release},
		job.Job{Name: "unconfirmed in quarantine", Every: time.Hour, Run: p.accounts.ExpireHeld},
		job.Job{Name: "clean-up", Every: p.retry, Run: p.accounts.CleanUp},
		job.Job{Name: "guesses", Every: p.retry, Run: p.guesses.Run},
		job.Job{Name: "changed origin", Every: time.Hour, Run: func(ctx context.Context) error {
			return p.origins.settle(ctx, p.dids.Published)
		}},
		job.Job{Name: "deletions", Every: time.Hour, Run: p.deletes.Run},
		job.Job{Name: "blobs", Every: time.Hour, Run: func(ctx context.Context) error {
			if still, err := p.accounts.Standstill(ctx); err != nil || still != "" {
				return err
			}
			return cleanBlobs(ctx, p.blobs, p.log)
		}},
		job.Job{Name: "expired rows", Every: time.Hour, Run: func(ctx context.Context) error {
			now := time.Now()
			return p.store.Write(ctx, func(tx *db.Tx) error {
				return errors.Join(tx.Purge(ctx, now), tx.PurgeAudit(ctx, now.Add(-p.auditKeep)))
			})
		}},
		job.Job{Name: "old events", Every: time.Hour, Run: func(ctx context.Context) error {
			return firehose.DropBefore(ctx, p.store, time.Now().Add(-p.eventKeep))
		}},
	)
}

// releaseSoon releases accounts as soon as their owners have done what they are held for.
func (p *parts) releaseSoon(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.accounts.ReleasesDue():
			if err := p.accounts.Release(ctx); err != nil && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "release accounts from quarantine", "error", err)
			}
		}
	}
}

// stream streams the events until ctx is done, and tells the crawlers that there are some.
func (p *parts) stream(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { p.hose.Run(ctx) })
	running.Go(func() { p.hose.Watch(ctx) })
	defer p.crawlers.Wait()
	for {
		p.crawlers.Notify(ctx)
		select {
		case <-p.store.EventsAppended():
			p.hose.Wake()
		case <-ctx.Done():
			return
		}
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
