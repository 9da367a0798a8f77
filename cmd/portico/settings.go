package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/account/phone"
	"portico/impl/account/phone/twilio"
	"portico/impl/blob"
	"portico/impl/oauth/grant"
	"portico/impl/page"
	"portico/impl/proxy/upstream"
)

// secret is a text that must not reach a log or a terminal: every way of
// printing it says REDACTED. string(s) is the text.
type secret string

func (secret) String() string       { return "REDACTED" }
func (secret) GoString() string     { return "REDACTED" }
func (secret) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// settings is the configuration of one process, read at its start and never changed:
// after a reload others take its place, see [live]. Everything in it was checked; what no
// variable set has its default.
type settings struct {
	// Development says that the defaults of a development server hold: the
	// host name is unset or localhost.
	Development bool
	// Warnings are worth a line in the log at start: variables that have no
	// effect, values that count as unset, what the server can't do for want of one.
	Warnings []string
	// SecretsFile is where the secrets of this server are kept, empty when all of
	// them are configured. SecretsMade says that this start made the file: a
	// database that has accounts already must then not be opened.
	SecretsFile string
	SecretsMade bool

	// Server.
	Hostname       string
	Port           int
	Bind           netip.Addr // zero: all interfaces
	PublicURL      *url.URL
	ServiceDID     syntax.DID
	ServiceName    string
	Version        string
	DevMode        bool // answers are checked against their lexicons
	SSRFProtection bool // outgoing requests may not reach addresses inside the network
	TrustedProxies int  // proxies in front that append to X-Forwarded-For; 0: contract's rule
	LogLevel       slog.Level
	LogFormat      string // "text" or "json"
	LogFile        string // absolute; empty: standard error
	SlowStatement  time.Duration
	MetricsBind    netip.AddrPort // zero: no listener for operators
	MetricsGiven   bool           // it is not the default
	TracesURL      *url.URL       // of a collector; nil: there are no traces
	TracesHeaders  map[string]string
	TracesName     string
	TracesShare    float64        // of the requests
	Profiling      bool           // it serves profiles; it is on loopback then
	ConsoleBind    netip.AddrPort // of loopback; zero: no listener for the console
	PublicConsole  bool           // the console is on the public origin
	MemoryLimit    int64          // bytes; 0: none

	// What clients are told.
	PrivacyPolicyURL  string
	TermsOfServiceURL string
	ContactEmail      string
	BlobUploadLimit   int64 // bytes

	// Storage.
	DataDirectory     string // absolute
	DatabaseURL       secret // of Postgres; empty: SQLite in DataDirectory
	DatabasePooled    bool   // a pooler in transaction mode is before it
	DatabaseReadURL   secret // of a standby; empty: none
	DatabaseListenURL secret // past a pooler; empty: DatabaseURL, without a pooler
	SQLiteSynchronous string
	SequenceStart     int64
	BackfillLimit     time.Duration // how long events are kept
	BlobFolder        string        // absolute; empty: in a bucket
	BlobFolderGiven   bool          // whether a setting names it; else it moves with DataDirectory
	BlobTempFolder    string        // absolute; empty: in BlobFolder
	BlobLeftFolder    string        // absolute; empty: nothing was left
	BlobBucket        blob.S3Config // no bucket: in BlobFolder
	BlobsOwnSince     time.Time     // of the backup after which the place of blobs has no other server
	AccountBlobQuota  int64         // bytes; 0: none
	BackupKey         []byte        // 32 bytes; nil: backups are not sealed
	BackupBucket      blob.S3Config // without a bucket's name: where those of backups are

	// Relays that are told of new events: base URLs.
	Crawlers      []string
	AcceptImports bool
	MaxImportSize int64 // bytes; 0: any number

	// Secrets.
	JWTSecret           secret
	AcceptWeakJWTSecret bool
	AdminPassword       secret
	RotationKey         *atcrypto.PrivateKeyK256
	OldRotationKey      *atcrypto.PrivateKeyK256 // nil: none
	KeyEncryptionKey    []byte                   // 32 bytes
	OldKeyEncryptionKey [][]byte                 // 32 bytes each; what they sealed is still opened

	// Identity.
	PLCURL            *url.URL // nil: the embedded directory
	PLCPort           int      // of the embedded directory; 0: any free one
	PLCRate           int      // DIDs a second in a move of all
	RecoveryDIDKey    string   // did:key; empty: none
	HandleDomains     []string // each begins with a dot
	BackupNameservers []string // host:port
	ResolverTimeout   time.Duration
	DIDCacheStale     time.Duration
	DIDCacheMax       time.Duration
	DIDDocWithSession bool
	ReservedHandles   []string // labels reserved beside the built-in list
	UnreservedHandles []string // labels of the built-in list that may be taken

	// Accounts.
	PasswordMinLength  int // UTF-16 code units
	DeleteAfterMin     time.Duration
	AuditKeep          time.Duration
	InviteRequired     bool
	SignUpsPerDay      int    // 0: no cap
	Quarantine         string // rule by which new accounts are held; empty: they are not
	ReleasesPerHour    int
	LargeMailDomains   []string      // in lower case, beside those that are known
	RecordQuota        int           // records of an account; 0: any number
	InviteInterval     time.Duration // 0: accounts earn no codes
	InviteEpoch        time.Time
	HashConcurrency    int // 0: one a core
	HashMemory         int // MiB that one hash takes
	HashQueue          int // hashes that may wait; 0: some for each that runs
	SignupLease        time.Duration
	MoveLease          time.Duration
	SignupRetry        time.Duration
	SignupCleanupAfter []time.Duration // since the account was given up, ascending

	// Mail. SMTPURL is nil when none is configured: mails stay in the outbox.
	SMTPURL                 *url.URL
	EmailFrom               *mail.Address
	ModerationSMTPURL       *url.URL // nil: as SMTPURL
	ModerationEmail         *mail.Address
	DisableConfirmationLink bool
	HomeURL                 *url.URL
	LogoURL                 *url.URL // nil: no picture
	PrimaryColor            string

	// Phone verification.
	PhoneProvider    string // phoneTwilio, phoneOutbox; empty: phones are not verified
	PhoneMaxAccounts int    // of one number
	PhoneMaxTexts    int    // in a day
	PhoneBypass      phone.Number
	PhoneURL         string // without a slash at the end
	PhoneAccountSID  string
	PhoneAuthToken   secret
	PhoneServiceSID  string

	// Request limits.
	RateLimits         bool
	RateLimitBypassKey secret
	RateLimitBypassIPs []netip.Addr
	RedisAddress       string // host:port; empty: limits are counted in memory
	RedisPassword      secret

	// OAuth.
	TrustedClients   []string // client_ids
	DPoPSecret       []byte   // 32 bytes; nil: made otherwise
	OAuthLifetimes   grant.Lifetimes
	FetchMaxSize     int64      // bytes of a document of a stranger
	LexiconAuthority syntax.DID // "": as DNS says
	CaptchaSiteKey   string     // "": nobody is asked
	CaptchaSecret    secret
	CaptchaSalt      secret
	Colors           pageColors
	SupportURL       *url.URL // nil: none

	// Other services.
	ModService    otherService
	ReportService otherService
	AppView       otherService
	AppViewImages string // where the app view has images: a pattern with three %s
	Proxy         upstream.Options
	ProxyPacked   bool // compressed answers are preferred where they are read here
	ProxyReuse    bool // a service token may be sent again

	values []settingValue // one for each row of the table, for printing
	given  map[string]assigned
}

// otherService is a service that this one trusts or passes requests on to.
type otherService struct {
	URL *url.URL
	DID syntax.DID
}

func (*settings) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps the secrets inside out of every %v.
func (*settings) String() string { return "REDACTED" }

// listenAddress is what the server's socket is bound to.
func (s *settings) listenAddress() string {
	host := ""
	if s.Bind.IsValid() {
		host = s.Bind.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(s.Port))
}

// kind decides how the text of a variable is read.
type kind string

const (
	kindText     kind = "text"
	kindInteger  kind = "integer"
	kindBoolean  kind = "boolean"
	kindList     kind = "list"
	kindMillis   kind = "milliseconds"
	kindDuration kind = "duration"
	kindSize     kind = "size"
)

// form says how a text of this kind is written.
func (k kind) form() string {
	switch k {
	case kindInteger:
		return "an integer"
	case kindBoolean:
		return "true, 1, false or 0"
	case kindMillis:
		return "a number of milliseconds"
	default:
		return "a " + string(k)
	}
}

// setting is one row of the table of settings. Rows of the reference's
// names (PDS_) follow its reading rules; those of our own are read strictly.
//
// Ours because modules such as caarlos0/env put texts into the fields of a struct, which
// the set functions below do in a hundred lines. The rest would stay: two rules of reading, defaults
// of a development server, secrets from a file, names with a *, what is refused and why,
// all problems at once, and the document.
type setting struct {
	name  string // one that ends in * stands for all that begin so
	kind  kind
	def   string // default; <hostname> stands for the host name
	dev   string // development default, where it differs
	shown string // what to print as the default, where def can't say it
	// secret values are never printed. fromFile ones are taken from the secrets
	// file where their variable is unset.
	secret   bool
	fromFile fileUse
	// reload says that SIGHUP takes up another value. Others hold until the next start.
	reload bool
	// worldly ones are set for a server for the world only: with them and no host name
	// a development server, open to everybody, would start by mistake.
	worldly bool
	about   string
	// noEffect is the reason why a variable of the reference is accepted without
	// doing anything; refused the reason why a start with it is refused.
	noEffect string
	refused  string
	// quiet says of a value without effect that nobody needs to be told.
	quiet func(string) bool
	// store checks a value and puts it into its field.
	store func(*settings, string) error
}

