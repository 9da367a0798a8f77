// Package metrics counts what a server does, and shows it to Prometheus.
//
// A [Set] is told of requests, writes, mails and so on by the functions that it has for them,
// and asks for the rest when somebody looks. Whatever a stranger can choose becomes no label: a
// method that nobody serves counts as "other", a status that is not usual by its class, a
// service by who chose it. So the number of series has a bound, and so has what looking costs:
// see [Set.ServeHTTP].
//
// Telling takes a few atomic additions and no memory.
package metrics

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// prefix begins the names of all metrics that are not of Go's runtime or of the process.
const prefix = "portico_"

// A Set are the metrics of one server. Its methods may be called at the same time.
type Set struct {
	registry *prometheus.Registry
	now      func() time.Time
	log      *slog.Logger

	requests atomic.Pointer[requests]
	inFlight prometheus.Gauge
	byKind   [len(kinds)]prometheus.Observer

	writes         [2]prometheus.Counter // that failed, and that did not
	writing        prometheus.Observer
	committing     prometheus.Observer
	mails          *prometheus.CounterVec
	mailing        prometheus.Observer
	passed         *prometheus.CounterVec
	passing        *prometheus.HistogramVec
	jobs           *prometheus.CounterVec
	jobSucceeded   *prometheus.GaugeVec
	jobTook        *prometheus.GaugeVec
	directory      *prometheus.CounterVec
	directoryTook  *prometheus.HistogramVec
	uploads        *prometheus.CounterVec
	uploadBytes    prometheus.Counter
	stored         *prometheus.CounterVec
	storing        *prometheus.HistogramVec
	oauth          *prometheus.CounterVec
	budgetRefusals *prometheus.CounterVec
	budgets        map[string]bool // those that have a name of their own

	described []Described

	mu    sync.Mutex
	text  []byte // what was answered last
	shown time.Time
}

// Config of a [Set].
type Config struct {
	Version string
	// Budgets are the kinds of budgets that are counted by name.
	Budgets []string
	Now     func() time.Time
	Log     *slog.Logger
}

// Buckets of seconds.
var (
	quick = []float64{.001, .005, .025, .1, .25, 1, 5}  // of what this machine does
	slow  = []float64{.01, .05, .1, .25, 1, 2.5, 5, 10} // of what waits for others
)

// New returns a Set that has seen nothing.
func New(c Config) *Set {
	s := &Set{registry: prometheus.NewRegistry(), now: c.Now, log: c.Log, budgets: make(map[string]bool)}
	for _, name := range c.Budgets {
		s.budgets[name] = true
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	build := s.gauges("build_info", "Always 1; the label is the version of the server.", "version")
	build.WithLabelValues(c.Version).Set(1)
	s.inFlight = s.gauges("requests_in_flight", "Requests that are being answered, open subscriptions among them.").WithLabelValues()
	durations := s.histograms("request_duration_seconds", "Time until a request was answered, by kind; without subscriptions.", quick, "kind")
	for i, kind := range kinds {
		if Kind(i) != Subscription {
			s.byKind[i] = durations.WithLabelValues(kind)
		}
	}
	writes := s.counters("database_writes_total", "Transactions that write, by outcome.", "outcome")
	s.writes = [2]prometheus.Counter{writes.WithLabelValues("failed"), writes.WithLabelValues("committed")}
	s.writing = s.histograms("database_write_duration_seconds", "Time that a transaction that writes took, with the waiting for its turn.", quick).WithLabelValues()
	s.committing = s.histograms("database_commit_duration_seconds", "Time that a COMMIT took; on SQLite mostly waiting for the disk.", quick).WithLabelValues()
	s.mails = s.counters("mail_attempts_total", "Attempts to hand a mail to the mail server, by outcome.", "outcome")
	s.mailing = s.histograms("mail_attempt_duration_seconds", "Time that such an attempt took.", slow).WithLabelValues()
	s.passed = s.counters("proxy_requests_total", "Requests to other services, by service and class of the answer; none: no answer.", "service", "code")
	s.passing = s.histograms("proxy_request_duration_seconds", "Time until such a service began to answer.", slow, "service")
	s.jobs = s.counters("job_runs_total", "Runs of regular jobs in this process, by outcome.", "name", "outcome")
	s.jobSucceeded = s.gauges("job_last_success_timestamp_seconds", "When a job ended well in this process the last time.", "name")
	s.jobTook = s.gauges("job_last_duration_seconds", "How long the last run of a job took.", "name")
	s.directory = s.counters("directory_requests_total", "Requests to the PLC directory, by operation and class of the answer; none: no answer.", "operation", "code")
	s.directoryTook = s.histograms("directory_request_duration_seconds", "Time that such a request took.", slow, "operation")
	s.uploads = s.counters("blob_uploads_total", "Uploads of blobs, by outcome; refused: too large, of the wrong kind, or without room.", "outcome")
	s.uploadBytes = s.counters("blob_upload_bytes_total", "Bytes of blobs that were stored.").WithLabelValues()
	s.stored = s.counters("blob_store_requests_total", "Requests to the S3 bucket of blobs, by verb and class of the answer; none: no answer.", "verb", "code")
	s.storing = s.histograms("blob_store_request_duration_seconds", "Time until the bucket began to answer.", slow, "verb")
	s.oauth = s.counters("oauth_requests_total", "Requests of apps to the endpoints of OAuth, by outcome: ok, or the name of the error.", "endpoint", "outcome")
	s.budgetRefusals = s.counters("budget_refusals_total", "What was refused because a budget was spent, by budget.", "budget")
	return s
}

// Described is a metric as those who look see it.
type Described struct {
	Metric        // with its prefix
	Type   string // counter, gauge or histogram
}

// Describe returns all metrics but those of Go's runtime and of the process.
func (s *Set) Describe() []Described {
	return slices.SortedFunc(slices.Values(s.described), func(a, b Described) int { return strings.Compare(a.Name, b.Name) })
}

func (s *Set) describe(m Metric, kind string) {
	m.Name = prefix + m.Name
	s.described = append(s.described, Described{m, kind})
}

func (s *Set) counters(name, help string, labels ...string) *prometheus.CounterVec {
	s.describe(Metric{name, help, labels}, "counter")
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	s.registry.MustRegister(v)
	return v
}

func (s *Set) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	s.describe(Metric{name, help, labels}, "gauge")
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, labels)
	s.registry.MustRegister(v)
	return v
}

