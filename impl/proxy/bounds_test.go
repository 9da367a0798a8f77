package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"portico/impl/account/token"
	"portico/impl/proxy"
	"portico/impl/servertest"
)

// Contract §9 row 9: what an account has passed on has a bound, and each account its own.
// DESIGN §9: an app password spends nothing of the owner's, and who is told to wait is told
// how long.
func TestRequestsOfAnAccount(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Bounds = proxy.Bounds{Requests: 2, Window: time.Minute}
	bob, app := w.SignUp("bob"), w.Scoped(w.alice, token.AppPass)
	refused := func(credential, after string) {
		t.Helper()
		a := w.Get(query, credential)
		w.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
		if a.Header.Get("Retry-After") != after {
			t.Errorf("Retry-After %q, want %q", a.Header.Get("Retry-After"), after)
		}
	}
	for range 2 {
		w.Accepted(w.Get(query, app))
	}
	refused(app, "60")
	refused(w.Scoped(w.alice, token.AppPassPrivileged), "60")
	w.Advance(time.Second)
	for range 2 {
		w.Accepted(w.Get(query, w.alice.Access))
	}
	w.Advance(30 * time.Second)
	refused(app, "29")
	refused(w.alice.Access, "30")
	w.Accepted(w.Get(query, bob.Access))
	w.Advance(29 * time.Second)
	w.Accepted(w.Get(query, app))
	refused(w.alice.Access, "1")
	w.AppView.Asked()
	// What is refused before has no part in it.
	for range 5 {
		w.Get(query, app+"x")
		w.Get("chat.bsky.convo.getLog", app)
	}
	w.Accepted(w.Get(query, app))
	refused(app, "60")
}

// What callers who are not signed in have passed on is paid for by their address: of IPv6
// by the /64, and in all by the /48. An address that is nobody's has no bounds.
func TestRequestsOfAnAddress(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Bounds = proxy.Bounds{Requests: 1, Window: time.Minute}
	const record = "com.atproto.repo.getRecord?repo=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa&collection=app.bsky.feed.post&rkey=a"
	ask := func(from string, want int) {
		t.Helper()
		header := "X-Forwarded-For: " + from
		if from == "" {
			header = ""
		}
		if a := w.Get(record, header); a.Status != want {
			t.Errorf("from %s: %d %s, want %d", from, a.Status, a.Body, want)
		}
	}
	ask("203.0.113.7", 200)
	ask("203.0.113.7", 429)
	ask("203.0.113.8", 200)
	ask("2001:db8:0:1::1", 200)
	ask("2001:db8:0:1::2", 429)
	for i := 2; i <= 8; i++ {
		ask(fmt.Sprintf("2001:db8:0:%d::1", i), 200)
	}
	ask("2001:db8:0:9::1", 429)
	ask("2001:db8:1:1::1", 200)
	for range 3 {
		ask("", 200)
	}
	// Sessions do not pay with their address, nor addresses with an account.
	w.Accepted(w.Get(query, w.alice.Access, "X-Forwarded-For: 203.0.113.7"))
}

// How much an account has under way at a time has a bound, until the client has the end of
// an answer.
func TestRequestsAtATime(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Bounds = proxy.Bounds{AtATime: 2}
	there, goOn := make(chan struct{}), make(chan struct{})
	w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
		there <- struct{}{}
		<-goOn
		servertest.Answers(200, "{}")(rw, r)
	})
	var under sync.WaitGroup
	for range 2 {
		under.Go(func() {
			if a, err := w.Try("GET", query, "", w.alice.Access); err != nil || a.Status != 200 {
				t.Errorf("%d, %v", a.Status, err)
			}
		})
		<-there
	}
	a := w.Get(query, w.alice.Access)
	w.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
	}
	close(goOn)
	under.Wait()
	w.AppView.Says(servertest.Answers(200, "{}"))
	w.settle()
	w.Accepted(w.Get(query, w.alice.Access))
}

// settle returns when no request is counted as under way. What a client that hung up had is
// counted until the server has noticed it.
func (w world) settle() {
	w.Helper()
	for w.Proxy.UnderWay() > 0 {
		if w.Context().Err() != nil {
			w.Fatal("requests are counted that are over")
		}
		runtime.Gosched()
	}
}

// Whatever becomes of requests, none is counted for ever.
func TestBoundsDoNotLeak(t *testing.T) {
	w := newWorld(t)
	w.Proxy.Bounds = proxy.Bounds{AtATime: 3}
	turn := make(chan int)
	stop := make(chan struct{})
	go func() {
		for i := 0; ; i++ {
			select {
			case turn <- i:
			case <-stop:
				return
			}
		}
	}()
	defer close(stop)
	w.AppView.Says(func(rw http.ResponseWriter, r *http.Request) {
		switch <-turn % 5 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			rw.Write(make([]byte, 100_000))
			panic(http.ErrAbortHandler)
		case 2:
			http.Error(rw, "no", 500)
		case 3:
			rw.Write(make([]byte, 100_000))
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			servertest.Answers(200, "{}")(rw, r)
		}
	})
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for range 10 {
				ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Millisecond)
				r, err := http.NewRequestWithContext(ctx, "GET", w.URL+"/xrpc/"+query, nil)
				if err == nil {
					r.Header.Set("Authorization", w.alice.Access)
					if response, err := http.DefaultTransport.RoundTrip(r); err == nil {
						if i%2 == 0 {
							response.Body.Read(make([]byte, 10))
						}
						response.Body.Close()
					}
				}
				hangUp()
			}
		})
	}
	callers.Wait()
	w.settle()
	w.AppView.Says(servertest.Answers(200, "{}"))
	w.Accepted(w.Get(query, w.alice.Access))
}
