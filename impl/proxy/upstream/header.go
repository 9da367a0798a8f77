package upstream

import (
	"net/http"
	"strings"
)

// passed are headers of any request that go upstream, and entity those of its body.
var (
	passed = []string{"Accept-Language", "Atproto-Accept-Labelers", "X-Bsky-Topics"}
	entity = []string{"Content-Type", "Content-Encoding"}
)

const passedPrefix = "X-Atproto-"

// single are headers of which the first is taken where there are several, as Node does.
// The others are joined.
var single = map[string]bool{"Content-Type": true}

// requestHeader is what r has of headers upstream. That of its length is not among them.
func requestHeader(r *Request) http.Header {
	h := make(http.Header, 8)
	h["User-Agent"] = nil // or the transport named itself
	for _, name := range passed {
		pass(h, r.Header, name)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, passedPrefix) {
			pass(h, r.Header, name)
		}
	}
	if r.Verb == http.MethodPost {
		for _, name := range entity {
			pass(h, r.Header, name)
		}
	}
	encodings := r.Encodings
	if encodings == "" {
		encodings = strings.Join(r.Header["Accept-Encoding"], ", ")
	}
	if encodings == "" {
		encodings = "identity"
	}
	h["Accept-Encoding"] = []string{encodings}
	if r.Token != "" {
		h["Authorization"] = []string{"Bearer " + r.Token}
	}
	return h
}

// pass copies one header. An empty one is passed, too.
func pass(to, from http.Header, name string) {
	values := from[name]
	switch {
	case len(values) == 0:
	case len(values) == 1 || single[name]:
		to[name] = values[:1:1]
	default:
		to[name] = []string{strings.Join(values, ", ")}
	}
}

// answered are headers of an answer that a client gets as they came, and joined those
// that it gets in one line.
var (
	answered = []string{"Content-Length", "Content-Encoding", "Content-Type", "Content-Language"}
	joined   = []string{"Atproto-Repo-Rev", "Atproto-Content-Labelers", "Retry-After"}
)

// answerHeader is what a client sees of the header of an answer.
func answerHeader(from http.Header) http.Header {
	h := make(http.Header, 4)
	for _, name := range answered {
		if values := from[name]; len(values) > 0 {
			h[name] = values
		}
	}
	for _, name := range joined {
		if value := join(from[name]); value != "" {
			h[name] = []string{value}
		}
	}
	return h
}

func join(values []string) string {
	if len(values) == 1 {
		return values[0]
	}
	return strings.Join(values, ",")
}
