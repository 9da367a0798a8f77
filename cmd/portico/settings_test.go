package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "rewrite the table in SETTINGS.md, and what scripts expect")

// production is what a server for the world needs at least.
var production = []string{
	"PDS_HOSTNAME=pds.example.com",
	"PDS_JWT_SECRET=0f1e2d3c4b5a69788796a5b4c3d2e1f0",
	"PDS_ADMIN_PASSWORD=0123456789abcdef",
	"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
}

// twilioEnviron switches phone verification on.
var twilioEnviron = []string{
	"PORTICO_PHONE_PROVIDER=twilio", "PORTICO_PHONE_TWILIO_ACCOUNT_SID=AC1", "PORTICO_PHONE_TWILIO_AUTH_TOKEN=token",
	"PORTICO_PHONE_TWILIO_SERVICE_SID=VA1",
}

// with is environ with more variables, of which later ones win.
// appViewEnviron is production with an app view.
var appViewEnviron = with(production, "PDS_BSKY_APP_VIEW_URL=https://api.example.com", "PDS_BSKY_APP_VIEW_DID=did:web:api.example.com")

func with(environ []string, more ...string) []string { return append(slices.Clone(environ), more...) }

func mustRead(t *testing.T, environ ...string) *settings {
	t.Helper()
	s, err := configuration{Environ: environ}.read()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDevelopmentDefaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
	}{
		{"nothing set", nil},
		{"localhost", []string{"PDS_HOSTNAME=localhost"}},
		{"empty counts as unset", []string{"PDS_HOSTNAME=", "PDS_PORT="}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := mustRead(t, tt.environ...)
			if !s.Development || !s.DevMode || s.SSRFProtection || s.InviteRequired || s.PLCURL != nil {
				t.Errorf("development %v, dev mode %v, SSRF protection %v, invite required %v, PLC %v", s.Development, s.DevMode, s.SSRFProtection, s.InviteRequired, s.PLCURL)
			}
			for _, field := range []struct{ got, want string }{
				{s.PublicURL.String(), "http://localhost:2583"},
				{s.listenAddress(), "127.0.0.1:2583"},
				{string(s.ServiceDID), "did:web:localhost"},
				{s.ServiceName, "localhost PDS"},
				{strings.Join(s.HandleDomains, " "), ".test"},
				{filepath.Base(s.DataDirectory), "data"},
				{s.LogFormat, "text"},
			} {
				if field.got != field.want {
					t.Errorf("got %q, want %q", field.got, field.want)
				}
			}
		})
	}
}

func TestEachDevelopmentDefaultYieldsToItsVariable(t *testing.T) {
	s := mustRead(t, "PDS_PORT=3000", "PDS_INVITE_REQUIRED=true", "PDS_DID_PLC_URL=http://localhost:2582", "PDS_SERVICE_HANDLE_DOMAINS=.one.test,.two.test", "PORTICO_BIND=::1")
	if !s.InviteRequired || s.PLCURL.String() != "http://localhost:2582" || s.PublicURL.String() != "http://localhost:3000" || s.listenAddress() != "[::1]:3000" {
		t.Errorf("invite required %v, PLC %v, public URL %v, listening on %v", s.InviteRequired, s.PLCURL, s.PublicURL, s.listenAddress())
	}
	if diff := cmp.Diff([]string{".one.test", ".two.test"}, s.HandleDomains); diff != "" {
		t.Error(diff)
	}
	if !s.DevMode {
		t.Error("the other development defaults no longer hold")
	}
}

func TestProductionDefaults(t *testing.T) {
	s := mustRead(t, production...)
	if s.Development || s.DevMode || !s.SSRFProtection || !s.InviteRequired {
		t.Errorf("development %v, dev mode %v, SSRF protection %v, invite required %v", s.Development, s.DevMode, s.SSRFProtection, s.InviteRequired)
	}
	for _, field := range []struct{ got, want string }{
		{s.PublicURL.String(), "https://pds.example.com"},
		{s.listenAddress(), ":2583"},
		{string(s.ServiceDID), "did:web:pds.example.com"},
		{s.ServiceName, "pds.example.com PDS"},
		{strings.Join(s.HandleDomains, " "), ".pds.example.com"},
		{s.PLCURL.String(), "https://plc.directory"},
		{s.HomeURL.String(), "https://bsky.app"},
		{s.PrimaryColor, "#067df7"},
		{s.LogFormat, "json"},
		{s.ResolverTimeout.String(), "3s"},
		{s.DIDCacheStale.String(), "1h0m0s"},
		{s.DIDCacheMax.String(), "24h0m0s"},
		{s.DeleteAfterMin.String(), "720h0m0s"},
		{s.AuditKeep.String(), "8760h0m0s"},
		{fmt.Sprint(s.BlobUploadLimit), "5242880"},
		{fmt.Sprint(s.PasswordMinLength), "8"},
		{fmt.Sprint(s.SignupCleanupAfter), "[1m0s 1h0m0s 24h0m0s]"},
	} {
		if field.got != field.want {
			t.Errorf("got %q, want %q", field.got, field.want)
		}
	}
	if s := mustRead(t, with(production, "PDS_DATA_DIRECTORY=/pds", "PDS_EMAIL_SMTP_URL=smtps://mail.example.com", "PDS_EMAIL_FROM_ADDRESS=pds@example.com",
		"PDS_BSKY_APP_VIEW_URL=https://api.bsky.app", "PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app", "PDS_CRAWLERS=https://bsky.network")...); len(s.Warnings) > 0 {
		t.Errorf("with a mail server, an app view and a relay: warnings %q", s.Warnings)
	}
	if diff := cmp.Diff([]string{"PORTICO_KEY_ENCRYPTION_KEY"}, s.fromFile()); diff != "" {
		t.Errorf("from the secrets file: %s", diff)
	}
}

