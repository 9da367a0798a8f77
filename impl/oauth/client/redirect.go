package client

import (
	"net/url"
	"slices"
	"strings"
)

// Redirect returns the redirect URI of a request, which may be left out where there is but one.
// It returns an [*Error].
func (c *Client) Redirect(asked string) (string, error) {
	if asked == "" {
		if len(c.Metadata.RedirectURIs) == 1 {
			return c.Metadata.RedirectURIs[0], nil
		}
		return "", refuse("invalid_request", "redirect_uri is required")
	}
	if !slices.ContainsFunc(c.Metadata.RedirectURIs, func(registered string) bool { return leadsTo(registered, asked) }) {
		return "", refuse("invalid_request", "Invalid redirect_uri %s", printable(asked, 300))
	}
	return asked, nil
}

// leadsTo says whether a registered URI allows one of a request. They have to be equal, but for
// the port of an app that listens on its own machine: it cannot know which it will get (RFC
// 8252, section 7.3).
func leadsTo(registered, asked string) bool {
	if registered == asked {
		return true
	}
	for _, host := range []string{"http://127.0.0.1", "http://[::1]"} {
		path, ok := strings.CutPrefix(registered, host)
		if !ok || path != "" && path[0] != '/' && path[0] != '?' {
			continue
		}
		u, ok := address(asked)
		if !ok {
			return false
		}
		origin := host
		if port := u.Port(); port != "" {
			origin += ":" + port
		}
		rest, ok := strings.CutPrefix(asked, origin)
		return ok && (rest == "" || rest[0] == '/' || rest[0] == '?') && slashed(rest) == slashed(path)
	}
	return false
}

// slashed is what comes behind the host of a URI, in its long form.
func slashed(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/" + path
}

// checkRedirect refuses what may not be a redirect URI of a client.
func checkRedirect(uri string, id *url.URL, native bool) error {
	scheme, rest, _ := strings.Cut(uri, ":")
	if !plain(uri) || rest == "" {
		return invalidField("redirect_uris", "Invalid URL")
	}
	if scheme != "https" && scheme != "http" {
		return checkPrivate(uri, scheme, rest, id, native)
	}
	u, ok := address(uri)
	switch {
	case !ok || !strings.HasPrefix(uri, scheme+"://"):
		return invalidField("redirect_uris", "Invalid URL")
	case scheme == "https":
		if !public(u.Hostname()) {
			return refuse("invalid_redirect_uri", "Redirect URI %s must not be on a local hostname", quoted(uri))
		}
		if !native && !strings.EqualFold(u.Host, id.Host) {
			return refuse("invalid_redirect_uri", "Redirect URI %s of a web app must be on the origin of its client_id", quoted(uri))
		}
	case u.Hostname() == "localhost":
		return refuse("invalid_redirect_uri", `Redirect URI %s must have the address 127.0.0.1 or [::1] instead of "localhost"`, quoted(uri))
	case !onLoopback(u.Hostname()):
		return refuse("invalid_redirect_uri", "Redirect URI %s must use https", quoted(uri))
	case !native:
		return refuse("invalid_redirect_uri", "Loopback redirect URIs are only allowed for native apps")
	}
	return nil
}

// checkPrivate is checkRedirect for the schemes of apps.
func checkPrivate(uri, scheme, rest string, id *url.URL, native bool) error {
	if !strings.Contains(scheme, ".") {
		return refuse("invalid_redirect_uri", "Redirect URI %s has a scheme that is not allowed", quoted(uri))
	}
	if !native {
		return refuse("invalid_redirect_uri", "Private-Use URI Scheme redirect URIs are only allowed for native apps")
	}
	labels := strings.Split(id.Hostname(), ".")
	slices.Reverse(labels)
	if own := strings.Join(labels, "."); scheme != own {
		return refuse("invalid_redirect_uri", "Private-Use URI Scheme redirect URI, for discoverable client metadata, must be the fully qualified domain name (FQDN) of the client_id, in reverse order (%s)", own)
	}
	if rest[0] != '/' || strings.HasPrefix(rest, "//") {
		return refuse("invalid_redirect_uri", "Private-Use URI Scheme redirect URIs have one slash behind the scheme")
	}
	if _, err := url.Parse(uri); err != nil {
		return invalidField("redirect_uris", "Invalid URL")
	}
	return nil
}
