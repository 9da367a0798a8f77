package plc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/directory"
	"portico/impl/identity/plc"
)

// network leads to a directory, and misbehaves: each request takes the next of its
// faults, "" or none for none.
type network struct {
	directory http.Handler
	faults    []string
	requests  []string // method and path below the DID
}

func (n *network) RoundTrip(r *http.Request) (*http.Response, error) {
	path := "/"
	if parts := strings.SplitN(r.URL.Path[1:], "/", 2); len(parts) == 2 {
		path += parts[1]
	}
	n.requests = append(n.requests, r.Method+" "+path)
	fault := ""
	if len(n.faults) > 0 {
		fault, n.faults = n.faults[0], n.faults[1:]
	}
	answer := func(status int, body string) (*http.Response, error) {
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		_, _ = w.WriteString(body)
		return w.Result(), nil
	}
	through := func() *http.Response {
		w := httptest.NewRecorder()
		n.directory.ServeHTTP(w, r)
		return w.Result()
	}
	switch fault {
	case "":
		return through(), nil
	case "unreachable":
		return nil, errors.New("connection refused")
	case "refused connection":
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case "silent":
		<-r.Context().Done()
		return nil, r.Context().Err()
	case "answer lost":
		through()
		return nil, io.ErrUnexpectedEOF
	case "500 after acceptance":
		through()
		return answer(500, `{"message":"Internal Server Error"}`)
	case "502":
		return answer(502, "<html>")
	case "400":
		return answer(400, `{"message":"no"}`)
	case "400 after acceptance":
		through()
		return answer(400, `{"message":"no"}`)
	case "403 of a proxy":
		return answer(403, "<html>")
	case "404 of a proxy":
		return answer(404, "<html>")
	case "408", "429":
		return answer(map[string]int{"408": 408, "429": 429}[fault], "")
	case "410":
		return answer(410, `{"message":"gone"}`)
	case "redirect":
		w := httptest.NewRecorder()
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
		return w.Result(), nil
	case "junk":
		return answer(200, "junk")
	case "endless":
		return &http.Response{StatusCode: 200, Body: io.NopCloser(zeros{})}, nil
	default:
		panic(fault)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func newNetwork(faults ...string) (*network, *plc.Client) {
	d := directory.New(directory.NewMemory(), time.Now, "", slog.New(slog.DiscardHandler))
	n := &network{directory: d, faults: faults}
	return n, &plc.Client{URL: "http://plc.example/", HTTP: &http.Client{Transport: n}}
}

func key(t testing.TB) (*atcrypto.PrivateKeyK256, string) {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return k, public.DIDKey()
}

func genesis(t testing.TB) (syntax.DID, plc.Operation, *atcrypto.PrivateKeyK256) {
	t.Helper()
	k, public := key(t)
	op := plc.NewGenesis([]string{public}, public, "alice.test", "https://pds.example.com")
	if err := op.Sign(k); err != nil {
		t.Fatal(err)
	}
	did, err := plc.DID(op)
	if err != nil {
		t.Fatal(err)
	}
	return did, op, k
}

func TestReading(t *testing.T) {
	_, c := newNetwork()
	did, op, k := genesis(t)
	ctx := t.Context()
	if _, err := c.Last(ctx, did); !errors.Is(err, plc.ErrNotFound) || err.Error() != "PLC directory answered 404: DID not registered: "+did.String() {
		t.Errorf("unknown DID: %v", err)
	}
	if err := c.Submit(ctx, did, op); err != nil {
		t.Fatal(err)
	}
	var failed *plc.Error
	if err := c.Submit(ctx, did, op); !errors.As(err, &failed) || failed.Status != 400 || failed.Message != "Operations not correctly ordered" {
		t.Errorf("genesis repeated: %v", err)
	}
	if doc, err := c.Document(ctx, did); err != nil || string(doc) != string(plc.Document(did, op)) {
		t.Errorf("document: %s, %v", doc, err)
	}
	if d, err := c.Data(ctx, did); err != nil || d.Handle() != "alice.test" {
		t.Errorf("data: %v, %v", d, err)
	}
	last, err := c.Last(ctx, did)
	if err != nil {
		t.Fatal(err)
	}
	update, err := plc.Update(last, func(d *plc.Data) { d.SetHandle("bob.test") })
	if err != nil {
		t.Fatal(err)
	}
	if err := update.Sign(k); err != nil {
		t.Fatal(err)
	}
	if err := c.Submit(ctx, did, update); err != nil {
		t.Fatal(err)
	}
	if log, err := c.Log(ctx, did); err != nil || len(log) != 2 || log[1].Prev() == "" {
		t.Errorf("log: %v, %v", log, err)
	}
	audit, err := c.Audit(ctx, did)
	if err != nil || len(audit) != 2 {
		t.Fatalf("audit: %v, %v", audit, err)
	}
	if cid, _ := update.CID(); audit[1].CID != cid.String() || audit[1].DID != did || audit[1].CreatedAt.IsZero() {
		t.Errorf("audit entry: %v", audit[1])
	}
}

func TestReadingFailures(t *testing.T) {
	for _, tt := range []struct {
		fault    string
		status   int
		message  string
		notFound bool
	}{
		{"unreachable", 0, "", false},
		{"502", 502, "", false},
		{"410", 410, "gone", true},
		{"404 of a proxy", 404, "", true},
		{"redirect", 302, "", false},
		{"junk", 0, "", false},
		{"endless", 0, "", false},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			n, c := newNetwork(tt.fault)
			did, _, _ := genesis(t)
			_, err := c.Document(t.Context(), did)
			var failed *plc.Error
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if failed.Status != tt.status || failed.Message != tt.message || errors.Is(err, plc.ErrNotFound) != tt.notFound {
				t.Errorf("got %d %q, not found %v", failed.Status, failed.Message, errors.Is(err, plc.ErrNotFound))
			}
			if len(n.requests) != 1 {
				t.Errorf("requests: %v", n.requests)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := newNetwork("silent")
			did, _, _ := genesis(t)
			began := time.Now()
			_, err := c.Document(t.Context(), did)
			var failed *plc.Error
			if !errors.As(err, &failed) || failed.Status != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("gave up after %v", took)
			}
		})
	})
}