// The file that the reference's installer writes must do as it is.
func TestTheReferencesInstallationStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pds.env")
	err := os.WriteFile(path, []byte(`PDS_HOSTNAME=pds.example.com
PDS_JWT_SECRET=9f8e7d6c5b4a39281706f5e4d3c2b1a0
PDS_ADMIN_PASSWORD=00112233445566778899aabbccddeeff
PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1f2e3d4c5b6a79880f1e2d3c4b5a69781f2e3d4c5b6a79880f1e2d3c4b5a6978
PDS_DATA_DIRECTORY=/pds
PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks
PDS_BLOB_UPLOAD_LIMIT=104857600
PDS_DID_PLC_URL=https://plc.directory
PDS_BSKY_APP_VIEW_URL=https://api.bsky.app
PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app
PDS_REPORT_SERVICE_URL=https://mod.bsky.app
PDS_REPORT_SERVICE_DID=did:plc:ar7c4by46qjdydhdevvrndac
PDS_CRAWLERS=https://bsky.network
LOG_ENABLED=true
LOG_LEVEL=trace
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s, err := configuration{EnvFile: path}.read()
	if err != nil {
		t.Fatal(err)
	}
	if s.LogLevel != slog.LevelDebug {
		t.Errorf("log level %v", s.LogLevel)
	}
	if s.BlobUploadLimit != 104857600 || s.DataDirectory != "/pds" || s.AdminPassword != "00112233445566778899aabbccddeeff" {
		t.Errorf("blob limit %d, data in %s", s.BlobUploadLimit, s.DataDirectory)
	}
	if diff := cmp.Diff([]string{"https://bsky.network"}, s.Crawlers); diff != "" {
		t.Error(diff)
	}
	if s.BlobFolder != "/pds/blocks" || s.BlobTempFolder != "" || s.BlobBucket.Bucket != "" {
		t.Errorf("blobs in %s, %s and %q", s.BlobFolder, s.BlobTempFolder, s.BlobBucket.Bucket)
	}
	if s.ReportService.URL.String() != "https://mod.bsky.app" || s.ReportService.DID != "did:plc:ar7c4by46qjdydhdevvrndac" || s.ModService.URL != nil {
		t.Errorf("reports to %+v, moderation by %+v", s.ReportService, s.ModService)
	}
	if s.AppView.URL.String() != "https://api.bsky.app" || s.AppView.DID != "did:web:api.bsky.app" {
		t.Errorf("app view %+v", s.AppView)
	}
	if diff := cmp.Diff([]string{
		"PDS_EMAIL_SMTP_URL is unset: mails stay in the outbox, so nobody can confirm an address, reset a password or delete an account",
	}, s.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestReading(t *testing.T) {
	for _, tt := range []struct {
		variable string
		get      func(*settings) any
		want     any
	}{
		{"PDS_PORT=2600", func(s *settings) any { return s.Port }, 2600},
		{"PDS_PORT=2600tcp", func(s *settings) any { return s.Port }, 2600},
		{"PDS_PORT=tcp://10.0.0.1:80", func(s *settings) any { return s.Port }, 2583},
		{"PDS_PORT=-1", func(s *settings) any { return s.Port }, 2583},
		{"PDS_INVITE_REQUIRED=1", func(s *settings) any { return s.InviteRequired }, true},
		{"PDS_INVITE_REQUIRED=0", func(s *settings) any { return s.InviteRequired }, false},
		{"PDS_INVITE_REQUIRED=false", func(s *settings) any { return s.InviteRequired }, false},
		{"PDS_INVITE_REQUIRED=no", func(s *settings) any { return s.InviteRequired }, true},
		{"PDS_INVITE_REQUIRED=TRUE", func(s *settings) any { return s.InviteRequired }, true},
		{"PDS_INVITE_INTERVAL=604800000", func(s *settings) any { return s.InviteInterval }, 7 * 24 * time.Hour},
		{"PDS_INVITE_EPOCH=1000", func(s *settings) any { return s.InviteEpoch }, time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC)},
		{"PDS_RATE_LIMIT_BYPASS_IPS=10.0.0.0/8,::1", func(s *settings) any { return fmt.Sprint(s.RateLimitBypassIPs) }, "[10.0.0.0 ::1]"},
		{"PDS_REDIS_SCRATCH_ADDRESS=redis", func(s *settings) any { return s.RedisAddress }, "redis:6379"},
		{"PDS_REDIS_SCRATCH_ADDRESS=[::1]:7000", func(s *settings) any { return s.RedisAddress }, "[::1]:7000"},
		{"PDS_HANDLE_BACKUP_NAMESERVERS=1.1.1.1,2606:4700::1111,ns.example:5353", func(s *settings) any { return fmt.Sprint(s.BackupNameservers) }, "[1.1.1.1:53 [2606:4700::1111]:53 ns.example:5353]"},
		{"PDS_REPO_BACKFILL_LIMIT_MS=86400000", func(s *settings) any { return s.BackfillLimit }, 24 * time.Hour},
		{"PDS_REPO_BACKFILL_LIMIT_MS=", func(s *settings) any { return s.BackfillLimit }, 72 * time.Hour},
		{"PDS_CRAWLERS=https://a.example/, http://b.example:2470", func(s *settings) any { return s.Crawlers }, []string{"https://a.example", "http://b.example:2470"}},
		{"PDS_MAX_SUBSCRIPTION_BUFFER=500", func(s *settings) any { return s.Warnings[len(s.Warnings)-1] }, "PDS_MAX_SUBSCRIPTION_BUFFER has no effect: who is slow to read the events reads them from the database, and is not sent away for it"},
		{"PORTICO_MEMORY_LIMIT=", func(s *settings) any { return s.MemoryLimit }, int64(0)},
		{"PORTICO_MEMORY_LIMIT=67108864", func(s *settings) any { return s.MemoryLimit }, int64(64 << 20)},
		{"PORTICO_MEMORY_LIMIT=524288KiB", func(s *settings) any { return s.MemoryLimit }, int64(512 << 20)},
		{"PORTICO_MEMORY_LIMIT=100000000B", func(s *settings) any { return s.MemoryLimit }, int64(100000000)},
		{"PORTICO_MEMORY_LIMIT=2GiB", func(s *settings) any { return s.MemoryLimit }, int64(2 << 30)},
		{"PDS_PROXY_ALLOW_HTTP2=true", func(s *settings) any { return s.Proxy.HTTP2 }, true},
		{"PDS_PROXY_HEADERS_TIMEOUT=2500", func(s *settings) any { return s.Proxy.HeadersTimeout }, 2500 * time.Millisecond},
		{"PDS_PROXY_HEADERS_TIMEOUT=", func(s *settings) any { return s.Proxy.HeadersTimeout }, 10 * time.Second},
		{"PDS_PROXY_BODY_TIMEOUT=", func(s *settings) any { return s.Proxy.BodyTimeout }, 30 * time.Second},
		{"PDS_PROXY_MAX_RESPONSE_SIZE=", func(s *settings) any { return s.Proxy.MaxAnswer }, int64(10 << 20)},
		{"PDS_PROXY_MAX_RESPONSE_SIZE=1000", func(s *settings) any { return s.Proxy.MaxAnswer }, int64(1000)},
		{"PDS_PROXY_MAX_RETRIES=3", func(s *settings) any { return s.Proxy.Retries }, 3},
		{"PDS_PROXY_PREFER_COMPRESSED=1", func(s *settings) any { return s.ProxyPacked }, true},
		{"PORTICO_PROXY_TOKEN_REUSE=true", func(s *settings) any { return s.ProxyReuse }, true},
		{"PORTICO_DELETE_AFTER_MIN=45d", func(s *settings) any { return s.DeleteAfterMin }, 45 * 24 * time.Hour},
		{"PORTICO_AUDIT_KEEP=90d", func(s *settings) any { return s.AuditKeep }, 90 * 24 * time.Hour},
		{"PORTICO_LOG_LEVEL=warn", func(s *settings) any { return s.LogLevel }, slog.LevelWarn},
		{"PORTICO_RESERVED_HANDLES=Mayor,police", func(s *settings) any { return s.ReservedHandles }, []string{"mayor", "police"}},
		{"PORTICO_SIGNUP_CLEANUP_AFTER=1s,90s", func(s *settings) any { return fmt.Sprint(s.SignupCleanupAfter) }, "[1s 1m30s]"},
		{"PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT=false", func(s *settings) any { return s.Development }, false},
		{"LOG_LEVEL=fatal", func(s *settings) any { return s.LogLevel }, slog.LevelError},
		{"LOG_LEVEL=loud", func(s *settings) any { return s.LogLevel }, slog.LevelInfo},
		{"PDS_DEV_MODE=true", func(s *settings) any { return s.SSRFProtection }, true},
		{"PORTICO_PHONE_MAX_TEXTS=50", func(s *settings) any { return s.PhoneMaxTexts }, 50},
		{"PORTICO_SIGNUPS_PER_DAY=50", func(s *settings) any { return s.SignUpsPerDay }, 50},
		{"PORTICO_SIGNUP_QUARANTINE=approved", func(s *settings) any { return s.Quarantine }, "approved"},
		{"PORTICO_SIGNUP_QUARANTINE=off", func(s *settings) any { return s.Quarantine }, ""},
		{"PORTICO_RELEASES_PER_HOUR=", func(s *settings) any { return s.ReleasesPerHour }, 20},
		{"PORTICO_RELEASES_PER_HOUR=5", func(s *settings) any { return s.ReleasesPerHour }, 5},
		{"PORTICO_LARGE_MAIL_DOMAINS=Uni.Example, @mail.example", func(s *settings) any { return s.LargeMailDomains }, []string{"uni.example", "mail.example"}},
		{"PORTICO_PHONE_MAX_ACCOUNTS=5", func(s *settings) any { return s.PhoneMaxAccounts }, 5},
		{"PORTICO_PHONE_BYPASS_NUMBER=(555) 012-3456", func(s *settings) any { return string(s.PhoneBypass) }, "+15550123456"},
		{"PORTICO_PHONE_TWILIO_URL=https://verify.example.com/v2/", func(s *settings) any { return s.PhoneURL }, "https://verify.example.com/v2"},
		{"PORTICO_PHONE_TWILIO_AUTH_TOKEN=x", func(s *settings) any { return s.Warnings[len(s.Warnings)-1] }, "PORTICO_PHONE_TWILIO_AUTH_TOKEN has no effect: PORTICO_PHONE_PROVIDER is unset, so phones are not verified"},
	} {
		t.Run(tt.variable, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.get(mustRead(t, with(production, tt.variable)...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		want    string
	}{
		{"nothing but a host name", []string{"PDS_HOSTNAME=pds.example.com"}, `these settings must be mended first:
  PDS_ADMIN_PASSWORD is missing: a server with a host name of its own needs one; ` + "`openssl rand -hex 32`" + ` makes one
  PDS_JWT_SECRET is missing: a server with a host name of its own needs one; ` + "`openssl rand -hex 32`" + ` makes one
  PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is missing: a server with a host name of its own needs one; ` + "`openssl rand -hex 32`" + ` makes one`},
		{"memory limit without a number", []string{"PORTICO_MEMORY_LIMIT=MiB"}, "these settings must be mended first:\n" +
			"  PORTICO_MEMORY_LIMIT must be a number of bytes, with or without a unit: B, KiB, MiB, GiB or TiB"},
		{"memory limit in another unit", []string{"PORTICO_MEMORY_LIMIT=512MB"}, "these settings must be mended first:\n" +
			"  PORTICO_MEMORY_LIMIT must be a number of bytes, with or without a unit: B, KiB, MiB, GiB or TiB"},
		{"memory limit beyond all numbers", []string{"PORTICO_MEMORY_LIMIT=8388608TiB"}, "these settings must be mended first:\n" +
			"  PORTICO_MEMORY_LIMIT must be a number of bytes, with or without a unit: B, KiB, MiB, GiB or TiB"},
		{"memory limit that is too low", []string{"PORTICO_MEMORY_LIMIT=65535KiB"}, "these settings must be mended first:\n" +
			"  PORTICO_MEMORY_LIMIT must be at least 64MiB"},
		{"all unsafe", []string{
			"PDS_HOSTNAME=pds.example.com", "PDS_ADMIN_PASSWORD=admin", "PDS_JWT_SECRET=secret", "PDS_DID_PLC_URL=http://plc.example.com",
			"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1111111111111111111111111111111111111111111111111111111111111111",
			"PORTICO_DATABASE_URL=postgres://localhost/portico", "PORTICO_SQLITE_SYNCHRONOUS=OFF", "PORTICO_DELETE_AFTER_MIN=1h",
		}, `these settings must be mended first:
  PDS_ADMIN_PASSWORD is one that everybody tries first
  PDS_DID_PLC_URL must begin with https://: who sits in between could answer for the directory
  PDS_JWT_SECRET is too short: who guesses it can log in as anybody; at least 32 characters, ` + "`openssl rand -hex 32`" + ` makes some
  PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is not random; ` + "`openssl rand -hex 32`" + ` makes a good one
  PORTICO_DELETE_AFTER_MIN must be at least 8d: the owner is told a week ahead
  PORTICO_KEY_ENCRYPTION_KEY is missing: with Postgres every machine needs the same one; ` + "`openssl rand -hex 32`" + ` makes one
  PORTICO_SQLITE_SYNCHRONOUS must not be OFF: a power cut may destroy the database`},
		{"admin password: well known and long", with(production, "PDS_ADMIN_PASSWORD=passwordpassword1234"), "PDS_ADMIN_PASSWORD is one that everybody tries first"},
		{"admin password: digits", with(production, "PDS_ADMIN_PASSWORD=12345678901234"), "PDS_ADMIN_PASSWORD is one that everybody tries first"},
		{"admin password: short", with(production, "PDS_ADMIN_PASSWORD=x7Kq9pL2"), "PDS_ADMIN_PASSWORD is too short: at least 12 characters"},
		{"admin password: letters repeated", with(production, "PDS_ADMIN_PASSWORD=abababababababab"), "PDS_ADMIN_PASSWORD is too easy to guess"},
		{"admin password: the token key", with(production, "PDS_ADMIN_PASSWORD=0f1e2d3c4b5a69788796a5b4c3d2e1f0"), "PDS_ADMIN_PASSWORD must differ from PDS_JWT_SECRET"},
		{"token key: long, not random", with(production, "PDS_JWT_SECRET=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "PDS_JWT_SECRET is not random"},
		{"rotation key: not hex", with(production, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=xyz"), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is not 32 bytes in hex (64 characters)"},
		{"rotation key: beyond the group's order", with(production, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is not a secp256k1 key"},
		{"one key for two things", with(production, "PORTICO_KEY_ENCRYPTION_KEY=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"), "PORTICO_KEY_ENCRYPTION_KEY must differ from PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"},
		{"host name with scheme", with(production, "PDS_HOSTNAME=https://pds.example.com"), "PDS_HOSTNAME must be a host name in lower case"},
		{"host name with port", with(production, "PDS_HOSTNAME=pds.example.com:443"), "PDS_HOSTNAME must be a host name in lower case"},
		{"host name is an address", with(production, "PDS_HOSTNAME=192.0.2.1"), "PDS_HOSTNAME must be a host name in lower case"},
		{"localhost outside of development", []string{"PDS_DEV_MODE=false"}, "PDS_HOSTNAME is localhost, so the public URL is not https"},
		{"quarantine until an address is confirmed that gets no mail", with(production, "PORTICO_SIGNUP_QUARANTINE=confirmed"), "PDS_EMAIL_SMTP_URL is missing: with PORTICO_SIGNUP_QUARANTINE=confirmed people wait for a mail that is never sent"},
		{"quarantine by another rule", with(production, "PORTICO_SIGNUP_QUARANTINE=on"), "PORTICO_SIGNUP_QUARANTINE must be one of off, confirmed, approved"},
		{"no releases", with(production, "PORTICO_RELEASES_PER_HOUR=0"), "PORTICO_RELEASES_PER_HOUR must be from 1 to 1000000"},
		{"large mail domain that is none", with(production, "PORTICO_LARGE_MAIL_DOMAINS=uni example"), `PORTICO_LARGE_MAIL_DOMAINS has "uni example", which is not a domain`},
		{"mail server without sender", with(production, "PDS_EMAIL_SMTP_URL=smtp://localhost"), "PDS_EMAIL_FROM_ADDRESS is missing: mail needs PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS, or neither"},
		{"sender without mail server", with(production, "PDS_EMAIL_FROM_ADDRESS=pds@example.com"), "PDS_EMAIL_SMTP_URL is missing: mail needs PDS_EMAIL_SMTP_URL and PDS_EMAIL_FROM_ADDRESS, or neither"},
		{"mail server of no known kind", with(production, "PDS_EMAIL_SMTP_URL=smtp:///?sendmail=true", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"), "PDS_EMAIL_SMTP_URL asks for sendmail, which is not supported: name a mail server, smtp://localhost for the one on this machine"},
		{"mail server's password with a slash", with(production, "PDS_EMAIL_SMTP_URL=smtps://me:hunter/2@mail.example.com", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"), "PDS_EMAIL_SMTP_URL has a / in its user or password: percent-encode it, / is %2F"},
		{"mail server with an option of no meaning", with(production, "PDS_EMAIL_SMTP_URL=smtps://mail.example.com?authMethod=magic", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"), "PDS_EMAIL_SMTP_URL option authMethod must be one of PLAIN, LOGIN, CRAM-MD5"},
		{"home that is not expanded", with(production, "PDS_DATA_DIRECTORY=~/pds"), "PDS_DATA_DIRECTORY has a ~, and nothing is expanded here: write out the whole path"},
		{"variable that is not expanded", []string{"PDS_DATA_DIRECTORY=$HOME/pds"}, "PDS_DATA_DIRECTORY has a $, and nothing is expanded here: write out the whole path"},
		{"host name forgotten", production[1:], "PDS_JWT_SECRET is set, and so are PDS_ADMIN_PASSWORD, PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX, but not PDS_HOSTNAME: without it this would be a development server, which nobody needs an invite for. Set PDS_HOSTNAME to the server's host name, or to localhost if it is to be one"},
		{"host name forgotten, mail", []string{"PDS_EMAIL_SMTP_URL=smtp://localhost", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"}, "PDS_EMAIL_SMTP_URL is set, and so are PDS_EMAIL_FROM_ADDRESS, but not PDS_HOSTNAME"},
		{"host name forgotten, proxy", []string{"PORTICO_TRUSTED_PROXIES=1"}, "PORTICO_TRUSTED_PROXIES is set, but not PDS_HOSTNAME"},
		{"host name mistyped", []string{"PDS_HOST_NAME=pds.example.com"}, "PDS_HOST_NAME is not a setting, and PDS_HOSTNAME is not set: without it this would be a development server, open to everybody. Is PDS_HOSTNAME meant?"},
		{"host name mistyped otherwise", []string{"PDS_HOSTNMAE=pds.example.com"}, "PDS_HOSTNMAE is not a setting, and PDS_HOSTNAME is not set"},
		{"host name in lower case", []string{"pds_hostname=pds.example.com"}, "pds_hostname is not a setting, and PDS_HOSTNAME is not set"},
		{"host name with our prefix", []string{"PORTICO_HOSTNAME=pds.example.com"}, "PORTICO_HOSTNAME is not a setting, and PDS_HOSTNAME is not set"},
		{"moderation service without DID", with(production, "PDS_MOD_SERVICE_URL=https://mod.example.com"), "PDS_MOD_SERVICE_DID is missing"},
		{"app view with a path", with(production, "PDS_BSKY_APP_VIEW_URL=https://api.example.com/xrpc", "PDS_BSKY_APP_VIEW_DID=did:web:api.example.com"), "PDS_BSKY_APP_VIEW_URL has more than a host: requests for it keep their own paths"},
		{"report service without DID", with(production, "PDS_REPORT_SERVICE_URL=https://mod.example.com"), "PDS_REPORT_SERVICE_DID is missing: a service that takes reports has PDS_REPORT_SERVICE_URL and PDS_REPORT_SERVICE_DID"},
		{"report service without URL", with(production, "PDS_REPORT_SERVICE_DID=did:web:mod.example.com"), "PDS_REPORT_SERVICE_URL is missing: a service that takes reports has PDS_REPORT_SERVICE_URL and PDS_REPORT_SERVICE_DID"},
		{"report service that is the server", with(production, "PDS_REPORT_SERVICE_URL=https://pds.example.com/", "PDS_REPORT_SERVICE_DID=did:web:pds.example.com"), "PDS_REPORT_SERVICE_URL is this server, which would ask itself without end"},
		{"moderation service with a query", with(production, "PDS_MOD_SERVICE_URL=https://mod.example.com?a=b", "PDS_MOD_SERVICE_DID=did:web:mod.example.com"), "PDS_MOD_SERVICE_URL has more than a host"},
		{"images without an app view", with(production, "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn.example.com/%s/%s/%s"), "PDS_BSKY_APP_VIEW_URL is missing: PDS_BSKY_APP_VIEW_CDN_URL_PATTERN goes with it"},
		{"images of two parts", with(appViewEnviron, "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn.example.com/%s/%s"), "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN is not a URL with three %s, for the kind of image, the DID and the CID"},
		{"images of four parts", with(appViewEnviron, "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn.example.com/%s/%s/%s/%s"), "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN is not a URL with three %s"},
		{"images of another kind of parts", with(appViewEnviron, "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=https://cdn.example.com/%s/%s/%s/%d"), "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN is not a URL with three %s"},
		{"images at no URL", with(appViewEnviron, "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN=cdn.example.com/%s/%s/%s"), "PDS_BSKY_APP_VIEW_CDN_URL_PATTERN is not a URL that begins with http:// or https://"},
		{"retries without end", with(production, "PDS_PROXY_MAX_RETRIES=11"), "PDS_PROXY_MAX_RETRIES must be from 0 to 10"},
		{"app view without DID", with(production, "PDS_BSKY_APP_VIEW_URL=https://api.example.com"), "PDS_BSKY_APP_VIEW_DID is missing"},
		{"app view without http", with(production, "PDS_BSKY_APP_VIEW_URL=api.example.com", "PDS_BSKY_APP_VIEW_DID=did:web:api.example.com"), "PDS_BSKY_APP_VIEW_URL is not a URL that begins with http:// or https://"},
		{"crawler without https", with(production, "PDS_CRAWLERS=https://bsky.network,relay.example"), "PDS_CRAWLERS is not a URL that begins with http:// or https://"},
		{"app view that is the server", with(production, "PDS_BSKY_APP_VIEW_URL=https://pds.example.com", "PDS_BSKY_APP_VIEW_DID=did:web:pds.example.com"), "PDS_BSKY_APP_VIEW_URL is this server, which would ask itself without end"},
		{"handle domain without dot", with(production, "PDS_SERVICE_HANDLE_DOMAINS=.a.example,b.example"), `PDS_SERVICE_HANDLE_DOMAINS has the domain "b.example", which must begin with a dot`},
		{"service DID", with(production, "PDS_SERVICE_DID=pds.example.com"), "PDS_SERVICE_DID is not a DID"},
		{"port", with(production, "PDS_PORT=70000"), "PDS_PORT must be from 1 to 65535"},
		{"our own numbers are read strictly", with(production, "PORTICO_PASSWORD_MIN_LENGTH=8x"), "PORTICO_PASSWORD_MIN_LENGTH is not an integer"},
		{"record kept for hours", with(production, "PORTICO_AUDIT_KEEP=23h"), "PORTICO_AUDIT_KEEP must be at least 1d"},
		{"number out of range", with(production, "PORTICO_PASSWORD_MIN_LENGTH=0"), "PORTICO_PASSWORD_MIN_LENGTH must be from 1 to 128"},
		{"number beyond all counting", with(production, "PDS_INVITE_EPOCH=99999999999999999999"), "PDS_INVITE_EPOCH is not a number that can be counted to"},
		{"colour with more in it", with(production, `PDS_PRIMARY_COLOR=red;background:url(https://x.example)`), "PDS_PRIMARY_COLOR is not a colour"},
		{"colour by its name", with(production, "PDS_PRIMARY_COLOR=red"), "PDS_PRIMARY_COLOR is not a colour such as #067df7, rgb(6, 125, 247) or hsl(210, 95%, 50%)"},
		{"colour of the pages", with(production, "PDS_SUCCESS_COLOR=#12345"), "PDS_SUCCESS_COLOR is not a colour such as #067df7"},
		{"trusted client that is a name", with(production, "PDS_OAUTH_TRUSTED_CLIENTS=https://app.example.com/client.json,My App"), `PDS_OAUTH_TRUSTED_CLIENTS has "My App", which is no client_id`},
		{"trusted client without a document", with(production, "PDS_OAUTH_TRUSTED_CLIENTS=https://app.example.com/"), `PDS_OAUTH_TRUSTED_CLIENTS has "https://app.example.com/", which is no client_id`},
		{"trusted client with a password", with(production, "PDS_OAUTH_TRUSTED_CLIENTS=https://user:sesame@app.example.com/x"), `PDS_OAUTH_TRUSTED_CLIENTS has "https://(secret)@app.example.com/x", which is no client_id`},
		{"secret of nonces", with(production, "PDS_DPOP_SECRET=abc"), "PDS_DPOP_SECRET is not 32 bytes in hex (64 characters)"},
		{"access token for an hour", with(production, "PORTICO_OAUTH_ACCESS_TTL=1h"), "PORTICO_OAUTH_ACCESS_TTL must be from 1s to 30m"},
		{"session of an app for a year", with(production, "PORTICO_OAUTH_SESSION_PUBLIC=365d"), "PORTICO_OAUTH_SESSION_PUBLIC must be from 1s to 720h"},
		{"refresh token beyond its session", with(production, "PORTICO_OAUTH_REFRESH_PUBLIC=8d"), "PORTICO_OAUTH_REFRESH_PUBLIC must not be longer than the session, of which it is a part"},
		{"browser that remembers for a year", with(production, "PORTICO_OAUTH_REMEMBERED=365d"), "PORTICO_OAUTH_REMEMBERED must be from 1s to 720h"},
		{"half a captcha", with(production, "PDS_HCAPTCHA_SITE_KEY=site", "PDS_HCAPTCHA_SECRET_KEY=sesame"), "PDS_HCAPTCHA_TOKEN_SALT is missing: a captcha needs PDS_HCAPTCHA_SITE_KEY, PDS_HCAPTCHA_SECRET_KEY, PDS_HCAPTCHA_TOKEN_SALT, or none of them is set"},
		{"key in a KMS", with(production, "PDS_PLC_ROTATION_KEY_KMS_KEY_ID=k"), "PDS_PLC_ROTATION_KEY_KMS_KEY_ID is set: keys in a key management service are not supported"},
		{"left blobs of a bucket", with(production, "PDS_BLOBSTORE_S3_BUCKET=bucket", "PORTICO_BLOBSTORE_LEFT_LOCATION=/pds/blocks"), "PORTICO_BLOBSTORE_LEFT_LOCATION is set beside PDS_BLOBSTORE_S3_BUCKET: blobs are in a bucket or in a folder"},
		{"no time of a backup", with(production, "PORTICO_BLOBSTORE_OWN_SINCE=yesterday"), "PORTICO_BLOBSTORE_OWN_SINCE is not a time such as 2026-01-31T04:00:00Z"},
		{"blobs in two places", with(production, "PDS_BLOBSTORE_S3_BUCKET=bucket", "PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks"), "PDS_BLOBSTORE_S3_BUCKET is set beside PDS_BLOBSTORE_DISK_LOCATION: blobs are in a bucket or in a folder"},
		{"bucket without a name", with(production, "PDS_BLOBSTORE_S3_ENDPOINT=https://s3.example.com"), "PDS_BLOBSTORE_S3_BUCKET is missing: it goes with PDS_BLOBSTORE_S3_ENDPOINT"},
		{"one access key", with(production, "PDS_BLOBSTORE_S3_BUCKET=bucket", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID=id"), "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY is missing: the two access keys go together"},
		{"endpoint of a bucket", with(production, "PDS_BLOBSTORE_S3_BUCKET=bucket", "PDS_BLOBSTORE_S3_ENDPOINT=s3.example.com"), `PDS_BLOBSTORE_S3_ENDPOINT and its bucket can't be used: blob store: "s3.example.com" is no endpoint: give http:// or https:// and a host`},
		{"requests to a bucket that take too long", with(production, "PDS_BLOBSTORE_S3_REQUEST_TIMEOUT_MS=600001"), "PDS_BLOBSTORE_S3_REQUEST_TIMEOUT_MS must be at most 10m0s"},
		{"entryway", with(production, "PDS_ENTRYWAY_URL=https://e.example"), "PDS_ENTRYWAY_URL is set: running behind an entryway is not supported"},
		{"replication tool", with(production, "PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT=true"), "PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT is set"},
		{"key encryption with Postgres, in development too", []string{"PORTICO_DATABASE_URL=postgres://localhost/portico"}, "PORTICO_KEY_ENCRYPTION_KEY is missing"},
		{"profiles without a listener", with(production, "PORTICO_PROFILING=true", "PORTICO_METRICS_BIND=off"), "PORTICO_METRICS_BIND is off: PORTICO_PROFILING needs an address of loopback"},
		{"profiles for all", with(production, "PORTICO_PROFILING=true", "PORTICO_METRICS_BIND=0.0.0.0:9100"), "PORTICO_METRICS_BIND must be an address of loopback such as 127.0.0.1:9100, with PORTICO_PROFILING: profiles show what goes on inside of the server"},
		{"profiles for the neighbours", with(production, "PORTICO_PROFILING=true", "PORTICO_METRICS_BIND=[fe80::1]:9100"), "PORTICO_METRICS_BIND must be an address of loopback"},
		{"listener of the operator without an address", with(production, "PORTICO_METRICS_BIND=:9100"), "PORTICO_METRICS_BIND is not an IP address and a port, such as 127.0.0.1:9100"},
		{"listener of the operator without a port", with(production, "PORTICO_METRICS_BIND=127.0.0.1:0"), "PORTICO_METRICS_BIND is not an IP address and a port, such as 127.0.0.1:9100"},
		{"phones, without an account", with(production, "PORTICO_PHONE_PROVIDER=twilio", "PORTICO_PHONE_TWILIO_AUTH_TOKEN=x"), `these settings must be mended first:
  PORTICO_PHONE_TWILIO_ACCOUNT_SID is missing: it goes with PORTICO_PHONE_PROVIDER=twilio
  PORTICO_PHONE_TWILIO_SERVICE_SID is missing: it goes with PORTICO_PHONE_PROVIDER=twilio`},
		{"phones, without https", with(production, with(twilioEnviron, "PORTICO_PHONE_TWILIO_URL=http://127.0.0.1:8080/v2")...), "PORTICO_PHONE_TWILIO_URL must begin with https://: the token of the account goes there"},
		{"phones, password in the URL", with(production, with(twilioEnviron, "PORTICO_PHONE_TWILIO_URL=https://a:b@verify.example.com")...), "PORTICO_PHONE_TWILIO_URL must be a URL without user, query and fragment"},
		{"phones, in the world's outbox", with(production, "PORTICO_PHONE_PROVIDER=outbox"), "PORTICO_PHONE_PROVIDER must not be outbox: nobody would get a text message"},
		{"phones, in an outbox that is sent", []string{"PDS_HOSTNAME=localhost", "PORTICO_PHONE_PROVIDER=outbox", "PDS_EMAIL_SMTP_URL=smtp://localhost", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"}, "PORTICO_PHONE_PROVIDER must not be outbox with PDS_EMAIL_SMTP_URL: the mail server would be given text messages"},
		{"phones, of another provider", with(production, "PORTICO_PHONE_PROVIDER=plivo"), "PORTICO_PHONE_PROVIDER must be one of twilio, outbox"},
		{"phones, bypassed by no number", with(production, "PORTICO_PHONE_BYPASS_NUMBER=hunter2"), "PORTICO_PHONE_BYPASS_NUMBER is not a phone number such as +15551234567"},
		{"phones, for no account", with(production, "PORTICO_PHONE_MAX_ACCOUNTS=0"), "PORTICO_PHONE_MAX_ACCOUNTS must be from 1 to 1000"},
		{"database of another kind", with(production, "PORTICO_DATABASE_URL=mysql://localhost/portico"), "PORTICO_DATABASE_URL is not of the form postgres://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := configuration{Environ: tt.environ}.read()
			if err == nil {
				t.Fatal("no problem found")
			}
			if strings.HasPrefix(tt.want, "these settings") {
				if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
					t.Error(diff)
				}
			} else if lines := strings.Split(err.Error(), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], "  "+tt.want) {
				t.Errorf("got %v\nwant the one problem %s", err, tt.want)
			}
		})
	}
}

// What stands in examples, and what is made of the host name, is no secret.
func TestSecretsOfExamples(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"PDS_JWT_SECRET", "$(openssl rand --hex 16)", "is what an example has in the place of a secret"},
		{"PDS_JWT_SECRET", "${JWT_SECRET:-0123456789abcdef0123456789}", "is what an example has in the place of a secret"},
		{"PDS_JWT_SECRET", "change-me-change-me-change-me-12345", "is what an example has in the place of a secret"},
		{"PDS_JWT_SECRET", "pds.example.com-pds.example.com-1", "is made of the host name"},
		{"PDS_ADMIN_PASSWORD", "<your-password-here>", "is what an example has in the place of a secret"},
		{"PDS_ADMIN_PASSWORD", "your-strong-password", "is what an example has in the place of a secret"},
		{"PDS_ADMIN_PASSWORD", "CHANGE_ME", "is what an example has in the place of a secret"},
		{"PDS_ADMIN_PASSWORD", "`openssl rand -hex 16`", "is what an example has in the place of a secret"},
		{"PDS_ADMIN_PASSWORD", "pds.example.com", "is made of the host name"},
		{"PDS_ADMIN_PASSWORD", "PDS.Example.com-2026!", "is made of the host name"},
		{"PDS_ADMIN_PASSWORD", "example-pds-admin", "is made of the host name"},
		{"PDS_ADMIN_PASSWORD", "example-password-1", "is made of the host name"},
		{"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", "$(openssl rand -hex 32)", "is not 32 bytes in hex"},
		{"PDS_RATE_LIMIT_BYPASS_KEY", "<key>", "is what an example has in the place of a secret"},
		{"PDS_REDIS_SCRATCH_PASSWORD", "changeme", "is what an example has in the place of a secret"},
		{"PDS_EMAIL_SMTP_URL", "smtps://user:<password>@smtp.example.com", "is what an example has in the place of a secret"},
	} {
		_, err := configuration{Environ: with(production, "PDS_EMAIL_FROM_ADDRESS=pds@example.com", "PDS_EMAIL_SMTP_URL=smtp://localhost", tt.name+"="+tt.value)}.read()
		if err == nil || !strings.Contains(err.Error(), tt.name+" "+tt.want) || strings.Contains(err.Error(), tt.value) {
			t.Errorf("%s=%s: got %v, want %s", tt.name, tt.value, err, tt.want)
		}
	}
	for _, good := range []string{"correct-horse-battery", "x7Kq$9pL2(mN4v)", "pds.example.com:x7Kq9pL2mN4v", "Tr0ub4dor&3 and more"} {
		mustRead(t, with(production, "PDS_ADMIN_PASSWORD="+good)...)
	}
}

func TestEnvironmentGoesBeforeTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("PDS_PORT=1111\nPDS_SERVICE_NAME='From the file'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := configuration{Environ: []string{"PDS_PORT=2222"}, EnvFile: path}.read()
	if err != nil {
		t.Fatal(err)
	}
	if s.Port != 2222 || s.ServiceName != "From the file" {
		t.Errorf("port %d, name %q", s.Port, s.ServiceName)
	}
}

func TestEnvFile(t *testing.T) {
	for _, tt := range []struct {
		name, data string
		want       []envPair
	}{
		{"plain", "# comment\n\nA=1\nF=x#y\r\nG=a=b\nI =  i ", []envPair{{"A", "1"}, {"F", "x#y"}, {"G", "a=b"}, {"I", "i"}}},
		{"export", " export A=1\nexport\tB=2\nexport \t C=3\nexported=4", []envPair{{"A", "1"}, {"B", "2"}, {"C", "3"}, {"exported", "4"}}},
		{"comments", "A=two words  # comment\nB=1\t# comment\nC='x'\t#\nD= # nothing\nE=#nothing\nF=a#b #c", []envPair{{"A", "two words"}, {"B", "1"}, {"C", "x"}, {"F", "a#b"}}},
		{"single quotes", `A='it is $5 "here" \n # x'`, []envPair{{"A", `it is $5 "here" \n # x`}}},
		{"double quotes", "A=\"dollar\\$\"\nB=\"a\\\"b\\\\c\\`d\"\nC=\"a\\nb'c#d\" # comment\nD=\"\"", []envPair{{"A", "dollar$"}, {"B", "a\"b\\c`d"}, {"C", `a\nb'c#d`}}},
		{"not expanded", "A=~/x\nB=$HOME/y\nC=\"${D}\"", []envPair{{"A", "~/x"}, {"B", "$HOME/y"}, {"C", "${D}"}}},
		{"byte order mark", "\ufeffA=1\nB=2", []envPair{{"A", "1"}, {"B", "2"}}},
		{"the last holds", "A=1\nB=2\nA=3", []envPair{{"A", "3"}, {"B", "2"}}},
		{"an empty one unsets", "A=1\nB=2\nA=", []envPair{{"B", "2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseEnvFile([]byte(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.pairs, cmp.AllowUnexported(envPair{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, tt := range []struct{ data, want string }{
		{"A=1\nhunter2", "2: is not of the form NAME=value"},
		{"=hunter2", "1: is not of the form NAME=value"},
		{"A B=hunter2", "1: is not of the form NAME=value"},
		{"A-B=hunter2", "1: is not of the form NAME=value"},
		{"\u200bA=hunter2", "1: is not of the form NAME=value"},
		{"A='hunter2", "1: the quoted value of A does not end with its line"},
		{`A="hunter2" hunter3`, "1: the quoted value of A does not end with its line"},
		{`A="hunter2\"`, "1: the quoted value of A does not end with its line"},
		{"A=1\nB=\xe9", "2: is not text in UTF-8"},
		{"\xff\xfeA\x00=\x001\x00", "1: is UTF-16: save the file as UTF-8"},
	} {
		if _, err := parseEnvFile([]byte(tt.data)); err == nil || err.Error() != tt.want {
			t.Errorf("%q: got %v, want %s", tt.data, err, tt.want)
		}
	}
}

// What a shell would read otherwise, and what is there twice, is told with the lines and
// without the values.
func TestEnvFileWarnings(t *testing.T) {
	f, err := parseEnvFile([]byte("A=hunter2\nB=~/x\nC=\"$HOME/x\"\nD='$HOME'\nE=\"\\$HOME $ \"\nF=`date`\nG=5$\nA=\nA=x"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"2: B has ~, which stays as it is: nothing is expanded in this file (in '…' no shell does either)",
		"3: C has $, which stays as it is: nothing is expanded in this file (in '…' no shell does either)",
		"6: F has `, which stays as it is: nothing is expanded in this file (in '…' no shell does either)",
		"8: A stands in line 1 already: the later is empty, which unsets it",
		"9: A stands in line 8 already: the later holds",
	}, f.warnings); diff != "" {
		t.Error(diff)
	}
}

// A password that leaked and was replaced by a line below must not stay valid.
func TestEnvFileTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pds.env")
	text := strings.Join(production, "\n") + "\nPDS_ADMIN_PASSWORD=replaced-0f1e2d3c\nPDS_SERVICE_NAME=x\nPDS_SERVICE_NAME=\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := configuration{EnvFile: path}.read()
	if err != nil {
		t.Fatal(err)
	}
	if s.AdminPassword != "replaced-0f1e2d3c" || s.ServiceName != "pds.example.com PDS" {
		t.Errorf("admin password %s, name %q", string(s.AdminPassword), s.ServiceName)
	}
	for _, want := range []string{
		path + ":5: PDS_ADMIN_PASSWORD stands in line 3 already: the later holds",
		path + ":7: PDS_SERVICE_NAME stands in line 6 already: the later is empty, which unsets it",
	} {
		if !slices.Contains(s.Warnings, want) {
			t.Errorf("warnings %q, want %q among them", s.Warnings, want)
		}
	}
	// The commands sign in with the same one.
	target, err := configuration{EnvFile: path}.target("https://pds.example.com", "")
	if err != nil || target.password != "replaced-0f1e2d3c" {
		t.Errorf("commands use %v, %v", target, err)
	}
}

// A service's group may read its secrets, everybody may not.
func TestEnvFileThatOthersMayReadIsWarnedOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pds.env")
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want []string
	}{
		{"PDS_HOSTNAME=localhost\nPDS_HCAPTCHA_SECRET=x", 0o640, nil},
		{"PDS_HOSTNAME=localhost", 0o644, nil},
		{"PDS_HOSTNAME=localhost\nAWS_SECRET_ACCESS_KEY=x", 0o644, []string{path + " has secrets and can be read by everybody on this machine (mode 0644): chmod o-r it"}},
	} {
		if err := errors.Join(os.WriteFile(path, []byte(tt.text), 0o600), os.Chmod(path, tt.mode)); err != nil {
			t.Fatal(err)
		}
		s, err := configuration{EnvFile: path}.read()
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(s.Warnings, func(w string) bool { return strings.HasPrefix(w, "PDS_HCAPTCHA_SECRET") })
		if diff := cmp.Diff(tt.want, slices.Clip(got), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q with %v: %s", tt.text, tt.mode, diff)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	for _, seed := range []string{"A=1\nB='x' # y\nexport C=\"\\u00e9\"\n", "\ufeffA=~\nA=\n", "A=\"\\$x\"\t#", " \ufeff=0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := parseEnvFile(data)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, p := range file.pairs {
			if p.name == "" || p.value == "" || seen[p.name] || strings.ContainsAny(p.name, "\n =") || strings.Contains(p.value, "\n") {
				t.Errorf("%q: %q", data, p)
			}
			seen[p.name] = true
		}
		// What was read is written in single quotes as it is.
		for _, p := range file.pairs {
			if strings.Contains(p.value, "'") {
				continue
			}
			again, err := parseEnvFile([]byte(p.name + "='" + p.value + "'"))
			if err != nil || len(again.pairs) != 1 || again.pairs[0] != p || len(again.warnings) > 0 {
				t.Errorf("%q: %q read again is %v, %v", data, p, again, err)
			}
		}
	})
}

