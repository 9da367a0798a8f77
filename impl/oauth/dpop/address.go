package dpop

import (
	"net/url"
	"strings"
)

// elsewhere says why an address that a proof names is not that of a request: the origin of the
// server, and a path as the request has it, escaped. Both are compared as RFC 3986, section 6.2,
// makes them one; query and fragment do not count (RFC 9449, section 4.3). It is "" where they
// are the same.
func elsewhere(address, origin, path string) string {
	// Nearly every client writes it as we do.
	if rest, ok := strings.CutPrefix(address, origin); ok && rest == path {
		return ""
	}
	const mismatch = `DPoP "htu" mismatch`
	if address == "" {
		return mismatch
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return `DPoP "htu" is not a valid URL`
	}
	if u.User != nil {
		return `DPoP "htu" must not contain credentials`
	}
	own, err := url.Parse(origin)
	if err != nil || site(u) != site(own) || plain(u.EscapedPath()) != plain(path) {
		return mismatch
	}
	return ""
}

// site is the origin of a URL, without what may be left out. [url.Parse] has put the scheme into
// small letters.
func site(u *url.URL) string {
	port := u.Port()
	if u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		port = ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// plain is an escaped path in the one form that all of its forms have in common.
func plain(path string) string {
	if path != "" && !strings.ContainsAny(path, "%.") {
		return path
	}
	var out []string
	parts := strings.Split(strings.TrimPrefix(unescape(path), "/"), "/")
	for i, part := range parts {
		switch part {
		case ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, part)
			continue
		}
		// A path that ends in dots is that of a folder.
		if i == len(parts)-1 {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// unescape takes the escapes away that change nothing, and writes all others alike.
func unescape(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' || i+2 >= len(path) {
			b.WriteByte(c)
			continue
		}
		hex := strings.ToUpper(path[i+1 : i+3])
		if raw, err := url.PathUnescape("%" + hex); err == nil && unreserved(raw[0]) {
			b.WriteString(raw)
		} else {
			b.WriteString("%" + hex)
		}
		i += 2
	}
	return b.String()
}

// unreserved are the characters that mean the same whether they are escaped or not.
func unreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
