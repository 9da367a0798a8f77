package xrpc

import (
	"net/http"
	"strings"
)

// below reports whether a path is one of XRPC's, in any case.
func below(path string) bool {
	return len(path) >= len(prefix) && strings.EqualFold(path[:len(prefix)], prefix)
}

// refuseBrowser refuses what a browser says it wants an answer for (Fetch Metadata,
// https://www.w3.org/TR/fetch-metadata/), where that would give what a stranger put here the
// standing of this origin: as a script, a worker or a style, or as a page in a frame. Blobs
// are served from the origin of the server's own pages. It also refuses the password that a
// browser adds by itself to what the page of another site has it send.
//
// Clients that are no browsers send none of these headers. They protect the people who use
// a browser, not the server from who writes headers.
func refuseBrowser(r *http.Request) *Error {
	h := r.Header
	if h.Get("Service-Worker") != "" {
		return Forbidden("Answers of this server are no service workers")
	}
	switch h.Get("Sec-Fetch-Dest") {
	case "script", "style", "xslt", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet":
		return Forbidden("Answers of this server are no scripts or styles")
	case "frame", "iframe", "fencedframe", "object", "embed":
		return Forbidden("Answers of this server are not shown in frames")
	}
	switch h.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		if scheme, _, _ := strings.Cut(h.Get("Authorization"), " "); strings.EqualFold(scheme, "Basic") {
			return Forbidden("Passwords are not taken from the pages of other sites")
		}
	}
	return nil
}