func (s *Set) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	s.describe(Metric{name, help, labels}, "histogram")
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	s.registry.MustRegister(v)
	return v
}

// Wrote is told of a transaction that writes. Both methods of db.Observer are here.
func (s *Set) Wrote(_ context.Context, _ time.Time, took time.Duration, err error) {
	i := 0
	if err == nil {
		i = 1
	}
	s.writes[i].Inc()
	s.writing.Observe(took.Seconds())
}

// Committed is told of a COMMIT.
func (s *Set) Committed(took time.Duration) { s.committing.Observe(took.Seconds()) }

// Mailed is told of an attempt to send a mail. An outcome is one of a few.
func (s *Set) Mailed(outcome string, took time.Duration) {
	s.mails.WithLabelValues(outcome).Inc()
	s.mailing.Observe(took.Seconds())
}

// Passed is told of a request to another service, which is one of a few, and the status of
// its answer, 0 if there was none.
func (s *Set) Passed(service string, status int, took time.Duration) {
	s.passed.WithLabelValues(service, class(status)).Inc()
	s.passing.WithLabelValues(service).Observe(took.Seconds())
}

// Ran is told of the run of a job.
func (s *Set) Ran(job string, took time.Duration, err error) {
	outcome := "failed"
	if err == nil {
		outcome = "succeeded"
		s.jobSucceeded.WithLabelValues(job).Set(float64(s.now().UnixMilli()) / 1000)
	}
	s.jobs.WithLabelValues(job, outcome).Inc()
	s.jobTook.WithLabelValues(job).Set(took.Seconds())
}

// Asked is told of a request to the PLC directory, whether to change something there.
func (s *Set) Asked(write bool, status int, took time.Duration) {
	operation := "read"
	if write {
		operation = "write"
	}
	s.directory.WithLabelValues(operation, class(status)).Inc()
	s.directoryTook.WithLabelValues(operation).Observe(took.Seconds())
}

// Uploaded is told of an upload of a blob. An outcome is one of a few.
func (s *Set) Uploaded(outcome string, bytes int64) {
	s.uploads.WithLabelValues(outcome).Inc()
	s.uploadBytes.Add(float64(bytes))
}

// Stored is told of a request to the bucket of blobs.
func (s *Set) Stored(verb string, status int, took time.Duration) {
	s.stored.WithLabelValues(verb, class(status)).Inc()
	s.storing.WithLabelValues(verb).Observe(took.Seconds())
}

// OAuth is told of a request to an endpoint of OAuth. Endpoints and outcomes are a few each.
func (s *Set) OAuth(endpoint, outcome string) { s.oauth.WithLabelValues(endpoint, outcome).Inc() }

// Refused is told of what a budget did not have. What is behind a slash, the purpose of a part
// of it, is not counted apart.
func (s *Set) Refused(budget string) {
	budget, _, _ = strings.Cut(budget, "/")
	if !s.budgets[budget] {
		budget = "other"
	}
	s.budgetRefusals.WithLabelValues(budget).Inc()
}

// class is a status with two digits left out.
func class(status int) string {
	switch status / 100 {
	case 1:
		return "1xx"
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	}
	return "none"
}

// fresh is for how long all who look get the same.
const fresh = time.Second

// ServeHTTP shows the metrics in Prometheus' text. They are looked up once in a second at
// most, whoever asks how often, and those who ask meanwhile wait for them.
func (s *Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	text, err := s.look()
	if err != nil {
		s.log.Error("metrics", "error", err)
		http.Error(w, "the metrics can't be had: see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	_, _ = w.Write(text) // else nobody is there any more
}

func (s *Set) look() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := s.now().Sub(s.shown); s.text != nil && age >= 0 && age < fresh {
		return s.text, nil
	}
	families, err := s.registry.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return nil, fmt.Errorf("write metric %s: %w", f.GetName(), err)
		}
	}
	s.text, s.shown = b.Bytes(), s.now()
	return s.text, nil
}
