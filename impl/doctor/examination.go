package doctor

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/identity/host/proof"
	"portico/impl/mail"
)

// Service is another server that requests are passed on to.
type Service struct {
	Name    string // of the check
	Setting string // without _URL and _DID: PDS_BSKY_APP_VIEW
	URL     string
	DID     syntax.DID
	AppView bool // it shows accounts
}

// Examination is what is looked at, and by what means. Its fields may not be changed after
// the first check has begun.
type Examination struct {
	// As the settings say.
	Problems       []string // that keep the server from starting
	Warnings       []string
	Development    bool   // it is not there for the world
	Host           string // name for the world; "" if it is not known
	Local          string // URL at which the server listens on this machine
	Bind           netip.Addr
	Port           int
	Domains        []string // of handles, each with a dot in front; the server knows better while it runs
	TrustedProxies int
	Version        string // of the binary, as a server of it tells it
	Directory      string // URL of the PLC directory; "" if the server has its own
	Services       []Service
	Crawlers       []string
	RateLimits     bool
	SignUpLimits   bool // a cap, a phone check or a quarantine bounds sign-ups

	// Password is the admin password, "" if it is not known, for which NoPassword says why. It is sent to Local, and
	// to the public name once who answers there has proven to be the server that listens at
	// Local.
	Password   string
	NoPassword string
	// Proof is what this server, and nobody without its secret, answers to a challenge (see package proof): the
	// password is sent to no other. nil: the secret is not known.
	Proof func(challenge string) string

	// What is on the machine.
	Folders    []Folder
	Disk       func(path string) (Disk, error)
	Files      func() ([]File, error)
	OpenFiles  func() (limit uint64, err error)  // of the server that runs
	Addresses  []netip.Addr                      // of this machine's interfaces
	Mail       func(context.Context) mail.Report // nil: no mail server is configured
	Mailed     string                            // the address that Mail sends a letter to; "": none
	Bucket     func(context.Context) error       // tries the bucket; nil: blobs are in a folder
	BucketName string
	Backups    func() ([]Backup, error)
	Standby    func(context.Context) (Standby, error) // nil: none is configured

	// The means.
	Resolver *net.Resolver                                                        // nil: the system's
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // to the public name; nil: straight there
	Roots    *x509.CertPool                                                       // nil: the system's
	Through  func(*http.Request) (*url.URL, error)                                // the proxy on the way to others; nil: none
	Now      func() time.Time
	Random   io.Reader

	server  memo[running]
	seen    memo[arrival]
	found   memo[addresses]
	reached memo[[]reach]
}

// Checks are all checks, in the order in which they are told.
func (e *Examination) Checks() []Check {
	all := []Check{
		{"settings", e.settings}, {"server", e.running}, {"files", e.files}, {"disk", e.disk}, {"open files", e.openFiles}, {"clock", e.clock},
		{"DNS", e.world(e.dns)}, {"wildcard", e.world(e.wildcard)}, {"certificate", e.world(e.certificate)}, {"public URL", e.world(e.public)},
		{"Host", e.world(e.hostHeader)}, {"X-Forwarded-For", e.world(e.forwarded)}, {"websocket", e.world(e.websocket)},
		{"handles", e.world(e.handles)}, {"made-up handles", e.world(e.madeUp)}, {"port", e.world(e.past)},
		{"sign-up", e.world(e.signUp)}, {"directory", e.directory},
	}
	for _, s := range e.Services {
		all = append(all, Check{s.Name, func(ctx context.Context) Result { return e.service(ctx, s) }})
	}
	if e.Standby != nil {
		all = append(all, Check{"standby", e.standby})
	}
	return append(all, Check{"crawlers", e.world(e.crawlers)}, Check{"mail", e.mail}, Check{"blob store", e.blobs}, Check{"backup", e.world(e.backup)})
}

// world is a check of what only a server for the world has.
func (e *Examination) world(check func(context.Context) Result) func(context.Context) Result {
	return func(ctx context.Context) Result {
		switch {
		case e.Development:
			return notTried("a development server")
		case e.Host == "":
			return notTried("the settings do not say what the server's name is (PDS_HOSTNAME)")
		}
		return check(ctx)
	}
}

