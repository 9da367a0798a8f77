package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that moves when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newSet(t testing.TB) (*Set, *clock) {
	t.Helper()
	c := &clock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s := New(Config{Version: "1.2.3", Budgets: []string{"mails"}, Now: c.now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	s.Methods([]string{"com.example.get", "com.example.put"})
	return s, c
}

// shown are the series of portico that s shows, each with its value.
func shown(t testing.TB, s *Set, c *clock) map[string]string {
	t.Helper()
	c.pass(fresh)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	series := make(map[string]string)
	for line := range strings.Lines(w.Body.String()) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); strings.HasPrefix(line, prefix) {
			if !ok {
				name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
			} else {
				name += "}"
			}
			series[name] = value
		}
	}
	return series
}

func TestWhatIsTold(t *testing.T) {
	s, c := newSet(t)
	s.RequestBegan()
	s.RequestBegan()
	s.RequestEnded("com.example.get", Query, 200, 3*time.Millisecond)
	s.RequestBegan()
	s.RequestEnded("com.example.get", Proxied, 502, time.Second)
	s.Wrote(t.Context(), c.now(), time.Millisecond, nil)
	s.Wrote(t.Context(), c.now(), time.Millisecond, errors.New("no"))
	s.Committed(time.Millisecond)
	s.Mailed("sent", time.Second)
	s.Passed("appview", 204, time.Second)
	s.Passed("appview", 0, time.Second)
	s.Ran("blobs", 2*time.Second, nil)
	c.pass(time.Hour)
	s.Ran("blobs", 3*time.Second, errors.New("no"))
	s.Asked(true, 400, time.Second)
	s.Uploaded("stored", 100)
	s.Stored("PUT", 503, time.Second)
	s.Refused("mails/apps")
	got := shown(t, s, c)
	for series, want := range map[string]string{
		`portico_build_info{version="1.2.3"}`:                                            "1",
		`portico_requests_in_flight`:                                                     "1",
		`portico_requests_total{code="200",method="com.example.get"}`:                    "1",
		`portico_requests_total{code="502",method="com.example.get"}`:                    "1",
		`portico_request_seconds_total{method="com.example.get"}`:                        "1.003",
		`portico_request_duration_seconds_bucket{kind="query",le="0.001"}`:               "0",
		`portico_request_duration_seconds_bucket{kind="query",le="0.005"}`:               "1",
		`portico_request_duration_seconds_count{kind="proxied"}`:                         "1",
		`portico_database_writes_total{outcome="committed"}`:                             "1",
		`portico_database_writes_total{outcome="failed"}`:                                "1",
		`portico_database_write_duration_seconds_count`:                                  "2",
		`portico_database_commit_duration_seconds_count`:                                 "1",
		`portico_mail_attempts_total{outcome="sent"}`:                                    "1",
		`portico_proxy_requests_total{code="2xx",service="appview"}`:                     "1",
		`portico_proxy_requests_total{code="none",service="appview"}`:                    "1",
		`portico_job_runs_total{name="blobs",outcome="succeeded"}`:                       "1",
		`portico_job_runs_total{name="blobs",outcome="failed"}`:                          "1",
		`portico_job_last_success_timestamp_seconds{name="blobs"}`:                       "1.767323045e+09",
		`portico_job_last_duration_seconds{name="blobs"}`:                                "3",
		`portico_directory_requests_total{code="4xx",operation="write"}`:                 "1",
		`portico_blob_upload_bytes_total`:                                                "100",
		`portico_blob_store_requests_total{code="5xx",verb="PUT"}`:                       "1",
		`portico_budget_refusals_total{budget="mails"}`:                                  "1",
		`portico_proxy_request_duration_seconds_bucket{service="appview",le="0.25"}`:     "0",
		`portico_directory_request_duration_seconds_bucket{operation="write",le="+Inf"}`: "1",
	} {
		if got[series] != want {
			t.Errorf("%s is %q, want %s", series, got[series], want)
		}
	}
}

// What strangers choose makes no series of its own: a method, a status and a budget have a
// bound, whatever they are.
func TestBound(t *testing.T) {
	s, c := newSet(t)
	for status := -1; status < 700; status++ {
		for kind := range kinds {
			for _, method := range []string{"com.example.get", fmt.Sprint("made.up", status), strings.Repeat("x", 1000), "\xff"} {
				s.RequestBegan()
				s.RequestEnded(method, Kind(kind), status, time.Second)
			}
		}
		s.Passed("other", status, time.Second)
		s.Asked(false, status, time.Second)
		s.Stored("GET", status, time.Second)
		s.Refused(fmt.Sprint("made up ", status))
	}
	n, label := 0, regexp.MustCompile(`made|xx{3}|\xff`)
	for series := range shown(t, s, c) {
		n++
		if label.MatchString(series) {
			t.Errorf("there is %s", series)
		}
	}
	most := 2*(len(columns)+1) + len(kinds)*(len(quick)+3) + 4*6 + 4*(len(slow)+3) + 2*(len(quick)+3) + 10
	if n > most {
		t.Errorf("there are %d series, want %d at most", n, most)
	}
}

// Telling takes no memory.
func TestNoMemory(t *testing.T) {
	s, c := newSet(t)
	err := errors.New("no")
	if n := testing.AllocsPerRun(100, func() {
		s.RequestBegan()
		s.RequestEnded("com.example.get", Query, 200, time.Millisecond)
		s.RequestBegan()
		s.RequestEnded("made up", Other, 404, time.Millisecond)
		s.Wrote(t.Context(), c.at, time.Millisecond, err)
		s.Committed(time.Millisecond)
	}); n != 0 {
		t.Errorf("it takes %v allocations", n)
	}
}

// Whoever looks often, and how many there are, the values are looked up once in a second.
func TestManyLook(t *testing.T) {
	s, c := newSet(t)
	looks := 0
	s.Add(Look{
		Metrics: []Metric{{Name: "a", Help: "A."}, {Name: "b_total", Help: "B.", Labels: []string{"x"}}},
		Values: func(set func(string, float64, ...string)) {
			looks++
			set("a", float64(looks))
			set("b_total", 7, "y")
		},
	})
	s.log = slog.New(slog.DiscardHandler)
	get := func() []byte {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Body.Bytes()
	}
	get()
	c.pass(fresh)
	first := get()
	c.pass(fresh / 2)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 1000 {
				if !bytes.Equal(get(), first) {
					t.Error("the text is another one")
					return
				}
			}
		})
	}
	all.Wait()
	if looks != 2 {
		t.Errorf("they were looked up %d times", looks)
	}
	c.pass(fresh)
	if text := string(get()); looks != 3 || !strings.Contains(text, "# TYPE portico_a gauge\nportico_a 3\n") || !strings.Contains(text, "# TYPE portico_b_total counter\nportico_b_total{x=\"y\"} 7\n") {
		t.Errorf("after a second, %d looks:\n%s", looks, text)
	}
}

func BenchmarkRequest(b *testing.B) {
	s, _ := newSet(b)
	b.ReportAllocs()
	for b.Loop() {
		s.RequestBegan()
		s.RequestEnded("com.example.get", Query, 200, time.Millisecond)
	}
}

func BenchmarkLook(b *testing.B) {
	s, c := newSet(b)
	for range 100 {
		s.RequestEnded("com.example.get", Query, 200, time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.pass(fresh)
		shown(b, s, c)
	}
}