func TestRegister(t *testing.T) {
	const (
		post  = "POST /"
		audit = "GET /log/audit"
	)
	for _, tt := range []struct {
		name     string
		faults   []string
		want     string // accepted, refused, unknown
		requests []string
		took     time.Duration
	}{
		{"at once", nil, "accepted", []string{post}, 0},
		{"answer lost", []string{"answer lost"}, "accepted", []string{post, audit}, 0},
		{"500 after acceptance", []string{"500 after acceptance"}, "accepted", []string{post, audit}, 0},
		{"400 after acceptance", []string{"400 after acceptance"}, "accepted", []string{post, audit}, 0},
		{"no answer", []string{"silent"}, "accepted", []string{post, audit, post}, 5*time.Second + 200*time.Millisecond},
		{"unreachable for a while", []string{"unreachable", "unreachable", "502", "unreachable"}, "accepted",
			[]string{post, audit, post, audit, post}, 600 * time.Millisecond},
		{"refused", []string{"400"}, "refused", []string{post, audit}, 0},
		{"refused, audit comes late", []string{"400", "502", "silent"}, "refused",
			[]string{post, audit, audit, audit}, 5*time.Second + 600*time.Millisecond},
		{"refused by a proxy", []string{"403 of a proxy"}, "refused", []string{post, audit}, 0},
		{"too many requests", []string{"429"}, "accepted", []string{post, audit, post}, 200 * time.Millisecond},
		{"request timeout", []string{"408"}, "accepted", []string{post, audit, post}, 200 * time.Millisecond},
		{"a 404 that the directory did not give", []string{"400", "404 of a proxy"}, "refused",
			[]string{post, audit, audit}, 200 * time.Millisecond},
		{"400 to the second attempt", []string{"502", "", "400", "", "400", "", "400", "", "400", "", "400", "", "400", "", "400", "", "400", "", "400", "", "400"}, "unknown",
			nil, 20 * time.Second},
		{"never", slices.Repeat([]string{"unreachable"}, 100), "unknown", nil, 20 * time.Second},
		{"connection refused for a while", slices.Repeat([]string{"refused connection"}, 8), "accepted",
			slices.Repeat([]string{post, audit}, 5)[:9], 3 * time.Second},
		{"400 after refused connections", []string{"refused connection", "refused connection", "400"}, "refused",
			[]string{post, audit, post, audit}, 200 * time.Millisecond},
		{"connection refused", slices.Repeat([]string{"refused connection"}, 100), "unreachable", nil, 3 * time.Second},
		{"connection refused after it was once not", append([]string{"502"}, slices.Repeat([]string{"refused connection"}, 100)...),
			"unknown", nil, 20 * time.Second},
		{"silent for ever", slices.Repeat([]string{"silent"}, 100), "unknown", nil, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, c := newNetwork(tt.faults...)
				did, op, _ := genesis(t)
				ctx, cancel := context.WithCancel(t.Context())
				cancel() // the client has hung up: no reason to stop
				began := time.Now()
				err := c.Register(ctx, did, op)
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				var refused *plc.Refused
				got := "accepted"
				switch {
				case errors.As(err, &refused):
					got = "refused"
					if refused.Status < 400 || refused.Status > 499 || (refused.Status == 400 && refused.Message != "no") {
						t.Errorf("refused with %d %q", refused.Status, refused.Message)
					}
				case errors.Is(err, plc.ErrUnknown):
					got = "unknown"
				case errors.Is(err, plc.ErrUnreachable):
					got = "unreachable"
				case err != nil:
					got = err.Error()
				}
				if got != tt.want {
					t.Errorf("got %s (%v), want %s", got, err, tt.want)
				}
				if tt.requests != nil && !slices.Equal(n.requests, tt.requests) {
					t.Errorf("requests %q, want %q", n.requests, tt.requests)
				}
				n.faults = nil
				presence, err := c.Registered(t.Context(), did, op)
				if want := map[string]plc.Presence{"accepted": plc.Untouched}[tt.want]; err != nil || presence != want {
					t.Errorf("afterwards: %v, %v; want %v", presence, err, want)
				}
			})
		})
	}
}

