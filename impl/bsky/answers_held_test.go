package bsky_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"portico/impl/servertest"
)

// An account has four answers in memory at a time. What else it asks for meanwhile is passed
// on as it comes, without waiting; others are not concerned.
func TestAnswersOfAnAccountHeldAtATime(t *testing.T) {
	b := newBehind(t)
	dave := b.SignUp("dave")
	b.seen(b.writeAs(dave, "app.bsky.feed.like", "", someLike).Commit.Rev)
	b.post("new")
	b.writeAs(dave, "app.bsky.feed.post", "", `{"text":"another","createdAt":"2026-03-01T12:00:00.000Z"}`)
	b.says("actor.getProfile", author(bob, ""))
	b.oneTooMany([]servertest.User{b.alice, b.alice, b.alice, b.alice, b.alice}, func() {
		b.asItCame(b.ask("actor.getProfile?actor=bob.test"), author(bob, ""))
		if a := b.Accepted(b.Get("app.bsky.actor.getProfile?actor=bob.test", dave.Access)); a.Header.Get("Atproto-Upstream-Lag") == "" {
			t.Errorf("another's answer with %v is not patched", a.Header)
		}
	})
	b.patched("actor.getProfile?actor=bob.test")
}

// All accounts together have sixty-four answers in memory at a time.
func TestAnswersHeldAtATime(t *testing.T) {
	b := newBehind(t)
	users := make([]servertest.User, 17)
	for i := range users {
		users[i] = b.SignUp(fmt.Sprintf("user%d", i))
		b.seen(b.writeAs(users[i], "app.bsky.feed.like", "", someLike).Commit.Rev)
	}
	asking := users[:1:1]
	for i, u := range users {
		b.writeAs(u, "app.bsky.feed.post", "", `{"text":"new","createdAt":"2026-03-01T12:00:00.000Z"}`)
		if i > 0 {
			asking = append(asking, u, u, u, u)
		}
	}
	b.post("new")
	b.says("actor.getProfile", author(bob, ""))
	b.oneTooMany(asking, func() {
		b.asItCame(b.ask("actor.getProfile?actor=bob.test"), author(bob, ""))
	})
}

// oneTooMany lets accounts ask for their timelines at once, of which the app view says no
// more than the beginning until one of them was passed on, while all others are held, and
// meanwhile returned. After that they are patched, and there is room for as many.
func (b *behind) oneTooMany(users []servertest.User, meanwhile func()) {
	b.Helper()
	all := make(chan struct{})
	b.saysWith("feed.getTimeline", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, " ")
		w.(http.Flusher).Flush()
		select {
		case <-all:
			io.WriteString(w, feed())
		case <-r.Context().Done():
		}
	})
	type asked struct {
		*http.Response
		again func() (*http.Response, error) // on the same connection: not before the answer is done with
		err   error
	}
	answers := make(chan asked, len(users))
	for _, u := range users {
		client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}}
		b.Cleanup(client.CloseIdleConnections)
		ask := func() (*http.Response, error) {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, b.URL+"/xrpc/app.bsky.feed.getTimeline", nil)
			if err != nil {
				return nil, err
			}
			r.Header.Set("Authorization", u.Access)
			return client.Do(r)
		}
		go func() {
			response, err := ask()
			answers <- asked{response, ask, err}
		}()
	}
	patched := func(r *http.Response, err error) bool {
		b.Check(err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		b.Check(err)
		if r.StatusCode != 200 {
			b.Fatalf("answer %d %s", r.StatusCode, text)
		}
		return r.Header.Get("Atproto-Upstream-Lag") != "" && strings.Contains(string(text), `"text":"new"`)
	}
	first := <-answers
	meanwhile()
	close(all)
	if patched(first.Response, first.err) || first.Header.Get("Atproto-Repo-Rev") == "" {
		b.Errorf("one too many: %v", first.Header)
	}
	var held []asked
	for range len(users) - 1 {
		a := <-answers
		if !patched(a.Response, a.err) {
			b.Errorf("answer with %v is not patched", a.Header)
		}
		held = append(held, a)
	}
	for _, a := range held {
		if r, err := a.again(); !patched(r, err) {
			b.Errorf("answer with %v is not patched after that", r.Header)
		}
	}
}

// What reading the answers for an account costs is counted by the minute: their bytes, each
// as often as it is deep. What is above 512 Mi of them stays as it came, and so does what
// follows; others are not concerned.
func TestWorkOfAnAccountInAMinute(t *testing.T) {
	b := newBehind(t)
	dave := b.SignUp("dave")
	b.seen(b.writeAs(dave, "app.bsky.feed.like", "", someLike).Commit.Rev)
	b.post("new")
	b.writeAs(dave, "app.bsky.feed.post", "", `{"text":"another","createdAt":"2026-03-01T12:00:00.000Z"}`)
	deep := func(size int) string {
		return `{"feed":[],"deep":` + strings.Repeat("[", 100) + `"` + strings.Repeat("x", size) + `"` + strings.Repeat("]", 100) + `}`
	}
	says := func(text string) { b.says("feed.getTimeline", text) }
	says(deep(3 << 20)) // 300 Mi
	b.patched("feed.getTimeline")
	b.asItCame(b.ask("feed.getTimeline"), deep(3<<20))
	says(feed())
	b.asItCame(b.ask("feed.getTimeline"), feed())
	if a := b.Accepted(b.Get("app.bsky.feed.getTimeline", dave.Access)); order(t, a) != "[another]" {
		t.Errorf("of another: %s", a.Body)
	}
	b.Advance(time.Minute)
	if got := order(t, b.patched("feed.getTimeline")); got != "[new]" {
		t.Errorf("a minute later: %s", got)
	}
}