// fileUse says when the secrets file stands in for a variable.
type fileUse int

const (
	fileNever       fileUse = iota
	fileDevelopment         // on a development server
	fileSQLite              // wherever the database is a file on this machine
)

// settingGroup is a part of the table under one heading.
type settingGroup struct {
	title    string
	settings []setting
}

// noListener is a listener that is not wanted.
const noListener = "off"

// settingsTable is every setting there is, in the order of reading: what a default
// refers to comes first.
var settingsTable = []settingGroup{
	{"Server", []setting{
		{name: "PDS_HOSTNAME", kind: kindText, def: "localhost", about: "Host name that clients use, without scheme and port. The public URL is `https://<hostname>`; `http://localhost:<port>` on a development server", store: setText(func(s *settings) *string { return &s.Hostname }, checkHostname)},
		{name: "PDS_PORT", kind: kindInteger, def: "2583", about: "Port to listen on", store: setInteger(func(s *settings) *int { return &s.Port }, 1, 65535)},
		{name: "PORTICO_BIND", kind: kindText, shown: "all interfaces", dev: "127.0.0.1", about: "Address to listen on", store: func(s *settings, v string) (err error) {
			s.Bind, err = netip.ParseAddr(v)
			if err != nil {
				return errors.New("is not an IP address")
			}
			return nil
		}},
		{name: "PORTICO_TRUSTED_PROXIES", reload: true, kind: kindInteger, worldly: true, def: "0", about: "Number of proxies in front of the server that append to `X-Forwarded-For`. 0: the header is believed when it comes from a private address or a bypass address", store: setInteger(func(s *settings) *int { return &s.TrustedProxies }, 0, 100)},
		{name: "PDS_SERVICE_DID", kind: kindText, def: "did:web:<hostname>", about: "DID of the service, audience of its tokens", store: setDID(func(s *settings) *syntax.DID { return &s.ServiceDID })},
		{name: "PDS_SERVICE_NAME", reload: true, kind: kindText, def: "<hostname> PDS", about: "Name of the service in mails and on its pages", store: setText(func(s *settings) *string { return &s.ServiceName })},
		{name: "PDS_VERSION", kind: kindText, shown: "version of the program", about: "Version that `/xrpc/_health` tells", store: setText(func(s *settings) *string { return &s.Version })},
		{name: "PDS_DEV_MODE", kind: kindBoolean, def: "false", dev: "true", about: "Check every answer against its lexicon; on localhost also allow a public URL without https", store: setBoolean(func(s *settings) *bool { return &s.DevMode })},
		{name: "PDS_DISABLE_SSRF_PROTECTION", kind: kindBoolean, def: "false", dev: "true", about: "Let outgoing requests (DIDs, handles, apps) reach private addresses, by way of `HTTPS_PROXY` if that is set", store: func(s *settings, v string) error {
			s.SSRFProtection = v == "false"
			return nil
		}},
		{name: "LOG_LEVEL", reload: true, kind: kindText, shown: "info", about: "The reference's name of `PORTICO_LOG_LEVEL`, which goes before it; `trace` means `debug`, `fatal` and `silent` mean `error`", store: storeLogLevel},
		{name: "PORTICO_LOG_LEVEL", reload: true, kind: kindText, shown: "as LOG_LEVEL", about: "`debug`, `info`, `warn` or `error`. Lines below `warn` are written together, a tenth of a second late: a crash loses the last of them", store: func(s *settings, v string) error {
			if err := oneOf(v, "debug", "info", "warn", "error"); err != nil {
				return err
			}
			return s.LogLevel.UnmarshalText([]byte(v))
		}},
		{name: "PORTICO_LOG_FORMAT", kind: kindText, def: "json", dev: "text", about: "`json` or `text`", store: setText(func(s *settings) *string { return &s.LogFormat }, func(v string) error { return oneOf(v, "json", "text") })},
		{name: "PORTICO_LOG_FILE", kind: kindText, shown: "standard error", about: "File that the log is appended to; it is opened again at SIGHUP, as `logrotate` wants it", store: storeFolder(func(s *settings) *string { return &s.LogFile })},
		{name: "PORTICO_LOG_SLOW_STATEMENTS", reload: true, kind: kindDuration, def: "1s", about: "Statements of the database that take this long are logged, without what clients sent in them", store: setDuration(func(s *settings) *time.Duration { return &s.SlowStatement })},
		{name: "PORTICO_METRICS_BIND", kind: kindText, def: "127.0.0.1:2584", dev: noListener, about: "Address and port of a listener for the operator alone, which has metrics for Prometheus at `/metrics`; `off`: there is none. It knows no passwords, so another address than one of loopback has to be in a network of your own. Where somebody else has the default port the server starts without it", store: func(s *settings, v string) (err error) {
			if v == noListener {
				s.MetricsBind = netip.AddrPort{}
				return nil
			}
			s.MetricsBind, err = netip.ParseAddrPort(v)
			if err != nil || s.MetricsBind.Port() == 0 {
				return errors.New("is not an IP address and a port, such as 127.0.0.1:9100, or off")
			}
			return nil
		}},
		{name: "PORTICO_PROFILING", kind: kindBoolean, def: "false", about: "Serve profiles of the running server below `/debug/pprof/` of `PORTICO_METRICS_BIND`, which must be an address of loopback then", store: setBoolean(func(s *settings) *bool { return &s.Profiling })},
		{name: "OTEL_EXPORTER_OTLP_ENDPOINT", kind: kindText, about: "URL of a collector of OpenTelemetry that takes OTLP over HTTP, such as `http://127.0.0.1:4318`, which traces go to; unset: there are none", store: func(s *settings, v string) (err error) {
			s.TracesURL, err = url.Parse(v)
			if err != nil || s.TracesURL.Host == "" || s.TracesURL.Scheme != "http" && s.TracesURL.Scheme != "https" || s.TracesURL.User != nil {
				return errors.New("is no URL of http or https without a user; what a collector wants to know goes into OTEL_EXPORTER_OTLP_HEADERS")
			}
			return nil
		}},
		{name: "OTEL_EXPORTER_OTLP_HEADERS", kind: kindText, secret: true, about: "Headers for the collector: `name=value`, several with commas between, and values as in a URL", store: func(s *settings, v string) (err error) {
			s.TracesHeaders, err = parseHeaders(v)
			return err
		}},
		{name: "OTEL_SERVICE_NAME", kind: kindText, def: "portico", about: "What the server is called in traces", store: setText(func(s *settings) *string { return &s.TracesName })},
		{name: "OTEL_TRACES_SAMPLER_ARG", kind: kindText, def: "1", about: "Share of the requests that are traced, from 0 to 1", store: func(s *settings, v string) (err error) {
			s.TracesShare, err = strconv.ParseFloat(v, 64)
			if err != nil || !(s.TracesShare >= 0 && s.TracesShare <= 1) {
				return errors.New("is no number from 0 to 1")
			}
			return nil
		}},
		{name: "PORTICO_CONSOLE_BIND", kind: kindText, shown: "no listener", about: "Address of loopback and port, such as `127.0.0.1:9101`, at which the operator's console is, without TLS: through a tunnel (`ssh -L 9101:127.0.0.1:9101 HOST`) a browser elsewhere reaches it at `http://127.0.0.1:9101/console`. It asks for the admin password", store: func(s *settings, v string) (err error) {
			s.ConsoleBind, err = netip.ParseAddrPort(v)
			if err != nil || s.ConsoleBind.Port() == 0 || !s.ConsoleBind.Addr().IsLoopback() {
				return errors.New("is not an address of loopback and a port, such as 127.0.0.1:9101")
			}
			return nil
		}},
		{name: "PORTICO_CONSOLE", kind: kindText, def: "off", about: "`public` has the console at `/console` of the public URL too, for everybody who knows the admin password; `off`: there is nothing", store: func(s *settings, v string) error {
			s.PublicConsole = v == consolePublic
			return oneOf(v, "off", consolePublic)
		}},
		{name: "PORTICO_MEMORY_LIMIT", kind: kindSize, shown: "none", about: "Memory that the server tries to stay within, such as `512MiB`; at least `64MiB`. Garbage is collected more often when it comes near, and password hashes take at most half of it: fewer at a time. Nothing is refused where that is not enough. Page caches of SQLite and what the system keeps of the program itself, together some 40 MB, are not counted. `GOGC` and `GOMEMLIMIT`, the variables of Go's runtime, go before it", store: storeMemoryLimit},
	}},
	{"What clients are told", []setting{
		{name: "PDS_PRIVACY_POLICY_URL", reload: true, kind: kindText, about: "Link in describeServer", store: setText(func(s *settings) *string { return &s.PrivacyPolicyURL }, checkURL)},
		{name: "PDS_TERMS_OF_SERVICE_URL", reload: true, kind: kindText, about: "Link in describeServer", store: setText(func(s *settings) *string { return &s.TermsOfServiceURL }, checkURL)},
		{name: "PDS_CONTACT_EMAIL_ADDRESS", reload: true, kind: kindText, about: "Contact in describeServer", store: setText(func(s *settings) *string { return &s.ContactEmail })},
		{name: "PDS_BLOB_UPLOAD_LIMIT", kind: kindInteger, def: "5242880", about: "Largest blob in bytes", store: setInteger(func(s *settings) *int64 { return &s.BlobUploadLimit }, 1, 1<<53)},
	}},
	{"Storage", []setting{
		{name: "PDS_DATA_DIRECTORY", kind: kindText, def: ".", dev: "./data", about: "Folder of the SQLite database, of the secrets file and, unless they are elsewhere, of blobs", store: storeFolder(func(s *settings) *string { return &s.DataDirectory })},
		{name: "PORTICO_DATABASE_URL", kind: kindText, shown: "SQLite in the data directory", secret: true, about: "`postgres://…` keeps everything in Postgres instead, for more than one machine", store: storePostgres(func(s *settings) *secret { return &s.DatabaseURL })},
		{name: "PORTICO_DATABASE_POOLED", kind: kindBoolean, def: "false", about: "Postgres is reached through a pooler that gives out connections for one transaction at a time, such as pgbouncer in transaction mode: nothing is prepared there", store: setBoolean(func(s *settings) *bool { return &s.DatabasePooled })},
		{name: "PORTICO_DATABASE_READ_URL", kind: kindText, shown: "all is read where it is written", secret: true, about: "`postgres://…` of a standby of the database, for reading what is large or public. It is read where it has all that was committed before", store: storePostgres(func(s *settings) *secret { return &s.DatabaseReadURL })},
		{name: "PORTICO_DATABASE_LISTEN_URL", kind: kindText, shown: "`PORTICO_DATABASE_URL`; behind a pooler the database is asked ten times a second", secret: true, about: "`postgres://…` of the database past its pooler: one connection per machine, on which the others say that there are mails and events", store: storePostgres(func(s *settings) *secret { return &s.DatabaseListenURL })},
		{name: "PORTICO_SQLITE_SYNCHRONOUS", kind: kindText, def: "FULL", about: "`FULL` (an acknowledged write survives a power cut), `EXTRA`, `NORMAL` (the last writes may be lost) or, on a development server, `OFF`", store: setText(func(s *settings) *string { return &s.SQLiteSynchronous }, func(v string) error { return oneOf(v, "FULL", "EXTRA", "NORMAL", "OFF") })},
		{name: "PORTICO_SEQUENCE_START", kind: kindInteger, def: "0", about: "The next event gets the number after it, unless it has a higher one anyhow: for a server that takes over a host name", store: setInteger(func(s *settings) *int64 { return &s.SequenceStart }, 0, 1<<53)},
		{name: "PDS_REPO_BACKFILL_LIMIT_MS", reload: true, kind: kindMillis, def: "259200000", about: "How long events are kept for relays that come back (72 hours). Older ones are deleted", store: setMillis(func(s *settings) *time.Duration { return &s.BackfillLimit })},
		{name: "PDS_ACCEPTING_REPO_IMPORTS", kind: kindBoolean, def: "true", about: "Let people who move here bring their repositories", store: setBoolean(func(s *settings) *bool { return &s.AcceptImports })},
		{name: "PDS_MAX_REPO_IMPORT_SIZE", kind: kindInteger, shown: "4 GiB, and 8 GiB at a time", about: "Largest repository that is imported, in bytes. It is kept in a file in the data directory for as long as that takes", store: setInteger(func(s *settings) *int64 { return &s.MaxImportSize }, 1, 1<<40)},
	}},
	{"Blobs", []setting{
		{name: "PDS_BLOBSTORE_DISK_LOCATION", kind: kindText, shown: "`blobs` in the data directory, without a bucket", about: "Folder of blobs. One that the reference has written to is taken up as it is", store: storeFolder(func(s *settings) *string { return &s.BlobFolder })},
		{name: "PDS_BLOBSTORE_DISK_TMP_LOCATION", kind: kindText, shown: "`tempt` in the folder of blobs", about: "Folder of blobs that no record mentions yet. On the same disk as the other one nothing is copied", store: storeFolder(func(s *settings) *string { return &s.BlobTempFolder })},
		{name: "PORTICO_BLOBSTORE_LEFT_LOCATION", kind: kindText, about: "Folder of blobs that a server before this one has left there: they are read from it, and nothing is written to it", store: storeFolder(func(s *settings) *string { return &s.BlobLeftFolder })},
		{name: "PORTICO_BLOBSTORE_OWN_SINCE", kind: kindText, about: "The time of the backup that the server was started on, as its log names it: no other server uses the bucket, or the folder outside of the data directory, any more. Without it files that are newer than the backup and that the server does not know are never removed", store: setTime(func(s *settings) *time.Time { return &s.BlobsOwnSince })},
		{name: "PDS_BLOBSTORE_S3_BUCKET", kind: kindText, about: "S3 bucket of blobs, in the place of a folder: for more than one machine", store: setText(func(s *settings) *string { return &s.BlobBucket.Bucket })},
		{name: "PDS_BLOBSTORE_S3_REGION", kind: kindText, about: "Its region", store: setText(func(s *settings) *string { return &s.BlobBucket.Region })},
		{name: "PDS_BLOBSTORE_S3_ENDPOINT", kind: kindText, shown: "Amazon's", about: "URL of the S3 service, without a path", store: setText(func(s *settings) *string { return &s.BlobBucket.Endpoint })},
		{name: "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE", kind: kindBoolean, def: "false", about: "Name the bucket in the path, not in the host name", store: setBoolean(func(s *settings) *bool { return &s.BlobBucket.ForcePathStyle })},
		{name: "PDS_BLOBSTORE_S3_ACCESS_KEY_ID", kind: kindText, secret: true, shown: "the `AWS_` variables, AWS's file, the instance's role", about: "Access key; goes with the secret one", store: setText(func(s *settings) *string { return &s.BlobBucket.AccessKeyID })},
		{name: "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY", kind: kindText, secret: true, about: "Secret access key", store: setText(func(s *settings) *string { return &s.BlobBucket.SecretAccessKey })},
		{name: "PDS_BLOBSTORE_S3_UPLOAD_TIMEOUT_MS", kind: kindMillis, def: "20000", about: "How long sending one blob to the bucket may take", store: setMillis(func(s *settings) *time.Duration { return &s.BlobBucket.UploadTimeout })},
		{name: "PDS_BLOBSTORE_S3_REQUEST_TIMEOUT_MS", kind: kindMillis, shown: "as for sending a blob", about: "How long any other request to the bucket may take, up to 10 minutes", store: func(s *settings, v string) error {
			return errors.Join(setMillis(func(s *settings) *time.Duration { return &s.BlobBucket.RequestTimeout })(s, v), atMost(s.BlobBucket.RequestTimeout, 10*time.Minute))
		}},
		{name: "PORTICO_ACCOUNT_BLOB_QUOTA", reload: true, kind: kindInteger, def: "0", about: "How many bytes the blobs of one account may have together, those that no record mentions yet too; 0: any number", store: setInteger(func(s *settings) *int64 { return &s.AccountBlobQuota }, 0, 1<<53)},
	}},
	{"Backups", []setting{
		{name: "PORTICO_BACKUP_KEY", kind: kindText, secret: true, about: "Key that seals the database and the secrets in backups with `portico backup --to`: 32 bytes in hex (`openssl rand -hex 32`). In a bucket nothing is without it. Keep it elsewhere, too: without it the backups are lost", store: func(s *settings, v string) (err error) {
			s.BackupKey, err = key32(v)
			return err
		}},
		{name: "PORTICO_BACKUP_S3_ENDPOINT", kind: kindText, shown: "Amazon's", about: "URL of the S3 service that backups go to, without a path. Nothing of it is taken from the settings of the bucket of blobs", store: setText(func(s *settings) *string { return &s.BackupBucket.Endpoint })},
		{name: "PORTICO_BACKUP_S3_REGION", kind: kindText, about: "Region of the bucket", store: setText(func(s *settings) *string { return &s.BackupBucket.Region })},
		{name: "PORTICO_BACKUP_S3_FORCE_PATH_STYLE", kind: kindBoolean, def: "false", about: "Name the bucket in the path, not in the host name", store: setBoolean(func(s *settings) *bool { return &s.BackupBucket.ForcePathStyle })},
		{name: "PORTICO_BACKUP_S3_ACCESS_KEY_ID", kind: kindText, secret: true, shown: "the `AWS_` variables, AWS's file, the instance's role", about: "Access key; goes with the secret one", store: setText(func(s *settings) *string { return &s.BackupBucket.AccessKeyID })},
		{name: "PORTICO_BACKUP_S3_SECRET_ACCESS_KEY", kind: kindText, secret: true, about: "Secret access key", store: setText(func(s *settings) *string { return &s.BackupBucket.SecretAccessKey })},
	}},
	{"Secrets", []setting{
		{name: "PDS_JWT_SECRET", kind: kindText, shown: "**required**", secret: true, worldly: true, fromFile: fileDevelopment, about: "Key of the session tokens, at least 32 characters (`openssl rand -hex 32`)", store: setSecret(func(s *settings) *secret { return &s.JWTSecret })},
		{name: "PORTICO_ACCEPT_WEAK_JWT_SECRET", kind: kindBoolean, def: "false", about: "Start with a `PDS_JWT_SECRET` that is short or easy to guess, as a server that was adopted with one does so that its sessions go on. Who guesses it can log in as anybody", store: setBoolean(func(s *settings) *bool { return &s.AcceptWeakJWTSecret })},
		{name: "PDS_ADMIN_PASSWORD", reload: true, kind: kindText, shown: "**required**", secret: true, worldly: true, fromFile: fileDevelopment, about: "Password of the admin methods, at least 12 characters", store: setSecret(func(s *settings) *secret { return &s.AdminPassword })},
		{name: "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", kind: kindText, shown: "**required**", secret: true, worldly: true, fromFile: fileDevelopment, about: "Key that signs the DID operations of new accounts: 32 bytes in hex. Who loses it can no longer change those DIDs", store: storeRotationKey},
		{name: "PORTICO_PLC_ROTATION_KEY_OLD", kind: kindText, secret: true, about: "Rotation key from before, until no DID needs it: see `portico keys rotate-plc`", store: func(s *settings, v string) error {
			raw, err := key32(v)
			if err != nil {
				return err
			}
			if s.OldRotationKey, err = atcrypto.ParsePrivateBytesK256(raw); err != nil {
				return errors.New("is not a secp256k1 key")
			}
			return nil
		}},
		{name: "PORTICO_KEY_ENCRYPTION_KEY", kind: kindText, shown: "**required** with Postgres, otherwise made at the first start", secret: true, fromFile: fileSQLite, about: "Key that encrypts what must not lie open in the database, signing keys above all: 32 bytes in hex", store: func(s *settings, v string) (err error) {
			s.KeyEncryptionKey, err = key32(v)
			return err
		}},
		{name: "PORTICO_KEY_ENCRYPTION_KEY_OLD", kind: kindList, secret: true, about: "Former keys, still used for reading", store: func(s *settings, v string) error {
			for _, old := range splitList(v) {
				key, err := key32(old)
				if err != nil {
					return err
				}
				s.OldKeyEncryptionKey = append(s.OldKeyEncryptionKey, key)
			}
			return nil
		}},
	}},
	{"Identity", []setting{
		{name: "PDS_DID_PLC_URL", kind: kindText, def: "https://plc.directory", dev: embeddedDirectory, about: "PLC directory where new DIDs are registered", store: func(s *settings, v string) (err error) {
			if s.Development && v == embeddedDirectory {
				return nil
			}
			s.PLCURL, err = parseURL(v, "http", "https")
			return err
		}},
		{name: "PORTICO_PLC_RATE", reload: true, kind: kindInteger, def: "2", about: "While the DIDs of all accounts get another rotation key or host name, so many of them a second are looked at in the PLC directory, with up to three requests each", store: setInteger(func(s *settings) *int { return &s.PLCRate }, 1, 1000)},
		{name: "PORTICO_PLC_PORT", kind: kindInteger, def: "2582", about: "Port of the embedded PLC directory on loopback; 0: any free one", store: setInteger(func(s *settings) *int { return &s.PLCPort }, 0, 65535)},
		{name: "PDS_RECOVERY_DID_KEY", kind: kindText, about: "Another rotation key of new DIDs, above the server's: a `did:key`", store: setText(func(s *settings) *string { return &s.RecoveryDIDKey }, func(v string) error {
			if _, err := atcrypto.ParsePublicDIDKey(v); err != nil {
				return errors.New("is not a did:key of a secp256k1 or P-256 key")
			}
			return nil
		})},
		{name: "PDS_SERVICE_HANDLE_DOMAINS", reload: true, kind: kindList, def: ".<hostname>", dev: ".test", about: "Domains under which accounts get handles, each with a leading dot: those to start with, see `portico domain`", store: func(s *settings, v string) error {
			for _, domain := range splitList(v) {
				label, ok := strings.CutPrefix(domain, ".")
				if !ok {
					return fmt.Errorf("has the domain %q, which must begin with a dot", domain)
				}
				if _, err := syntax.ParseHandle("abc." + label); err != nil {
					return fmt.Errorf("has %q, which is not a domain", domain)
				}
				s.HandleDomains = append(s.HandleDomains, strings.ToLower(domain))
			}
			return nil
		}},
		{name: "PORTICO_RESERVED_HANDLES", reload: true, kind: kindList, about: "First labels that nobody may take, beside the built-in list", store: setLabels(func(s *settings) *[]string { return &s.ReservedHandles })},
		{name: "PORTICO_UNRESERVED_HANDLES", reload: true, kind: kindList, about: "Labels of the built-in list that may be taken", store: setLabels(func(s *settings) *[]string { return &s.UnreservedHandles })},
		{name: "PDS_HANDLE_BACKUP_NAMESERVERS", kind: kindList, about: "Name servers (`address[:port]`) asked when the system's find no handle", store: func(s *settings, v string) error {
			for _, server := range splitList(v) {
				address, err := withPort(server, "53")
				if err != nil {
					return err
				}
				s.BackupNameservers = append(s.BackupNameservers, address)
			}
			return nil
		}},
		{name: "PDS_ID_RESOLVER_TIMEOUT", kind: kindMillis, def: "3000", about: "Longest wait for a DID document or a handle", store: setMillis(func(s *settings) *time.Duration { return &s.ResolverTimeout })},
		{name: "PDS_DID_CACHE_STALE_TTL", kind: kindMillis, def: "3600000", about: "Age from which a cached DID document is fetched anew in the background", store: setMillis(func(s *settings) *time.Duration { return &s.DIDCacheStale })},
		{name: "PDS_DID_CACHE_MAX_TTL", kind: kindMillis, def: "86400000", about: "Age from which a cached DID document is not used", store: setMillis(func(s *settings) *time.Duration { return &s.DIDCacheMax })},
		{name: "PDS_ENABLE_DID_DOC_WITH_SESSION", reload: true, kind: kindBoolean, def: "false", about: "Put the DID document into the answers of createSession, refreshSession and getSession", store: setBoolean(func(s *settings) *bool { return &s.DIDDocWithSession })},
	}},
	{"Accounts", []setting{
		{name: "PDS_INVITE_REQUIRED", reload: true, kind: kindBoolean, def: "true", dev: "false", about: "Sign-up needs an invite code, where the domain of the handle does not say otherwise", store: setBoolean(func(s *settings) *bool { return &s.InviteRequired })},
		{name: "PORTICO_SIGNUPS_PER_DAY", reload: true, kind: kindInteger, def: "0", shown: "no cap", about: "Accounts that are made in a day without an invite code, from wherever. Beyond it sign-up is refused until the next", store: setInteger(func(s *settings) *int { return &s.SignUpsPerDay }, 0, 1000000)},
		{name: "PORTICO_SIGNUP_QUARANTINE", reload: true, kind: kindText, def: quarantineOff, about: "Who signs up can sign in and write, but to everybody else the account does not exist until its owner has `confirmed` the email address, or you have `approved` it. Those that wait when it is `off` again go on waiting", store: storeQuarantine},
		{name: "PORTICO_RELEASES_PER_HOUR", reload: true, kind: kindInteger, def: "20", about: "Accounts that are let out of quarantine in an hour: relays take only so many of a server", store: setInteger(func(s *settings) *int { return &s.ReleasesPerHour }, 1, 1000000)},
		{name: "PORTICO_LARGE_MAIL_DOMAINS", reload: true, kind: kindList, about: "Domains of mail that everybody has addresses at, beside the built-in list. Of any other, 10 accounts a day are let out of quarantine, and the rest waits for you", store: storeLargeMailDomains},
		{name: "PORTICO_ACCOUNT_RECORD_QUOTA", reload: true, kind: kindInteger, def: "0", shown: "any number", about: "Records that an account may have. What would make them more is refused; those of an account that has more stay", store: setInteger(func(s *settings) *int { return &s.RecordQuota }, 0, 1<<31-1)},
		{name: "PDS_INVITE_INTERVAL", reload: true, kind: kindMillis, shown: "no codes", about: "An account earns an invite code in every such time", store: setMillis(func(s *settings) *time.Duration { return &s.InviteInterval })},
		{name: "PDS_INVITE_EPOCH", reload: true, kind: kindMillis, def: "0", about: "Codes are earned from this time on, counted since 1970", store: func(s *settings, v string) error {
			n, err := parseInteger(v)
			s.InviteEpoch = time.UnixMilli(n).UTC()
			return err
		}},
		{name: "PORTICO_PASSWORD_MIN_LENGTH", reload: true, kind: kindInteger, def: "8", about: "Shortest password of an account, in UTF-16 code units (letters, mostly)", store: setInteger(func(s *settings) *int { return &s.PasswordMinLength }, 1, 128)},
		{name: "PORTICO_PASSWORD_HASH_CONCURRENCY", kind: kindInteger, def: "0", shown: "number of cores", about: "Password hashes computed at a time", store: setInteger(func(s *settings) *int { return &s.HashConcurrency }, 0, 1024)},
		{name: "PORTICO_PASSWORD_HASH_MEMORY", kind: kindInteger, def: "19", about: "Memory that one password hash takes, in MiB, at least 19", store: setInteger(func(s *settings) *int { return &s.HashMemory }, 19, 1024)},
		{name: "PORTICO_PASSWORD_HASH_QUEUE", kind: kindInteger, def: "0", shown: "32 for each at a time", about: "Password hashes that may wait; beyond it the answer is 503", store: setInteger(func(s *settings) *int { return &s.HashQueue }, 0, 100000)},
		{name: "PORTICO_DELETE_AFTER_MIN", kind: kindDuration, def: "30d", about: "An account that asked for it is deleted no sooner than this after its deactivation; at least 8 days outside development", store: setDuration(func(s *settings) *time.Duration { return &s.DeleteAfterMin })},
		{name: "PORTICO_AUDIT_KEEP", reload: true, kind: kindDuration, def: "365d", about: "How long it is kept what was done to accounts, by whom and from where (`portico account log`); at least 1 day", store: storeAuditKeep},
		{name: "PORTICO_SIGNUP_LEASE", kind: kindDuration, def: "2m", about: "A sign-up that its process does not finish in this time is taken up by another. The PLC directory has half of it, at most 20 s, to take the operation", store: setDuration(func(s *settings) *time.Duration { return &s.SignupLease })},
		{name: "PORTICO_SIGNUP_RETRY", kind: kindDuration, def: "1m", about: "How often unfinished sign-ups are looked for", store: setDuration(func(s *settings) *time.Duration { return &s.SignupRetry })},
		{name: "PORTICO_MOVE_LEASE", kind: kindDuration, def: "10m", about: "Of an account that is switched off to move to another host, the server itself takes the next step, on or back, when none was taken in this time. One that came whole is looked after in a tenth of it", store: setDuration(func(s *settings) *time.Duration { return &s.MoveLease })},
		{name: "PORTICO_SIGNUP_CLEANUP_AFTER", kind: kindList, def: "1m,1h,24h", about: "When a sign-up was given up, the PLC directory is searched for its DID after each of these times. A move of all DIDs that is turned back or finished rests for the first of them, from 5 seconds to a minute, for what may be on its way", store: storeCleanupAfter},
	}},
	{"Mail", []setting{
		{name: "PDS_EMAIL_SMTP_URL", reload: true, kind: kindText, worldly: true, shown: "mails stay in the outbox", secret: true, about: "Mail server: `smtps://user:password@host:port` or `smtp://…`", store: setSMTP("PDS_EMAIL_SMTP_URL", func(s *settings) **url.URL { return &s.SMTPURL })},
		{name: "PDS_EMAIL_FROM_ADDRESS", reload: true, kind: kindText, worldly: true, about: "Sender of the mails; goes with the mail server", store: setAddress(func(s *settings) **mail.Address { return &s.EmailFrom })},
		{name: "PDS_MODERATION_EMAIL_SMTP_URL", reload: true, kind: kindText, worldly: true, secret: true, shown: "as the other mails", about: "Mail server of `com.atproto.admin.sendEmail`", store: setSMTP("PDS_MODERATION_EMAIL_SMTP_URL", func(s *settings) **url.URL { return &s.ModerationSMTPURL })},
		{name: "PDS_MODERATION_EMAIL_ADDRESS", reload: true, kind: kindText, worldly: true, shown: "as the other mails", about: "Sender of `com.atproto.admin.sendEmail`", store: setAddress(func(s *settings) **mail.Address { return &s.ModerationEmail })},
		{name: "PDS_EMAIL_DISABLE_CONFIRMATION_LINK", reload: true, kind: kindBoolean, def: "false", about: "Leave the link out of the confirmation mail", store: setBoolean(func(s *settings) *bool { return &s.DisableConfirmationLink })},
		{name: "PDS_HOME_URL", reload: true, kind: kindText, def: "https://bsky.app", about: "Home link in mails and on the pages where people sign in to apps", store: setLink(func(s *settings) **url.URL { return &s.HomeURL })},
		{name: "PDS_LOGO_URL", reload: true, kind: kindText, shown: "no picture", about: "Picture in mails and on the pages where people sign in to apps", store: setLink(func(s *settings) **url.URL { return &s.LogoURL })},
		{name: "PDS_PRIMARY_COLOR", reload: true, kind: kindText, def: "#067df7", about: "Colour of buttons and links in mails and on those pages: `#rgb`, `#rrggbb`, `rgb(…)` or `hsl(…)`", store: func(s *settings, v string) error {
			s.PrimaryColor = v
			return setColor(func(s *settings) **page.Color { return &s.Colors.Primary })(s, v)
		}},
	}},
	{"Phone verification", []setting{
		{name: "PORTICO_PHONE_PROVIDER", kind: kindText, shown: "phones are not verified", about: "Who sends the codes that sign-up then asks for: `twilio` (Twilio Verify, or what speaks its HTTP interface), or `outbox` on a development server, where `portico mail` shows them", store: setText(func(s *settings) *string { return &s.PhoneProvider }, func(v string) error { return oneOf(v, phoneTwilio, phoneOutbox) })},
		{name: "PORTICO_PHONE_MAX_ACCOUNTS", kind: kindInteger, def: "3", about: "Accounts that one phone number may have at a time", store: setInteger(func(s *settings) *int { return &s.PhoneMaxAccounts }, 1, 1000)},
		{name: "PORTICO_PHONE_MAX_TEXTS", kind: kindInteger, def: "1000", about: "Text messages that are sent in a day: what strangers can make them cost. Beyond it nobody gets a code", store: setInteger(func(s *settings) *int { return &s.PhoneMaxTexts }, 1, 1000000)},
		{name: "PORTICO_PHONE_BYPASS_NUMBER", kind: kindText, secret: true, about: "Phone number that is never sent a code and needs none, for any number of accounts", store: storePhoneBypass},
		{name: "PORTICO_PHONE_TWILIO_ACCOUNT_SID", kind: kindText, about: "Account at the provider", store: setText(func(s *settings) *string { return &s.PhoneAccountSID })},
		{name: "PORTICO_PHONE_TWILIO_AUTH_TOKEN", kind: kindText, secret: true, about: "Its token", store: setSecret(func(s *settings) *secret { return &s.PhoneAuthToken })},
		{name: "PORTICO_PHONE_TWILIO_SERVICE_SID", kind: kindText, about: "Its verification service, which decides how codes look and how long they work", store: setText(func(s *settings) *string { return &s.PhoneServiceSID })},
		{name: "PORTICO_PHONE_TWILIO_URL", kind: kindText, def: twilio.DefaultURL, about: "Where the provider's interface is", store: storePhoneURL},
	}},
	{"OAuth", []setting{
		{name: "PDS_OAUTH_TRUSTED_CLIENTS", reload: true, kind: kindList, about: "`client_id`s of apps whose name and picture people are shown where they sign in, and which are not asked about again once they were allowed. Others are shown by their address alone", store: storeTrustedClients},
		{name: "PDS_DPOP_SECRET", kind: kindText, secret: true, shown: "made at each start; with Postgres of PORTICO_KEY_ENCRYPTION_KEY", about: "32 bytes in hex, of which the nonces are made that apps put into their proofs. With Postgres, where processes take those of each other; a server on SQLite takes none from before its start, whatever this is", store: func(s *settings, v string) (err error) {
			s.DPoPSecret, err = key32(v)
			return err
		}},
		{name: "PORTICO_OAUTH_ACCESS_TTL", reload: true, kind: kindDuration, def: "20m", about: "How long an access token of an app lasts, at most 30m; apps get another without asking anybody", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.Access }, time.Second, 30*time.Minute)},
		{name: "PORTICO_OAUTH_SESSION_PUBLIC", reload: true, kind: kindDuration, def: "7d", about: "How long people stay signed in to an app that has no key of its own, such as those in browsers and on telephones; at most 30d", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.PublicSession }, time.Second, 30*day)},
		{name: "PORTICO_OAUTH_REFRESH_PUBLIC", reload: true, kind: kindDuration, def: "24h", about: "How long they do when it is not used; at most 30d", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.PublicRefresh }, time.Second, 30*day)},
		{name: "PORTICO_OAUTH_SESSION_CONFIDENTIAL", reload: true, kind: kindDuration, def: "730d", about: "How long people stay signed in to an app that has one, on its own server; at most 3650d", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.ConfidentialSession }, time.Second, 3650*day)},
		{name: "PORTICO_OAUTH_REFRESH_CONFIDENTIAL", reload: true, kind: kindDuration, def: "90d", about: "How long they do when it is not used; at most 365d", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.ConfidentialRefresh }, time.Second, 365*day)},
		{name: "PORTICO_OAUTH_REMEMBERED", reload: true, kind: kindDuration, def: "7d", about: "How long a browser that is to remember an account does without its password; at most 30d", store: setBounded(func(s *settings) *time.Duration { return &s.OAuthLifetimes.Remembered }, time.Second, 30*day)},
		{name: "PDS_FETCH_MAX_RESPONSE_SIZE", kind: kindInteger, def: "524288", about: "Largest document of an app that is read, in bytes", store: setInteger(func(s *settings) *int64 { return &s.FetchMaxSize }, 1<<10, 16<<20)},
		{name: "PDS_LEXICON_AUTHORITY_DID", kind: kindText, shown: "as DNS says", about: "DID whose repository has the permission sets that apps ask for, in place of those that DNS names", store: setDID(func(s *settings) *syntax.DID { return &s.LexiconAuthority })},
		{name: "PDS_HCAPTCHA_SITE_KEY", reload: true, kind: kindText, shown: "there is no captcha", about: "Site key at hCaptcha, which then asks whoever signs up on the pages of this server to show that they are a person. Browsers load its scripts there. Goes with the other two", store: setText(func(s *settings) *string { return &s.CaptchaSiteKey })},
		{name: "PDS_HCAPTCHA_SECRET_KEY", reload: true, kind: kindText, secret: true, about: "Its secret key", store: setSecret(func(s *settings) *secret { return &s.CaptchaSecret })},
		{name: "PDS_HCAPTCHA_TOKEN_SALT", reload: true, kind: kindText, secret: true, about: "Has to be set with them, as in the reference's settings; nothing is hashed with it", store: setSecret(func(s *settings) *secret { return &s.CaptchaSalt })},
		{name: "PDS_SUPPORT_URL", reload: true, kind: kindText, shown: "no link", about: "Link for help, on the pages where people sign in to apps", store: setLink(func(s *settings) **url.URL { return &s.SupportURL })},
		{name: "PDS_ERROR_COLOR", reload: true, kind: kindText, shown: "the pages' own", about: "Colour of what went wrong there, written as `PDS_PRIMARY_COLOR` is", store: setColor(func(s *settings) **page.Color { return &s.Colors.Error })},
		{name: "PDS_WARNING_COLOR", reload: true, kind: kindText, shown: "the pages' own", about: "Colour of warnings", store: setColor(func(s *settings) **page.Color { return &s.Colors.Warning })},
		{name: "PDS_INFO_COLOR", reload: true, kind: kindText, shown: "the pages' own", about: "Colour of notes", store: setColor(func(s *settings) **page.Color { return &s.Colors.Info })},
		{name: "PDS_SUCCESS_COLOR", reload: true, kind: kindText, shown: "the pages' own", about: "Colour of what went well", store: setColor(func(s *settings) **page.Color { return &s.Colors.Success })},
	}},
	{"Request limits", []setting{
		{name: "PDS_RATE_LIMITS_ENABLED", reload: true, kind: kindBoolean, def: "false", about: "Limit requests per address and per account", store: setBoolean(func(s *settings) *bool { return &s.RateLimits })},
		{name: "PDS_RATE_LIMIT_BYPASS_KEY", reload: true, kind: kindText, secret: true, about: "Requests with this text in the header `x-ratelimit-bypass` are not limited", store: setSecret(func(s *settings) *secret { return &s.RateLimitBypassKey })},
		{name: "PDS_RATE_LIMIT_BYPASS_IPS", reload: true, kind: kindList, about: "Addresses that are not limited and whose `X-Forwarded-For` is believed; of `a.b.c.d/n` only the address counts", store: func(s *settings, v string) error {
			for _, item := range splitList(v) {
				host, _, _ := strings.Cut(item, "/")
				ip, err := netip.ParseAddr(host)
				if err != nil {
					return fmt.Errorf("has %q, which is not an IP address", item)
				}
				s.RateLimitBypassIPs = append(s.RateLimitBypassIPs, ip.Unmap())
			}
			return nil
		}},
		{name: "PDS_REDIS_SCRATCH_ADDRESS", kind: kindText, shown: "counted in memory", about: "Redis server (`host[:port]`) that counts for several processes. While it is away each counts by itself", store: func(s *settings, v string) (err error) {
			s.RedisAddress, err = withPort(v, "6379")
			return err
		}},
		{name: "PDS_REDIS_SCRATCH_PASSWORD", kind: kindText, secret: true, about: "Password of the Redis server", store: setSecret(func(s *settings) *secret { return &s.RedisPassword })},
	}},
	{"Other services", []setting{
		{name: "PDS_BSKY_APP_VIEW_URL", kind: kindText, shown: "none; handles of elsewhere are found by DNS and at their hosts", about: "App view: what apps ask for and this server does not have is passed on to it, and handles of elsewhere are asked of it", store: setLink(func(s *settings) **url.URL { return &s.AppView.URL })},
		{name: "PDS_BSKY_APP_VIEW_DID", kind: kindText, about: "Its DID", store: setDID(func(s *settings) *syntax.DID { return &s.AppView.DID })},
		{name: "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN", kind: kindText, shown: "this server's own", about: "Where the app view has images, for posts that it does not know yet: a URL with three `%s`, for the kind of image, the DID and the CID", store: setText(func(s *settings) *string { return &s.AppViewImages }, checkImagePattern)},
		{name: "PDS_MOD_SERVICE_URL", kind: kindText, about: "Moderation service, which moderators' tools reach through this server", store: setLink(func(s *settings) **url.URL { return &s.ModService.URL })},
		{name: "PDS_MOD_SERVICE_DID", kind: kindText, about: "Its DID, whose tokens the admin methods accept", store: setDID(func(s *settings) *syntax.DID { return &s.ModService.DID })},
		{name: "PDS_REPORT_SERVICE_URL", kind: kindText, shown: "the moderation service", about: "Service that takes reports", store: setLink(func(s *settings) **url.URL { return &s.ReportService.URL })},
		{name: "PDS_REPORT_SERVICE_DID", kind: kindText, about: "Its DID", store: setDID(func(s *settings) *syntax.DID { return &s.ReportService.DID })},
		{name: "PDS_PROXY_ALLOW_HTTP2", kind: kindBoolean, def: "false", about: "Speak HTTP/2 with other services that do", store: setBoolean(func(s *settings) *bool { return &s.Proxy.HTTP2 })},
		{name: "PDS_PROXY_HEADERS_TIMEOUT", kind: kindMillis, def: "10000", about: "How long another service may take to begin an answer", store: setMillis(func(s *settings) *time.Duration { return &s.Proxy.HeadersTimeout })},
		{name: "PDS_PROXY_BODY_TIMEOUT", kind: kindMillis, def: "30000", about: "How long it may be silent within one", store: setMillis(func(s *settings) *time.Duration { return &s.Proxy.BodyTimeout })},
		{name: "PDS_PROXY_MAX_RESPONSE_SIZE", kind: kindInteger, def: "10485760", about: "Largest answer of another service in bytes; where it is read here, also when it is unpacked", store: setInteger(func(s *settings) *int64 { return &s.Proxy.MaxAnswer }, 1, 1<<40)},
		{name: "PDS_PROXY_MAX_RETRIES", kind: kindInteger, def: "0", about: "How often a query is sent again whose connection failed before it was answered", store: setInteger(func(s *settings) *int { return &s.Proxy.Retries }, 0, 10)},
		{name: "PDS_PROXY_PREFER_COMPRESSED", kind: kindBoolean, def: "false", about: "Prefer compressed answers of the app view where they may have to be read here: less to carry, more to compute", store: setBoolean(func(s *settings) *bool { return &s.ProxyPacked })},
		{name: "PORTICO_PROXY_TOKEN_REUSE", kind: kindBoolean, def: "false", about: "Send a service token more than once to the same service for the same method of the same account, as long as it is good for 30 seconds more. Services that take each token once refuse that", store: setBoolean(func(s *settings) *bool { return &s.ProxyReuse })},
		{name: "PDS_CRAWLERS", reload: true, kind: kindList, about: "URLs of relays that are asked to read the events, at the start and with new events, at most every 20 minutes", store: storeCrawlers},
	}},
	{"Accepted without effect", []setting{
		{name: "PDS_ACCOUNT_DB_LOCATION", noEffect: "everything is in one database in the data directory"},
		{name: "PDS_SEQUENCER_DB_LOCATION", noEffect: "everything is in one database in the data directory"},
		{name: "PDS_DID_CACHE_DB_LOCATION", noEffect: "everything is in one database in the data directory"},
		{name: "PDS_ACTOR_STORE_DIRECTORY", noEffect: "everything is in one database in the data directory"},
		{name: "PDS_ACTOR_STORE_CACHE_SIZE", noEffect: "everything is in one database in the data directory"},
		{name: "PDS_MAX_SUBSCRIPTION_BUFFER", noEffect: "who is slow to read the events reads them from the database, and is not sent away for it"},
		{name: "PDS_OAUTH_*", noEffect: "OAuth has no such setting here"},
		{name: "PDS_HCAPTCHA_*", noEffect: "the captcha has no such setting here"},
		{name: "PDS_*_COLOR", noEffect: "no page has such a colour"},
		{name: "PDS_*_COLOR_*", noEffect: "pages find out what can be read on a colour"},
		{name: "PDS_BACKGROUND_*", noEffect: "pages load no picture but PDS_LOGO_URL"},
		{name: "LOG_ENABLED", quiet: logEnabled, noEffect: "the log is always on; PORTICO_LOG_LEVEL=error keeps it short"},
		{name: "LOG_DESTINATION", noEffect: "the log goes to standard error, or to the file that PORTICO_LOG_FILE names"},
		{name: "LOG_SYSTEMS", noEffect: "the log is not divided into systems"},
	}},
	{"Refused", []setting{
		{name: "PDS_PLC_ROTATION_KEY_KMS_KEY_ID", refused: "keys in a key management service are not supported; use PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"},
		{name: "PDS_ENTRYWAY_*", refused: "running behind an entryway is not supported"},
		{name: "PORTICO_SIGNUP_CLEANUP_LOOKS", refused: "it is PORTICO_SIGNUP_CLEANUP_AFTER now"},
		{name: "PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT", kind: kindBoolean, refused: "checkpoints can't be left to a replication tool"},
	}},
}

