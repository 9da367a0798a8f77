package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"portico/api/xrpc"
)

// How long a collector may take for what it is sent, at a stop for the last of it, and how often it is
// said that it takes nothing.
const (
	traceTimeout  = 10 * time.Second
	traceLastTime = 5 * time.Second
	traceSilence  = 10 * time.Minute
)

// traces says to a collector of OpenTelemetry where the time of requests goes. A span has names
// of methods and services, statuses and the request's ID: nothing that says who asked, for what, or
// of which account. What clients send as traceparent has no part in it, or strangers would decide what is
// traced, and nothing of it is sent to others.
//
// Spans wait in a queue of 2048. A collector that is slow or away costs those that do not fit, and
// nobody's time. A nil *traces does nothing.
type traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// newTraces returns the traces that s asks for, or nil.
func newTraces(ctx context.Context, s *settings, log *slog.Logger) (*traces, error) {
	if s.TracesURL == nil {
		return nil, nil
	}
	exporter := &otlp{url: s.TracesURL.JoinPath("v1/traces").String(), headers: s.TracesHeaders}
	about, err := resource.New(ctx, resource.WithFromEnv(), resource.WithAttributes(
		attribute.String("service.name", s.TracesName), attribute.String("service.version", s.Version)))
	if err != nil {
		return nil, fmt.Errorf("traces (OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	otel.SetErrorHandler(&lossReport{log: log, now: time.Now})
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithExportTimeout(traceTimeout)), sdktrace.WithResource(about), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(s.TracesShare))),
	)
	return &traces{p, p.Tracer("portico")}, nil
}

// stop sends what waits, as far as there is time.
func (t *traces) stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceLastTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// lossReport says in the log that spans are lost, now and then.
type lossReport struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	next time.Time
}

// Handle implements [otel.ErrorHandler].
func (r *lossReport) Handle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); !now.Before(r.next) {
		r.next = now.Add(traceSilence)
		r.log.Warn("traces could not be sent to the collector (OTEL_EXPORTER_OTLP_ENDPOINT)", "error", err)
	}
}

// begin begins the span of a request. Its name is known at the end.
func (t *traces) begin(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	ctx, _ = t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer), trace.WithNewRoot())
	return ctx
}

// end ends it.
func (t *traces) end(ctx context.Context, c *xrpc.Call, method string, status int) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(method)
	span.SetAttributes(attribute.String("http.request.method", usualVerb(c.Request.Method)), attribute.Int("http.response.status_code", status),
		attribute.String("portico.request", c.ID()))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// usualVerb is a verb that clients cannot make up.
func usualVerb(verb string) string {
	switch verb {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return verb
	}
	return "_OTHER"
}

// done is something that is over.
type done struct {
	name     string
	outgoing bool   // a request to others
	verb     string // of one by HTTP
	status   int    // of its answer, 0 without one
	began    time.Time
	took     time.Duration
	failed   bool
}

// within adds what was done to the request that ctx is of, if that is traced.
func (t *traces) within(ctx context.Context, d done) {
	if t != nil && trace.SpanFromContext(ctx).IsRecording() {
		t.add(ctx, d)
	}
}

// alone is within for what no request waits for.
func (t *traces) alone(ctx context.Context, d done) {
	if t != nil {
		t.add(ctx, d)
	}
}

func (t *traces) add(ctx context.Context, d done) {
	kind := trace.SpanKindInternal
	if d.outgoing {
		kind = trace.SpanKindClient
	}
	_, span := t.tracer.Start(ctx, d.name, trace.WithTimestamp(d.began), trace.WithSpanKind(kind))
	if d.verb != "" {
		span.SetAttributes(attribute.String("http.request.method", usualVerb(d.verb)), attribute.Int("http.response.status_code", d.status))
	}
	if d.failed || d.verb != "" && (d.status == 0 || d.status >= http.StatusInternalServerError) {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(d.began.Add(d.took)))
}

// parseHeaders reads headers as OpenTelemetry has them in a variable.
func parseHeaders(text string) (map[string]string, error) {
	headers := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || err != nil {
			return nil, errors.New("is not name=value, several with commas between")
		}
		headers[name] = value
	}
	return headers, nil
}
