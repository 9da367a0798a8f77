package auth_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"portico/impl/oauth/dpop"
	"portico/impl/servertest"
)

// BenchmarkGate is a call by an app, with a proof by ES256, beside the same call with a session
// token: at most a signature that is verified and a row that is read are between the two.
func BenchmarkGate(b *testing.B) {
	for _, method := range []struct{ verb, nsid, body string }{
		{"GET", getSession, ""},
		{"POST", "com.atproto.repo.createRecord", `{"repo":%q,"collection":"com.example.x","record":{"$type":"com.example.x","text":"hello"}}`},
	} {
		s := servertest.New(b)
		s.Proofs.Once = dpop.NewMemory(s.Now).Once // as a server of one process has it
		alice := s.SignUp("alice")
		app := s.LetIn(alice, "atproto transition:generic account:email")
		if method.body != "" {
			method.body = fmt.Sprintf(method.body, alice.DID)
		}
		request := func(header ...string) *http.Request {
			r := httptest.NewRequest(method.verb, servertest.Endpoint+"/xrpc/"+method.nsid, strings.NewReader(method.body))
			r.Header.Set("Authorization", header[0])
			if len(header) > 1 {
				r.Header.Set("DPoP", strings.TrimPrefix(header[1], "DPoP: "))
			}
			if method.body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			return r
		}
		for _, by := range []struct {
			name string
			make func() *http.Request
		}{
			{"session", func() *http.Request { return request(alice.Access) }},
			{"app", func() *http.Request { return request(app.Credentials(method.verb, method.nsid)...) }},
		} {
			b.Run(method.nsid+"/"+by.name, func(b *testing.B) {
				b.ReportAllocs()
				var ready []*http.Request
				for b.Loop() {
					if len(ready) == 0 { // signing is the client's work
						b.StopTimer()
						for range 200 {
							ready = append(ready, by.make())
						}
						b.StartTimer()
					}
					w := httptest.NewRecorder()
					s.Handler.ServeHTTP(w, ready[len(ready)-1])
					ready = ready[:len(ready)-1]
					if w.Code != 200 {
						b.Fatal(w.Code, w.Body)
					}
				}
			})
		}
	}
}