// embeddedDirectory is the default of PDS_DID_PLC_URL on a development server.
const embeddedDirectory = "embedded"

// settingRows walks over the table.
func settingRows(yield func(*setting) bool) {
	for i := range settingsTable {
		for j := range settingsTable[i].settings {
			if !yield(&settingsTable[i].settings[j]) {
				return
			}
		}
	}
}

// settingOf is the row that a variable belongs to: its own, or the first pattern
// that it fits; nil when nothing of the sort is known.
func settingOf(name string) *setting {
	for r := range settingRows {
		if r.name == name {
			return r
		}
	}
	for r := range settingRows {
		if strings.Contains(r.name, "*") {
			if ok, _ := filepath.Match(r.name, name); ok {
				return r
			}
		}
	}
	return nil
}

// read says what the text of a variable means: the value, or that it counts
// as unset.
func (r *setting) read(v string) (_ string, ok bool) {
	switch r.kind {
	case kindInteger, kindMillis:
		end := strings.IndexFunc(v, func(c rune) bool { return c < '0' || c > '9' })
		if end < 0 {
			end = len(v)
		}
		if strings.HasPrefix(r.name, "PORTICO_") && end < len(v) {
			return "", false
		}
		return v[:end], end > 0
	case kindBoolean:
		switch v {
		case "true", "1":
			return "true", true
		case "false", "0":
			return "false", true
		}
		return "", false
	default:
		return v, true
	}
}

