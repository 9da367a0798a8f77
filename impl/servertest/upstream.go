package servertest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/proxy"
)

// An Upstream is another service that a server passes requests on to. It remembers what
// reached it, and answers as the test says.
type Upstream struct {
	proxy.Service
	mu      sync.Mutex
	asked   []Asked
	answers http.HandlerFunc
}

// Asked is a request that reached an Upstream.
type Asked struct {
	*http.Request
	Body []byte
}

// NewUpstream starts a service until the test ends, and publishes a document of did that
// names it under id. It answers {} until it is told what to say.
func (s *Server) NewUpstream(did syntax.DID, id string) *Upstream {
	u := &Upstream{answers: Answers(200, "{}")}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // of one who hung up: what there is
		u.mu.Lock()
		u.asked = append(u.asked, Asked{r, body})
		answers := u.answers
		u.mu.Unlock()
		answers(w, r)
	}))
	s.Cleanup(h.Close)
	u.Service = proxy.Service{DID: did, ID: id, URL: h.URL}
	s.PublishService(did, id, "Service", h.URL)
	return u
}

// NewRaw starts a service until the test ends that answers as the test says, before it has
// read a request's body, and publishes a document of did that names it under id. It returns
// the value of an atproto-proxy header for it.
func (s *Server) NewRaw(did syntax.DID, id string, answers http.HandlerFunc) string {
	h := httptest.NewServer(answers)
	s.Cleanup(h.Close)
	s.PublishService(did, id, "Service", h.URL)
	return proxy.Service{DID: did, ID: id}.String()
}

// Says is how it answers from now on.
func (u *Upstream) Says(answers http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answers = answers
}

// Asked returns the requests that came since the last call.
func (u *Upstream) Asked() []Asked {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := slices.Clone(u.asked)
	u.asked = nil
	return asked
}

// Answers answers each request with JSON, and headers in pairs of name and value.
func Answers(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// PublishService puts a document of did into the internet that names one service.
func (s *Server) PublishService(did syntax.DID, id, kind, endpoint string) {
	s.Helper()
	s.PublishJSON(did, Must(json.Marshal(map[string]any{
		"id": did, "service": []any{map[string]string{"id": "#" + id, "type": kind, "serviceEndpoint": endpoint}},
	})))
}
