//go:build !race

// The race detector allocates too.

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"portico/impl/identity/directory"
)

// A resident is an account of a server in this process, which is called without a network.
type resident struct {
	testing.TB
	http.Handler
	did, access, refresh string
}

// settle starts a server as it is in production, but that it has a directory of its own,
// and signs an account up.
func settle(t testing.TB) *resident {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := configuration{Rand: rand.Reader, Now: time.Now, Environ: with(production,
		"PDS_DATA_DIRECTORY="+t.TempDir(), "PDS_INVITE_REQUIRED=false", "PORTICO_LOG_LEVEL=warn", "PORTICO_SQLITE_SYNCHRONOUS=NORMAL",
	)}
	s, err := c.read()
	check(err)
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: s.LogLevel}))
	store, err := openData(t.Context(), c, s, nil, log)
	check(err)
	t.Cleanup(func() { check(store.Close()) })
	keys, err := openKeys(t.Context(), s, store)
	check(err)
	plc := httptest.NewServer(directory.New(plcStore{store}, time.Now, s.Version, log))
	t.Cleanup(plc.Close)
	reloads, err := newReloader(c, s, &serverLog{Logger: log}, nil)
	check(err)
	p, err := wire(t.Context(), s, reloads, store, keys, plc.URL, log)
	check(err)
	r := &resident{TB: t, Handler: p.echo}
	var in struct{ DID, AccessJWT, RefreshJWT string }
	check(json.Unmarshal(r.call("POST", "com.atproto.server.createAccount", "",
		`{"handle":"alice.pds.example.com","email":"alice@example.com","password":"correct horse battery"}`, 200), &in))
	r.did, r.access, r.refresh = in.DID, in.AccessJWT, in.RefreshJWT
	return r
}

// call returns what a method answers with a status.
func (r *resident) call(verb, method, token, body string, status int) []byte {
	r.Helper()
	w := httptest.NewRecorder()
	r.ServeHTTP(w, request(verb, method, token, body))
	if w.Code != status {
		r.Fatalf("%s: %d %s", method, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func request(verb, method, token, body string) *http.Request {
	req := httptest.NewRequest(verb, "/xrpc/"+method, strings.NewReader(body))
	req.RemoteAddr = "203.0.113.9:1000"
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body = http.NoBody
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// A quiet response keeps nothing, so that it allocates nothing.
type quiet struct {
	header http.Header
	status int
}

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(status int)      { q.status = status }
func (q *quiet) Write(b []byte) (int, error) { return len(b), nil }

// A watchedRequest is one whose allocations are counted.
type watchedRequest struct {
	name, verb, method, token, body string
	status                          int
	allocations                     int // as the test found them; who raises one says beside it why
}

func (r *resident) requests() []watchedRequest {
	record := `{"repo":"` + r.did + `","collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post","text":"hello","createdAt":"2026-01-02T03:04:05Z"}}`
	var made struct{ URI string }
	if err := json.Unmarshal(r.call("POST", "com.atproto.repo.createRecord", r.access, record, 200), &made); err != nil {
		r.Fatal(err)
	}
	key := made.URI[strings.LastIndexByte(made.URI, '/')+1:]
	for n := range 3 {
		r.call("POST", "com.atproto.server.createAppPassword", r.access, fmt.Sprintf(`{"name":"app %d"}`, n), 200)
	}
	in := "?repo=" + r.did + "&collection=app.bsky.feed.post"
	const server, repo = "com.atproto.server.", "com.atproto.repo."
	return []watchedRequest{
		{"health", "GET", "_health", "", "", 200, 9},
		{"describeServer", "GET", server + "describeServer", "", "", 200, 9},
		{"unknown method", "GET", "com.example.unknown", "", "", 400, 11},
		{"bad token", "GET", server + "getSession", r.access + "x", "", 400, 110}, // whether it is an app's is looked at, which clients are told
		{"getSession", "GET", server + "getSession", r.access, "", 200, 21},
		{"getServiceAuth", "GET", server + "getServiceAuth?aud=did:web:other.example.com&lxm=com.example.method", r.access, "", 200, 66},
		{"listAppPasswords", "GET", server + "listAppPasswords", r.access, "", 200, 66},
		{"checkAccountStatus", "GET", server + "checkAccountStatus", r.access, "", 200, 64},
		{"refreshSession", "POST", server + "refreshSession", r.refresh, "", 200, 291},
		{"resolveHandle", "GET", "com.atproto.identity.resolveHandle?handle=alice.pds.example.com", "", "", 200, 72},
		{"getRecord", "GET", repo + "getRecord" + in + "&rkey=" + key, "", "", 200, 79},
		{"listRecords", "GET", repo + "listRecords" + in, "", "", 200, 81},
		{"putRecord", "POST", repo + "putRecord", r.access, strings.Replace(record, `"record"`, `"rkey":"`+key+`","record"`, 1), 200, 171},
		{"createRecord", "POST", repo + "createRecord", r.access, record, 200, 413},
	}
}

// serve answers a request that is the same each time, but for its body, which is read.
func (r *resident) serve(w watchedRequest) func() {
	req := request(w.verb, w.method, w.token, w.body)
	body := bytes.NewReader(nil)
	var answer quiet
	return func() {
		if w.body != "" {
			body.Reset([]byte(w.body))
			req.Body = io.NopCloser(body)
		}
		answer = quiet{header: make(http.Header)}
		r.ServeHTTP(&answer, req)
		if answer.status != w.status {
			r.Fatalf("%s: answered %d", w.name, answer.status)
		}
	}
}

// TestAllocations holds what a request allocates against a figure: time can't be asserted on
// machines that others use too, this can. All is warm, and no collection empties a pool.
func TestAllocations(t *testing.T) {
	r := settle(t)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, w := range r.requests() {
		serve := r.serve(w)
		for range 20 {
			serve()
		}
		got := int(testing.AllocsPerRun(100, serve))
		slack := max(4, w.allocations/8)
		switch {
		case got > w.allocations+slack:
			t.Errorf("%s: %d allocations, want no more than %d and %d of slack: find out what is made anew for each request (go test ./cmd/portico "+
				"-run xxx -bench 'Requests/%s' -memprofile mem -memprofilerate 1, then go tool pprof -sample_index=alloc_objects mem); what has to be so "+
				"raises the figure, with the reason beside it", w.name, got, w.allocations, slack, strings.ReplaceAll(w.name, " ", "-"))
		case got < w.allocations*6/10:
			t.Errorf("%s: %d allocations, the figure says %d: lower it, so that they stay saved", w.name, got, w.allocations)
		}
	}
}

// BenchmarkRequests answers requests without a network.
func BenchmarkRequests(b *testing.B) {
	r := settle(b)
	for _, w := range r.requests() {
		b.Run(strings.ReplaceAll(w.name, " ", "-"), func(b *testing.B) {
			serve := r.serve(w)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}
