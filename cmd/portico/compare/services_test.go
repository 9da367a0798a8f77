//go:build compare

package compare

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Services are what one server passes requests on to: an app view and others, which
// answer what the script says and remember what reached them. They are safe for
// concurrent use.
type services struct {
	hosts    map[string]*httptest.Server
	mu       sync.Mutex
	answers  map[string]step // by the name of a service, a blank, and a method or path
	arrivals []*arrival      // that nobody has looked at
}

// An arrival is a request as a service received it.
type arrival struct {
	service string
	request *http.Request
	body    []byte
	broken  bool   // it ended before its body did
	signed  string // whether its token is
}

func startServices(t *testing.T, names []string) *services {
	t.Helper()
	v := &services{hosts: map[string]*httptest.Server{}, answers: map[string]step{}}
	for _, name := range names {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { v.serve(name, w, r) }))
		t.Cleanup(func() {
			s.CloseClientConnections()
			s.Close()
		})
		v.hosts[name] = s
	}
	return v
}

func (v *services) url(name string) string {
	// The reference asks no host by its address.
	return strings.Replace(v.hosts[name].URL, "127.0.0.1", "localhost", 1)
}

func (v *services) did(name string) string {
	url := v.url(name)
	return "did:web:localhost%3A" + url[strings.LastIndexByte(url, ':')+1:]
}

const documentPath = "/.well-known/did.json"

// serve answers what the script says of the path with its plain query, else of the path, else
// that it is there. The document of a service offers everything that services do.
func (v *services) serve(name string, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	uri := r.RequestURI
	path, _, _ := strings.Cut(uri, "?")
	v.mu.Lock()
	answer, ok := v.answers[name+" "+plainURI(r)]
	if !ok {
		answer, ok = v.answers[name+" "+path]
	}
	hungUp := ok && slices.Contains(answer.headers, header{"Ends", "in the head"})
	// Who was hung up on a connection that had been used before may try another one.
	again := hungUp && slices.ContainsFunc(v.arrivals, func(a *arrival) bool {
		return a.service == name && a.request.Method == r.Method && a.request.RequestURI == uri
	})
	if path != documentPath && !again {
		v.arrivals = append(v.arrivals, &arrival{service: name, request: r, body: body, broken: err != nil})
	}
	v.mu.Unlock()
	switch {
	case ok:
		give(w, r, answer)
	case path == documentPath:
		w.Header().Set("Content-Type", "application/json")
		w.Write(v.document(name))
	default:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprintf(w, `{"answer":"of %s"}`, name)
	}
}

// plainURI is the path and the query of a request, unescaped and with its parameters in
// their order.
func plainURI(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return r.URL.Path
	}
	query, _ := url.QueryUnescape(r.URL.Query().Encode()) // it was escaped by that
	return r.URL.Path + "?" + query
}

func (v *services) document(name string) []byte {
	var offers []any
	for id, kind := range map[string]string{
		"bsky_appview": "BskyAppView", "atproto_labeler": "AtprotoLabeler", "bsky_notif": "BskyNotificationService",
		"bsky_chat": "BskyChatService", "bsky_fg": "BskyFeedGenerator",
	} {
		offers = append(offers, map[string]string{"id": "#" + id, "type": kind, "serviceEndpoint": v.url(name)})
	}
	b, _ := json.Marshal(map[string]any{ // strings
		"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": v.did(name), "service": offers})
	return b
}

// give answers a request. Some headers of the script's answer are not sent, but say how
// it goes:
//
//	Status: 404
//	Body-Encoding: gzip        compresses the body; or br, or deflate
//	Pause: 300ms               waits in the midst of the body
//	Ends: in the head          hangs up before anything is said; or in the body, half of which comes
//	Silent: from the start     says nothing until the other side goes; or in the body
func give(w http.ResponseWriter, r *http.Request, answer step) {
	body := []byte(answer.body)
	status, pause, ends, silent := http.StatusOK, time.Duration(0), "", ""
	for _, h := range answer.headers {
		switch h.name {
		case "Status":
			status, _ = strconv.Atoi(h.value)
		case "Pause":
			pause, _ = time.ParseDuration(h.value)
		case "Ends":
			ends = h.value
		case "Silent":
			silent = h.value
		case "Body-Encoding":
			body = pack(h.value, body)
			w.Header().Set("Content-Encoding", h.value)
		case "Content-Type":
			if h.value == "-" {
				w.Header()["Content-Type"] = nil // else Go finds one
				continue
			}
			fallthrough
		default:
			w.Header().Add(h.name, h.value)
		}
	}
	if _, ok := w.Header()["Content-Type"]; !ok && len(body) > 0 {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	switch {
	case ends == "in the head":
		panic(http.ErrAbortHandler)
	case silent == "from the start":
		<-r.Context().Done()
		return
	}
	half := len(body)
	if pause > 0 || ends != "" || silent != "" {
		half /= 2
	}
	if half == len(body) && status != http.StatusNoContent && status != http.StatusNotModified && w.Header().Get("Transfer-Encoding") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	w.Write(body[:half])
	if half == len(body) {
		return
	}
	w.(http.Flusher).Flush()
	switch {
	case ends != "":
		panic(http.ErrAbortHandler)
	case silent != "":
		<-r.Context().Done()
		return
	}
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
	}
	w.Write(body[half:])
}

