package xrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// busyHost answers what the headers of the steps say, and after them a success.
type busyHost struct {
	steps  []string // "429 Retry-After: 3", "broken"
	asked  int
	bodies []string
}

func (b *busyHost) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.bodies = append(b.bodies, string(body))
	step := ""
	if b.asked < len(b.steps) {
		step = b.steps[b.asked]
	}
	b.asked++
	if step == "broken" {
		breakLine(w)
		return
	}
	if step == "" {
		io.WriteString(w, `{"size":1,"type":"x"}`)
		return
	}
	var status int
	code, header, _ := strings.Cut(step, " ")
	fmt.Sscan(code, &status)
	if name, value, ok := strings.Cut(header, ": "); ok {
		w.Header().Set(name, value)
	}
	refuse(w, status, "Busy")
}

// 10:00 of a day
var morning = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

func TestRetries(t *testing.T) {
	year := 365 * 24 * time.Hour
	for _, tt := range []struct {
		name  string
		steps []string
		waits string
		ok    bool
		asked int
		retry Retry
	}{
		{name: "no patience", steps: []string{"429 Retry-After: 1"}, asked: 1},
		{name: "seconds", steps: []string{"429 Retry-After: 3", "503 Retry-After: 0"}, waits: "3s 0s", ok: true, asked: 3, retry: Retry{Most: 2}},
		{name: "bounded", steps: []string{"429 Retry-After: 3", "429 Retry-After: 3", "429 Retry-After: 3"}, waits: "3s 3s", asked: 3, retry: Retry{Most: 2}},
		{name: "a date", steps: []string{"503 Retry-After: Sun, 01 Mar 2026 10:00:20 GMT"}, waits: "20s", ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "a date that is over", steps: []string{"503 Retry-After: Sun, 01 Mar 2026 09:00:20 GMT"}, waits: "0s", ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "reset at a time", steps: []string{fmt.Sprint("429 RateLimit-Reset: ", morning.Unix()+10)}, waits: "11s", ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "reset after a time", steps: []string{"429 RateLimit-Reset: 10"}, waits: "10s", ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "reset, but not busy", steps: []string{"503 RateLimit-Reset: 10"}, asked: 1, retry: Retry{Most: 1}},
		{name: "no word", steps: []string{"429"}, asked: 1, retry: Retry{Most: 1}},
		{name: "no number", steps: []string{"429 Retry-After: soon"}, asked: 1, retry: Retry{Most: 1}},
		{name: "before now", steps: []string{"429 Retry-After: -1"}, asked: 1, retry: Retry{Most: 1}},
		{name: "a minute", steps: []string{"429 Retry-After: 60"}, waits: "1m0s", ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "more than a minute", steps: []string{"429 Retry-After: 61"}, asked: 1, retry: Retry{Most: 1}},
		{name: "a year", steps: []string{fmt.Sprint("429 Retry-After: ", int(year.Seconds()))}, asked: 1, retry: Retry{Most: 1, MaxWait: time.Hour}},
		{name: "more than there is", steps: []string{"429 Retry-After: 9223372036854775807"}, asked: 1, retry: Retry{Most: 1, MaxWait: year}},
		{name: "an hour", steps: []string{"429 Retry-After: 3600"}, waits: "1h0m0s", ok: true, asked: 2, retry: Retry{Most: 1, MaxWait: time.Hour}},
		{name: "another status", steps: []string{"500 Retry-After: 1"}, asked: 1, retry: Retry{Most: 1}},
		{name: "broken", steps: []string{"broken"}, ok: true, asked: 2, retry: Retry{Most: 1}},
		{name: "broken twice", steps: []string{"broken", "broken"}, asked: 2, retry: Retry{Most: 5}},
		{name: "broken without patience", steps: []string{"broken"}, asked: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := &busyHost{steps: tt.steps}
			var waits []string
			c := toyClient{Client{
				Host: "https://pds.test", HTTP: &http.Client{Transport: inside(host.serve)}, Retry: tt.retry,
				Clock: Clock{
					Now:   func() time.Time { return morning },
					Sleep: func(_ context.Context, d time.Duration) error { waits = append(waits, d.String()); return nil },
				},
			}}
			_, err := c.Fail(t.Context(), &FailParams{})
			if got := strings.Join(waits, " "); got != tt.waits || (err == nil) != tt.ok || host.asked != tt.asked {
				t.Errorf("asked %d times, waits %s: %v", host.asked, got, err)
			}
		})
	}
}

// A procedure is sent again when the host says that it did not carry it out, with its body,
// and not when nobody knows.
func TestRetriesOfProcedures(t *testing.T) {
	host := &busyHost{}
	c := toyClient{Client{
		Host: "https://pds.test", HTTP: &http.Client{Transport: inside(host.serve)}, Retry: Retry{Most: 3},
		Clock: Clock{Sleep: func(context.Context, time.Duration) error { return nil }},
	}}
	for _, tt := range []struct {
		name  string
		steps []string
		body  io.Reader
		want  string
		err   string
	}{
		{"a stream", []string{"429 Retry-After: 1", "429 Retry-After: 1"}, strings.NewReader("abc"), "abc abc abc", ""},
		{"a stream that is gone", []string{"429 Retry-After: 1"}, io.MultiReader(strings.NewReader("abc")), "abc", `429 Busy "said the host"`},
		{"broken", []string{"broken"}, strings.NewReader("abc"), "abc", `call com.example.toy.upload: Post "https://pds.test/xrpc/com.example.toy.upload": the line is dead`},
	} {
		*host = busyHost{steps: tt.steps}
		_, err := c.Upload(t.Context(), NewBody(tt.body, "a/b"))
		if got := strings.Join(host.bodies, " "); got != tt.want || errorText(err) != tt.err {
			t.Errorf("%s: bodies %s: %v", tt.name, got, err)
		}
	}
	*host = busyHost{steps: []string{"503 Retry-After: 1"}}
	if _, err := c.Both(t.Context(), &FailParams{How: "x"}, &EchoInputInner{Deep: new(int64(1))}); err != nil || strings.Join(host.bodies, " ") != `{"deep":1} {"deep":1}` {
		t.Error(err, host.bodies)
	}
}

// Nobody waits for longer than their context.
func TestRetriesEndWithTheContext(t *testing.T) {
	host := &busyHost{steps: []string{"429 Retry-After: 30", "429 Retry-After: 30"}}
	c := toyClient{Client{Host: "https://pds.test", HTTP: &http.Client{Transport: inside(host.serve)}, Retry: Retry{Most: 3}}}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.Fail(short, &FailParams{})
	if x, ok := err.(*Error); !ok || x.Status != 429 {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.Clock.Sleep = func(ctx context.Context, _ time.Duration) error {
		cancel()
		return Clock{}.sleep(ctx, time.Hour)
	}
	_, err = c.Fail(ctx, &FailParams{})
	if x, ok := errors.AsType[*Error](err); !errors.Is(err, context.Canceled) || !ok || x.Status != 429 {
		t.Error(err)
	}
	if host.asked != 2 {
		t.Errorf("asked %d times", host.asked)
	}
}