// setText, setInteger and the like make the store function of a row from the
// place of its field.

func setText(at func(*settings) *string, checks ...func(string) error) func(*settings, string) error {
	return func(s *settings, v string) error {
		*at(s) = v
		for _, check := range checks {
			if err := check(v); err != nil {
				return err
			}
		}
		return nil
	}
}

func setSecret(at func(*settings) *secret) func(*settings, string) error {
	return func(s *settings, v string) error {
		*at(s) = secret(v)
		return nil
	}
}

func setInteger[N int | int64](at func(*settings) *N, lowest, highest int64) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := parseInteger(v)
		if err != nil || n < lowest || n > highest {
			return fmt.Errorf("must be from %d to %d", lowest, highest)
		}
		*at(s) = N(n)
		return nil
	}
}

// storePostgres takes the URL of a Postgres.
func storePostgres(field func(*settings) *secret) func(*settings, string) error {
	return func(s *settings, v string) error {
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return errors.New("is not of the form postgres://user:password@host:port/database")
		}
		*field(s) = secret(v)
		return nil
	}
}

func setBoolean(at func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) error {
		*at(s) = v == "true"
		return nil
	}
}

// setBounded is setDuration for times that some are too short or too long for.
func setBounded(at func(*settings) *time.Duration, shortest, longest time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		d, err := parseDuration(v)
		if err == nil && (d < shortest || d > longest) {
			err = fmt.Errorf("must be from %s to %s", span(shortest), span(longest))
		}
		*at(s) = d
		return err
	}
}

