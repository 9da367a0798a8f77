package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
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
