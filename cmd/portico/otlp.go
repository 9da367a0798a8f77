package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// otlp sends spans to a collector: OTLP over HTTP, as JSON. Ours because OpenTelemetry's own
// exporter is linked with gRPC, which takes 5 MB of memory of every server that has no collector.
type otlp struct {
	url     string
	headers map[string]string
}

// What OTLP calls what is sent.
type (
	otlpRequest struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	otlpResource struct {
		Resource struct {
			Attributes []otlpAttribute `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []otlpScope `json:"scopeSpans"`
	}
	otlpScope struct {
		Scope struct {
			Name string `json:"name"`
		} `json:"scope"`
		Spans []otlpSpan `json:"spans"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		Parent     string          `json:"parentSpanId,omitzero"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes,omitzero"`
		Status     struct {
			Code int `json:"code,omitzero"`
		} `json:"status,omitzero"`
	}
	otlpAttribute struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

// otlpFailed is the code of a span that failed.
const otlpFailed = 2

// ExportSpans implements [sdktrace.SpanExporter]. It is tried once: what a collector that is away
// does not get is lost.
func (o *otlp) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	var about otlpResource
	about.Resource.Attributes = otlpAttributes(spans[0].Resource().Attributes()) // all are of one provider
	scope := otlpScope{Spans: make([]otlpSpan, len(spans))}
	scope.Scope.Name = "portico"
	for i, s := range spans {
		at := s.SpanContext()
		span := otlpSpan{
			TraceID: at.TraceID().String(), SpanID: at.SpanID().String(), Name: s.Name(), Kind: int(s.SpanKind()),
			Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10), Attributes: otlpAttributes(s.Attributes()),
		}
		if parent := s.Parent(); parent.HasSpanID() {
			span.Parent = parent.SpanID().String()
		}
		if s.Status().Code == codes.Error {
			span.Status.Code = otlpFailed
		}
		scope.Spans[i] = span
	}
	about.ScopeSpans = []otlpScope{scope}
	body, err := json.Marshal(otlpRequest{[]otlpResource{about}})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range o.headers {
		r.Header.Set(name, value)
	}
	answer, err := collectorClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %d to %d spans", answer.StatusCode, len(spans))
	}
	return nil
}

// Shutdown implements [sdktrace.SpanExporter].
func (o *otlp) Shutdown(context.Context) error {
	collectorClient.CloseIdleConnections()
	return nil
}

// collectorClient follows no redirects: the headers are for the collector alone.
var collectorClient = &http.Client{
	Transport:     http.DefaultTransport.(*http.Transport).Clone(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func otlpAttributes(all []attribute.KeyValue) []otlpAttribute {
	list := make([]otlpAttribute, len(all))
	for i, a := range all {
		value := map[string]any{"stringValue": a.Value.String()}
		if a.Value.Type() == attribute.INT64 {
			value = map[string]any{"intValue": a.Value.String()}
		}
		list[i] = otlpAttribute{string(a.Key), value}
	}
	return list
}