func setMillis(at func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := parseInteger(v)
		if err == nil && n > int64(time.Duration(1<<63-1)/time.Millisecond) {
			err = errors.New("is too long a time")
		}
		*at(s) = time.Duration(n) * time.Millisecond
		return err
	}
}

func setDuration(at func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		*at(s), err = parseDuration(v)
		return err
	}
}

// storeLogLevel reads the levels of the reference's logger. The name is that of many
// programs, so a level that is none of these is no reason to stay off.
func storeLogLevel(s *settings, v string) error {
	level, ok := map[string]slog.Level{
		"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
		"error": slog.LevelError, "fatal": slog.LevelError, "silent": slog.LevelError,
	}[v]
	if !ok {
		s.Warnings = append(s.Warnings, "LOG_LEVEL is no level of a log: it counts as unset")
	}
	s.LogLevel = level
	return nil
}

func logEnabled(v string) bool { return v == "true" || v == "t" || v == "1" }

func storeAuditKeep(s *settings, v string) (err error) {
	s.AuditKeep, err = parseDuration(v)
	if err == nil && s.AuditKeep < 24*time.Hour {
		err = errors.New("must be at least 1d")
	}
	return err
}

func setLabels(at func(*settings) *[]string) func(*settings, string) error {
	return func(s *settings, v string) error {
		for _, label := range splitList(v) {
			if _, err := syntax.ParseHandle(label + ".test"); err != nil || strings.Contains(label, ".") {
				return fmt.Errorf("has %q, which can't be the first label of a handle", label)
			}
			*at(s) = append(*at(s), strings.ToLower(label))
		}
		return nil
	}
}

