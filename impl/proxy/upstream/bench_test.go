package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portico/impl/proxy/upstream"
)

// BenchmarkPassOn passes 20 kB on to 64 clients, beside the reverse proxy of the standard
// library. The clients and the service behind are in it, with the same part of both: the
// whole server is measured by make bench.
func BenchmarkPassOn(b *testing.B) {
	text := strings.Repeat("x", 20_000)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "20000")
		io.WriteString(w, text)
	}))
	defer service.Close()
	to, err := url.Parse(service.URL)
	if err != nil {
		b.Fatal(err)
	}
	c := upstream.New(upstream.Options{Private: true, Own: []string{service.URL}})
	for _, front := range []struct {
		name string
		http.Handler
	}{
		{"upstream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer, err := c.Send(r.Context(), &upstream.Request{Verb: r.Method, URL: service.URL + r.RequestURI, Header: r.Header})
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer answer.Body.Close()
			for name, values := range answer.Header {
				w.Header()[name] = values
			}
			w.WriteHeader(answer.Status)
			io.Copy(w, answer.Body)
		})},
		{"reverse proxy", &httputil.ReverseProxy{
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
			Transport: &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true},
		}},
	} {
		b.Run(front.name, func(b *testing.B) {
			server := httptest.NewServer(front)
			defer server.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
			defer client.CloseIdleConnections()
			before := processorTime(b)
			b.ReportAllocs()
			b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
			var failed atomic.Int64
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					answer, err := client.Get(server.URL + "/xrpc/a.b?c=d")
					if err != nil {
						failed.Add(1)
						continue
					}
					if n, _ := io.Copy(io.Discard, answer.Body); n != 20_000 || answer.StatusCode != 200 {
						failed.Add(1)
					}
					answer.Body.Close()
				}
			})
			if failed.Load() > 0 {
				b.Errorf("%d failed", failed.Load())
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1000, "cpu-µs/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
