package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/impl/mail/mailtest"
)

const password = "p@ss/w:rd%"

func sender(t *testing.T, u *url.URL, options string) *SMTP {
	t.Helper()
	with := *u
	with.RawQuery = options
	parsed, err := url.Parse(with.String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSMTP(parsed, &mail.Address{Name: "Portico \"x\"", Address: "noreply@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	s.Now = func() time.Time { return noon }
	s.Timeout = 10 * time.Second
	return s
}

func letter(t *testing.T, to string) Letter {
	l := brand(t).Confirm(to, testCode)
	l.ID = "letter-1"
	return l
}

func TestSendDeliversBothParts(t *testing.T) {
	srv := mailtest.Start(t, mailtest.Config{})
	s := sender(t, srv.URL(), "")
	l := letter(t, "alice@example.com")
	if err := s.Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	m := srv.Next(t)
	if m.From != "noreply@example.com" || m.To != "alice@example.com" {
		t.Errorf("envelope from %q to %q", m.From, m.To)
	}
	for name, want := range map[string]string{
		"From":           `"Portico \"x\"" <noreply@example.com>`,
		"To":             "<alice@example.com>",
		"Subject":        "Email Confirmation",
		"Date":           "Wed, 04 Mar 2026 12:05:00 +0100",
		"Message-Id":     "<letter-1@example.com>",
		"Auto-Submitted": "auto-generated",
		"User-Agent":     "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := strings.ReplaceAll(m.Text, "\r\n", "\n"); got != l.Text {
		t.Errorf("text: %q", got)
	}
	if got := strings.ReplaceAll(m.HTML, "\r\n", "\n"); got != l.HTML {
		t.Errorf("HTML: %q", got)
	}
	for line := range strings.Lines(string(m.Raw)) {
		if len(line) > 200 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

func TestEncryptionAndLogin(t *testing.T) {
	cert, pool := mailtest.Certificate(t, "127.0.0.1", "mail.test")
	for _, tt := range []struct {
		name      string
		config    mailtest.Config
		options   string
		encrypted bool
	}{
		{"STARTTLS when offered", mailtest.Config{TLS: cert}, "", true},
		{"STARTTLS required", mailtest.Config{TLS: cert}, "requireTLS=true", true},
		{"STARTTLS ignored", mailtest.Config{TLS: cert}, "ignoreTLS=true", false},
		{"implicit TLS", mailtest.Config{TLS: cert, Implicit: true}, "", true},
		{"another name in the certificate", mailtest.Config{TLS: cert}, "tls.servername=mail.test", true},
		{"PLAIN over STARTTLS", mailtest.Config{TLS: cert, User: "us@er", Password: password, Methods: []string{"PLAIN"}}, "", true},
		{"LOGIN over STARTTLS", mailtest.Config{TLS: cert, User: "us@er", Password: password, Methods: []string{"LOGIN"}}, "", true},
		{"PLAIN over implicit TLS", mailtest.Config{TLS: cert, Implicit: true, User: "us@er", Password: password, Methods: []string{"LOGIN", "PLAIN"}}, "", true},
		{"LOGIN chosen", mailtest.Config{TLS: cert, User: "us@er", Password: password, Methods: []string{"PLAIN", "LOGIN"}}, "authMethod=login", true},
		{"login unencrypted on loopback", mailtest.Config{User: "us@er", Password: password, Methods: []string{"PLAIN"}}, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := mailtest.Start(t, tt.config)
			s := sender(t, srv.URL(), tt.options)
			s.tls.RootCAs = pool
			if err := s.Send(t.Context(), letter(t, "alice@example.com")); err != nil {
				t.Fatal(err)
			}
			m := srv.Next(t)
			if m.Encrypted != tt.encrypted || m.User != tt.config.User {
				t.Errorf("encrypted %v, user %q", m.Encrypted, m.User)
			}
		})
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	cert, pool := mailtest.Certificate(t, "mail.test")
	for _, implicit := range []bool{false, true} {
		t.Run(fmt.Sprintf("implicit %v", implicit), func(t *testing.T) {
			srv := mailtest.Start(t, mailtest.Config{TLS: cert, Implicit: implicit})

			err := sendError(t, sender(t, srv.URL(), ""), "alice@example.com")
			if _, ok := errors.AsType[x509.HostnameError](err); !ok {
				if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
					t.Errorf("unknown authority: %v", err)
				}
			}
			if err.Stage != "encrypt" || err.Permanent {
				t.Errorf("stage %q, permanent %v", err.Stage, err.Permanent)
			}

			s := sender(t, srv.URL(), "")
			s.tls.RootCAs = pool
			err = sendError(t, s, "alice@example.com")
			if _, ok := errors.AsType[x509.HostnameError](err); !ok {
				t.Errorf("wrong name: %v", err)
			}
			if got := s.advice(err); len(got) != 1 || !strings.Contains(got[0], "is for mail.test") {
				t.Errorf("advice %q", got)
			}

			if err := sender(t, srv.URL(), "tls.rejectUnauthorized=false").Send(t.Context(), letter(t, "alice@example.com")); err != nil {
				t.Errorf("unchecked: %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	answer := func(code int, text string) func(string) error {
		return func(string) error { return mailtest.Answer(code, text) }
	}
	for _, tt := range []struct {
		name      string
		config    mailtest.Config
		options   string
		stage     Stage
		code      int
		said      string
		permanent bool
		advice    string
	}{
		{name: "unknown recipient", config: mailtest.Config{Recipient: answer(550, "5.1.1 no such user")},
			stage: "recipient", code: 550, said: "5.1.1 no such user", permanent: true, advice: "refuses this recipient"},
		{name: "greylisting", config: mailtest.Config{Recipient: answer(451, "4.7.1 later, please")},
			stage: "recipient", code: 451, said: "4.7.1 later, please", advice: "tried again"},
		{name: "login wanted at the recipient", config: mailtest.Config{Recipient: answer(530, "5.7.0 who are you")},
			stage: "recipient", code: 530, said: "5.7.0 who are you", advice: "wants a login"},
		{name: "spam", config: mailtest.Config{Message: func(mailtest.Mail) error { return mailtest.Answer(554, "5.7.1 code ABCDE-23456 looks bad") }},
			stage: "message", code: 554, said: "5.7.1 code *****-***** looks bad", permanent: true, advice: "spam"},
		{name: "disk full", config: mailtest.Config{Message: func(mailtest.Mail) error { return mailtest.Answer(452, "4.3.1 no room") }},
			stage: "message", code: 452, said: "4.3.1 no room", advice: "tried again"},
		{name: "sender not allowed", config: mailtest.Config{Sender: answer(553, "5.7.1 not yours")},
			stage: "sender", code: 553, said: "5.7.1 not yours", advice: "PDS_EMAIL_FROM_ADDRESS"},
		{name: "wrong password", config: mailtest.Config{User: "u", Password: "p", Methods: []string{"PLAIN"}}, options: "wrong",
			stage: "log in", code: 535, said: "5.7.8 wrong user or password", advice: "percent-encoded"},
		{name: "wrong password, LOGIN", config: mailtest.Config{User: "u", Password: "p", Methods: []string{"LOGIN"}}, options: "wrong",
			stage: "log in", code: 535, said: "5.7.8 wrong user or password", advice: "percent-encoded"},
		{name: "unknown methods", config: mailtest.Config{User: "u", Password: "p", Methods: []string{"GSSAPI"}},
			stage: "log in", advice: "Leave user and password out"},
		{name: "no STARTTLS", options: "requireTLS=true", stage: "encrypt", advice: "smtps://"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := mailtest.Start(t, tt.config)
			u := srv.URL()
			if tt.options == "wrong" {
				u.User, tt.options = url.UserPassword("u", "q"), ""
			}
			s := sender(t, u, tt.options)
			err := sendError(t, s, "alice@example.com")
			if err.Stage != tt.stage || err.Code != tt.code || err.Said != tt.said || err.Permanent != tt.permanent {
				t.Errorf("got %+v", *err)
			}
			if got := s.advice(err); len(got) != 1 || !strings.Contains(got[0], tt.advice) {
				t.Errorf("advice %q", got)
			}
			if len(srv.Mails()) != 0 {
				t.Error("a mail came all the same")
			}
		})
	}
}

// A server in between that leaves STARTTLS out of the answer gets no password.
func TestPasswordsDoNotTravelUnencrypted(t *testing.T) {
	for _, tt := range []struct {
		peer string
		near bool
	}{
		{"127.0.0.1:25", true}, {"[::1]:25", true}, {"10.1.2.3:25", true}, {"192.168.0.1:25", true}, {"[fd00::1]:25", true}, {"[::ffff:10.0.0.1]:25", true},
		{"203.0.113.7:25", false}, {"[2001:db8::1]:25", false}, {"[::ffff:203.0.113.7]:25", false},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.peer)
		if err != nil {
			t.Fatal(err)
		}
		if near(addr) != tt.near {
			t.Errorf("near(%s) is %v", tt.peer, !tt.near)
		}
	}
}

// fake is a server of one connection that says what its script says.
func fake(t *testing.T, script func(net.Conn)) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		script(c)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return &url.URL{Scheme: "smtp", Host: l.Addr().String()}
}

func TestBrokenConnectionsAreTransient(t *testing.T) {
	read := func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }
	for _, tt := range []struct {
		name   string
		stage  Stage
		script func(net.Conn)
	}{
		{"before the greeting", "greeting", func(net.Conn) {}},
		{"no mail server at all", "greeting", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }},
		{"refused in the greeting", "greeting", func(c net.Conn) { fmt.Fprint(c, "554 not you\r\n") }},
		{"after EHLO", "greeting", func(c net.Conn) { fmt.Fprint(c, "220 hi\r\n"); read(c) }},
		{"after DATA", "message", func(c net.Conn) {
			fmt.Fprint(c, "220 hi\r\n")
			for _, answer := range []string{"250 hi", "250 ok", "250 ok", "354 go on"} {
				read(c)
				fmt.Fprint(c, answer+"\r\n")
			}
			read(c)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := sendError(t, sender(t, fake(t, tt.script), ""), "alice@example.com")
			if err.Stage != tt.stage || err.Permanent {
				t.Errorf("stage %q, permanent %v: %v", err.Stage, err.Permanent, err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		s := sender(t, &url.URL{Scheme: "smtp", Host: "127.0.0.1:1"}, "")
		e := sendError(t, s, "alice@example.com")
		if e.Stage != "connect" || e.Permanent {
			t.Errorf("got %+v", *e)
		}
		if got := s.advice(e); !strings.Contains(got[0], "Nothing listens there") {
			t.Errorf("advice %q", got)
		}
	})
}

func TestASlowServerIsLeft(t *testing.T) {
	release := make(chan struct{})
	u := fake(t, func(c net.Conn) { <-release })
	t.Cleanup(func() { close(release) })
	s := sender(t, u, "")
	s.Timeout = 500 * time.Millisecond // connecting must not take that long on a busy machine
	err := sendError(t, s, "alice@example.com")
	if !errors.Is(err, context.DeadlineExceeded) || err.Stage != "greeting" || err.Permanent {
		t.Errorf("got %+v", *err)
	}
	if got := s.advice(err); !strings.Contains(got[0], "use smtps://") {
		t.Errorf("advice %q", got)
	}
}

func TestAStopEndsTheConversation(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	u := fake(t, func(c net.Conn) { cancel(); <-release })
	t.Cleanup(func() { close(release) })
	err := sender(t, u, "").Send(ctx, letter(t, "alice@example.com"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A server that takes the letter and then hangs has it: sending it again would
// be wrong.
func TestAServerThatDoesNotSayGoodbyeHasTheLetter(t *testing.T) {
	u := fake(t, func(c net.Conn) {
		fmt.Fprint(c, "220 hi\r\n")
		buf := make([]byte, 1<<16)
		for _, answer := range []string{"250 hi", "250 ok", "250 ok", "354 go on"} {
			_, _ = c.Read(buf)
			fmt.Fprint(c, answer+"\r\n")
		}
		for got := ""; !strings.HasSuffix(got, "\r\n.\r\n"); {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			got += string(buf[:n])
		}
		fmt.Fprint(c, "250 queued\r\n")
	})
	if err := sender(t, u, "").Send(t.Context(), letter(t, "alice@example.com")); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"alice@example.com":                  "alice@example.com",
		"a.b+c_d!#$%&'*/=?^`{|}~-@x.example": "a.b+c_d!#$%&'*/=?^`{|}~-@x.example",
		"alice@bücher.example":               "alice@xn--bcher-kva.example",
		"ünï@example.com":                    "ünï@example.com",

		"": "", "alice": "", "alice@": "", "@example.com": "",
		"alice@example.com, eve@example.com":             "",
		"alice@example.com\r\nBcc: eve@example.com":      "",
		"alice@example.com>\r\nRCPT TO:<eve@example.com": "",
		"Alice <alice@example.com>":                      "",
		"<alice@example.com>":                            "",
		" alice@example.com":                             "",
		`"a b"@example.com`:                              "",
		"alice@[127.0.0.1]":                              "",
		"alice@example.com\x00":                          "",
		"alice@exa mple.com":                             "",
		"al\u202eice@example.com":                        "",
	} {
		got, err := recipient(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzRecipient(f *testing.F) {
	for _, seed := range []string{"alice@example.com", "a@b\r\nc@d", "ü@bücher.example", `"x"@y`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := recipient(s)
		if err == nil && (strings.ContainsAny(got, "\r\n<> \x00") || strings.Count(got, "@") != 1) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestInternationalAddresses(t *testing.T) {
	const to = "ünï@bücher.example"
	srv := mailtest.Start(t, mailtest.Config{SMTPUTF8: true})
	if err := sender(t, srv.URL(), "").Send(t.Context(), letter(t, to)); err != nil {
		t.Fatal(err)
	}
	if got := srv.Next(t).To; got != "ünï@xn--bcher-kva.example" {
		t.Errorf("to %q", got)
	}
	srv = mailtest.Start(t, mailtest.Config{})
	err := sendError(t, sender(t, srv.URL(), ""), to)
	if !errors.Is(err, ErrAddress) || !err.Permanent || err.Stage != "recipient" {
		t.Errorf("got %+v", *err)
	}
}

func TestHeadersCannotBeInjected(t *testing.T) {
	srv := mailtest.Start(t, mailtest.Config{})
	s := sender(t, srv.URL(), "")
	err := s.Send(t.Context(), Letter{
		ID: "x>\r\nX-Evil: 1", To: "alice@example.com",
		Subject: "Hi\r\nBcc: eve@example.com\r\n\r\nbody", Text: "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	m := srv.Next(t)
	if m.Header.Get("Bcc") != "" || m.Header.Get("X-Evil") != "" || m.Subject != "HiBcc: eve@example.combody" {
		t.Errorf("headers %v", m.Header)
	}
	if m.Text != "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n" {
		t.Errorf("text %q", m.Text)
	}
	err = s.Send(t.Context(), letter(t, "alice@example.com\r\nBcc: eve@example.com"))
	if e, ok := errors.AsType[*Error](err); !ok || !e.Permanent {
		t.Errorf("got %v", err)
	}
	if n := len(srv.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

func TestURLs(t *testing.T) {
	from := &mail.Address{Address: "noreply@example.com"}
	for _, tt := range []struct{ url, server, user, password string }{
		{"smtp://mail.example.com", "mail.example.com:587", "", ""},
		{"smtps://mail.example.com", "mail.example.com:465", "", ""},
		{"smtp://mail.example.com:25/", "mail.example.com:25", "", ""},
		{"smtps://us%40er:p%40ss%2Fw%3Ard%25@[2001:db8::1]:2465", "[2001:db8::1]:2465", "us@er", "p@ss/w:rd%"},
		{"smtps://resend:re_123@smtp.resend.com:465/", "smtp.resend.com:465", "resend", "re_123"},
		{"smtp://key:@mail.example.com", "mail.example.com:587", "key", ""},
		// What follows is what nodemailer 6 makes of it.
		{"smtps://me@gmail.com:abcd efgh ijkl mnop@smtp.gmail.com:465", "smtp.gmail.com:465", "me@gmail.com", "abcd efgh ijkl mnop"},
		{"smtp://a@b:c@d@host:25", "host:25", "a@b", "c@d"},
		{"smtp://user:p:a:s@host.example", "host.example:587", "user", "p:a:s"},
		{"smtp://user:pässwörd@münchen.example", "xn--mnchen-3ya.example:587", "user", "pässwörd"},
		{"SMTP://User:Pass@Host.EXAMPLE", "host.example:587", "User", "Pass"},
		{" smtps:user:pass@host:/path ", "host:465", "user", "pass"},
		{"smtp://user:pass@host/?name=a@b.example#x", "host:587", "user", "pass"},
	} {
		u, err := ParseURL(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSMTP(u, from)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if s.Server() != tt.server || s.user != tt.user || s.password != tt.password || s.login != (tt.user != "") {
			t.Errorf("%s: %s %q %q", tt.url, s.Server(), s.user, s.password)
		}
		if printed := fmt.Sprintf("%v %+v %#v", s, s, s); tt.password != "" && strings.Contains(printed, tt.password) {
			t.Errorf("printed as %s", printed)
		}
	}

	u, _ := url.Parse("smtp://mail.example.com?pool=true&name=pds.example.com&tls.minVersion=TLSv1.3&debug=1&socketTimeout=5000")
	s, err := NewSMTP(u, from)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Ignored(), " "); got != "debug pool" || s.helo != "pds.example.com" || s.tls.MinVersion != tls.VersionTLS13 || s.Timeout != 5*time.Second {
		t.Errorf("ignored %q, name %q, version %x, timeout %v", got, s.helo, s.tls.MinVersion, s.Timeout)
	}

	for in, want := range map[string]string{
		"http://mail.example.com":                          "mail server: the URL begins with neither smtp:// nor smtps://",
		"smtp://u:secret@":                                 "mail server: the URL names no host",
		"smtp://u:secret@x?requireTLS=yes":                 "mail server: option requireTLS must be true or false",
		"smtp://u:secret@x?tls.minVersion=3":               "mail server: option tls.minVersion must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3",
		"smtp://u:secret@x?authMethod=NTLM":                "mail server: option authMethod must be one of PLAIN, LOGIN, CRAM-MD5",
		"smtp://u:secret@x?socketTimeout=soon":             "mail server: option socketTimeout is not a number of milliseconds",
		"smtp://u:secret@x?name=a%0d%0ab":                  "mail server: option name is not a host name",
		"smtp://u:secret@x?requireTLS=true&ignoreTLS=true": "mail server: of the options ignoreTLS and requireTLS only one can be true",
		"smtp://u:secret@x?requireTLS=%zz":                 "mail server: the options after ? in the URL can't be read",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewSMTP(u, from); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
	u, _ = url.Parse("smtp://x")
	if _, err := NewSMTP(u, nil); err == nil {
		t.Error("no sender is no error")
	}
	if _, err := NewSMTP(u, &mail.Address{Address: "x"}); err == nil {
		t.Error("a sender without a domain is no error")
	}
}

// A password may have every sign of a keyboard that nodemailer 6 takes as it is, which is
// all but five.
func TestURLsHavePasswordsAsTheyAre(t *testing.T) {
	for c := ' '; c <= '~'; c++ {
		for _, password := range []string{"ab" + string(c) + "cd", string(c) + "abcd", "ab@" + string(c) + "d"} {
			u, err := ParseURL("smtp://user:" + password + "@host.example:25")
			if strings.ContainsRune(`/?#\`, c) {
				if want := fmt.Sprintf("has a %c in its user or password: percent-encode it, %c is %%%02X", c, c, c); password[:3] != "ab@" && (err == nil || err.Error() != want) {
					t.Errorf("%s: %v, want %s", password, err, want)
				} else if err == nil {
					t.Errorf("%s: no error", password)
				}
				continue
			}
			if c == '%' {
				if want := "has a % in its user or password that does not begin a percent-encoded character: % itself is %25"; password[0] != '%' && password[:3] != "ab%" && (err == nil || err.Error() != want) {
					t.Errorf("%s: %v, want %s", password, err, want)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", password, err)
				continue
			}
			if got, _ := u.User.Password(); got != password || u.Host != "host.example:25" {
				t.Errorf("%s: password %s, host %s", password, got, u.Host)
			}
		}
	}
	for in, want := range map[string]string{
		"host.example:587":                       "is not a URL that begins with smtp:// or smtps://",
		"http://user:hunter2@host":               "is not a URL that begins with smtp:// or smtps://",
		"smtp:///?sendmail=true":                 "asks for sendmail, which is not supported: name a mail server, smtp://localhost for the one on this machine",
		"smtp://me@a.example:hunter/2@b.example": "has a / in its user or password: percent-encode it, / is %2F",
		"smtp://me:hunter?2@b.example":           "has a ? in its user or password: percent-encode it, ? is %3F",
		"smtp://me:%hunter2@b.example":           "has a % in its user or password that does not begin a percent-encoded character: % itself is %25",
		"smtp://me:hunter2@b:hunter2":            "has no port from 1 to 65535 behind its last colon (in user and password percent-encode : / ? # and %)",
		"smtp://host:99999":                      "has no port from 1 to 65535 behind its last colon (in user and password percent-encode : / ? # and %)",
		"smtp://me:hunter2@":                     "names no host: smtps://user:password@host:port",
		"smtp://me:hunter2@a b":                  "has a host name that can't be: smtps://user:password@host:port",
		"smtp://me:hun\tter2@b":                  "has a control character in it: percent-encode it",
		"smtp://[::1:25":                         "has no IPv6 address in its brackets",
	} {
		if _, err := ParseURL(in); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("smtps://me@gmail.com:abcd efgh@smtp.gmail.com:465?name=x")
	f.Add("smtp:a:%41@[::1]:25/#")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL(text)
		if err != nil {
			return
		}
		again, err := ParseURL(u.String())
		if err != nil || again.Host != u.Host || u.Hostname() == "" || again.User.String() != u.User.String() {
			t.Errorf("%q is %q, read again %v, %v", text, u, again, err)
		}
	})
}

// Without encryption, the port where it is expected from the start is found out in seconds.
func TestSilentPort465IsLeftSoon(t *testing.T) {
	if s := sender(t, &url.URL{Scheme: "smtp", Host: "mail.example.com:465"}, ""); s.greeting != 5*time.Second {
		t.Errorf("port 465 may be silent for %v", s.greeting)
	}
	release := make(chan struct{})
	u := fake(t, func(c net.Conn) { <-release })
	t.Cleanup(func() { close(release) })
	s := sender(t, u, "")
	s.greeting = 50 * time.Millisecond
	err := sendError(t, s, "alice@example.com")
	if !errors.Is(err, context.DeadlineExceeded) || err.Stage != "greeting" || err.Permanent {
		t.Errorf("got %+v", *err)
	}
	if got := s.advice(err); !strings.Contains(got[0], "If it expects encryption from the start, as on port 465, use smtps://.") {
		t.Errorf("advice %q", got)
	}
}

func TestReport(t *testing.T) {
	cert, pool := mailtest.Certificate(t, "127.0.0.1")
	srv := mailtest.Start(t, mailtest.Config{TLS: cert, User: "user", Password: password, Methods: []string{"PLAIN"}})
	s := sender(t, srv.URL(), "name=pds.example.com")
	s.tls.RootCAs = pool
	r := s.Test(t.Context(), brand(t), "alice@example.com")
	if r.Err != nil {
		t.Fatal(r)
	}
	got := r.String()
	for _, want := range []string{
		"mail server " + srv.Address, "connected to 127.0.0.1:", "> STARTTLS", "encrypted with TLS 1.3, certificate of", "> MAIL FROM:<noreply@example.com>",
		"> RCPT TO:<alice@example.com>", "> DATA", "The mail server took the letter.", "spam folder",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, password) || strings.Contains(got, "AHVzZXI") { // base64 of \0user
		t.Errorf("the password is in:\n%s", got)
	}
	if m := srv.Next(t); m.Subject != "Test" {
		t.Errorf("subject %q", m.Subject)
	}

	srv = mailtest.Start(t, mailtest.Config{Recipient: func(string) error { return mailtest.Answer(550, "5.7.1 relaying denied") }})
	r = sender(t, srv.URL(), "").Test(t.Context(), brand(t), "alice@example.com")
	if got := r.String(); r.Err == nil || !strings.Contains(got, "< 550 5.7.1 relaying denied") || !strings.Contains(got, "The letter was not sent: mail server answered 550 5.7.1 relaying denied (recipient).\nThe mail server refuses this recipient.") {
		t.Errorf("got:\n%s", got)
	}
}

// A check goes as far as it can without a letter, and says the same as a letter would.
func TestCheck(t *testing.T) {
	cert, pool := mailtest.Certificate(t, "127.0.0.1")
	srv := mailtest.Start(t, mailtest.Config{TLS: cert, User: "user", Password: password, Methods: []string{"PLAIN"}})
	s := sender(t, srv.URL(), "")
	s.tls.RootCAs = pool
	r := s.Check(t.Context())
	if r.Err != nil || !r.Encrypted || r.Advice != nil || !slices.Contains(r.Conversation, "> RSET") {
		t.Errorf("%v\n%s", r.Err, strings.Join(r.Conversation, "\n"))
	}
	u := srv.URL()
	u.User = url.UserPassword("user", "another")
	s = sender(t, u, "")
	s.tls.RootCAs = pool
	if r = s.Check(t.Context()); r.Err == nil || r.Err.Stage != "log in" || len(r.Advice) != 1 || !strings.Contains(r.Advice[0], "percent-encoded") {
		t.Errorf("wrong password: %v, %q", r.Err, r.Advice)
	}
	refusing := mailtest.Start(t, mailtest.Config{Sender: func(string) error { return mailtest.Answer(553, "5.7.1 not yours") }})
	if r = sender(t, refusing.URL(), "").Check(t.Context()); r.Err == nil || r.Err.Stage != "sender" || r.Encrypted {
		t.Errorf("sender refused: %v", r.Err)
	}
	if n := len(srv.Mails()) + len(refusing.Mails()); n != 0 {
		t.Errorf("%d mails came", n)
	}
}

func TestSaidIsOneShortLine(t *testing.T) {
	if got := said("a\nb\x1b[31m\r\n\xffc  d"); got != "a b[31m ?c d" {
		t.Errorf("got %q", got)
	}
	if got := said(strings.Repeat("ü", 1000)); len(got) > 500 {
		t.Errorf("%d bytes", len(got))
	}
}

func sendError(t *testing.T, s *SMTP, to string) *Error {
	t.Helper()
	err := s.Send(t.Context(), letter(t, to))
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if strings.Contains(e.Error(), "ABCDE") {
		t.Errorf("the error has the code: %v", e)
	}
	return e
}