func setDID(at func(*settings) *syntax.DID) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		*at(s), err = syntax.ParseDID(v)
		if err != nil {
			return errors.New("is not a DID")
		}
		return nil
	}
}

func setLink(at func(*settings) **url.URL) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		*at(s), err = parseURL(v, "http", "https")
		return err
	}
}

func setAddress(at func(*settings) **mail.Address) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		*at(s), err = mail.ParseAddress(v)
		if err != nil {
			return errors.New("is not an email address")
		}
		return nil
	}
}

func setTime(at func(*settings) *time.Time) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		if *at(s), err = time.Parse(time.RFC3339, v); err != nil {
			return errors.New("is not a time such as 2026-01-31T04:00:00Z")
		}
		return nil
	}
}

// storeFolder keeps the whole path of a folder or a file.
func storeFolder(at func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) (err error) {
		if sign := expansion(v); sign != "" {
			return fmt.Errorf("has a %s, and nothing is expanded here: write out the whole path", sign)
		}
		*at(s), err = filepath.Abs(v)
		return err
	}
}

func atMost(d, most time.Duration) error {
	if d > most {
		return fmt.Errorf("must be at most %s", most)
	}
	return nil
}

func storeRotationKey(s *settings, v string) error {
	raw, err := key32(v)
	if err != nil {
		return err
	}
	s.RotationKey, err = atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return errors.New("is not a secp256k1 key")
	}
	return nil
}