// Worth a word, though not a reason to stay off.
func TestWarnings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		want    string
	}{
		{"a boolean in other words", with(production, "PDS_INVITE_REQUIRED=yes"), "PDS_INVITE_REQUIRED is not true, 1, false or 0: it counts as unset"},
		{"a number in words", with(production, "PDS_INVITE_INTERVAL=week"), "PDS_INVITE_INTERVAL is not a number of milliseconds: it counts as unset"},
		{"a folder that depends on where the server was started", with(production, "PDS_DATA_DIRECTORY=data"), "PDS_DATA_DIRECTORY is not a whole path: the data is in " + abs("data") + " because this was started there"},
		{"the folder where the server was started", production, "PDS_DATA_DIRECTORY is not a whole path: the data is in " + abs(".") + " because this was started there"},
		{"the reference's log", with(production, "LOG_DESTINATION=/var/log/pds.log"), "LOG_DESTINATION has no effect: the log goes to standard error, or to the file that PORTICO_LOG_FILE names"},
		{"the reference's log, off", with(production, "LOG_ENABLED=false"), "LOG_ENABLED has no effect: the log is always on; PORTICO_LOG_LEVEL=error keeps it short"},
		{"the reference's log, in part", with(production, "LOG_SYSTEMS=pds"), "LOG_SYSTEMS has no effect: the log is not divided into systems"},
		{"another program's level", with(production, "LOG_LEVEL=loud"), "LOG_LEVEL is no level of a log: it counts as unset"},
		{"a name mistyped", with(production, "PDS_INVITES_REQUIRED=true"), "PDS_INVITES_REQUIRED is not a setting: it has no effect; is PDS_INVITE_REQUIRED meant?"},
		{"mail in clear where it is encrypted", with(production, "PDS_EMAIL_SMTP_URL=smtp://mail.example.com:465", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"), "PDS_EMAIL_SMTP_URL is smtp:// with port 465, where mail servers expect encryption from the start: use smtps://"},
		{"no SSRF protection", with(production, "PDS_DISABLE_SSRF_PROTECTION=true"), "PDS_DISABLE_SSRF_PROTECTION is set: strangers can make this server send requests to the inside of its network"},
		{"no app view", production, "PDS_BSKY_APP_VIEW_URL is unset: the official app, and others like it, cannot be used, since they ask for timelines, profiles and preferences through this server; Bluesky's app view is https://api.bsky.app with PDS_BSKY_APP_VIEW_DID=did:web:api.bsky.app"},
		{"no relay", appViewEnviron, "PDS_CRAWLERS is unset: no relay is asked to read what is written here, so an app view may not know of it; Bluesky's is https://bsky.network"},
		{"an app view in clear", with(production, "PDS_BSKY_APP_VIEW_URL=http://api.example.com", "PDS_BSKY_APP_VIEW_DID=did:web:api.example.com"), "PDS_BSKY_APP_VIEW_URL does not begin with https://: nothing is passed on to it, unless PDS_DISABLE_SSRF_PROTECTION is set"},
		{"reports in clear", with(production, "PDS_REPORT_SERVICE_URL=http://mod.example.com", "PDS_REPORT_SERVICE_DID=did:web:mod.example.com"), "PDS_REPORT_SERVICE_URL does not begin with https://: nothing is passed on to it, unless PDS_DISABLE_SSRF_PROTECTION is set"},
		{"a host without handles", with(production, "PDS_HOSTNAME=pds.internal"), `PDS_SERVICE_HANDLE_DOMAINS has the domain ".pds.internal", under which no handle is allowed: nobody can sign up there`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s := mustRead(t, tt.environ...); !slices.Contains(s.Warnings, tt.want) {
				t.Errorf("warnings %q, want %q among them", s.Warnings, tt.want)
			}
		})
	}
	for _, environ := range [][]string{
		{"PDS_DISABLE_SSRF_PROTECTION=true"}, {"PDS_BSKY_APP_VIEW_URL=http://localhost:1", "PDS_BSKY_APP_VIEW_DID=did:web:localhost"},
	} {
		if s := mustRead(t, environ...); len(s.Warnings) > 0 {
			t.Errorf("on a development server with %q: warnings %q", environ, s.Warnings)
		}
	}
}

