//go:build interop

package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/directory"
	"portico/impl/identity/plc"
)

// services are those that a server passes requests on to, with the directory that has
// their DIDs. Each writes down what it is sent.
type services struct {
	*testing.T
	directory string // URL
	mu        sync.Mutex
	got       []passed
}

// passed is what one of the services was sent.
type passed struct {
	to, verb, uri, body string
	header              http.Header
	token               serviceToken
}

// A serviceToken is one that was found to be good, signature included; the zero value is
// none.
type serviceToken struct {
	header             map[string]any
	Iss, Aud, Lxm, Jti string
	Iat, Exp           int64
}

func newServices(t *testing.T) *services {
	t.Helper()
	d := httptest.NewServer(directory.New(directory.NewMemory(), time.Now, "services", slog.New(slog.DiscardHandler)))
	t.Cleanup(d.Close)
	return &services{T: t, directory: local(d)}
}

// local is the URL of a server by the name that the reference PDS takes, too.
func local(server *httptest.Server) string {
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
}

// start starts a service under a DID of the directory, which has it under id. answer
// makes the JSON of its answers.
func (s *services) start(name, id, kind string, answer func(nsid string) string) (did syntax.DID, origin string) {
	s.Helper()
	server := httptest.NewServer(s.handler(name, answer))
	s.Cleanup(server.Close)
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		s.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		s.Fatal(err)
	}
	op := plc.New(plc.Data{
		RotationKeys:        []string{public.DIDKey()},
		VerificationMethods: map[string]string{"atproto": public.DIDKey()},
		Services:            map[string]plc.Service{id: {Type: kind, Endpoint: local(server)}},
	}, "")
	if err := op.Sign(key); err != nil {
		s.Fatal(err)
	}
	if did, err = plc.DID(op); err != nil {
		s.Fatal(err)
	}
	if err := (&plc.Client{URL: s.directory}).Submit(s.Context(), did, op); err != nil {
		s.Fatal(err)
	}
	return did, local(server)
}

// startWeb is start for a service under a did:web, whose document it serves itself.
func (s *services) startWeb(name, id, kind string, answer func(nsid string) string) syntax.DID {
	s.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	s.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		s.Fatal(err)
	}
	did := "did:web:localhost%3A" + u.Port()
	mux.HandleFunc("GET /.well-known/did.json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#%s","type":%q,"serviceEndpoint":%q}]}`, did, id, kind, local(server))
	})
	mux.Handle("/", s.handler(name, answer))
	return syntax.DID(did)
}

func (s *services) handler(name string, answer func(nsid string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.Errorf("%s: %s: %v", name, r.URL, err)
		}
		p := passed{to: name, verb: r.Method, uri: r.RequestURI, body: string(body), header: r.Header.Clone()}
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			if p.token, err = s.verify(r, token); err != nil {
				s.Errorf("%s was sent a token that is not good: %v", name, err)
			}
		} else if r.Header.Get("Authorization") != "" {
			s.Errorf("%s was sent %q", name, r.Header.Get("Authorization"))
		}
		s.mu.Lock()
		s.got = append(s.got, p)
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer(strings.TrimPrefix(r.URL.Path, "/xrpc/")))
	})
}

// take is what the services were sent since it was last asked for.
func (s *services) take() []passed {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

// verify lets indigo look at a token: at its signature, by the issuer's key in the
// directory, and its expiry. What the token is for is the test's to say.
func (s *services) verify(r *http.Request, token string) (t serviceToken, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return t, fmt.Errorf("%q is not a JWT", token)
	}
	for i, into := range []any{&t.header, &t} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return t, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return t, err
		}
	}
	v := auth.ServiceAuthValidator{Audience: t.Aud, Dir: &identity.BaseDirectory{PLCURL: s.directory, SkipHandleVerification: true}}
	iss, err := v.Validate(r.Context(), token, nil)
	if err != nil {
		return t, err
	}
	if iss.String() != t.Iss || t.Exp != t.Iat+60 || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(t.Jti) || len(t.header) != 2 || t.header["typ"] != "JWT" || t.header["alg"] != "ES256K" {
		return t, fmt.Errorf("%+v", t)
	}
	return t, nil
}

// An answer is one to a client.
type answer struct {
	status int
	body   string
}

// refusal is the status, the error and the message of an answer that has them.
func (a answer) refusal() string {
	var e struct{ Error, Message string }
	if json.Unmarshal([]byte(a.body), &e) != nil || e.Error == "" {
		return ""
	}
	return fmt.Sprintf("%d %s %s", a.status, e.Error, e.Message)
}

// ask sends "VERB NSID?QUERY" to the server, with a body unless that is "", and
// headers in pairs.
func (p *place) ask(t *testing.T, call, body string, headers ...string) answer {
	t.Helper()
	verb, method, _ := strings.Cut(call, " ")
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), verb, p.url+"/xrpc/"+method, r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	} else if body != "" {
		req.Header.Set("Content-Type", "image/png")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", call, err)
	}
	return answer{resp.StatusCode, string(text)}
}

// raw is a field in the JSON of an answer, as it stands; "" if there is none.
func (a answer) raw(field string) string {
	var out map[string]json.RawMessage
	json.Unmarshal([]byte(a.body), &out) // then there is none
	return string(out[field])
}

// text is a field that is a text.
func (a answer) text(field string) (text string) {
	json.Unmarshal([]byte(a.raw(field)), &text) // then it is ""
	return text
}