func storeCleanupAfter(s *settings, v string) error {
	for _, item := range splitList(v) {
		look, err := parseDuration(item)
		if err != nil {
			return err
		}
		s.SignupCleanupAfter = append(s.SignupCleanupAfter, look)
	}
	if !slices.IsSorted(s.SignupCleanupAfter) {
		return errors.New("must be in ascending order")
	}
	return nil
}

func parseInteger(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, errors.New("is not a number that can be counted to")
	}
	return n, nil
}

// parseDuration reads what time.ParseDuration does, and days.
func parseDuration(v string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(v, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, errors.New("is not a time such as 30d, 12h or 90s")
	}
	return d, nil
}

// splitList splits at commas and trims nothing, as the reference does; no
// text is no items.
func splitList(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}

// parseURL reads an absolute URL that names a host. The error does not repeat
// the text, which may have a password in it.
func parseURL(v string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(v)
	if err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("is not a URL that begins with %s://", strings.Join(schemes, ":// or "))
	}
	return u, nil
}

func storeCrawlers(s *settings, v string) error {
	for _, item := range splitList(v) {
		u, err := parseURL(strings.TrimSpace(item), "http", "https")
		if err != nil {
			return err
		}
		s.Crawlers = append(s.Crawlers, strings.TrimSuffix(u.String(), "/"))
	}
	return nil
}

// key32 reads 32 bytes in hex. The error does not repeat the text.
func key32(v string) ([]byte, error) {
	key, err := hex.DecodeString(v)
	if err != nil || len(key) != 32 {
		return nil, errors.New("is not 32 bytes in hex (64 characters); `openssl rand -hex 32` makes some")
	}
	return key, nil
}

// withPort reads host[:port]. The error does not repeat what may be a URL with a password.
func withPort(v, port string) (string, error) {
	if ip, err := netip.ParseAddr(strings.Trim(v, "[]")); err == nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	host, given, ok := strings.Cut(v, ":")
	if strings.HasPrefix(v, "[") {
		var err error
		if host, given, err = net.SplitHostPort(v); err != nil {
			return "", errAddress(v)
		}
		ok = true
	}
	if ok {
		port = given
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
		return "", errAddress(v)
	}
	return net.JoinHostPort(host, port), nil
}

func errAddress(v string) error {
	if strings.Contains(v, "@") || strings.Contains(v, "://") {
		return errors.New("has what is not host[:port]")
	}
	return fmt.Errorf("has %q, which is not host[:port]", v)
}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("must be one of %s", strings.Join(allowed, ", "))
	}
	return nil
}

func checkHostname(v string) error {
	if v == "localhost" {
		return nil
	}
	// A handle has the syntax of a host name of at least two labels whose
	// last is not a number, which keeps addresses out.
	if _, err := syntax.ParseHandle(v); err != nil || v != strings.ToLower(v) {
		return errors.New("must be a host name in lower case such as pds.example.com, without scheme, port and path")
	}
	return nil
}

// checkImagePattern checks a URL with three places to fill in.
func checkImagePattern(v string) error {
	if strings.Count(v, "%s") != 3 || strings.Count(v, "%") != 3 {
		return errors.New("is not a URL with three %s, for the kind of image, the DID and the CID")
	}
	return checkURL(strings.ReplaceAll(v, "%s", "x"))
}

func checkURL(v string) error {
	_, err := parseURL(v, "http", "https")
	return err
}

// setColor reads a colour of pages and mails. Names of colours are none: the reference refuses
// them too.
func setColor(at func(*settings) **page.Color) func(*settings, string) error {
	return func(s *settings, v string) error {
		c, err := page.ParseColor(v)
		*at(s) = &c
		if err != nil {
			return errors.New("is not a colour such as #067df7, rgb(6, 125, 247) or hsl(210, 95%, 50%)")
		}
		return nil
	}
}

// problem is one reason why the server does not start.
type problem struct {
	variable string
	text     string // continues a sentence that begins with the variable
}

// settingsError is every problem at once.
type settingsError []problem

func (e settingsError) Error() string {
	var b strings.Builder
	b.WriteString("these settings must be mended first:")
	for _, p := range e {
		fmt.Fprintf(&b, "\n  %s %s", p.variable, p.text)
	}
	return b.String()
}

