package sync_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"portico/impl/atproto/sync"
	"portico/impl/servertest"
)

// Relays are told at once, and then of new events, but not more often than every 20
// minutes, unless the server goes by another name; what one of them answers keeps no other from being told.
func TestCrawlers(t *testing.T) {
	told := make(chan string, 10)
	relay := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			told <- r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("Authorization") + string(body)
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	name := "pds.test"
	clock, log := servertest.NewClock(), new(servertest.Log)
	gone := relay(200)
	hosts := []string{relay(500), relay(200), strings.Replace(gone, "127.0.0.1", "nowhere.invalid", 1)}
	c := &sync.Crawlers{
		Hosts: func() []string { return hosts }, HTTP: http.DefaultClient, Now: clock.Now,
		Hostname: func(context.Context) string { return name }, Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	expect := func(n int) {
		t.Helper()
		c.Notify(t.Context())
		c.Wait()
		want := `POST /xrpc/com.atproto.sync.requestCrawl application/json {"hostname":"` + name + `"}`
		for range n {
			if got := <-told; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		if len(told) > 0 {
			t.Errorf("told more: %s", <-told)
		}
	}
	expect(2)
	expect(0)
	clock.Advance(20*time.Minute - 1)
	expect(0)
	clock.Advance(1)
	expect(2)
	name = "new.test"
	expect(2)
	expect(0)
	name = ""
	clock.Advance(20 * time.Minute)
	expect(0)
	name = "new.test"
	expect(2)
	if n := strings.Count(log.String(), "crawler was not told of new events"); n != 8 {
		t.Errorf("%d lines in the log:\n%s", n, log)
	}
}