func abs(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return path
}

// A level of ours goes before the reference's, whatever the order.
func TestLogLevels(t *testing.T) {
	if s := mustRead(t, "LOG_LEVEL=trace", "PORTICO_LOG_LEVEL=error"); s.LogLevel != slog.LevelError {
		t.Errorf("level %v", s.LogLevel)
	}
	if s := mustRead(t, "PORTICO_LOG_LEVEL=warn", "LOG_LEVEL=trace"); s.LogLevel != slog.LevelWarn {
		t.Errorf("level %v", s.LogLevel)
	}
}

// The default that a number can't say is printed, not the number.
func TestConfigPrintsWordsForNumbers(t *testing.T) {
	var b bytes.Buffer
	if err := mustRead(t, "PORTICO_PASSWORD_HASH_QUEUE=7").print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`PORTICO_PASSWORD_HASH_CONCURRENCY +\(number of cores\) +not set`, `PORTICO_PASSWORD_HASH_QUEUE +7 +environment`} {
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("%q is not printed", want)
		}
	}
}

func TestUnknownSettingsAreNamed(t *testing.T) {
	s := mustRead(t, "PORTICO_PASWORD_MIN_LENGTH=4", "PDS_INVITES=1", "PDS_LIGHT_COLOR=#fff", "PATH=/bin")
	if diff := cmp.Diff([]string{
		"PDS_INVITES is not a setting: it has no effect",
		"PDS_LIGHT_COLOR has no effect: no page has such a colour",
		"PORTICO_PASWORD_MIN_LENGTH is not a setting: it has no effect; is PORTICO_PASSWORD_MIN_LENGTH meant?",
	}, s.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	var secrets []string
	environ := slices.Clone(production)
	for r := range settingRows {
		if !r.secret {
			continue
		}
		v := fmt.Sprintf("%x", sha256.Sum256([]byte(r.name)))
		switch r.name {
		case "PORTICO_DATABASE_URL", "PORTICO_DATABASE_READ_URL", "PORTICO_DATABASE_LISTEN_URL":
			v = "postgres://user:" + v + "@localhost/portico"
		case "PDS_EMAIL_SMTP_URL", "PDS_MODERATION_EMAIL_SMTP_URL":
			v = "smtps://user:" + v + "@localhost"
		case "OTEL_EXPORTER_OTLP_HEADERS":
			v = "authorization=" + v
		case "PORTICO_PHONE_BYPASS_NUMBER":
			secrets, environ = append(secrets, "5550123456"), append(environ, r.name+"=+15550123456")
			continue
		}
		secrets = append(secrets, v[len(v)-16:], v[len(v)-40:])
		environ = append(environ, r.name+"="+v)
	}
	// Those without effect, those nobody knows, and those in URLs.
	for _, name := range []string{"PDS_HCAPTCHA_OTHER_SECRET", "PDS_OAUTH_CLIENT_PASS", "PDS_SOME_PASSWORD"} {
		secrets, environ = append(secrets, "shown-"+name), append(environ, name+"=shown-"+name)
	}
	for _, name := range []string{"PDS_REPORT_SERVICE_URL", "PDS_BSKY_APP_VIEW_URL", "PDS_MOD_SERVICE_URL", "PDS_DID_PLC_URL", "PDS_HOME_URL", "PDS_OAUTH_PROVIDER_URL"} {
		secrets, environ = append(secrets, "user-"+name, "shown-"+name), append(environ, name+"=https://user-"+name+":shown-"+name+"@host.example")
	}
	environ = append(environ, "PDS_BSKY_APP_VIEW_DID=did:web:host.example", "PDS_MOD_SERVICE_DID=did:web:host.example", "PDS_REPORT_SERVICE_DID=did:web:host.example")
	environ = append(environ, "PDS_BLOBSTORE_S3_BUCKET=bucket", "PDS_HCAPTCHA_SITE_KEY=site", "PDS_EMAIL_FROM_ADDRESS=Portico <pds@example.com>", "PDS_MODERATION_EMAIL_ADDRESS=mod@example.com", "PDS_PORT=3000")
	s := mustRead(t, environ...)

	var b bytes.Buffer
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "%v %+v %#v %v %#v", s, s, s.JWTSecret, s.JWTSecret, s.AdminPassword)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "settings", s, "secret", s.JWTSecret, "warnings", s.Warnings)
	announce(&b, &settings{Development: true, PublicURL: s.PublicURL, HandleDomains: s.HandleDomains}, s.PLCURL.String())
	for _, v := range secrets {
		if strings.Contains(b.String(), v) {
			t.Errorf("a secret is printed: %s", v)
		}
	}
	for _, want := range []string{"PDS_PORT", "3000", "environment", "(secret)", "PDS_EMAIL_FROM_ADDRESS", "REDACTED"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not printed", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// No error may repeat a secret that was mistyped.
func TestProblemsShowNoSecret(t *testing.T) {
	environ := []string{"PDS_HOSTNAME=pds.example.com"}
	for r := range settingRows {
		if r.secret {
			environ = append(environ, r.name+"=hunter2")
		}
	}
	environ = append(environ, "PDS_REDIS_SCRATCH_ADDRESS=redis://:hunter2@redis.example:6379", "PDS_MOD_SERVICE_URL=ftp://me:hunter2@mod.example",
		"PDS_HANDLE_BACKUP_NAMESERVERS=me:hunter2@ns.example")
	_, err := configuration{Environ: environ}.read()
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string
		environ []string
		out     string
		err     string
	}{
		{"version", []string{"version"}, nil, version() + "\n", ""},
		{"config", []string{"config"}, []string{"PDS_PORT=3000"}, "PDS_PORT                                   3000 ", ""},
		{"config that would not start", []string{"config"}, []string{"PDS_HOSTNAME=x"}, "PDS_HOSTNAME", "these settings must be mended first:"},
		{"what settings there are", []string{"config", "--help"}, nil, "  PDS_PORT (2583)\n       Port to listen on\n", ""},
		{"config from a file that is not there", []string{"config", "--env-file", "none.env"}, nil, "", "read settings: open none.env: no such file or directory"},
		{"help", []string{"--help"}, nil, `"portico serve" starts the server.`, ""},
		{"serve with an argument", []string{"serve", "now"}, nil, "", `serve takes no arguments, not even "now"`},
		{"serve with wrong settings", []string{"serve"}, []string{"PDS_HOSTNAME=x"}, "", "these settings must be mended first:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var out, errs bytes.Buffer
			err := newCommand(tt.environ, &out, &errs).Run(t.Context(), append([]string{"portico"}, tt.args...))
			if !strings.Contains(out.String(), tt.out) || tt.out == "" && out.Len() > 0 {
				t.Errorf("printed %q, want %q", out.String(), tt.out)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if files, _ := os.ReadDir("."); len(files) > 0 {
				t.Errorf("files were written: %v", files)
			}
		})
	}
}

