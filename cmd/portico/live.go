package main

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"portico/api/xrpc"
	"portico/impl/account"
	"portico/impl/account/invite"
	"portico/impl/atproto/server"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
	"portico/impl/oauth/grant"
)

// live is what the settings of a server that runs come to at the moment. Services take a
// method of it where a reload may change what they need, and ask anew each time: then all
// that belongs together changes at once, and nobody sees half of it.
type live struct{ current atomic.Pointer[inForce] }

// inForce is never changed: after a reload another takes its place.
type inForce struct {
	*settings
	callers  xrpc.Callers
	sender   outbox.Sender // nil: there is no mail server
	reserved handle.Names
	owner    http.Handler // the pages of accounts
	letIn    http.Handler // the pages where people let apps in
	console  http.Handler // on the public origin, nil: there is none
	direct   http.Handler // the console at an address of this machine, nil: there is none
}

// itself is for who wants settings of the moment and gets those of a start.
func (s *settings) itself() *settings { return s }

func (l *live) now() *inForce { return l.current.Load() }

func (l *live) settings() *settings          { return l.now().settings }
func (l *live) callers() *xrpc.Callers       { return &l.now().callers }
func (l *live) sender() outbox.Sender        { return l.now().sender }
func (l *live) reserved() handle.Names       { return l.now().reserved }
func (l *live) brand() mail.Brand            { return l.now().settings.brand() }
func (l *live) adminPassword() string        { return string(l.now().AdminPassword) }
func (l *live) exempt() []netip.Addr         { return l.now().RateLimitBypassIPs }
func (l *live) passwordMinLength() int       { return l.now().PasswordMinLength }
func (l *live) trustedProxies() int          { return l.now().TrustedProxies }
func (l *live) recordQuota() int             { return l.now().RecordQuota }
func (l *live) blobQuota() int64             { return l.now().AccountBlobQuota }
func (l *live) plcRate() float64             { return float64(l.now().PLCRate) }
func (l *live) crawlers() []string           { return l.now().Crawlers }
func (l *live) slowStatement() time.Duration { return l.now().SlowStatement }
func (l *live) serviceName() string          { return l.now().ServiceName }
func (l *live) trustedClients() []string     { return l.now().TrustedClients }
func (l *live) lifetimes() grant.Lifetimes   { return l.now().OAuthLifetimes }

func (l *live) quarantine() account.Terms {
	s := l.now().settings
	return account.Terms{Rule: s.Quarantine, Releases: s.ReleasesPerHour, LargeMailDomains: s.LargeMailDomains}
}

func (l *live) domains() domain.Configured {
	s := l.now().settings
	return domain.Configured{Domains: s.HandleDomains, InviteRequired: s.InviteRequired}
}

func (l *live) server() server.Config {
	s := l.now().settings
	return server.Config{
		ServiceDID: s.ServiceDID, ModService: s.ModService.DID, Hostname: s.Hostname,
		InviteEarning: invite.Earning{Interval: s.InviteInterval, Epoch: s.InviteEpoch},
		PrivacyPolicy: s.PrivacyPolicyURL, TermsOfService: s.TermsOfServiceURL, ContactEmail: s.ContactEmail,
		SendsMail: s.sendsMail(), DocumentInSessions: s.DIDDocWithSession,
		PasswordMinLength: s.PasswordMinLength, SignUpsPerDay: s.SignUpsPerDay, BlobUploadLimit: s.BlobUploadLimit,
	}
}

// sendsMail says whether people get the mails that are meant for them: a developer reads
// those of a development server.
func (s *settings) sendsMail() bool { return s.SMTPURL != nil || s.Development }

// page is the handler that which tells of what is in force.
func (l *live) page(which func(*inForce) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { which(l.now()).ServeHTTP(w, r) })
}