func (e *Examination) settings(context.Context) Result {
	// What is said of each tells what to do.
	all := strings.Join(append(append([]string{}, e.Problems...), e.Warnings...), "\n")
	switch n := len(e.Problems); {
	case n > 0:
		return failed(fmt.Sprintf("%d %s the server from starting", n, plural(n, "setting keeps", "settings keep")), all)
	case len(e.Warnings) > 0:
		return warning("there are warnings", all)
	}
	return ok("nothing is wrong with them by themselves")
}

// Bounds of what is read of others, and of how long one step may take.
const (
	maxHeader = 32 << 10
	maxBody   = 256 << 10
	stepTime  = 4 * time.Second
)

// client is an HTTP client that follows nobody elsewhere.
func client(t *http.Transport) *http.Client {
	t.MaxResponseHeaderBytes, t.DisableKeepAlives, t.TLSHandshakeTimeout = maxHeader, true, stepTime
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// others is the client for servers that the settings name.
func (e *Examination) others() *http.Client {
	return client(&http.Transport{
		Proxy: e.Through, DialContext: (&net.Dialer{Timeout: stepTime}).DialContext, TLSClientConfig: &tls.Config{RootCAs: e.Roots, Time: e.Now},
		ResponseHeaderTimeout: 2 * stepTime,
	})
}

// local is the client for the server on this machine.
func local() *http.Client {
	return client(&http.Transport{DialContext: (&net.Dialer{Timeout: stepTime}).DialContext, ResponseHeaderTimeout: 2 * stepTime})
}

// get asks, and reads at most maxBody of the answer.
func get(ctx context.Context, c *http.Client, at string, header http.Header) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, nil, err
	}
	if header != nil {
		r.Header = header
	}
	answer, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	return answer, body, err
}

// operator asks a server as its operator.
func (e *Examination) operator(host string, c *http.Client, header http.Header) *operatorapi.Client {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+e.Password))
	return &operatorapi.Client{Client: xrpc.Client{
		Host: host, HTTP: c, Header: header, MaxAnswer: 4 << 20,
		Authorization: func(context.Context, *xrpc.Method) (string, error) { return basic, nil },
	}}
}

// running is what the server on this machine says of itself.
type running struct {
	err       error  // there is none
	unknown   string // why it could not be asked as its operator; "" if it was
	refused   bool   // because the password is wrong
	unproven  bool   // because it may be anybody
	challenge string
	answer    string // of it to the challenge; "": it is no server of this kind
	status    int    // of its health
	version   string
	health    *operatorapi.GetHealthOutput
	domains   []operatorapi.Domain
	account   *operatorapi.Account // one that is active, nil if there is none
	events    *operatorapi.GetFirehoseOutput
}

// knows is what a check says that needs the server, where it does not know enough; "" if it does.
func (r *running) knows() string {
	if r.err != nil {
		return "the server does not run"
	}
	return r.unknown
}

func (e *Examination) ask(ctx context.Context) *running {
	r := e.server.get(func() running { return e.askLocal(ctx) })
	return &r
}

func (e *Examination) askLocal(ctx context.Context) (r running) {
	ctx, cancel := context.WithTimeout(ctx, 2*stepTime)
	defer cancel()
	var random [24]byte
	if _, err := io.ReadFull(e.Random, random[:]); err != nil {
		return running{err: fmt.Errorf("make a challenge: %w", err)}
	}
	r.challenge = base64.RawURLEncoding.EncodeToString(random[:])
	answer, _, err := get(ctx, local(), e.Local+proof.Path, http.Header{proof.Challenge: {r.challenge}})
	if err != nil {
		return running{err: err}
	}
	r.answer = answer.Header.Get(proof.Answer)
	healthy, body, err := get(ctx, local(), e.Local+"/xrpc/_health", nil)
	if err != nil {
		return running{err: err}
	}
	r.status, r.version = healthy.StatusCode, text(body, "version")
	switch {
	case r.answer == "":
		r.unknown = "what answers at " + e.Local + " is not this server"
	case e.Proof != nil && !hmac.Equal([]byte(r.answer), []byte(e.Proof(r.challenge))):
		// Whoever listens there while the server is down would be told the password.
		r.unknown, r.unproven = "what answers at "+e.Local+" does not prove to be this server", true
	case e.Password == "":
		r.unknown = e.NoPassword
	default:
		r.unknown, r.refused = e.asOperator(ctx, &r)
	}
	return r
}

