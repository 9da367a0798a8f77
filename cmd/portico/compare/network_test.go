//go:build compare

package compare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
	"portico/impl/mail/mailtest"
)

// A network is what both servers have around them: a PLC directory and a moderation
// service, which is no more than its keys.
type network struct {
	directory    string // its URL
	moderatorDID syntax.DID
	moderator    *atcrypto.PrivateKeyK256 // #atproto
	labeler      *atcrypto.PrivateKeyP256 // #atproto_label
	keylessDID   syntax.DID               // of another one, which has no #atproto_label
}

func startNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{directory: startDirectory(t)}
	var err error
	if n.moderator, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		t.Fatal(err)
	}
	if n.labeler, err = atcrypto.GeneratePrivateKeyP256(); err != nil {
		t.Fatal(err)
	}
	op := plc.NewGenesis([]string{didKey(t, rotation(t))}, didKey(t, n.moderator), "moderator.example.com", "https://pds.example.com")
	n.keylessDID = register(t, n.directory, op)
	d, _ := op.Data() // a genesis has it
	d.VerificationMethods["atproto_label"] = didKey(t, n.labeler)
	n.moderatorDID = register(t, n.directory, plc.New(d, ""))
	return n
}

// register signs the first operation of a DID and puts it into a directory.
func register(t *testing.T, directory string, op plc.Operation) syntax.DID {
	t.Helper()
	if err := op.Sign(rotation(t)); err != nil {
		t.Fatal(err)
	}
	did, err := plc.DID(op)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&plc.Client{URL: directory}).Register(t.Context(), did, op); err != nil {
		t.Fatal(err)
	}
	return did
}

// fill replaces in settings what is known only now.
func (n *network) fill(settings []string, mails *mailtest.Server, v *services) []string {
	words := []string{"${moderator.did}", n.moderatorDID.String(), "${keyless.did}", n.keylessDID.String(), "${mails}", mails.URL().String()}
	for name := range v.hosts {
		words = append(words, "${"+name+".url}", v.url(name), "${"+name+".did}", v.did(name))
	}
	known := strings.NewReplacer(words...)
	filled := make([]string, len(settings))
	for i, s := range settings {
		filled[i] = known.Replace(s)
	}
	return filled
}

// A gate is what a server takes for the directory. It is safe for concurrent use.
type gate struct {
	url    string
	mu     sync.Mutex
	closed bool
	status int // 0: no answer
	body   string
}

func startGate(t *testing.T, directory string) *gate {
	t.Helper()
	to, err := url.Parse(directory)
	if err != nil {
		t.Fatal(err)
	}
	g := new(gate)
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		closed, status, body := g.closed, g.status, g.body
		g.mu.Unlock()
		switch {
		case !closed:
			through.ServeHTTP(w, r)
		case status == 0:
			panic(http.ErrAbortHandler)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}))
	t.Cleanup(s.Close)
	// The reference asks no host by its address.
	g.url = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	return g
}

// close has the directory answer a status and a body from now on; with neither it
// is open again.
func (g *gate) close(words string) error {
	first, body, _ := strings.Cut(words, " ")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.body = first != "", body
	if first == "" {
		return nil
	}
	var err error
	g.status, err = strconv.Atoi(first)
	return err
}

// A site is the host of a person's did:web. It is safe for concurrent use.
type site struct {
	server   *httptest.Server
	mu       sync.Mutex
	document []byte
	said     map[string]string
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{said: map[string]string{}}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Path != "/.well-known/did.json" || s.document == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(s.document)
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *site) did() string {
	return "did:web:localhost%3A" + s.server.URL[strings.LastIndexByte(s.server.URL, ':')+1:]
}

// say changes what the document says.
func (s *site) say(words ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(words, []string{"gone"}) {
		s.document = nil
		return nil
	}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		s.said[name] = value
	}
	did := s.did()
	b, err := json.Marshal(map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": did,
		"alsoKnownAs": []string{"at://" + s.said["handle"]},
		"verificationMethod": []any{map[string]string{
			"id": did + "#atproto", "type": "Multikey", "controller": did,
			"publicKeyMultibase": strings.TrimPrefix(s.said["signingKey"], "did:key:")}},
		"service": []any{map[string]string{
			"id": "#atproto_pds", "type": plc.ServiceType, "serviceEndpoint": s.said["endpoint"]}},
	})
	s.document = b
	return err
}