// The document of the settings shows the table as the program has it; -update puts it there.
func TestReadmeOfSettings(t *testing.T) {
	const path, begin, end = "SETTINGS.md", "<!-- settings -->\n", "<!-- /settings -->"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), begin)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the settings between %q and %q", path, begin, end)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+"\n"+markdown()+"\n"+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff("\n"+markdown()+"\n", table); diff != "" {
		t.Errorf("%s differs from the table of settings; `go test ./cmd/portico -run Readme -update` mends it:\n%s", path, diff)
	}
}

func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for r := range settingRows {
		if seen[r.name] {
			t.Errorf("%s is there twice", r.name)
		}
		seen[r.name] = true
		kinds := 0
		for _, is := range []bool{r.store != nil, r.noEffect != "", r.refused != ""} {
			if is {
				kinds++
			}
		}
		if kinds != 1 || r.store != nil && (r.about == "" || r.kind == "") {
			t.Errorf("%s is not described", r.name)
		}
		if r.store == nil {
			continue
		}
		for _, def := range []string{r.def, r.dev} {
			def = strings.ReplaceAll(def, "<hostname>", "pds.example.com")
			if def == "" {
				continue
			}
			if err := r.store(&settings{Development: true}, def); err != nil {
				t.Errorf("the default of %s: %s", r.name, err)
			}
		}
	}
}