// check looks at what is wrong with values that are each valid by
// themselves, and at what is unsafe outside development. given tells what
// was written for a variable, "" when nothing was.
func (s *settings) check(given func(name string) string) []problem {
	var problems []problem
	add := func(variable, text string) { problems = append(problems, problem{variable, text}) }

	if (given("PDS_EMAIL_SMTP_URL") == "") != (given("PDS_EMAIL_FROM_ADDRESS") == "") {
		add(cmp.Or(missing(given, "PDS_EMAIL_SMTP_URL"), "PDS_EMAIL_FROM_ADDRESS"), "is missing: mail needs PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS, or neither")
	}
	if given("PDS_MODERATION_EMAIL_SMTP_URL") != "" && given("PDS_MODERATION_EMAIL_ADDRESS") == "" {
		add("PDS_MODERATION_EMAIL_ADDRESS", "is missing: it goes with PDS_MODERATION_EMAIL_SMTP_URL")
	}
	if given("PDS_MOD_SERVICE_URL") != "" && given("PDS_MOD_SERVICE_DID") == "" {
		add("PDS_MOD_SERVICE_DID", "is missing: it goes with PDS_MOD_SERVICE_URL")
	}
	if (given("PDS_REPORT_SERVICE_URL") == "") != (given("PDS_REPORT_SERVICE_DID") == "") {
		add(cmp.Or(missing(given, "PDS_REPORT_SERVICE_URL"), "PDS_REPORT_SERVICE_DID"), "is missing: a service that takes reports has PDS_REPORT_SERVICE_URL and PDS_REPORT_SERVICE_DID")
	}
	if given("PDS_BSKY_APP_VIEW_CDN_URL_PATTERN") != "" && given("PDS_BSKY_APP_VIEW_URL") == "" {
		add("PDS_BSKY_APP_VIEW_URL", "is missing: PDS_BSKY_APP_VIEW_CDN_URL_PATTERN goes with it")
	}
	if given("PDS_BSKY_APP_VIEW_URL") != "" && given("PDS_BSKY_APP_VIEW_DID") == "" {
		add("PDS_BSKY_APP_VIEW_DID", "is missing: it goes with PDS_BSKY_APP_VIEW_URL")
	}
	for _, service := range s.otherServices() {
		switch u := service.URL; {
		case u.Host == s.PublicURL.Host:
			add(service.variable, "is this server, which would ask itself without end")
		case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
			add(service.variable, "has more than a host: requests for it keep their own paths")
		}
	}
	s.checkBlobs(given, add)
	s.checkBackups(given, add)
	s.checkMail(add)
	s.checkQuarantine(add)
	s.checkPhone(given, add)
	s.checkOAuth(given, add)
	for _, name := range []string{"PORTICO_DATABASE_POOLED", "PORTICO_DATABASE_READ_URL", "PORTICO_DATABASE_LISTEN_URL"} {
		if s.DatabaseURL == "" && given(name) != "" {
			add(name, "is of no use without PORTICO_DATABASE_URL: the database is SQLite")
		}
	}
	if s.DatabaseURL != "" && given("PORTICO_KEY_ENCRYPTION_KEY") == "" {
		add("PORTICO_KEY_ENCRYPTION_KEY", "is missing: with Postgres every machine needs the same one; `openssl rand -hex 32` makes one")
	}
	s.MetricsGiven = given("PORTICO_METRICS_BIND") != "" || s.Profiling
	switch at := s.MetricsBind; {
	case s.Profiling && !at.IsValid():
		add("PORTICO_METRICS_BIND", "is off: PORTICO_PROFILING needs an address of loopback, such as 127.0.0.1:9100")
	case s.Profiling && !at.Addr().IsLoopback():
		add("PORTICO_METRICS_BIND", "must be an address of loopback such as 127.0.0.1:9100, with PORTICO_PROFILING: profiles show what goes on inside of the server, and whoever takes them slows it down")
	}
	if s.DIDCacheMax < s.DIDCacheStale {
		add("PDS_DID_CACHE_MAX_TTL", "must not be shorter than PDS_DID_CACHE_STALE_TTL")
	}
	if s.Development {
		if given("PDS_HOSTNAME") == "" {
			checkWorldly(given, add)
		}
		if !s.DevMode {
			add("PDS_HOSTNAME", "is localhost, so the public URL is not https: set the server's host name, or leave PDS_DEV_MODE unset")
		}
		return problems
	}

	for _, name := range []string{"PDS_JWT_SECRET", "PDS_ADMIN_PASSWORD", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"} {
		if given(name) == "" {
			add(name, "is missing: a server with a host name of its own needs one; `openssl rand -hex 32` makes one")
		}
	}
	for r := range settingRows {
		if v := given(r.name); r.secret && v != "" && placeholder(v) {
			add(r.name, "is what an example has in the place of a secret: anybody can read it there; `openssl rand -hex 32` makes one")
		}
	}
	for _, name := range []string{"PDS_JWT_SECRET", "PDS_ADMIN_PASSWORD", "PDS_RATE_LIMIT_BYPASS_KEY"} {
		if ofHost(given(name), s.Hostname) {
			add(name, "is made of the host name, which everybody tries; `openssl rand -hex 16` makes a good one")
		}
	}
	if v := given("PDS_JWT_SECRET"); v != "" {
		switch {
		case s.AcceptWeakJWTSecret && weakSecret(v):
			s.Warnings = append(s.Warnings, "PDS_JWT_SECRET is weak, which PORTICO_ACCEPT_WEAK_JWT_SECRET accepts: who guesses it can log in as anybody")
		case len(v) < 32:
			add("PDS_JWT_SECRET", "is too short: who guesses it can log in as anybody; at least 32 characters, `openssl rand -hex 32` makes some")
		case distinct(v) < 8:
			add("PDS_JWT_SECRET", "is not random: who guesses it can log in as anybody; `openssl rand -hex 32` makes a good one")
		}
	}
	if v := given("PDS_ADMIN_PASSWORD"); v != "" {
		switch {
		case wellKnown(v):
			add("PDS_ADMIN_PASSWORD", "is one that everybody tries first")
		case len(v) < 12:
			add("PDS_ADMIN_PASSWORD", "is too short: at least 12 characters")
		case distinct(v) < 5:
			add("PDS_ADMIN_PASSWORD", "is too easy to guess")
		case v == given("PDS_JWT_SECRET"):
			add("PDS_ADMIN_PASSWORD", "must differ from PDS_JWT_SECRET")
		}
	}
	for _, name := range []string{"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", "PORTICO_KEY_ENCRYPTION_KEY"} {
		if v := given(name); len(v) == 64 && distinct(v) < 5 {
			add(name, "is not random; `openssl rand -hex 32` makes a good one")
		}
	}
	if v := given("PORTICO_PLC_ROTATION_KEY_OLD"); v != "" && v == given("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX") {
		add("PORTICO_PLC_ROTATION_KEY_OLD", "must differ from PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX")
	}
	if v := given("PORTICO_KEY_ENCRYPTION_KEY"); v != "" && v == given("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX") {
		add("PORTICO_KEY_ENCRYPTION_KEY", "must differ from PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX")
	}
	if u := s.PLCURL; u != nil && u.Scheme != "https" && !isLoopback(u.Hostname()) {
		add("PDS_DID_PLC_URL", "must begin with https://: who sits in between could answer for the directory")
	}
	if s.SQLiteSynchronous == "OFF" {
		add("PORTICO_SQLITE_SYNCHRONOUS", "must not be OFF: a power cut may destroy the database")
	}
	if s.DeleteAfterMin > 0 && s.DeleteAfterMin < 8*24*time.Hour {
		add("PORTICO_DELETE_AFTER_MIN", "must be at least 8d: the owner is told a week ahead")
	}
	return problems
}

// weakSecret reports whether a secret can be guessed by who tries long enough.
func weakSecret(v string) bool { return len(v) < 32 || distinct(v) < 8 }

// namedService is another service that is configured, and by which variable.
type namedService struct {
	variable string
	otherService
}

// otherServices are those to which requests may be passed on.
func (s *settings) otherServices() []namedService {
	all := []namedService{
		{"PDS_BSKY_APP_VIEW_URL", s.AppView}, {"PDS_MOD_SERVICE_URL", s.ModService}, {"PDS_REPORT_SERVICE_URL", s.ReportService},
	}
	return slices.DeleteFunc(all, func(n namedService) bool { return n.URL == nil })
}

// warnOfServices tells the operator of a server of the world what apps will miss.
func (s *settings) warnOfServices() {
	warn := func(text string) { s.Warnings = append(s.Warnings, text) }
	if s.AppView.URL == nil {
		warn("PDS_BSKY_APP_VIEW_URL is unset: the official app, and others like it, cannot be used, since they ask for timelines, profiles and preferences " +
			"through this server; Bluesky's app view is https://api.bsky.app with PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app")
	} else if len(s.Crawlers) == 0 {
		warn("PDS_CRAWLERS is unset: no relay is asked to read what is written here, so an app view may not know of it; Bluesky's is https://bsky.network")
	}
	for _, service := range s.otherServices() {
		if service.URL.Scheme != "https" && s.SSRFProtection {
			warn(service.variable + " does not begin with https://: nothing is passed on to it, unless PDS_DISABLE_SSRF_PROTECTION is set")
		}
	}
}

// checkWorldly finds the settings that a server for the world has, when its host name was
// forgotten or mistyped.
func checkWorldly(given func(name string) string, add func(variable, text string)) {
	var names []string
	for r := range settingRows {
		if r.worldly && given(r.name) != "" {
			names = append(names, r.name)
		}
	}
	if len(names) == 0 {
		return
	}
	others := ""
	if len(names) > 1 {
		others = ", and so are " + strings.Join(names[1:], ", ")
	}
	add(names[0], "is set"+others+", but not PDS_HOSTNAME: without it this would be a development server, which nobody needs an invite for. "+
		"Set PDS_HOSTNAME to the server's host name, or to localhost if it is to be one")
}

// missing is name when it was not given.
func missing(given func(string) string, name string) string {
	if given(name) == "" {
		return name
	}
	return ""
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