func pack(encoding string, body []byte) []byte {
	var packed bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&packed)
	case "deflate":
		w = zlib.NewWriter(&packed)
	case "br":
		w = brotli.NewWriter(&packed)
	default:
		return body
	}
	w.Write(body)
	w.Close()
	return packed.Bytes()
}

// say sets what a service answers from now on: words are its name and a method or path.
func (v *services) say(answer step) error {
	words := strings.Fields(answer.path)
	if len(words) != 2 || v.hosts[words[0]] == nil {
		return fmt.Errorf("no service is meant by %q", answer.path)
	}
	if !strings.HasPrefix(words[1], "/") {
		words[1] = "/xrpc/" + words[1]
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answers[words[0]+" "+words[1]] = answer
	return nil
}

// arrived returns what reached the services since it was asked before.
func (v *services) arrived() []*arrival {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := v.arrivals
	v.arrivals = nil
	return all
}

// flattenArrivals has the facts of what reached the services during a step.
func (s *side) flattenArrivals(facts map[string]string, st step, all []*arrival) {
	line := func(a *arrival) string {
		uri := a.request.RequestURI
		if a.own() {
			uri = plainURI(a.request)
		}
		return a.service + ": " + a.request.Method + " " + s.mask(uri)
	}
	// Which of two came first is chance.
	slices.SortStableFunc(all, func(a, b *arrival) int { return strings.Compare(line(a), line(b)) })
	if len(all) > 0 {
		facts["upstream"] = strconv.Itoa(len(all))
	}
	for i, a := range all {
		path := "upstream " + strconv.Itoa(i)
		facts[path] = line(a)
		sent := maps.Clone(a.request.Header)
		if a.request.TransferEncoding != nil {
			sent["Transfer-Encoding"] = a.request.TransferEncoding
		}
		if slices.ContainsFunc(st.headers, func(h header) bool { return h.name == "Transfer-Encoding" }) {
			// The reference sends chunks, or a length where all had come before it sends them.
			sent.Del("Transfer-Encoding")
			sent.Del("Content-Length")
		}
		sent.Del("Connection") // of this connection alone
		if a.own() {
			// What its library says of itself.
			for _, name := range []string{"User-Agent", "Accept-Encoding", "Sec-Fetch-Mode"} {
				sent.Del(name)
			}
		}
		if "http://"+a.request.Host != s.services.url(a.service) {
			facts[path+" host"] = strconv.Quote(a.request.Host)
		}
		for name, values := range sent {
			if name == "Authorization" && a.signed != "" {
				s.flatten(facts, path+" token", a.token())
				facts[path+" token signature"] = a.signed
				continue
			}
			facts[path+" header "+name] = fmt.Sprintf("%q", s.mask(strings.Join(values, "\n")))
		}
		switch {
		case a.broken:
			facts[path+" body"] = "broken"
		case len(a.body) > 2000 || !utf8.Valid(a.body):
			facts[path+" body"] = digest(a.body)
		case len(a.body) > 0:
			facts[path+" body"] = strconv.Quote(s.mask(string(a.body)))
		}
	}
}

// own reports whether a request is the server's own, which a library made, and none that
// was passed on: those have no User-Agent.
func (a *arrival) own() bool { return a.request.UserAgent() != "" }

// token is the service token of a request, empty if it has none.
func (a *arrival) token() string {
	token, _ := strings.CutPrefix(a.request.Header.Get("Authorization"), "Bearer ")
	return token
}

// verify says whether the account that a token names signed it.
func (s *side) verify(ctx context.Context, token string) string {
	_, claims, ok := decode(token)
	issuer, _ := claims["iss"].(string)
	did, err := syntax.ParseDID(issuer)
	if !ok || err != nil {
		return "of nobody"
	}
	op, err := s.plc.Last(ctx, did)
	if err != nil {
		return err.Error()
	}
	d, ok := op.Data()
	if !ok {
		return "of a DID that is gone"
	}
	key, err := atcrypto.ParsePublicDIDKey(d.VerificationMethods["atproto"])
	if err != nil {
		return err.Error()
	}
	dot := strings.LastIndexByte(token, '.')
	raw, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err == nil {
		err = key.HashAndVerify([]byte(token[:dot]), raw)
	}
	if err != nil {
		return err.Error()
	}
	return "good"
}
