package server_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"portico/impl/account/password"
)

// Rule 5 of budgets: whoever floods sign-in from one address, or from many of one /48,
// keeps nobody out who is elsewhere: not an owner whose address is known, nor one who
// was never here before, nor sign-up.
func TestFloodOfSignInsKeepsNobodyElsewhereOut(t *testing.T) {
	for _, flood := range []struct {
		name string
		from func(i int) string
	}{
		{"one address", func(int) string { return "192.0.2.1" }},
		{"/64s of one /48", func(i int) string { return fmt.Sprintf("2001:db8:0:%x::1", i) }},
		{"nobody's addresses", func(i int) string { return fmt.Sprintf("10.0.0.%d", i+1) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			f := newFixture(t, func(o *options) { o.TrustedProxies = 1 })
			// Few places, and hashes that take long enough for them to be taken.
			f.service.Passwords = password.NewHasher(password.Config{
				Rand: rand.Reader, Concurrency: 1, Queue: 8, Params: password.Params{Memory: 4096, Time: 2, Threads: 1},
			})
			u := f.SignUp("alice")
			var busy atomic.Int64
			var over atomic.Bool
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					for n := 0; n < 50 && !over.Load(); n++ {
						body := login(fmt.Sprintf("made-up-%d-%d.test", i, n), "wrong")
						a, err := f.Try(http.MethodPost, "createSession", body, "X-Forwarded-For: "+flood.from(i))
						if err != nil {
							t.Error(err)
							return
						}
						if a.Status == http.StatusServiceUnavailable {
							f.Refused(a, 503, "NotEnoughResources", "Not Enough Resources")
							busy.Add(1)
						}
					}
				})
			}
			for range 5 {
				f.Accepted(f.Post("createSession", login(u.DID.String(), goodPassword), "X-Forwarded-For: 198.51.100.1"))
				f.Refused(f.Post("createSession", login("alice.test", "wrong"), "X-Forwarded-For: 203.0.113.9"),
					401, "AuthenticationRequired", "Invalid identifier or password")
			}
			f.Accepted(f.Post("createAccount", `{"handle":"bob.test","email":"bob@example.com","password":"`+goodPassword+`"}`, "X-Forwarded-For: 198.51.100.1"))
			over.Store(true)
			all.Wait()
			if busy.Load() == 0 {
				t.Error("the flood filled no queue")
			}
		})
	}
}
