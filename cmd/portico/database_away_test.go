package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db/dbtest"
)

// asked is the status of an answer of a server, and how long it took; 0 when there was none.
func asked(ctx context.Context, verb, url, body string) (status int, took time.Duration) {
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, verb, url, strings.NewReader(body))
	if err != nil {
		return 0, 0
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, time.Since(began)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode, time.Since(began)
}

// A server that the network is split from its database says so within seconds, and lets
// nobody wait for an answer that does not come. When the database answers it goes on by itself.
func TestDatabaseAway(t *testing.T) {
	cable := dbtest.LayCable(t, dbtest.DirectURL(t))
	s, _ := startFor(t, "PORTICO_DATABASE_URL="+cable.URL, "PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_INVITE_REQUIRED=false",
		"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee")
	ctx := t.Context()
	methods := s.PublicURL.String() + "/xrpc/"
	signUp := func(n int) (string, string, string) {
		return http.MethodPost, methods + "com.atproto.server.createAccount",
			fmt.Sprintf(`{"handle":"who%d.test","email":"who%d@example.com","password":"correct horse"}`, n, n)
	}
	health := func() int { status, _ := asked(ctx, http.MethodGet, methods+"_health", ""); return status }
	ask := func(n int) (int, time.Duration) { verb, url, body := signUp(n); return asked(ctx, verb, url, body) }
	if status, _ := ask(0); status != 200 || health() != 200 {
		t.Fatalf("sign-up: %d", status)
	}

	cable.Cut()
	cut := time.Now()
	var waiting sync.WaitGroup
	for n := range 40 { // twice as many as there are connections
		waiting.Go(func() {
			status, took := ask(n + 1)
			if status < 500 || took > 20*time.Second {
				t.Errorf("a sign-up: %d after %v", status, took)
			}
		})
	}
	for health() == 200 {
		time.Sleep(10 * time.Millisecond)
		if time.Since(cut) > 15*time.Second {
			t.Fatal("healthy without a database")
		}
	}
	t.Logf("_health fails after %v", time.Since(cut))
	waiting.Wait()
	t.Logf("all were answered after %v", time.Since(cut))
	verb, url := http.MethodGet, methods+"com.atproto.sync.getLatestCommit?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	if status, took := asked(ctx, verb, url, ""); status < 500 || took > 2*time.Second {
		t.Errorf("a read: %d after %v", status, took)
	}

	cable.Mend()
	mended := time.Now()
	for health() != 200 {
		time.Sleep(10 * time.Millisecond)
		if time.Since(mended) > 15*time.Second {
			t.Fatal("not healthy again")
		}
	}
	t.Logf("healthy again after %v", time.Since(mended))
	if status, took := ask(1000); status != 200 {
		t.Errorf("a sign-up after it: %d after %v", status, took)
	}
}
