// Package mailtest is a mail server for tests: it speaks SMTP on loopback and
// keeps what it gets.
package mailtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Config is how a server behaves. The zero value takes everything from anybody,
// unencrypted.
type Config struct {
	// TLS is for STARTTLS, or for the whole connection when Implicit is true.
	TLS      *tls.Config
	Implicit bool
	// User and Password are asked for when User is not empty, by Methods (PLAIN
	// and LOGIN are known).
	User, Password string
	Methods        []string
	SMTPUTF8       bool
	// Sender, Recipient and Message decide on each of them; nil takes all.
	// An answer other than 2xx is made by Answer.
	Sender, Recipient func(address string) error
	Message           func(Mail) error
}

// Answer is an error answer of the server.
func Answer(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// Mail is one that was taken.
type Mail struct {
	From, To   string // of the envelope
	User       string // who was logged in; "" nobody
	Encrypted  bool
	Raw        []byte
	Header     mail.Header
	Subject    string // decoded, as are the parts
	Text, HTML string
}

// Server is a mail server on loopback.
type Server struct {
	Address string // host:port
	config  Config
	mails   chan Mail
	mu      sync.Mutex
	all     []Mail
}

// Start starts a server that lives as long as the test.
func Start(tb testing.TB, c Config) *Server {
	tb.Helper()
	s, stop, err := Listen(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(stop)
	return s
}

// Listen starts a server that lives until stop is called.
func Listen(c Config) (s *Server, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	s = &Server{Address: l.Addr().String(), config: c, mails: make(chan Mail, 10000)}
	srv := smtp.NewServer(s)
	srv.Domain = "mail.test"
	srv.TLSConfig = c.TLS
	srv.AllowInsecureAuth = true
	srv.EnableSMTPUTF8 = c.SMTPUTF8
	srv.ReadTimeout = time.Minute
	srv.ErrorLog = log.New(io.Discard, "", 0)
	if c.Implicit {
		l = tls.NewListener(l, c.TLS)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with an error when it is closed
	}()
	return s, func() {
		_ = srv.Close()
		<-done
	}, nil
}

// URL is the server in the form of PDS_EMAIL_SMTP_URL, with user and password when
// it has some.
func (s *Server) URL() *url.URL {
	u := &url.URL{Scheme: "smtp", Host: s.Address}
	if s.config.Implicit {
		u.Scheme = "smtps"
	}
	if s.config.User != "" {
		u.User = url.UserPassword(s.config.User, s.config.Password)
	}
	return u
}

// patience is how long a mail may take on a busy machine.
const patience = 2 * time.Minute

// Next waits for the next mail that nobody has got from it yet, and ends the test when
// none comes in minutes.
func (s *Server) Next(tb testing.TB) Mail {
	tb.Helper()
	select {
	case m := <-s.mails:
		return m
	case <-time.After(patience):
		tb.Fatal("no mail came")
		return Mail{}
	}
}

// Mails is all that came so far.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.all...)
}

// NewSession is called for each connection.
func (s *Server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c}, nil
}

type session struct {
	server *Server
	conn   *smtp.Conn
	user   string
	mail   Mail
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

func (s *session) AuthMechanisms() []string {
	if s.server.config.User == "" {
		return nil
	}
	return s.server.config.Methods
}

func (s *session) Auth(method string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != s.server.config.User || password != s.server.config.Password {
			return Answer(535, "5.7.8 wrong user or password")
		}
		s.user = user
		return nil
	}
	if method == "LOGIN" {
		return &login{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.config.User != "" && s.user == "" {
		return Answer(530, "5.7.0 log in first")
	}
	s.mail = Mail{From: from, User: s.user}
	return ask(s.server.config.Sender, from)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.To = to
	return ask(s.server.config.Recipient, to)
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := s.mail
	m.Raw = raw
	_, m.Encrypted = s.conn.TLSConnectionState()
	if err := m.read(); err != nil {
		return Answer(554, "5.6.0 "+err.Error())
	}
	if f := s.server.config.Message; f != nil {
		if err := f(m); err != nil {
			return err
		}
	}
	s.server.mu.Lock()
	s.server.all = append(s.server.all, m)
	s.server.mu.Unlock()
	s.server.mails <- m
	return nil
}

func ask(f func(string) error, address string) error {
	if f == nil {
		return nil
	}
	return f(address)
}

// read takes m.Raw apart.
func (m *Mail) read() error {
	msg, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	m.Header = msg.Header
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		return fmt.Errorf("read subject: %w", err)
	}
	return m.part(msg.Header.Get("Content-Type"), msg.Header.Get("Content-Transfer-Encoding"), msg.Body)
}

func (m *Mail) part(kind, encoding string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(kind)
	if err != nil {
		return fmt.Errorf("read content type: %w", err)
	}
	if kind == "multipart/alternative" {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read part: %w", err)
			}
			if err := m.part(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p); err != nil {
				return err
			}
		}
	}
	switch encoding {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("read part: %w", err)
	}
	switch kind {
	case "text/plain":
		m.Text = string(text)
	case "text/html":
		m.HTML = string(text)
	default:
		return fmt.Errorf("a part of type %s", kind)
	}
	return nil
}

// login is the server's side of LOGIN.
type login struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check(l.user, string(response))
	}
}

// Certificate makes an authority and a certificate of it for names, which may be
// addresses. The pool holds the authority.
func Certificate(tb testing.TB, names ...string) (*tls.Config, *x509.CertPool) {
	tb.Helper()
	fail := func(err error) {
		if err != nil {
			tb.Helper()
			tb.Fatal(err)
		}
	}
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	fail(err)
	ca, err = x509.ParseCertificate(caDER)
	fail(err)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "mail.test"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	fail(err)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}
