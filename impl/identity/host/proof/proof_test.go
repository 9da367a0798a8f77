package proof_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"portico/impl/identity/host/proof"
)

func TestProve(t *testing.T) {
	mac := func(challenge string) []byte { return []byte("secret " + challenge) }
	p := &proof.Prover{Client: http.DefaultClient, MAC: mac, Rand: rand.Reader}
	var sent http.Header
	answer := func(w http.ResponseWriter, r *http.Request, mac func(string) []byte, did string) {
		w.Header().Set("Portico-Answer", proof.Sign(mac, r.Header.Get("Portico-Challenge")))
		fmt.Fprintf(w, `{"did": %q}`, did)
	}
	old := ""
	for name, tt := range map[string]struct {
		serve http.HandlerFunc
		ok    bool
	}{
		"this server": {func(w http.ResponseWriter, r *http.Request) { answer(w, r, mac, "did:web:a.test") }, true},
		"another secret": {func(w http.ResponseWriter, r *http.Request) {
			answer(w, r, func(c string) []byte { return []byte(c) }, "did:web:a.test")
		}, false},
		"another DID": {func(w http.ResponseWriter, r *http.Request) { answer(w, r, mac, "did:web:b.test") }, false},
		"no answer":   {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"did": "did:web:a.test"}`) }, false},
		"an old answer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Portico-Answer", old)
			fmt.Fprint(w, `{"did": "did:web:a.test"}`)
		}, false},
		"an error": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Portico-Answer", proof.Sign(mac, r.Header.Get("Portico-Challenge")))
			w.WriteHeader(http.StatusBadGateway)
		}, false},
		"a redirect to this server": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == proof.Path {
				http.Redirect(w, r, "/there", http.StatusFound)
				return
			}
			answer(w, r, mac, "did:web:a.test")
		}, false},
		"no JSON": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Portico-Answer", proof.Sign(mac, r.Header.Get("Portico-Challenge")))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				sent = r.Header
				tt.serve(w, r)
			}))
			defer s.Close()
			err := p.Prove(t.Context(), s.URL, "did:web:a.test")
			if tt.ok != (err == nil) || err != nil && !errors.Is(err, proof.ErrOther) {
				t.Errorf("error %v", err)
			}
			if challenge := sent.Get("Portico-Challenge"); challenge == "" || challenge == old {
				t.Errorf("challenge %q", challenge)
			} else {
				old = challenge
			}
		})
	}
	if err := p.Prove(t.Context(), "http://localhost:1", "did:web:a.test"); err == nil || errors.Is(err, proof.ErrOther) {
		t.Errorf("nobody: %v", err)
	}
	if got := proof.Sign(mac, strings.Repeat("x", 65)); got != "" {
		t.Errorf("answered %q", got)
	}
}
