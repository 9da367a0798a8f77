package launch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Front is what stands before servers in the world: it has the certificate of their host
// names, ends TLS, and passes on what each is asked. A program with its Environ finds these
// names in the world, and no others.
type Front struct {
	// CertificateFile has the certificate of the authority, in PEM.
	CertificateFile string
	// Address is where it listens with TLS, and where a name's port 443 is for who knows it.
	Address string

	proxy   string // that takes CONNECT
	secure  *http.Server
	connect *http.Server

	mu    sync.Mutex
	leads map[string]lead
}

// A lead is where a name leads, until it does not any more.
type lead struct {
	http.Handler
	until context.Context
	end   context.CancelFunc
}

// NewFront starts a front with a certificate for names, which may begin with "*.", in a
// file of a folder. None of them leads anywhere yet.
func NewFront(dir string, names ...string) (*Front, error) {
	f := &Front{CertificateFile: filepath.Join(dir, "authority.pem"), leads: map[string]lead{}}
	certificate, err := f.certify(names)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	f.secure = &http.Server{Handler: f, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, ErrorLog: quiet}
	f.connect = &http.Server{Handler: http.HandlerFunc(f.tunnel), ErrorLog: quiet}
	if f.Address, err = f.Listen("127.0.0.1:0"); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.proxy = "http://" + l.Addr().String()
	go f.connect.Serve(l)
	return f, nil
}

// certify makes an authority and a certificate of it.
func (f *Front) certify(names []string) (tls.Certificate, error) {
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the tests"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	top, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	issuer, err := x509.CreateCertificate(rand.Reader, authority, authority, &top.PublicKey, top)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, top)
	if err != nil {
		return tls.Certificate{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(f.CertificateFile, text, 0o600)
}

// Listen has the front listen with TLS at one more address, and returns it.
func (f *Front) Listen(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	go f.secure.ServeTLS(l, "", "")
	return l.Addr().String(), nil
}

// Lead passes on to base, the URL of a server, what is asked of a name, and of the names
// under it that lead nowhere themselves. With "" it leads nowhere. What was under way to
// where the name led before is cut off.
func (f *Front) Lead(name, base string) error {
	if base == "" {
		f.LeadTo(name, nil)
		return nil
	}
	to, err := url.Parse(base)
	if err != nil {
		return err
	}
	f.LeadTo(name, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	return nil
}

// LeadTo is Lead to a handler in this process, nil for nowhere.
func (f *Front) LeadTo(name string, h http.Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, ok := f.leads[name]; ok {
		before.end()
		delete(f.leads, name)
	}
	if h != nil {
		until, end := context.WithCancel(context.Background())
		f.leads[name] = lead{h, until, end}
	}
}

// of is where a host leads.
func (f *Front) of(host string) (l lead, ok bool) {
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	_, parent, _ := strings.Cut(name, ".")
	f.mu.Lock()
	defer f.mu.Unlock()
	if l, ok = f.leads[name]; !ok {
		l, ok = f.leads[parent]
	}
	return l, ok
}

// ServeHTTP passes a request on.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l, ok := f.of(r.Host)
	if !ok {
		http.Error(w, "no server here", http.StatusMisdirectedRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(l.until, cancel)()
	l.ServeHTTP(w, r.WithContext(ctx))
}

// tunnel is the way to a name's port 443 for who finds no names by DNS.
func (f *Front) tunnel(w http.ResponseWriter, r *http.Request) {
	if _, ok := f.of(r.Host); !ok || r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, ":443") {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	to, err := net.Dial("tcp", f.Address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	from, read, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer from.Close()
	io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		io.Copy(to, read)
		to.Close()
	}()
	io.Copy(from, to)
}

// Environ is for programs that are to find the names of the front, by the proxy that it is,
// and to believe its certificate.
func (f *Front) Environ() []string {
	return []string{
		"HTTPS_PROXY=" + f.proxy, "https_proxy=" + f.proxy, "NO_PROXY=localhost", "no_proxy=localhost",
		"SSL_CERT_FILE=" + f.CertificateFile, "NODE_EXTRA_CA_CERTS=" + f.CertificateFile,
	}
}

// Client is a client in this process for which the names of the front are in the world. It
// follows no redirect.
func (f *Front) Client() (*http.Client, error) {
	proxy, err := url.Parse(f.proxy)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.CertificateFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + f.CertificateFile)
	}
	return &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Close ends it.
func (f *Front) Close() {
	f.secure.Close()
	f.connect.Close()
}
