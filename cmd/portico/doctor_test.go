package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"portico/impl/blob/blobtest"
	"portico/impl/doctor"
	"portico/impl/identity/directory"
	"portico/impl/mail/mailtest"
)

// surroundings are what there is around a server that goes by pds.example.com: name servers, a
// proxy with TLS in front, a directory, an app view, a relay, a mail server and a bucket.
// Tests break one of them.
type surroundings struct {
	t         *testing.T
	authority *authority
	directory *httptest.Server
	appView   *httptest.Server
	relay     *httptest.Server
	mail      *mailtest.Server
	bucket    *blobtest.S3

	mu      sync.Mutex
	spoiled map[string]http.HandlerFunc // what answers in the place of a server, by name
}

const (
	appViewDID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	otherDID   = "did:plc:cccccccccccccccccccccccc"
)

func newSurroundings(t *testing.T) *surroundings {
	w := &surroundings{t: t, authority: newAuthority(t), spoiled: map[string]http.HandlerFunc{}}
	sound := directory.New(directory.NewMemory(), time.Now, "test", slog.New(slog.DiscardHandler))
	w.directory = w.serve("directory", false, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/" + appViewDID:
			fmt.Fprintf(rw, `{"id":%q,"service":[{"id":"#bsky_appview","type":"BskyAppView","serviceEndpoint":%q}]}`, appViewDID, w.appView.URL)
		case "/" + otherDID:
			fmt.Fprintf(rw, `{"id":%q,"service":[{"id":"#bsky_appview","type":"BskyAppView","serviceEndpoint":"https://api.elsewhere.example"}]}`, otherDID)
		default:
			sound.ServeHTTP(rw, r)
		}
	})
	w.appView = w.serve("app view", true, func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "{}") })
	w.relay = w.serve("relay", true, func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, `{"hostname":"pds.example.com","status":"active","seq":1}`)
	})
	letters, _ := mailtest.Certificate(t, "127.0.0.1")
	w.mail = mailtest.Start(t, mailtest.Config{TLS: letters, User: "user", Password: "sesame", Methods: []string{"PLAIN"}})
	w.bucket = blobtest.StartS3(t)
	return w
}

// serve starts a server that a test can put something else in the place of.
func (w *surroundings) serve(name string, encrypted bool, sound http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		spoiled := w.spoiled[name]
		w.mu.Unlock()
		if spoiled != nil {
			spoiled(rw, r)
			return
		}
		sound(rw, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if encrypted {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{w.authority.certificate(life{}, "127.0.0.1")}}
		s.StartTLS()
	} else {
		s.Start()
	}
	w.t.Cleanup(s.Close)
	return s
}

func (w *surroundings) spoil(name string, f http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spoiled[name] = f
}