func TestRegisterSleep(t *testing.T) {
	_, c := newNetwork("unreachable", "unreachable")
	stop := errors.New("stop")
	var slept time.Duration
	c.Backoff = time.Minute
	c.Sleep = func(_ context.Context, d time.Duration) error { slept = d; return stop }
	did, op, _ := genesis(t)
	if err := c.Register(t.Context(), did, op); !errors.Is(err, plc.ErrUnknown) || slept != time.Minute {
		t.Errorf("got %v after %v", err, slept)
	}
}

func TestRegistered(t *testing.T) {
	n, c := newNetwork()
	did, op, k := genesis(t)
	ctx := t.Context()
	want := func(presence plc.Presence) {
		t.Helper()
		if got, err := c.Registered(ctx, did, op); err != nil || got != presence {
			t.Errorf("got %v, %v; want %v", got, err, presence)
		}
	}
	submit := func(op plc.Operation) {
		t.Helper()
		if err := op.Sign(k); err != nil {
			t.Fatal(err)
		}
		if err := c.Submit(ctx, did, op); err != nil {
			t.Fatal(err)
		}
	}
	want(plc.Absent)
	if err := c.Submit(ctx, did, op); err != nil {
		t.Fatal(err)
	}
	want(plc.Untouched)
	update, err := plc.Update(op, func(d *plc.Data) { d.SetHandle("bob.test") })
	if err != nil {
		t.Fatal(err)
	}
	submit(update)
	want(plc.Superseded)
	tombstone, err := plc.NewTombstone(update)
	if err != nil {
		t.Fatal(err)
	}
	submit(tombstone)
	want(plc.Tombstoned)
	n.faults = []string{"400"}
	if err := c.Register(ctx, did, op); !errors.Is(err, plc.ErrTombstoned) {
		t.Errorf("register after a tombstone: %v", err)
	}
	for _, fault := range []string{"404 of a proxy", "502", "junk", "unreachable"} {
		n.faults = []string{fault}
		var failed *plc.Error
		if _, err := c.Registered(ctx, did, op); !errors.As(err, &failed) {
			t.Errorf("%s: got %v, want an *Error", fault, err)
		}
	}
	if _, err := c.Registered(ctx, did, plc.New(plc.Data{}, "")); !errors.Is(err, plc.ErrSignature) {
		t.Errorf("unsigned: %v", err)
	}
}

