package metrics

import (
	"cmp"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Kind is what requests have in common as to how long they take.
type Kind int

// The kinds of requests.
const (
	Query Kind = iota
	Procedure
	Subscription // open for as long as somebody reads
	Proxied      // passed on to another service
	Page         // outside of XRPC
	Other        // of no method that is served
)

var kinds = [...]string{"query", "procedure", "subscription", "proxied", "page", "other"}

// The methods of requests that are for none that is served.
const (
	ProxiedMethod = "proxied"
	HealthMethod  = "_health"
	PageMethod    = "page"
	OtherMethod   = "other"
)

// codes are the statuses that are counted each. Of an answer of another service any number is
// passed on, so all others are counted by their class.
var codes = []int{101, 200, 204, 206, 301, 302, 303, 304, 307, 400, 401, 403, 404, 405, 406, 409, 410, 413, 415, 429, 499, 500, 501, 502, 503, 504}

var (
	columns = func() (list []string) {
		for _, code := range codes {
			list = append(list, strconv.Itoa(code))
		}
		return append(list, "none", "1xx", "2xx", "3xx", "4xx", "5xx")
	}()
	columnOf = func() (of [600]uint8) {
		for status := range of {
			column := slices.Index(columns, class(status))
			if i := slices.Index(codes, status); i >= 0 {
				column = i
			}
			of[status] = uint8(column)
		}
		return of
	}()
)

// requests counts those of each method with each status. Ours because a vector of Prometheus
// looks its labels up with each request, by a hash of them under a lock.
type requests struct {
	rows  map[string]int // of methods
	names []string
	count [][]atomic.Int64
	took  []atomic.Int64 // nanoseconds, in all

	total, seconds *prometheus.Desc
}

// Methods names the methods that are counted by name. It is called once, before the first
// request.
func (s *Set) Methods(names []string) {
	total := Metric{"requests_total", "Requests that were answered, by method and status; unusual statuses by class, 499: the client was gone.", []string{"method", "code"}}
	seconds := Metric{"request_seconds_total", "Time that the requests of a method took together; without subscriptions.", []string{"method"}}
	r := &requests{
		rows:    make(map[string]int),
		names:   append([]string{ProxiedMethod, HealthMethod, PageMethod, OtherMethod}, names...),
		total:   total.desc(),
		seconds: seconds.desc(),
	}
	s.describe(total, "counter")
	s.describe(seconds, "counter")
	r.count, r.took = make([][]atomic.Int64, len(r.names)), make([]atomic.Int64, len(r.names))
	for i, name := range r.names {
		r.rows[name] = i
		r.count[i] = make([]atomic.Int64, len(columns))
	}
	s.registry.MustRegister(r)
	s.requests.Store(r)
}

// RequestBegan is told of each request.
func (s *Set) RequestBegan() { s.inFlight.Inc() }

// RequestEnded is told of each request when it is answered.
func (s *Set) RequestEnded(method string, kind Kind, status int, took time.Duration) {
	s.inFlight.Dec()
	if o := s.byKind[kind]; o != nil {
		o.Observe(took.Seconds())
	}
	r := s.requests.Load()
	if r == nil {
		return
	}
	row, ok := r.rows[method]
	if !ok {
		row = r.rows[OtherMethod]
	}
	if status < 0 || status >= len(columnOf) {
		status = 0
	}
	r.count[row][columnOf[status]].Add(1)
	if kind != Subscription {
		r.took[row].Add(int64(cmp.Or(took, 1)))
	}
}

// Describe implements [prometheus.Collector].
func (r *requests) Describe(to chan<- *prometheus.Desc) {
	to <- r.total
	to <- r.seconds
}

// Collect implements [prometheus.Collector]: of what was never asked it says nothing.
func (r *requests) Collect(to chan<- prometheus.Metric) {
	for i, name := range r.names {
		asked := false
		for j := range columns {
			if n := r.count[i][j].Load(); n > 0 {
				asked = true
				to <- prometheus.MustNewConstMetric(r.total, prometheus.CounterValue, float64(n), name, columns[j])
			}
		}
		if asked {
			to <- prometheus.MustNewConstMetric(r.seconds, prometheus.CounterValue, time.Duration(r.took[i].Load()).Seconds(), name)
		}
	}
}