// environ are the settings of a server in this world.
func (w *surroundings) environ(more ...string) []string {
	u := w.mail.URL()
	u.RawQuery = "tls.rejectUnauthorized=false"
	return with(production, append([]string{
		"PORTICO_BIND=127.0.0.1", "PDS_DATA_DIRECTORY=" + filepath.Join(w.t.TempDir(), "data"), "PORTICO_TRUSTED_PROXIES=1",
		"PDS_RATE_LIMITS_ENABLED=true", "PDS_DID_PLC_URL=" + w.directory.URL,
		"PDS_BSKY_APP_VIEW_URL=" + w.appView.URL, "PDS_BSKY_APP_VIEW_DID=" + appViewDID,
		"PDS_REPORT_SERVICE_URL=" + w.appView.URL, "PDS_REPORT_SERVICE_DID=" + appViewDID,
		"PDS_MOD_SERVICE_URL=" + w.appView.URL, "PDS_MOD_SERVICE_DID=" + appViewDID,
		"PDS_CRAWLERS=" + w.relay.URL,
		"PDS_EMAIL_SMTP_URL=" + u.String(), "PDS_EMAIL_FROM_ADDRESS=accounts@example.com",
		"PDS_BLOBSTORE_S3_BUCKET=blobs", "PDS_BLOBSTORE_S3_ENDPOINT=" + w.bucket.URL, "PDS_BLOBSTORE_S3_REGION=test",
		"PDS_BLOBSTORE_S3_ACCESS_KEY_ID=id", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=sesame", "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true",
	}, more...)...)
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// life is when a certificate begins and ends, as seen from now; zero: a day ago, in 80 days.
type life struct{ begins, ends time.Duration }

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, ca, ca, &a.key.PublicKey, a.key))))
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) certificate(l life, names ...string) tls.Certificate {
	if l == (life{}) {
		l = life{-24 * time.Hour, 80 * 24 * time.Hour}
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(l.begins), NotAfter: time.Now().Add(l.ends),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	der := must(x509.CreateCertificate(rand.Reader, leaf, a.cert, &a.key.PublicKey, a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// setup is one set-up: a server and the world, as the doctor gets to see them.
type setup struct {
	*doctor.Examination
	t     *testing.T
	world *surroundings
	// records are those of DNS; a name that begins with "*" stands for all that end so.
	records map[string][]string
	// listens is what is at port 443 of an address.
	listens map[string]http.Handler
	// shows is the certificate that the proxy shows.
	shows func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// passes changes what the proxy passes on.
	passes func(*httputil.ProxyRequest)
	fronts map[string]string // address → where it is
	after  func()            // is called when all is looked at
}

// Addresses that the machine has, or another one. Nobody is sent a packet: connections end
// at the test's own listeners.
const here, here6, afar = "5.75.10.20", "2a01:4f8:1::2", "5.75.99.99"

// look is the set-up of a server that runs with these settings, as it should be.
func (w *surroundings) look(t *testing.T, environ []string) *setup {
	c := configuration{Environ: environ, Rand: rand.Reader, Now: time.Now}
	s, err := c.read()
	problems, _ := errors.AsType[settingsError](err)
	e, err := c.examination(s, problems, "")
	if err != nil {
		t.Fatal(err)
	}
	u := &setup{Examination: e, t: t, world: w, fronts: map[string]string{}, after: func() {}}
	u.records = map[string][]string{"pds.example.com.": {here, here6}, "*.pds.example.com.": {here, here6}}
	cert := w.authority.certificate(life{}, "pds.example.com", "*.pds.example.com")
	u.shows = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	u.passes = func(*httputil.ProxyRequest) {}
	target := must(url.Parse(e.Local))
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header.Set("X-Forwarded-For", strings.Join(append(r.In.Header["X-Forwarded-For"], "198.51.100.50"), ", "))
			u.passes(r)
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	u.listens = map[string]http.Handler{here: proxy, here6: proxy}
	e.Resolver = u.nameServer()
	e.Roots = w.authority.pool
	e.Dial = u.dial
	e.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr(here), netip.MustParseAddr(here6)}
	e.Disk = func(string) (doctor.Disk, error) {
		return doctor.Disk{Free: 40 << 30, Size: 80 << 30, FreeFiles: 1e6, Files: 2e6}, nil
	}
	e.OpenFiles = func() (uint64, error) { return 65536, nil }
	e.Backups = func() ([]doctor.Backup, error) {
		return []doctor.Backup{{Place: "s3://backups/portico", Last: time.Now().Add(-time.Hour)}}, nil
	}
	e.Through = nil
	return u
}

func (u *setup) dial(ctx context.Context, network, address string) (net.Conn, error) {
	to := netip.MustParseAddrPort(address)
	h := u.listens[to.Addr().String()]
	if h == nil || to.Port() != 443 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	u.world.mu.Lock()
	at := u.fronts[address]
	if at == "" {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		s.TLS = &tls.Config{GetCertificate: u.shows}
		s.StartTLS()
		// The package's own certificate would be shown to who asks for no name it knows.
		s.TLS.Certificates = nil
		u.t.Cleanup(s.Close)
		at = s.Listener.Addr().String()
		u.fronts[address] = at
	}
	u.world.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, at)
}

// nameServer is a resolver that asks a name server of the set-up's records, as they are when
// it is first asked.
func (u *setup) nameServer() *net.Resolver {
	conn := must(net.ListenPacket("udp", "127.0.0.1:0"))
	var serving sync.WaitGroup
	begin := sync.OnceFunc(func() {
		serving.Go(func() {
			buffer := make([]byte, 1500)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				if answer := u.answer(buffer[:n]); answer != nil {
					_, _ = conn.WriteTo(answer, from)
				}
			}
		})
	})
	u.t.Cleanup(func() { conn.Close(); serving.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		begin()
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (u *setup) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := strings.ToLower(q.Name.String())
	list, known := u.records[name]
	if _, rest, ok := strings.Cut(name, "."); !known && ok {
		list, known = u.records["*."+rest]
	}
	m.Response, m.Additionals = true, nil
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range list {
		a := netip.MustParseAddr(text)
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return must(m.Pack())
}

// examine is what the doctor says of a set-up, and what of that is not well, as it is
// printed.
func (u *setup) examine() (results []doctor.Result, unwell string) {
	u.t.Helper()
	results = doctor.Run(u.t.Context(), u.Checks(), checkPatience)
	u.after()
	var b bytes.Buffer
	_ = (&console{out: &b}).tell(slices.DeleteFunc(slices.Clone(results), func(r doctor.Result) bool { return r.State == doctor.OK }))
	for _, r := range results {
		for _, secret := range []string{"sesame", "0123456789abcdef", "0f1e2d3c4b5a6978"} {
			if strings.Contains(r.Found+r.Do, secret) {
				u.t.Errorf("a secret is printed: %+v", r)
			}
		}
	}
	for _, c := range changes {
		b = *bytes.NewBuffer(c.pattern.ReplaceAll(b.Bytes(), []byte(c.by)))
	}
	return results, b.String()
}

// changes are what differs from one run to the next.
var changes = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`(127\.0\.0\.1):\d+`), "$1:PORT"},
	{regexp.MustCompile(`(http://5\.75\.10\.20):\d+`), "$1:PORT"},
	{regexp.MustCompile(`\b20\d\d-\d\d-\d\d\b`), "DATE"},
	{regexp.MustCompile(`\b(1m)?\d+s (ahead|behind)`), "SOME TIME $2"},
	// Which server's clock is the nearest is a matter of milliseconds.
	{regexp.MustCompile(`(clock of) https?://`), "$1 http://"},
	{regexp.MustCompile(`(not|repair) did:plc:[a-z2-7]{24}`), "$1 did:plc:ACCOUNT"},
	{regexp.MustCompile(`DATE \d\d:\d\d:\d\d`), "DATE AND TIME"},
}

// A server that is set up as it should be is well in every respect; and each thing that is
// not as it should be is found, named, and said what to do about. The golden file has all
// that is said of each set-up.
func TestDoctor(t *testing.T) {
	w := newSurroundings(t)
	environ := w.environ()
	s, stop := startFor(t, environ...)
	environ = with(environ, fmt.Sprintf("PDS_PORT=%d", s.Port))
	if _, _, err := portico(t, environ, "account", "create", "alice.pds.example.com", "alice@example.com"); err != nil {
		t.Fatal(err)
	}
	var golden strings.Builder
	try := func(name, check string, state doctor.State, environ []string, spoil func(*setup)) {
		t.Run(name, func(t *testing.T) {
			u := w.look(t, environ)
			spoil(u)
			results, unwell := u.examine()
			for _, server := range []string{"directory", "app view", "relay"} {
				w.spoil(server, nil)
			}
			w.bucket.Fail = nil
			fmt.Fprintf(&golden, "-- %s --\n%s\n", name, unwell)
			if check == "" {
				if unwell != "" {
					t.Errorf("not all is well:\n%s", unwell)
				}
				return
			}
			i := slices.IndexFunc(results, func(r doctor.Result) bool { return r.Name == check })
			if i < 0 || results[i].State != state || results[i].Do == "" {
				t.Errorf("%s is not %s:\n%s", check, state, unwell)
			}
		})
	}

	try("all is well", "", "", environ, func(u *setup) {})
	for _, tt := range setups(t) {
		try(tt.name, tt.check, tt.state, with(environ, tt.environ...), tt.spoil)
	}
	if _, _, err := portico(t, environ, "domain", "add", "pds.example.com", "--invites", "open"); err != nil {
		t.Fatal(err)
	}
	try("anybody can sign up", "sign-up", doctor.Warning, environ, func(u *setup) { u.RateLimits = false })
	stop()
	try("the server does not run", "server", doctor.Failed, environ, func(*setup) {})

	// How many proxies it counts on a server is told at its start.
	for _, tt := range []struct {
		name, proxies string
		state         doctor.State
		passes        func(*httputil.ProxyRequest)
	}{
		{"counts on a proxy too many", "2", doctor.Failed, func(*httputil.ProxyRequest) {}},
		{"counts on none, and believes private addresses", "0", doctor.Warning, func(r *httputil.ProxyRequest) {
			r.Out.Header.Set("X-Forwarded-For", r.In.Header.Get("X-Forwarded-For")+", 10.0.0.7")
		}},
	} {
		other := with(environ, "PORTICO_TRUSTED_PROXIES="+tt.proxies)
		s, stop := startFor(t, other...)
		try(tt.name, "X-Forwarded-For", tt.state, with(other, fmt.Sprintf("PDS_PORT=%d", s.Port)), func(u *setup) { u.passes = tt.passes })
		stop()
	}

	fresh := w.environ()
	s, stop = startFor(t, fresh...)
	try("nobody has an account yet", "crawlers", doctor.Warning, with(fresh, fmt.Sprintf("PDS_PORT=%d", s.Port)), func(u *setup) {
		w.spoil("relay", status(http.StatusBadRequest, `{"error":"HostNotFound","message":"host not found"}`))
	})
	stop()

	path := filepath.Join("testdata", "doctor.golden")
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || string(want) != golden.String() {
		t.Errorf("%s is another (%v), -update writes it anew; now it would be\n%s", path, err, golden.String())
	}
}

// brokenSetup is one that has a fault.
type brokenSetup struct {
	name    string
	check   string // that finds it
	state   doctor.State
	environ []string // settings that are not the running server's
	spoil   func(*setup)
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

func setups(t *testing.T) []brokenSetup {
	none := func(*setup) {}
	shows := func(l life, names ...string) func(*setup) {
		return func(u *setup) {
			cert := u.world.authority.certificate(l, names...)
			u.shows = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
		}
	}
	passes := func(change func(*httputil.ProxyRequest)) func(*setup) { return func(u *setup) { u.passes = change } }
	answers := func(server string, h http.HandlerFunc) func(*setup) {
		return func(u *setup) { u.world.spoil(server, h) }
	}
	disk := func(d doctor.Disk, err error) func(*setup) {
		return func(u *setup) {
			u.Folders = []doctor.Folder{{Path: "/var/lib/portico", Setting: "PDS_DATA_DIRECTORY", Database: true}}
			u.Disk = func(string) (doctor.Disk, error) { return d, err }
		}
	}
	off := func(d time.Duration) func(*setup) {
		return func(u *setup) { u.Now = func() time.Time { return time.Now().Add(d) } }
	}
	hostStatus := func(status string) func(*setup) {
		return answers("relay", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"hostname":"pds.example.com","status":%q}`, status)
		})
	}
	large := doctor.Disk{Free: 40 << 30, Size: 80 << 30}
	return []brokenSetup{
		{"the name has no address", "DNS", doctor.Failed, nil, func(u *setup) { delete(u.records, "pds.example.com.") }},
		{"the name leads to another machine", "DNS", doctor.Failed, nil, func(u *setup) {
			u.records = map[string][]string{"pds.example.com.": {afar}, "*.pds.example.com.": {afar}}
			u.listens[afar] = status(http.StatusOK, "It works!")
		}},
		{"AAAA leads elsewhere", "DNS", doctor.Failed, nil, func(u *setup) { u.records["pds.example.com."] = []string{here, "2a01:4f8:9::9"} }},
		{"the name leads to a private address", "DNS", doctor.Warning, nil, func(u *setup) {
			u.records = map[string][]string{"pds.example.com.": {"10.0.0.7"}, "*.pds.example.com.": {"10.0.0.7"}}
		}},
		{"the wildcard is missing", "wildcard", doctor.Failed, nil, func(u *setup) { delete(u.records, "*.pds.example.com.") }},
		{"the wildcard leads elsewhere", "wildcard", doctor.Warning, nil, func(u *setup) { u.records["*.pds.example.com."] = []string{afar} }},
		{"the certificate has ended", "certificate", doctor.Failed, nil, shows(life{-100 * 24 * time.Hour, -48 * time.Hour}, "pds.example.com", "*.pds.example.com")},
		{"the certificate is for another name", "certificate", doctor.Failed, nil, shows(life{}, "www.example.com")},
		{"the certificate is of nobody's authority", "certificate", doctor.Failed, nil, func(u *setup) { u.Roots = x509.NewCertPool() }},
		{"the certificate is not renewed", "certificate", doctor.Warning, nil, shows(life{-85 * 24 * time.Hour, 5 * 24 * time.Hour}, "pds.example.com", "*.pds.example.com")},
		{"the certificate is not for handles", "handles", doctor.Failed, nil, shows(life{}, "pds.example.com")},
		{"certificates are made for made-up names", "made-up handles", doctor.Failed, nil, func(u *setup) {
			u.shows = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return new(u.world.authority.certificate(life{}, hello.ServerName)), nil
			}
		}},
		{"the proxy is slow with made-up names", "made-up handles", doctor.Warning, nil, func(u *setup) {
			good, over := u.shows, make(chan struct{})
			u.after = func() { close(over) }
			u.shows = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if strings.HasPrefix(hello.ServerName, "portico-doctor") {
					<-over
				}
				return good(hello)
			}
		}},
		{"no proxy listens", "public URL", doctor.Failed, nil, func(u *setup) { clear(u.listens) }},
		{"the proxy does not reach the server", "public URL", doctor.Failed, nil, func(u *setup) {
			u.listens = map[string]http.Handler{here: status(http.StatusBadGateway, ""), here6: status(http.StatusBadGateway, "")}
		}},
		{"the proxy sends elsewhere", "public URL", doctor.Failed, nil, func(u *setup) {
			h := http.RedirectHandler("https://www.example.com/", http.StatusMovedPermanently)
			u.listens = map[string]http.Handler{here: h, here6: h}
		}},
		{"what answers says too much", "public URL", doctor.Failed, nil, func(u *setup) {
			head := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Much", strings.Repeat("much ", 100_000))
			})
			body := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Server", "\u009b2J"+strings.Repeat("more", 1000))
				for r.Context().Err() == nil {
					if _, err := w.Write(bytes.Repeat([]byte("\x1b[2J"), 1000)); err != nil {
						return
					}
				}
			})
			u.listens = map[string]http.Handler{here: head, here6: body}
		}},
		{"the proxy drops Host", "Host", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) { r.Out.Host = r.Out.URL.Host })},
		{"the proxy does not say where requests come from", "X-Forwarded-For", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) { r.Out.Header.Del("X-Forwarded-For") })},
		{"the proxy passes on what the client says", "X-Forwarded-For", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) {
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		})},
		{"there is a proxy more", "X-Forwarded-For", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) {
			r.Out.Header.Set("X-Forwarded-For", r.Out.Header.Get("X-Forwarded-For")+", 198.51.100.1")
		})},
		{"the proxy writes no addresses", "X-Forwarded-For", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) { r.Out.Header.Set("X-Forwarded-For", "unix:") })},
		{"the proxy breaks websockets", "websocket", doctor.Failed, nil, passes(func(r *httputil.ProxyRequest) { r.Out.Header.Del("Upgrade"); r.Out.Header.Del("Connection") })},
		{"the server is reached past the proxy", "port", doctor.Warning, []string{"PORTICO_BIND=0.0.0.0"}, func(u *setup) {
			through := u.Dial
			u.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, ":443") {
					return through(ctx, network, address)
				}
				return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(u.Local, "http://"))
			}
		}},
		{"another version runs", "server", doctor.Warning, []string{"PDS_VERSION=v9.9.9"}, none},
		{"another password is the server's", "server", doctor.Failed, []string{"PDS_ADMIN_PASSWORD=fedcba9876543210"}, none},
		{"something at the port only looks like the server", "server", doctor.Failed, nil, func(u *setup) {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "" {
					u.t.Error("it was sent the admin password")
				}
				w.Header().Set("Portico-Answer", "x")
				_, _ = io.WriteString(w, `{"version":"1"}`)
			}))
			u.t.Cleanup(other.Close)
			u.Local = other.URL
		}},
		{"another server listens at the port", "server", doctor.Failed, nil, func(u *setup) { u.Local = u.world.directory.URL }},
		{"the database takes no writes", "server", doctor.Failed, nil, func(u *setup) {
			sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Portico-Answer", "answer")
				if r.URL.Path == "/xrpc/_health" {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			}))
			u.t.Cleanup(sick.Close)
			u.Local, u.Password, u.NoPassword, u.Proof = sick.URL, "", "the admin password is not known", nil
		}},
		{"a setting is wrong", "settings", doctor.Failed, []string{"PDS_JWT_SECRET=short"}, none},
		{"a setting is mistyped", "settings", doctor.Warning, []string{"PDS_CRAWLER=https://bsky.network"}, none},
		{"the directory does not answer", "directory", doctor.Failed, []string{"PDS_DID_PLC_URL=http://127.0.0.1:1"}, none},
		{"the directory is something else", "directory", doctor.Failed, nil, answers("directory", status(http.StatusOK, "<html>"))},
		{"the directory fails", "directory", doctor.Failed, nil, answers("directory", status(http.StatusServiceUnavailable, ""))},
		{"the clock is a minute behind", "clock", doctor.Failed, nil, off(-time.Minute)},
		{"the clock is ten seconds ahead", "clock", doctor.Warning, nil, off(12 * time.Second)},
		{"the disk is nearly full", "disk", doctor.Warning, nil, disk(doctor.Disk{Free: 1 << 30, Size: 80 << 30}, nil)},
		{"the disk is full", "disk", doctor.Failed, nil, disk(doctor.Disk{Free: 1 << 20, Size: 80 << 30}, nil)},
		{"the disk takes no more files", "disk", doctor.Warning, nil, disk(doctor.Disk{Free: 40 << 30, Size: 80 << 30, Files: 1000, FreeFiles: 10}, nil)},
		{"the data are in memory", "disk", doctor.Failed, nil, disk(ofKind(large, "tmpfs"), nil)},
		{"the database is on the network", "disk", doctor.Failed, nil, disk(ofKind(large, "nfs"), nil)},
		{"the data are in the container", "disk", doctor.Warning, nil, disk(ofKind(large, "overlay"), nil)},
		{"the folder cannot be written to", "disk", doctor.Failed, nil, disk(doctor.Disk{Free: 40 << 30, Size: 80 << 30, Writable: syscall.EACCES}, nil)},
		{"the folder is not there", "disk", doctor.Failed, nil, disk(doctor.Disk{}, &fs.PathError{Op: "statfs", Path: "/var/lib/portico", Err: syscall.ENOENT})},
		{"others read the secrets", "files", doctor.Failed, nil, func(u *setup) {
			u.Files = func() ([]doctor.File, error) {
				return []doctor.File{{Path: "/etc/portico/portico.env", Mode: 0o644, Group: true}, {Path: "/var/lib/portico/secrets.env", Mode: 0o640}}, nil
			}
		}},
		{"a file is root's", "files", doctor.Failed, nil, func(u *setup) {
			u.Files = func() ([]doctor.File, error) {
				return []doctor.File{{Path: "/var/lib/portico/portico.sqlite-wal", Mode: 0o600, Owner: "root", Wanted: "portico"}}, nil
			}
		}},
		{"few files may be open", "open files", doctor.Warning, nil, func(u *setup) { u.OpenFiles = func() (uint64, error) { return 1024, nil } }},
		{"the mail server refuses the login", "mail", doctor.Failed, smtpTo("smtp://user:sesame-street@" + mailAddress(t)), none},
		{"the mail server is not there", "mail", doctor.Failed, smtpTo("smtp://user:sesame@127.0.0.1:1"), none},
		{"there is no mail server", "mail", doctor.Warning, smtpTo(""), func(u *setup) { u.Mail = nil }},
		{"there is no such bucket", "blob store", doctor.Failed, []string{"PDS_BLOBSTORE_S3_BUCKET=blobz"}, none},
		{"the bucket takes no writes", "blob store", doctor.Failed, nil, func(u *setup) {
			u.world.bucket.Fail = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				w.Header().Set("Content-Type", "application/xml")
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
				return true
			}
		}},
		{"the backup is old", "backup", doctor.Failed, nil, backups(doctor.Backup{Place: "s3://backups/portico", Last: time.Now().Add(-50 * time.Hour), Failure: "no space left"})},
		{"the last backup failed", "backup", doctor.Warning, nil, backups(doctor.Backup{Place: "s3://backups/portico", Last: time.Now().Add(-30 * time.Hour), Failure: "no space left"})},
		{"there was never a backup", "backup", doctor.Failed, nil, backups(doctor.Backup{Place: "s3://backups/portico", Failure: "no such bucket"})},
		{"the relay does not know the server", "crawlers", doctor.Warning, nil, answers("relay", status(http.StatusBadRequest, `{"error":"HostNotFound","message":"host not found"}`))},
		{"the relay has banned the server", "crawlers", doctor.Failed, nil, hostStatus("banned")},
		{"the relay throttles the server", "crawlers", doctor.Warning, nil, hostStatus("throttled")},
		{"the relay finds the server offline", "crawlers", doctor.Failed, nil, hostStatus("offline")},
		{"the relay has read events of before", "crawlers", doctor.Failed, nil, answers("relay", status(http.StatusOK, `{"hostname":"pds.example.com","seq":4711000}`))},
		{"no relay is asked", "crawlers", doctor.Warning, nil, func(u *setup) { u.Crawlers = nil }},
		{"the app view goes by another DID", "app view", doctor.Failed, []string{"PDS_BSKY_APP_VIEW_DID=" + otherDID}, none},
		{"the app view does not know the accounts", "app view", doctor.Warning, nil, answers("app view", func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "getProfile") {
				status(http.StatusBadRequest, `{"error":"InvalidRequest","message":"Profile not found\u001b[2J"}`)(w, r)
				return
			}
			fmt.Fprint(w, "{}")
		})},
		{"the moderation service fails", "moderation", doctor.Failed, nil, func(u *setup) { u.Services[2].URL = "https://127.0.0.1:1" }},
		{"requests are not limited", "sign-up", doctor.Warning, nil, func(u *setup) { u.RateLimits = false }},
	}
}

func backups(b doctor.Backup) func(*setup) {
	return func(u *setup) {
		u.Backups = func() ([]doctor.Backup, error) { return []doctor.Backup{b}, nil }
	}
}

func ofKind(d doctor.Disk, kind string) doctor.Disk { d.Kind = kind; return d }

func mailAddress(t *testing.T) string {
	return mailtest.Start(t, mailtest.Config{User: "user", Password: "another", Methods: []string{"PLAIN"}}).Address
}

func smtpTo(url string) []string {
	return []string{"PDS_EMAIL_SMTP_URL=" + url}
}
