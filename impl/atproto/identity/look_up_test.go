package identity_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/impl/servertest"
)

// Whoever makes the server ask other hosts, for handles, DIDs or the key of a token that
// says to be somebody's, pays with the address: 600 questions an hour. What is known
// here, or was asked lately, stays free, and others go on.
func TestLookUpsArePaidByTheCaller(t *testing.T) {
	const stranger, neighbour = "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 203.0.113.5"
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		f := &fixture{s}
		alice := f.SignUp("alice")
		f.Accepted(f.Get("resolveDid?did="+servertest.ModService, "", neighbour))
		ask := func(n int, from string) answer {
			switch n % 3 {
			case 0:
				return f.Get(fmt.Sprintf("resolveHandle?handle=h%d.example.com", n), "", from)
			case 1:
				return f.Get(fmt.Sprintf("resolveDid?did=did:web:h%d.example.com", n), "", from)
			}
			key := servertest.Must(atcrypto.GeneratePrivateKeyK256())
			token := f.ServiceToken(servertest.ModService+".nobody", key, "com.atproto.server.createAccount", time.Minute)
			return f.Post("com.atproto.server.createAccount", `{"handle":"bob.test"}`, token, from)
		}
		for n := range 600 {
			if a := ask(n, stranger); a.Status == 429 {
				t.Fatalf("question %d: %s", n, a.Body)
			}
		}
		for n := range 3 {
			a := ask(600+n, stranger)
			f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
			if a.Header.Get("Retry-After") != "3600" {
				t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
			}
			if a := ask(600+n, neighbour); a.Status == 429 {
				t.Errorf("a neighbour's question: %s", a.Body)
			}
		}
		f.Accepted(f.Get("resolveHandle?handle=alice.test", "", stranger))
		f.Accepted(f.Get("resolveDid?did="+servertest.ModService, "", stranger))
		f.Refused(f.Get("resolveHandle?handle=nobody.test", "", stranger), 400, "HandleNotFound", "Unable to resolve handle")
		f.Accepted(f.Get("com.atproto.server.getSession", alice.Access, stranger))
		f.Advance(time.Hour)
		if a := ask(603, stranger); a.Status == 429 {
			t.Errorf("an hour later: %s", a.Body)
		}
	}, servertest.In("com.atproto.identity"), func(o *servertest.Options) { o.TrustedProxies = 1 })
}
