package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"portico/cmd/portico/launch"
)

// mostForMetrics is what counting may add to the cost of a request.
const mostForMetrics = 0.03

// withMetrics is who a server is that has metrics, and looks how many at a time what it costs to
// see them.
const (
	withMetrics = ", counted"
	looks       = 20
)

// metrics compares a server that counts for Prometheus with one that does not.
func (b *bench) metrics(ctx context.Context) (*table, error) {
	port, err := launch.FreePort()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprint("127.0.0.1:", port)
	start := func(who, dir, bind string) (*subject, error) {
		s, err := startSubject(ctx, who, b.binary, b.dir+dir, append(slices.Clone(b.env), "PORTICO_SQLITE_SYNCHRONOUS=NORMAL", metricsBind+bind))
		if err == nil {
			b.subjects["metrics"] = append(b.subjects["metrics"], s)
			b.started = append(b.started, s.Process)
		}
		return s, err
	}
	bare, err := start(ofServer, "/metrics-off", "off")
	if err != nil {
		return nil, err
	}
	counted, err := start(ofServer+withMetrics, "/metrics-on", address)
	if err != nil {
		return nil, err
	}
	t := &table{mode: "NORMAL/metrics"}
	for _, w := range []struct {
		name     string
		requests int
		do       func(c *client) func(worker int) error
	}{
		{"getSession", 20000, func(c *client) func(int) error { return c.getSession }},
		{"createRecord", 5000, func(c *client) func(int) error { return c.createRecord }},
	} {
		r := &row{name: w.name, requests: scaled(w.requests), workers: *workers}
		r.add(bare.who, bare.Process, w.do(bare.client))
		r.add(counted.who, counted.Process, w.do(counted.client))
		t.rows = append(t.rows, r)
	}
	t.print = func() {
		for _, r := range t.rows {
			off, on := r.of(ofServer), r.of(ofServer+withMetrics)
			adds := on.over(off, sample.each)
			fmt.Printf("metrics: counting adds %.1f %% (%.1f–%.1f %%) to the time of %s, %s; goal: under %.0f %%\n",
				100*(adds.median-1), 100*(adds.least-1), 100*(adds.most-1), r.name, off.time(), 100*mostForMetrics)
		}
		each, bytes, err := look(ctx, counted, "http://"+address+"/metrics")
		if err != nil {
			note(err)
			return
		}
		fmt.Printf("metrics: to look takes the server %.1f ms, for %d kB\n", float64(each)/float64(time.Millisecond), bytes/1000)
	}
	return t, nil
}

// look is what it costs a server to show its metrics anew.
func look(ctx context.Context, s *subject, url string) (each time.Duration, bytes int64, err error) {
	var spent time.Duration
	for range looks {
		time.Sleep(1100 * time.Millisecond) // within a second it is the same text
		before, err := s.CPU()
		if err != nil {
			return 0, 0, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, 0, err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, 0, err
		}
		bytes, err = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if err != nil {
			return 0, 0, err
		}
		after, err := s.CPU()
		if err != nil {
			return 0, 0, err
		}
		spent += after - before
	}
	return spent / looks, bytes, nil
}
