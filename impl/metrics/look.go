package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// A Look is a group of metrics that are looked up when somebody asks.
type Look struct {
	Metrics []Metric
	// Values gives their values to set, which knows metrics by the names that they have here. What
	// it does not give is not shown. It may take long, for nobody but who asks.
	Values func(set func(name string, value float64, labels ...string))
}

// A Metric is one that is looked up. Its name has no prefix; one that ends in _total is a
// counter, and others can fall.
type Metric struct {
	Name, Help string
	Labels     []string
}

func (m Metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(prefix+m.Name, m.Help, m.Labels, nil)
}

// Add adds a group. All are added before anybody looks.
func (s *Set) Add(l Look) {
	c := &looked{values: l.Values, by: make(map[string]*prometheus.Desc), counts: make(map[string]bool)}
	for _, m := range l.Metrics {
		c.by[m.Name] = m.desc()
		kind := "gauge"
		if c.counts[m.Name] = strings.HasSuffix(m.Name, "_total"); c.counts[m.Name] {
			kind = "counter"
		}
		s.describe(m, kind)
	}
	s.registry.MustRegister(c)
}

// looked is a group as a collector.
type looked struct {
	by     map[string]*prometheus.Desc
	counts map[string]bool
	values func(set func(name string, value float64, labels ...string))
}

func (l *looked) Describe(to chan<- *prometheus.Desc) {
	for _, d := range l.by {
		to <- d
	}
}

func (l *looked) Collect(to chan<- prometheus.Metric) {
	l.values(func(name string, value float64, labels ...string) {
		kind := prometheus.GaugeValue
		if l.counts[name] {
			kind = prometheus.CounterValue
		}
		to <- prometheus.MustNewConstMetric(l.by[name], kind, value, labels...)
	})
}
