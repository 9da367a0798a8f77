package mail

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
	"golang.org/x/net/idna"
)

// Stage is a step of the conversation with a mail server.
type Stage string

// The steps, in their order.
const (
	StageConnect   Stage = "connect"
	StageGreeting  Stage = "greeting"
	StageEncrypt   Stage = "encrypt"
	StageLogin     Stage = "log in"
	StageSender    Stage = "sender"
	StageRecipient Stage = "recipient"
	StageMessage   Stage = "message"
)

// Error says why a letter was not sent.
type Error struct {
	// Permanent says that the letter will never get there: trying it again is of
	// no use. Everything else may be different next time, or once the operator
	// has mended something.
	Permanent bool
	Stage     Stage
	// Code and Said are what the mail server answered; 0 and "" when it did not.
	// Codes of letters are hidden in Said, and it is one line of at most 500 bytes.
	Code int
	Said string
	Err  error // the cause
}

func (e *Error) Error() string {
	if e.Code != 0 {
		return fmt.Sprintf("mail server answered %d %s (%s)", e.Code, e.Said, e.Stage)
	}
	return fmt.Sprintf("%s: %v", e.Stage, e.Err)
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

var (
	// ErrPasswordInClear is the cause when a password would have to be sent over
	// the network unencrypted.
	ErrPasswordInClear = errors.New("the mail server offers no encryption, and the password would be readable on its way")
	// ErrNoStartTLS is the cause when encryption is required and not offered.
	ErrNoStartTLS = errors.New("the mail server offers no encryption (STARTTLS)")
	// ErrNoLogin is the cause when the server offers no way to log in that is
	// known here.
	ErrNoLogin = errors.New("the mail server offers no known way to log in (PLAIN, LOGIN, CRAM-MD5)")
	// ErrAddress is the cause when the recipient is no address, or one that the
	// mail server has no way to take.
	ErrAddress = errors.New("not an address that mail can be sent to")
)

// defaultTimeout bounds one conversation.
const defaultTimeout = 2 * time.Minute

// SMTP sends letters through one mail server, each over a connection of its
// own. It is safe for concurrent use.
//
// It goes through the conversation with go-mail's package smtp, a step at a time.
// Ours because go-mail's Client does not say at which step connecting failed, hides what
// the server answered in a SendError that unwraps to nothing, and waits on when the
// context ends.
type SMTP struct {
	// From is the sender.
	From mail.Address
	// Timeout bounds each conversation from the first packet to the last; zero
	// is two minutes. A deadline of the context holds too.
	Timeout time.Duration
	// Now is the date of letters; nil is time.Now.
	Now func() time.Time

	host, port     string
	greeting       time.Duration // the longest wait for the first words of the server; 0: Timeout
	helo           string
	user, password string
	login          bool
	implicitTLS    bool
	ignoreTLS      bool
	requireTLS     bool
	method         string // of logging in; "" for the first that is offered
	tls            *tls.Config
	ignored        []string
}

// Ignored names the options of the URL that have no effect.
func (s *SMTP) Ignored() []string { return s.ignored }

// Server is the mail server, host:port.
func (s *SMTP) Server() string { return net.JoinHostPort(s.host, s.port) }

// String is the mail server, host:port. Nothing prints the password.
func (s *SMTP) String() string { return s.Server() }

// GoString is the mail server, host:port.
func (s *SMTP) GoString() string { return s.Server() }

// Send hands l to the mail server. An error is an *Error. After nil the mail
// server has the letter; an error whose Stage is StageMessage and whose Code is 0
// leaves open whether it has.
func (s *SMTP) Send(ctx context.Context, l Letter) error {
	if err := s.send(ctx, l, nil); err != nil {
		return err
	}
	return nil
}

// send is Send. Whatever is said is told to listen, but for the letter and the
// password, when listen is not nil.
func (s *SMTP) send(ctx context.Context, l Letter, listen *transcript) *Error {
	to, err := recipient(l.To)
	if err != nil {
		return &Error{Permanent: true, Stage: StageRecipient, Err: err}
	}
	message, err := s.message(l, to)
	if err != nil {
		return &Error{Permanent: true, Stage: StageMessage, Err: err}
	}
	return s.talk(ctx, to, message, listen)
}

// talk has one conversation, about message, or about none where that is nil.
func (s *SMTP) talk(ctx context.Context, to string, message []byte, listen *transcript) *Error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, defaultTimeout))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Server())
	if err != nil {
		return failed(ctx, StageConnect, err)
	}
	defer conn.Close()
	// The library waits for ever; what it waits on is taken away.
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	stage := StageGreeting
	listen.connected(conn)
	encrypted := conn
	if s.implicitTLS {
		c := tls.Client(conn, s.tls)
		if err := c.HandshakeContext(ctx); err != nil {
			return failed(ctx, StageEncrypt, err)
		}
		encrypted = c
	}
	if s.greeting > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(s.greeting))
	}
	client, err := smtp.NewClient(encrypted, s.host)
	if err != nil {
		return failed(ctx, stage, err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if listen != nil {
		client.SetDebugLog(true)
		client.SetLogger(listen)
	}
	if err := s.converse(client, conn.RemoteAddr(), to, message, &stage, listen); err != nil {
		return failed(ctx, stage, err)
	}
	// What there is to say is said: how the server takes a farewell changes nothing, and
	// is not waited for.
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	_ = client.Quit()
	return nil
}

// converse goes through the steps from EHLO to the server's receipt of message, or to its
// consent to the sender, which is taken back, where that is nil. stage is where it is.
func (s *SMTP) converse(client *smtp.Client, peer net.Addr, to string, message []byte, stage *Stage, listen *transcript) error {
	if err := client.Hello(s.helo); err != nil {
		return err
	}
	if !s.implicitTLS && !s.ignoreTLS {
		*stage = StageEncrypt
		if ok, _ := client.Extension("STARTTLS"); ok {
			if err := client.StartTLS(s.tls); err != nil {
				return err
			}
		} else if s.requireTLS {
			return ErrNoStartTLS
		}
	}
	state, encrypted := client.TLSConnectionState()
	if encrypted {
		listen.encrypted(state)
	}
	if s.login {
		*stage = StageLogin
		// Who sits in between can leave STARTTLS out of the server's answer to get at
		// the password. On the machine itself or in a closed network there is nobody,
		// and an operator may decide that there is nobody elsewhere.
		if !encrypted && !s.ignoreTLS && !near(peer) {
			return ErrPasswordInClear
		}
		how, err := s.how(client)
		if err != nil {
			return err
		}
		if err := client.Auth(how); err != nil {
			return err
		}
	}

	*stage = StageSender
	if !isASCII(to) || !isASCII(s.From.Address) {
		if ok, _ := client.Extension("SMTPUTF8"); !ok {
			*stage = StageRecipient
			return fmt.Errorf("%w: the mail server takes ASCII only", ErrAddress)
		}
	} else {
		// Asked for without need, it makes servers further on refuse the letter.
		client.SkipSMTPUTF8(true)
	}
	if err := client.Mail("<" + s.From.Address + ">"); err != nil {
		return err
	}
	if message == nil {
		return client.Reset()
	}
	*stage = StageRecipient
	if err := client.Rcpt("<" + to + ">"); err != nil {
		return err
	}
	*stage = StageMessage
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if d, ok := w.(*smtp.DataCloser); ok {
		listen.said(250, d.ServerResponse())
	}
	return nil
}

// near says whether the other end is on this machine or in a private network.
func near(peer net.Addr) bool {
	at, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap()
	return ip.IsLoopback() || ip.IsPrivate()
}

// methods are the ways of logging in, in the order of preference.
var methods = []string{"PLAIN", "LOGIN", "CRAM-MD5"}

func (s *SMTP) how(client *smtp.Client) (smtp.Auth, error) {
	_, offered := client.Extension("AUTH")
	method := s.method
	if method == "" {
		i := slices.IndexFunc(methods, func(m string) bool {
			return slices.Contains(strings.Fields(strings.ToUpper(offered)), m)
		})
		if i < 0 {
			return nil, ErrNoLogin
		}
		method = methods[i]
	}
	// Whether the password may go unencrypted was decided before.
	switch method {
	case "LOGIN":
		return smtp.LoginAuth(s.user, s.password, s.host, true), nil
	case "CRAM-MD5":
		return smtp.CRAMMD5Auth(s.user, s.password), nil
	default:
		return smtp.PlainAuth("", s.user, s.password, s.host, true), nil
	}
}

// failed sorts an error of the conversation.
func failed(ctx context.Context, stage Stage, err error) *Error {
	e := &Error{Stage: stage, Err: err}
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.DeadlineExceeded), stage == StageGreeting && errors.Is(err, os.ErrDeadlineExceeded):
		e.Err = fmt.Errorf("the mail server took too long: %w", context.DeadlineExceeded)
		return e
	case cause != nil:
		// Its connection was closed, and "use of closed connection" tells nobody
		// why.
		e.Err = cause
		return e
	}
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		e.Code, e.Said = answer.Code, said(answer.Msg)
		// Only what is said of recipient and letter is about them; and a server
		// that wants a login first says so here too.
		about := stage == StageRecipient || stage == StageMessage
		e.Permanent = about && e.Code >= 500 && !slices.Contains([]int{530, 534, 535, 538}, e.Code)
		return e
	}
	e.Permanent = errors.Is(err, ErrAddress)
	return e
}

