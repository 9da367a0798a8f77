package mail

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"
)

// ParseURL reads the URL of a mail server as nodemailer does, for [NewSMTP]: user and
// password are everything up to the last @ before the first /, ?, # or \, so blanks, @
// and most other signs may stand in them as they are. What stands for itself in no place,
// such as a / in a password, is refused with how to write it. Errors continue a sentence
// that names the setting, and do not repeat the URL. Ours because [url.Parse] refuses most
// of these passwords, and repeats them.
func ParseURL(text string) (*url.URL, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(text), ":")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "smtp" && scheme != "smtps" {
		return nil, errors.New("is not a URL that begins with smtp:// or smtps://")
	}
	rest = strings.TrimPrefix(rest, "//")
	if strings.ContainsFunc(rest, unicode.IsControl) {
		return nil, errors.New("has a control character in it: percent-encode it")
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, `/?#\`); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	_, query, _ := strings.Cut(tail, "?")
	query, _, _ = strings.Cut(query, "#")
	options, err := url.ParseQuery(query)
	if err == nil && options.Has("sendmail") {
		return nil, errors.New("asks for sendmail, which is not supported: name a mail server, smtp://localhost for the one on this machine")
	}
	// An @ behind the authority was to end the password, but in an option it may stand.
	before := tail
	if strings.Contains(authority, "@") {
		before, _, _ = strings.Cut(tail, "?")
	}
	if strings.Contains(before, "@") {
		return nil, fmt.Errorf("has a %c in its user or password: percent-encode it, %c is %%%02X", tail[0], tail[0], tail[0])
	}
	u := &url.URL{Scheme: scheme, RawQuery: query}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		user, err := url.PathUnescape(user)
		if err == nil {
			password, err = url.PathUnescape(password)
		}
		if err != nil {
			return nil, errors.New("has a % in its user or password that does not begin a percent-encoded character: % itself is %25")
		}
		u.User = url.UserPassword(user, password)
		authority = authority[at+1:]
	}
	if u.Host, err = host(authority); err != nil {
		return nil, err
	}
	return u, nil
}

// host checks a host with or without a port.
func host(authority string) (string, error) {
	name, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		name, port = authority[:i], authority[i+1:]
	}
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", errors.New("has no port from 1 to 65535 behind its last colon (in user and password percent-encode : / ? # and %)")
		}
		port = ":" + port
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !ip.Is6() || !strings.HasSuffix(name, "]") {
			return "", errors.New("has no IPv6 address in its brackets")
		}
		return name + port, nil
	}
	if name == "" {
		return "", errors.New("names no host: smtps://user:password@host:port")
	}
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(name))
	if err != nil {
		return "", errors.New("has a host name that can't be: smtps://user:password@host:port")
	}
	return ascii + port, nil
}

// NewSMTP takes a mail server's URL, as [ParseURL] gives it:
//
//	smtp://user:password@host:587   encrypted by STARTTLS when that is offered
//	smtps://user:password@host:465  encrypted from the start
//
// The ports shown are the defaults.
// Options stand in the query: ignoreTLS, requireTLS, name (of this machine),
// authMethod, socketTimeout (milliseconds), tls.rejectUnauthorized,
// tls.servername, tls.minVersion and tls.maxVersion. What it would do with others
// is of no use here; [SMTP.Ignored] names them. Errors do not repeat the URL.
func NewSMTP(u *url.URL, from *mail.Address) (*SMTP, error) {
	if from == nil {
		return nil, errors.New("mail server: no sender address")
	}
	sender, err := recipient(from.Address)
	if err != nil {
		return nil, errors.New("mail server: the sender address is none that mail can be sent from")
	}
	s := &SMTP{From: mail.Address{Name: clean(from.Name), Address: sender}, host: u.Hostname(), port: u.Port(), tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	switch u.Scheme {
	case "smtp":
		s.port = cmp.Or(s.port, "587")
		if s.port == "465" {
			// There both sides wait for each other to begin, if it is what the port is for.
			s.greeting = 5 * time.Second
		}
	case "smtps":
		s.port, s.implicitTLS = cmp.Or(s.port, "465"), true
	default:
		return nil, errors.New("mail server: the URL begins with neither smtp:// nor smtps://")
	}
	if s.host == "" {
		return nil, errors.New("mail server: the URL names no host")
	}
	s.tls.ServerName = s.host
	if u.User != nil {
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
		s.login = s.user != "" || s.password != ""
	}
	// A name that is no host name would be refused by some servers; theirs for
	// a client without one is its address.
	if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") && isASCII(name) {
		s.helo = name
	} else {
		s.helo = "[127.0.0.1]"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("mail server: the options after ? in the URL can't be read")
	}
	for name, values := range query {
		if err := s.option(name, values[0]); err != nil {
			return nil, fmt.Errorf("mail server: option %s %w", name, err)
		}
	}
	slices.Sort(s.ignored)
	if s.ignoreTLS && s.requireTLS {
		return nil, errors.New("mail server: of the options ignoreTLS and requireTLS only one can be true")
	}
	return s, nil
}

func (s *SMTP) option(name, value string) (err error) {
	switch name {
	case "ignoreTLS":
		s.ignoreTLS, err = truth(value)
	case "requireTLS":
		s.requireTLS, err = truth(value)
	case "tls.rejectUnauthorized":
		var reject bool
		reject, err = truth(value)
		s.tls.InsecureSkipVerify = !reject
	case "tls.servername":
		s.tls.ServerName = value
	case "tls.minVersion":
		s.tls.MinVersion, err = tlsVersion(value)
	case "tls.maxVersion":
		s.tls.MaxVersion, err = tlsVersion(value)
	case "name":
		if value == "" || !isASCII(value) || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return errors.New("is not a host name")
		}
		s.helo = value
	case "authMethod":
		s.method = strings.ToUpper(value)
		if !slices.Contains(methods, s.method) {
			return fmt.Errorf("must be one of %s", strings.Join(methods, ", "))
		}
	case "socketTimeout":
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n == 0 {
			return errors.New("is not a number of milliseconds")
		}
		s.Timeout = time.Duration(n) * time.Millisecond
	default:
		s.ignored = append(s.ignored, name)
	}
	return err
}

// truth reads a boolean as a script would: a number that is not 0 is true.
func truth(value string) (bool, error) {
	switch value {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, errors.New("must be true or false")
}

func tlsVersion(value string) (uint16, error) {
	switch value {
	case "TLSv1":
		return tls.VersionTLS10, nil
	case "TLSv1.1":
		return tls.VersionTLS11, nil
	case "TLSv1.2":
		return tls.VersionTLS12, nil
	case "TLSv1.3":
		return tls.VersionTLS13, nil
	}
	return 0, errors.New("must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")
}