// TestRegisteredOddLog has a log in which an operation of a kind unknown here, and
// one that nullified ours.
func TestRegisteredOddLog(t *testing.T) {
	did, op, _ := genesis(t)
	cid, err := op.CID()
	if err != nil {
		t.Fatal(err)
	}
	var log string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, log) }))
	defer server.Close()
	c := &plc.Client{URL: server.URL}
	ours := func(nullified bool) string {
		b, err := json.Marshal(map[string]any{"cid": cid.String(), "operation": op, "nullified": nullified})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tt := range []struct {
		log  string
		want plc.Presence
	}{
		{"[]", plc.Absent},
		{`[{"cid":"x","operation":{"type":"plc_new","n":1.5}}]`, plc.Absent},
		{`[` + ours(false) + `]`, plc.Untouched},
		{`[` + ours(false) + `,{"cid":"x","operation":{"type":"plc_new","n":1.5}}]`, plc.Superseded},
		{`[` + ours(false) + `,{"cid":"x","operation":{"type":"plc_tombstone"},"nullified":true}]`, plc.Untouched},
		{`[` + ours(true) + `]`, plc.Superseded},
		{`[` + ours(true) + `,{"cid":"x","operation":{"type":"plc_operation"}}]`, plc.Superseded},
	} {
		log = tt.log
		if got, err := c.Registered(t.Context(), did, op); err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v; want %v", tt.log, got, err, tt.want)
		}
	}
}

// Requests that go side by side need a connection each, once: those are kept for all clients.
func TestConnectionsAreKept(t *testing.T) {
	const parallel = 8
	var opened atomic.Int32
	var arrived sync.WaitGroup
	var together atomic.Bool // each waits for the others
	d := directory.New(directory.NewMemory(), time.Now, "", slog.New(slog.DiscardHandler))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if together.Load() {
			arrived.Done()
			arrived.Wait()
		}
		d.ServeHTTP(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	ask := func() {
		client := &plc.Client{URL: server.URL}
		for _, did := range []syntax.DID{"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"} {
			if _, err := client.Last(t.Context(), did); !errors.Is(err, plc.ErrNotFound) {
				t.Errorf("unknown DID: %v", err)
			}
			if err := client.Submit(t.Context(), did, plc.Operation{"type": "plc_operation"}); err == nil {
				t.Error("an operation without a signature was taken")
			}
		}
	}
	ask()
	if n := opened.Load(); n != 1 {
		t.Errorf("one after the other opened %d connections, want 1", n)
	}

	wave := func(do func()) {
		var all sync.WaitGroup
		for range parallel {
			all.Go(do)
		}
		all.Wait()
	}
	arrived.Add(parallel)
	together.Store(true)
	wave(func() {
		_, _ = (&plc.Client{URL: server.URL}).Data(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	})
	together.Store(false)
	for range 10 {
		wave(ask)
	}
	if n := opened.Load(); n != parallel {
		t.Errorf("%d at a time opened %d connections, want %d", parallel, n, parallel)
	}
}
