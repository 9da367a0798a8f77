package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/wneessen/go-mail/log"
)

// Report is what came of a test letter.
type Report struct {
	Server string // host:port
	// Conversation is what was said, a line each: > by this server, < by the mail
	// server, without a mark what happened. The password is not in it.
	Conversation []string
	// Encrypted says that the letter, or what came in its place, went encrypted.
	Encrypted bool
	// Err is why the letter was not sent; nil: the mail server has it.
	Err *Error
	// Advice is what to try next, in whole sentences; it is there after a success
	// too, which is not yet an arrival.
	Advice []string
}

// String is the report for a terminal.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mail server %s\n", r.Server)
	for _, line := range r.Conversation {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	if r.Err == nil {
		b.WriteString("The mail server took the letter.\n")
	} else {
		fmt.Fprintf(&b, "The letter was not sent: %v.\n", r.Err)
	}
	for _, line := range r.Advice {
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// Test sends a letter of b to an address and reports how that went. It never
// waits longer than Send.
func (s *SMTP) Test(ctx context.Context, b Brand, to string) Report {
	l := b.compose(to, "Test", content{
		Title:   "Mail works",
		Preview: "A test of the mail server.",
		Lead:    []string{"The operator of " + clean(b.ServiceName) + " sent this letter to see whether mail gets here. It does."},
	})
	var t transcript
	err := s.send(ctx, l, &t)
	if err != nil && err.Code != 0 {
		// An answer that was not hoped for is an error, of which the library does
		// not always tell the listener.
		if line := fmt.Sprintf("< %d %s", err.Code, err.Said); !slices.Contains(t.lines, line) {
			t.lines = append(t.lines, line)
		}
	}
	return Report{Server: s.Server(), Conversation: t.lines, Encrypted: t.tls, Err: err, Advice: s.advice(err)}
}

// Check says whether the mail server can be reached, takes the login, and lets it send as
// the sender. No letter is sent. Otherwise it is as Test.
func (s *SMTP) Check(ctx context.Context) Report {
	var t transcript
	r := Report{Server: s.Server(), Err: s.talk(ctx, "", nil, &t)}
	if r.Conversation, r.Encrypted = t.lines, t.tls; r.Err != nil {
		r.Advice = s.advice(r.Err)
	}
	return r
}

// advice says what an operator can do about err.
func (s *SMTP) advice(err *Error) []string {
	if err == nil {
		return []string{
			"If it does not arrive, look into the spam folder, and whether the domain of " + s.From.Address + " lets this mail server send for it (SPF, DKIM, DMARC).",
		}
	}
	var dns *net.DNSError
	switch {
	case errors.Is(err, ErrPasswordInClear):
		return []string{"Use smtps:// in PDS_EMAIL_SMTP_URL, or the port on which the mail server offers STARTTLS (often 587). Where nobody can listen in, add ?ignoreTLS=true."}
	case errors.Is(err, ErrNoStartTLS):
		return []string{"Use smtps:// in PDS_EMAIL_SMTP_URL (port 465), or leave requireTLS out."}
	case errors.Is(err, ErrNoLogin):
		return []string{"Leave user and password out of PDS_EMAIL_SMTP_URL when the mail server wants none. Some offer to log in on an encrypted connection only: try smtps://."}
	case errors.Is(err, ErrAddress):
		return []string{"Look at the address for a typing error."}
	case errors.As(err, &dns):
		return []string{"Look at the host name in PDS_EMAIL_SMTP_URL, and whether this machine can resolve names."}
	case errors.Is(err, syscall.ECONNREFUSED):
		return []string{"Nothing listens there: look at host and port in PDS_EMAIL_SMTP_URL. Without a port, smtp:// means 587 and smtps:// means 465."}
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return []string{"What answered is not encrypted from the start: use smtp:// (STARTTLS) with this port, or smtps:// with port 465."}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return []string{"The mail server's certificate comes from an authority that this machine does not know: add it to the machine's certificates (SSL_CERT_FILE names a file of them). ?tls.rejectUnauthorized=false takes any certificate, and with it anybody's."}
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return []string{fmt.Sprintf("The mail server's certificate is for %s: use that name in PDS_EMAIL_SMTP_URL, or add ?tls.servername=NAME.", clean(strings.Join(e.Certificate.DNSNames, ", ")))}
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return []string{"The mail server's certificate is no longer good, or not yet: renew it there, and look at this machine's clock."}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		advice := "The mail server said nothing for too long."
		switch err.Stage {
		case StageConnect:
			advice = "Nothing came back: a firewall may be in between. Many hosting companies block port 25 and some block all mail ports; 587, 465 or 2525 may be open."
		case StageGreeting:
			if !s.implicitTLS {
				advice += " If it expects encryption from the start, as on port 465, use smtps://."
			}
		}
		return []string{advice}
	}
	switch {
	case err.Code == 0:
		return []string{"The connection broke. Try again; if it stays so, the mail server's log may say why."}
	case err.Stage == StageLogin:
		return []string{"User or password are wrong in PDS_EMAIL_SMTP_URL. Special characters in them are percent-encoded there (@ is %40, / is %2F). Some providers want a password made for programs, or an API key."}
	case err.Code == 530:
		return []string{"The mail server wants a login: put user and password into PDS_EMAIL_SMTP_URL, or use encryption."}
	case err.Stage == StageSender:
		return []string{"The mail server does not let this login send as " + s.From.Address + ": look at PDS_EMAIL_FROM_ADDRESS, and whether the address or its domain must be verified with the provider."}
	case err.Code < 500:
		return []string{"That is for now only: letters are tried again until they expire. If it stays so, the mail server's operator can say why."}
	case err.Stage == StageRecipient:
		return []string{"The mail server refuses this recipient. Try another one; if it refuses all that are not its own, it wants a login, or it does not know this machine."}
	case err.Stage == StageMessage:
		return []string{"The mail server refuses the letter itself: that is often a rule against spam, or a sender address that it does not trust (PDS_EMAIL_FROM_ADDRESS)."}
	}
	return []string{"The mail server does not want to talk to this machine: its operator can say why. Some want the name of this machine (?name=HOST) to be one that resolves."}
}

// transcript hears a conversation. Its methods may be called on nil.
type transcript struct {
	lines []string
	tls   bool
}

func (t *transcript) add(format string, args ...any) {
	if t != nil {
		t.lines = append(t.lines, fmt.Sprintf(format, args...))
	}
}

func (t *transcript) connected(conn net.Conn) {
	if t != nil {
		t.add("connected to %s", conn.RemoteAddr())
	}
}

func (t *transcript) encrypted(state tls.ConnectionState) {
	if t == nil {
		return
	}
	t.tls = true
	name := "no certificate"
	if len(state.PeerCertificates) > 0 {
		c := state.PeerCertificates[0]
		name = fmt.Sprintf("certificate of %s, good until %s", clean(strings.Join(c.DNSNames, ", ")), c.NotAfter.UTC().Format(time.DateOnly))
	}
	if len(state.VerifiedChains) == 0 {
		name += ", not checked"
	}
	t.add("encrypted with %s, %s", tls.VersionName(state.Version), name)
}

func (t *transcript) said(code int, text string) {
	if t != nil {
		t.add("< %d %s", code, said(text))
	}
}

// Debugf takes one line of the conversation from the library.
func (t *transcript) Debugf(l log.Log) {
	mark := "<"
	if l.Direction == log.DirClientToServer {
		mark = ">"
	}
	for line := range strings.Lines(fmt.Sprintf(l.Format, l.Messages...)) {
		t.add("%s %s", mark, said(line))
	}
}

// Infof hears nothing.
func (*transcript) Infof(log.Log) {}

// Warnf hears nothing.
func (*transcript) Warnf(log.Log) {}

// Errorf hears nothing.
func (*transcript) Errorf(log.Log) {}
