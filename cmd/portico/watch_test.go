package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/metrics"
)

// described are all metrics of a server.
func described() []metrics.Described {
	m := metrics.New(metrics.Config{Version: "1", Budgets: budgetKinds(), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	m.Methods(nil)
	m.Add(metrics.Look{Metrics: shownFigures})
	m.Add(metrics.Look{Metrics: shownBacklog})
	return m.Describe()
}

// METRICS.md has each metric with its type and meaning: dashboards and rules of others depend on
// these names.
func TestReadmeOfMetrics(t *testing.T) {
	const path = "METRICS.md"
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, m := range described() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, m.Help)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, table, ok := strings.Cut(string(text), "| metric |")
	if !ok {
		t.Fatalf("%s has no table", path)
	}
	table = "| metric |" + table
	if *update {
		if err := os.WriteFile(path, []byte(before+b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(b.String(), table); diff != "" {
		t.Errorf("%s differs from what is counted; `go test ./cmd/portico -run Readme -update` mends it:\n%s", path, diff)
	}
}

// series are those of portico that a server shows, each once.
func series(t *testing.T, address string) map[string]string {
	t.Helper()
	status, text := askFor(t, http.MethodGet, address, metricsPath, address)
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	all := make(map[string]string)
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "portico_") {
			i := strings.LastIndexByte(strings.TrimSpace(line), ' ')
			all[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return all
}

// A server shows all that it says it does, and nothing that a stranger has chosen.
func TestMetrics(t *testing.T) {
	metricsPort := freePort(t)
	address := fmt.Sprint("127.0.0.1:", metricsPort)
	s, _ := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PLC_PORT=0", "PORTICO_METRICS_BIND="+address)
	public := fmt.Sprint("127.0.0.1:", s.Port)
	if status, _ := askFor(t, http.MethodGet, public, metricsPath, public); status != 404 {
		t.Errorf("%s is served to everybody: %d", metricsPath, status)
	}
	asked := 1 // above
	ask := func(name string) {
		for _, verb := range []string{"GET", "POST", "DELETE", "BREW"} {
			for _, path := range []string{
				"/" + name, "/xrpc/" + name, "/xrpc/com.example." + name, "/xrpc/com.atproto.sync.getRepo?did=did:plc:" + name,
				"/xrpc/com.atproto.server.describeServer?" + name, "/account/" + name, "/xrpc/_health", "/XRPC/com.atproto.server.describeserver/",
			} {
				asked++
				askFor(t, verb, public, path, name+".example.com", "User-Agent", name, "X-Request-Id", name, "Atproto-Proxy", "did:web:"+name+".example.com#"+name,
					"X-Forwarded-For", "203.0.113."+fmt.Sprint(len(name)))
			}
		}
	}
	ask("zzfirst")
	// Who asked is answered before the request is counted.
	settle := func(asked int) (now map[string]string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			now = series(t, address)
			counted := 0
			for name, value := range now {
				if strings.HasPrefix(name, "portico_requests_total{") {
					n, _ := strconv.Atoi(value)
					counted += n
				}
			}
			if counted == asked && now["portico_requests_in_flight"] == "0" {
				return now
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d requests were counted, and %s are under way", counted, asked, now["portico_requests_in_flight"])
			}
		}
	}
	before := settle(asked)
	for i := range 10 {
		ask(fmt.Sprint("zz", strings.Repeat("y", i)))
	}
	after := settle(asked)
	for name := range after {
		if _, ok := before[name]; !ok && !strings.HasPrefix(name, "portico_job_") { // which begin by themselves
			t.Errorf("%s came by asking", name)
		}
		if strings.Contains(name, "zz") || strings.Contains(name, "203.0.113") {
			t.Errorf("%s has what somebody sent", name)
		}
	}
	for _, name := range []string{"portico_healthy", "portico_accounts{state=\"active\"}", "portico_firehose_last_seq", "portico_data_free_bytes", `portico_database_file_bytes{file="log"}`} {
		if _, ok := after[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if after["portico_healthy"] != "1" || after[`portico_requests_total{code="200",method="_health"}`] == "" || after[`portico_requests_total{code="200",method="com.atproto.server.describeServer"}`] == "" {
		t.Errorf("healthy %s, %v", after["portico_healthy"], after)
	}
	known := make(map[string]bool)
	for _, m := range described() {
		known[m.Name] = true
	}
	for name := range after {
		name, _, _ = strings.Cut(name, "{")
		if !known[name] && !known[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")] {
			t.Errorf("%s is not described", name)
		}
	}
}

// A default that somebody else has keeps no server from starting, and off is off.
func TestNoMetrics(t *testing.T) {
	at := func(environ ...string) *settings {
		t.Helper()
		s, err := configuration{Environ: with(production, environ...), Now: time.Now}.read()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := at(); s.MetricsBind.String() != "127.0.0.1:2584" || s.MetricsGiven {
		t.Errorf("by default at %s, given %t", s.MetricsBind, s.MetricsGiven)
	}
	if s := at("PORTICO_METRICS_BIND=off"); s.MetricsBind.IsValid() {
		t.Errorf("off is %s", s.MetricsBind)
	}
	taken := takenPort(t)
	s := at(fmt.Sprint("PDS_PORT=", freePort(t)), fmt.Sprint("PORTICO_METRICS_BIND=127.0.0.1:", taken), "PORTICO_BIND=127.0.0.1")
	s.MetricsGiven = false
	l, err := listen(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if l.metrics != nil || !strings.Contains(l.warning, fmt.Sprint("127.0.0.1:", taken)) {
		t.Errorf("it warns %q", l.warning)
	}
	if newMetrics(s, l, slog.New(slog.DiscardHandler)) != nil {
		t.Error("what nobody sees is counted")
	}
}

// counter counts how often it is asked, each time so long.
type slowStore struct {
	clock *time.Time
	takes time.Duration
	err   error
	asked int
}

func (s *slowStore) Backlog(context.Context) (db.Backlog, error) {
	s.asked++
	*s.clock = s.clock.Add(s.takes)
	return db.Backlog{Accounts: map[string]int{db.CountedActive: s.asked}, Mails: 1, Oldest: time.Unix(900, 0)}, s.err
}

// Counting is done once a minute, less often where it takes long, and what was counted stays
// when it fails.
func TestBacklogIsKept(t *testing.T) {
	now := time.Unix(1000, 0)
	store := &slowStore{clock: &now}
	b := &backlog{store: store, now: func() time.Time { return now }, log: slog.New(slog.DiscardHandler)}
	look := func() map[string]float64 {
		got := make(map[string]float64)
		b.show(func(name string, v float64, labels ...string) { got[strings.Join(append(labels, name), " ")] = v })
		return got
	}
	for range 1000 {
		if got := look(); got["active accounts"] != 1 || got["mail_oldest_seconds"] != 100 || got["counts_timestamp_seconds"] != 1000 {
			t.Fatal(got)
		}
	}
	store.takes = 2 * time.Second
	now = now.Add(backlogEvery)
	look()
	now = now.Add(200*time.Second - 3*time.Second)
	if look(); store.asked != 2 {
		t.Errorf("asked %d times", store.asked)
	}
	now = now.Add(3 * time.Second)
	store.err = errors.New("no")
	if got := look(); store.asked != 3 || got["active accounts"] != 2 {
		t.Errorf("after %d, %v", store.asked, got)
	}
	if got := (&backlog{store: store, now: time.Now, log: b.log}); true {
		empty := 0
		got.show(func(string, float64, ...string) { empty++ })
		if empty != 0 {
			t.Errorf("%d values without a count", empty)
		}
	}
}

func TestUploadOutcomes(t *testing.T) {
	for err, want := range map[error]string{
		nil: uploadStored, fmt.Errorf("x: %w", blob.ErrTooLarge): uploadRefused, context.Canceled: uploadRefused,
		blob.ErrFull: uploadFailed, blob.ErrTimeout: uploadFailed, errors.New("disk"): uploadFailed,
	} {
		if got := uploadOutcome(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}