// asOperator asks for what only the operator is told.
func (e *Examination) asOperator(ctx context.Context, r *running) (unknown string, refused bool) {
	c := e.operator(e.Local, local(), nil)
	var err error
	if r.health, err = c.GetHealth(ctx); err == nil {
		r.domains, err = domains(c.ListDomains(ctx))
	}
	if err == nil {
		r.events, err = c.GetFirehose(ctx)
	}
	if err == nil {
		var list *operatorapi.ListAccountsOutput
		if list, err = c.ListAccounts(ctx, &operatorapi.ListAccountsParams{Status: new("active"), Limit: 10}); err == nil {
			for i := range list.Accounts {
				if a := &list.Accounts[i]; r.under(a.Handle.String()) != "" {
					r.account = a
					break
				}
			}
		}
	}
	if answered, isAnswer := errors.AsType[*xrpc.Error](err); isAnswer && answered.Status == http.StatusUnauthorized {
		return "the server refuses the admin password", true
	}
	if err != nil {
		return "the server does not say: " + brief(err.Error()), false
	}
	return "", false
}

func domains(out *operatorapi.ListDomainsOutput, err error) ([]operatorapi.Domain, error) {
	if err != nil {
		return nil, err
	}
	return out.Domains, nil
}

// under is the domain that a handle is under, "" if it is under none.
func (r *running) under(handle string) string {
	for _, d := range r.domains {
		if strings.HasSuffix(handle, withDot(d.Domain)) {
			return withDot(d.Domain)
		}
	}
	return ""
}

func withDot(domain string) string { return "." + strings.TrimPrefix(domain, ".") }

// domainNames are the domains of handles, each with a dot in front.
func (e *Examination) domainNames(ctx context.Context) []string {
	r := e.ask(ctx)
	if len(r.domains) == 0 {
		return e.Domains
	}
	names := make([]string, len(r.domains))
	for i, d := range r.domains {
		names[i] = withDot(d.Domain)
	}
	return names
}

func (e *Examination) running(ctx context.Context) Result {
	r := e.ask(ctx)
	start := "Start it (systemctl start portico); if it does not stay, its log says why (journalctl -u portico)"
	if e.Development {
		start = "Start it (portico serve), in the folder and with the settings of this command"
	}
	switch {
	case r.err != nil:
		return failed(fmt.Sprintf("no server answers at %s (%v)", e.Local, reason(r.err)), start)
	case r.answer == "":
		return failed("what answers at "+e.Local+" is another server", "Stop that, or give this one another port (PDS_PORT)")
	case r.unproven:
		return failed("what answers at "+e.Local+" does not prove to be this server: it has not the PDS_JWT_SECRET of these settings",
			"If the settings were changed, restart it (systemctl restart portico); else find out what listens there (ss -ltnp)")
	case r.status != http.StatusOK:
		problem := fmt.Sprintf("its database does not answer or takes no writes (status %d)", r.status)
		if r.health != nil && r.health.Problem != nil {
			problem += ": " + brief(*r.health.Problem)
		}
		return failed(problem, "Look at the disk and the log (journalctl -u portico); with Postgres, at PORTICO_DATABASE_URL")
	case r.refused:
		return failed("it refuses the admin password of these settings", "Give this command the settings that the server was started with (--env-file), or restart the server (systemctl restart portico)")
	case r.version != e.Version:
		return warning(fmt.Sprintf("version %s runs, but this is %s", brief(r.version), e.Version), "Restart it, so that the binary that is there runs (systemctl restart portico)")
	case r.unknown != "":
		return warning("version "+r.version+"; what only its operator is told could not be asked: "+r.unknown, "Give this command the server's settings (--env-file) or PDS_ADMIN_PASSWORD")
	}
	return ok("version %s, since %s", brief(r.version), r.health.StartedAt)
}

// late says that an answer did not come in time.
func late(err error) bool {
	e, is := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || is && e.Timeout()
}

// reason is what is wrong, without what everybody knows who asked.
func reason(err error) string {
	if e, is := errors.AsType[*url.Error](err); is {
		err = e.Err
	}
	if late(err) {
		return "no answer in time"
	}
	return brief(err.Error())
}
