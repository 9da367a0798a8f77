package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// collecting is a collector of OpenTelemetry.
type collecting struct {
	testing.TB
	url string

	mu      sync.Mutex
	spans   []sentSpan
	text    strings.Builder // all that was sent
	headers []http.Header
}

func newCollecting(t testing.TB) *collecting {
	t.Helper()
	c := &collecting{TB: t}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *collecting) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	var in struct {
		ResourceSpans []struct{ ScopeSpans []struct{ Spans []sentSpan } }
	}
	if err := errors.Join(err, json.Unmarshal(body, &in)); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		c.Errorf("%s: %v", r.URL, err)
		return
	}
	for _, r := range in.ResourceSpans {
		for _, s := range r.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
	c.headers = append(c.headers, r.Header.Clone())
	c.text.Write(body)
}

// sentSpan is a span as the specification of OTLP has it in JSON.
type sentSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  int64 `json:",string"`
	Links                               []any
}

// A traced request says what the time went into, and nothing of who asked for what.
func TestTraces(t *testing.T) {
	c := newCollecting(t)
	s, stop := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PLC_PORT=0",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20abc,x-other=1", "OTEL_SERVICE_NAME=mine")
	const stranger = "11112222333344445555666677778888"
	url := fmt.Sprintf("http://localhost:%d", s.Port)
	for _, ask := range []struct{ verb, path, body string }{
		{"POST", "/xrpc/com.atproto.server.createAccount", `{"handle":"zzalice.test","email":"zzalice@mail.test","password":"zz correct horse"}`},
		{"GET", "/xrpc/com.atproto.identity.resolveHandle?handle=zzalice.test", ""},
		{"BREW", "/zzpath", ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), ask.verb, url+ask.path, strings.NewReader(ask.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Traceparent", "00-"+stranger+"-1111222233334444-01")
		r.Header.Set("Baggage", "zzkey=zzvalue")
		r.Header.Set("User-Agent", "zzagent")
		r.Header.Set("X-Forwarded-For", "203.0.113.77")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if ask.verb == "POST" && answer.StatusCode != 200 {
			t.Fatalf("%d %s", answer.StatusCode, body)
		}
	}
	stop() // which sends what waits
	c.mu.Lock()
	defer c.mu.Unlock()
	var request *sentSpan
	for _, span := range c.spans {
		if span.Name == "com.atproto.server.createAccount" {
			request = &span
		}
		if len(span.TraceID) != 32 || len(span.SpanID) != 16 || span.TraceID == stranger || len(span.Links) > 0 {
			t.Errorf("%s is of a trace that a client chose", span.Name)
		}
	}
	if request == nil || request.Kind != 2 || request.ParentSpanID != "" {
		t.Fatalf("of the request there is %v", request)
	}
	var within []string
	for _, span := range c.spans {
		if span.ParentSpanID == request.SpanID {
			within = append(within, span.Name)
			if span.StartTimeUnixNano < request.StartTimeUnixNano || span.EndTimeUnixNano < span.StartTimeUnixNano || span.TraceID != request.TraceID {
				t.Errorf("%v is not within %v", span, request)
			}
		}
	}
	for _, name := range []string{"database write", "directory"} {
		if !slices.Contains(within, name) {
			t.Errorf("%s is missing among %v", name, within)
		}
	}
	text := c.text.String()
	for _, want := range []string{`"mine"`, `"page"`, `"_OTHER"`, `"com.atproto.identity.resolveHandle"`, "portico.request"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s was not sent", want)
		}
	}
	for _, secret := range []string{"zz", "203.0.113", "127.0.0.1", "did:", "BREW", "localhost"} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s was sent: …%s…", secret, text[max(0, i-100):min(len(text), i+100)])
		}
	}
	if len(c.headers) == 0 || c.headers[0].Get("Authorization") != "Bearer abc" || c.headers[0].Get("X-Other") != "1" {
		t.Errorf("it was sent with %v", c.headers)
	}
}

// Of a share of none there is nothing.
func TestTracesOfNone(t *testing.T) {
	c := newCollecting(t)
	s, stop := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PLC_PORT=0", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_TRACES_SAMPLER_ARG=0")
	at := fmt.Sprint("localhost:", s.Port)
	askFor(t, "GET", at, "/xrpc/com.atproto.server.describeServer", at, "Traceparent", "00-11112222333344445555666677778888-1111222233334444-01")
	stop()
	if len(c.spans) > 0 {
		t.Errorf("%v was sent", c.spans)
	}
}

// A collector that does not answer holds nobody up, and a stop not for long; what is lost is said once.
func TestCollectorThatHangs(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	s, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), "OTEL_EXPORTER_OTLP_ENDPOINT=" + hanging.URL}, Now: time.Now}.read()
	if err != nil {
		t.Fatal(err)
	}
	var log lockedText
	tr, err := newTraces(t.Context(), s, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 50_000 { // a queue has 2048
		tr.alone(context.Background(), done{name: "x", began: began})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("50,000 spans took %s", took)
	}
	stopping := time.Now()
	tr.stop(t.Context())
	if took := time.Since(stopping); took > traceLastTime+5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "could not be sent") {
		t.Errorf("the log has %s", log.String())
	}
}

// lockedText may be written by several.
type lockedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Without a collector there is nothing to call, and nothing costs memory.
func TestNoTraces(t *testing.T) {
	var none *traces
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if none.begin(ctx) != ctx {
			t.Error("another context")
		}
		none.end(ctx, nil, "", 200)
		none.within(ctx, done{name: "x"})
		none.alone(ctx, done{name: "x"})
		none.stop(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for text, want := range map[string]string{"a=b": "map[a:b]", " a = b%20c ,d=e=f": "map[a:b c d:e=f]", "a": "error", "=b": "error", "a=%zz": "error"} {
		got, err := parseHeaders(text)
		if shown := fmt.Sprint(got); err == nil && shown != want || (err != nil) != (want == "error") {
			t.Errorf("%q: %s, %v", text, shown, err)
		}
	}
}