// said is a server's answer as one short line without codes.
func said(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	s = Redact(clean(s))
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:497], "") + "…"
	}
	return s
}

// recipient is the address of a letter as it is given to a mail server: the
// domain in ASCII. There is nothing in it but the address.
func recipient(address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err != nil || a.Name != "" || a.Address != address || clean(address) != address || strings.ContainsAny(address, " \"<>(),:;[]\\") {
		return "", ErrAddress
	}
	at := strings.LastIndexByte(address, '@')
	domain, err := idna.Lookup.ToASCII(address[at+1:])
	if err != nil {
		return "", ErrAddress
	}
	return address[:at+1] + domain, nil
}

// message is l as it goes over the wire.
func (s *SMTP) message(l Letter, to string) ([]byte, error) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(&s.From)
	if err := m.To(to); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	m.Subject(clean(l.Subject))
	m.SetDateWithValue(now())
	_, domain, _ := strings.Cut(s.From.Address, "@")
	m.SetMessageIDWithValue(cmp.Or(clean(l.ID), rand.Text()) + "@" + domain)
	// Holiday notices and the like are not for a server.
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetBodyString(gomail.TypeTextPlain, l.Text)
	if l.HTML != "" {
		m.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	}
	var b bytes.Buffer
	if _, err := m.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write letter: %w", err)
	}
	return b.Bytes(), nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}
