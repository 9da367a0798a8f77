package client

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// kinds of client_ids.
const (
	loopback = 1 + iota
	discoverable
)

// maxURI is how long an address may be that a client has anywhere.
const maxURI = 2048

// localNames are the top-level domains that lead nowhere on the Internet (RFC 6761, RFC 6762).
var localNames = []string{"test", "local", "localhost", "invalid", "example"}

// kindOf says what a client_id stands for. It returns an [*Error].
func kindOf(id string) (int, error) {
	if rest, ok := strings.CutPrefix(id, "http://localhost"); ok && (rest == "" || rest[0] == '/' || rest[0] == '?') {
		rest = strings.TrimPrefix(rest, "/")
		if rest != "" && rest[0] != '?' || len(id) > 2*maxURI || strings.Contains(rest, "#") {
			return 0, invalidID(id)
		}
		return loopback, nil
	}
	if u, err := url.Parse(id); err != nil || u.Scheme == "" {
		return 0, unobtainable(id, "Invalid URL")
	}
	u, ok := address(id)
	if !ok || u.Scheme != "https" {
		return 0, invalidID(id)
	}
	host := u.Hostname()
	switch last := host[strings.LastIndex(host, ".")+1:]; {
	case !domain(host) || last == "local":
		return 0, invalidID(id)
	case slices.Contains(localNames, last):
		return 0, refuse("invalid_client_id", "The client_id's TLD must not be a local hostname")
	}
	// One client has one id: what browsers would write otherwise is none.
	path := u.EscapedPath()
	if !strings.HasPrefix(id, "https://"+u.Host+path) || u.Host != strings.ToLower(u.Host) || u.Port() == "443" ||
		path == "" || strings.HasSuffix(path, "/") || dotted(path) || strings.Contains(id, "#") {
		return 0, invalidID(id)
	}
	return discoverable, nil
}

func invalidID(id string) *Error {
	return refuse("invalid_client_metadata", "Invalid client ID %s", quoted(id))
}

func unobtainable(id, reason string) *Error {
	return refuse("invalid_client_metadata", "Unable to obtain client metadata for %s: %s", quoted(id), reason)
}

// address reads an absolute URI of an authority: ok is false for one that has characters which do not
// belong there, credentials, a port that is none, or is too long.
func address(raw string) (u *url.URL, ok bool) {
	if !plain(raw) {
		return nil, false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || u.Hostname() == "" || strings.HasSuffix(u.Host, ":") {
		return nil, false
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' {
			return nil, false
		}
	}
	return u, true
}

// plain says whether a text has only what a URI may have (RFC 3986, section 2). Such a text
// means the same in a header, in HTML and to every parser.
func plain(raw string) bool {
	if len(raw) > maxURI {
		return false
	}
	for i, c := range []byte(raw) {
		switch {
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9':
		case strings.IndexByte("-._~:/?#[]@!$&'()*+,;=", c) >= 0:
		case c == '%' && i+2 < len(raw) && hex(raw[i+1]) && hex(raw[i+2]):
		default:
			return false
		}
	}
	return true
}

func hex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// domain says whether a host is a name with a dot in it, which no parser takes for an address.
func domain(host string) bool {
	labels := strings.Split(host, ".")
	if len(labels) < 2 || len(host) > 253 {
		return false
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9'
}

// dotted says whether a path has a part that stands for another folder.
func dotted(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		switch strings.ToLower(strings.ReplaceAll(strings.ToLower(part), "%2e", ".")) {
		case ".", "..":
			return true
		}
	}
	return false
}

// onLoopback says whether a host is the own machine by address.
func onLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && (host == "127.0.0.1" || host == "::1") && a.IsLoopback()
}

// public says whether a host is a name that can be on the Internet.
func public(host string) bool {
	host = strings.ToLower(host)
	return domain(host) && !slices.Contains(localNames, host[strings.LastIndex(host, ".")+1:])
}

// maxRedirects is how many redirect URIs a client may have.
const maxRedirects = 100

// development returns the client that an id of an app under development describes itself.
func development(id string) (*Client, error) {
	_, query, _ := strings.Cut(id, "?")
	said, err := url.ParseQuery(query)
	if err != nil || len(said["scope"]) > 1 || len(said["redirect_uri"]) > maxRedirects {
		return nil, invalidID(id)
	}
	for name := range said {
		if name != "scope" && name != "redirect_uri" {
			return nil, invalidID(id)
		}
	}
	scope := "atproto"
	if said.Has("scope") {
		scope = said.Get("scope")
	}
	values, ok := scopeValues(scope)
	if !ok {
		return nil, invalidID(id)
	}
	if !slices.Contains(values, "atproto") {
		return nil, refuse("invalid_client_metadata", `Invalid loopback client id %s: ATProto Loopback ClientID must include "atproto" scope`, quoted(id))
	}
	redirects := said["redirect_uri"]
	for _, uri := range redirects {
		u, ok := address(uri)
		if !ok || u.Scheme != "http" || !onLoopback(u.Hostname()) || !strings.HasPrefix(uri, "http://"+u.Host) || strings.Contains(uri, "#") {
			return nil, invalidID(id)
		}
	}
	if len(redirects) == 0 {
		redirects = []string{"http://127.0.0.1/", "http://[::1]/"}
	}
	return &Client{ID: id, Loopback: true, Metadata: Metadata{
		ClientID: id, RedirectURIs: redirects, Scope: scope,
		GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		ApplicationType: "native", AuthMethod: "none", BoundTokens: true,
	}}, nil
}

// maxScope is how long the scope of a client may be.
const maxScope = 16 << 10

// scopeValues takes a scope apart (RFC 6749, section 3.3): ok is false for one that is not
// well-formed, or too long.
func scopeValues(scope string) (values []string, ok bool) {
	if len(scope) > maxScope {
		return nil, false
	}
	values = strings.Split(scope, " ")
	for _, value := range values {
		if value == "" {
			return nil, false
		}
		for _, c := range []byte(value) {
			if c < '!' || c > '~' || c == '"' || c == '\\' {
				return nil, false
			}
		}
	}
	return values, true
}
