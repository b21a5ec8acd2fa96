package metrics

import (
	"net/http"
	"regexp"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options configures the metrics of a party in a process.
type Options struct {
	// Node is the party's node id.
	Node string
	// Version is that of the program.
	Version string
	// Processes are the processes of the party that this one runs: api, control, runner, transport.
	Processes []string
	// KnownPartner reports whether a route or a contract names a node.
	KnownPartner func(node string) bool
	// Routes are the patterns of the API's routes.
	Routes []string
}

// Metrics holds the metrics of a party in a process. Its methods can be called at the same time.
type Metrics struct {
	o        Options
	routes   map[string]bool
	registry *prometheus.Registry

	httpRequests, httpRefused, partnerRequests, callbacks, jobsEnded, partsEnded, taskAttempts counter
	transferBytes, transferMessages, forwardFailures, storageErrors, databaseErrors            counter
	sweepRemoved, limitedMessages                                                              counter

	httpSeconds, partnerSeconds, jobSeconds, jobWaitSeconds, storageSeconds, databaseSeconds histogram

	partnerSuccess gauge
}

// New returns the metrics of a party in a process, with those of Go and of the process.
func New(o Options) *Metrics {
	m := &Metrics{o: o, routes: map[string]bool{}, registry: prometheus.NewRegistry()}
	if m.o.KnownPartner == nil {
		m.o.KnownPartner = func(string) bool { return false }
	}
	for _, r := range o.Routes {
		m.routes[r] = true
	}
	// The other metrics of Go do not have the memory that is still in use, without garbage.
	liveHeap := collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/gc/heap/live:bytes$`)}
	m.registry.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(liveHeap)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	for _, c := range []struct {
		to *counter
		d  *Definition
	}{{&m.httpRequests, &httpRequests}, {&m.httpRefused, &httpRefused},
		{&m.partnerRequests, &partnerRequests}, {&m.callbacks, &callbacks}, {&m.jobsEnded, &jobsEnded},
		{&m.partsEnded, &partsEnded}, {&m.taskAttempts, &taskAttempts}, {&m.transferBytes, &transferBytes},
		{&m.transferMessages, &transferMessages}, {&m.forwardFailures, &forwardFailures},
		{&m.storageErrors, &storageErrors}, {&m.databaseErrors, &databaseErrors},
		{&m.sweepRemoved, &sweepRemoved}, {&m.limitedMessages, &limitedMessages}} {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: c.d.Name, Help: c.d.Help},
			c.d.labelNames())
		m.registry.MustRegister(vec)
		*c.to = counter{m, c.d, vec}
		m.startAtZero(c.d, vec)
	}
	for _, h := range []struct {
		to *histogram
		d  *Definition
	}{{&m.httpSeconds, &httpSeconds}, {&m.partnerSeconds, &partnerSeconds}, {&m.jobSeconds, &jobSeconds},
		{&m.jobWaitSeconds, &jobWaitSeconds}, {&m.storageSeconds, &storageSeconds},
		{&m.databaseSeconds, &databaseSeconds}} {
		vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: h.d.Name, Help: h.d.Help,
			Buckets: h.d.Buckets}, h.d.labelNames())
		m.registry.MustRegister(vec)
		*h.to = histogram{m, h.d, vec}
	}
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: partnerSuccess.Name, Help: partnerSuccess.Help},
		partnerSuccess.labelNames())
	m.registry.MustRegister(vec)
	m.partnerSuccess = gauge{m, &partnerSuccess, vec}

	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: buildInfo.Name, Help: buildInfo.Help},
		buildInfo.labelNames())
	m.registry.MustRegister(build)
	for _, process := range o.Processes {
		build.WithLabelValues(o.Version, runtime.Version(), process).Set(1)
	}
	return m
}

// smallCounter is the most series of a counter that exist from the start.
const smallCounter = 25

// startAtZero creates the series of a counter that has few: an increase from no series to 1 is none for
// Prometheus.
func (m *Metrics) startAtZero(d *Definition, vec *prometheus.CounterVec) {
	combinations := [][]string{{}}
	for _, l := range d.Labels {
		if l.Source != "" || len(combinations)*len(l.Values) > smallCounter {
			return
		}
		var longer [][]string
		for _, c := range combinations {
			for _, v := range l.Values {
				longer = append(longer, append(slices.Clone(c), v))
			}
		}
		combinations = longer
	}
	for _, c := range combinations {
		vec.WithLabelValues(c...)
	}
}

// allowed returns values with those replaced that the labels of a metric must not have.
func (m *Metrics) allowed(d *Definition, values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = m.allowedValue(d.Labels[i], v)
	}
	return out
}

func (m *Metrics) allowedValue(l Label, v string) string {
	switch {
	case len(l.Values) > 0 && slices.Contains(l.Values, v),
		l.Source == FromRoutes && m.routes[v],
		l.Source == FromRunners, l.Source == FromBuild:
		return v
	case l.Source == FromPartners && v == m.o.Node:
		return "self"
	case l.Source == FromPartners && m.o.KnownPartner(v):
		return v
	case len(l.Values) > 0 && !slices.Contains(l.Values, other):
		return l.Values[len(l.Values)-1]
	}
	return other
}

// counter is a counter that replaces label values that are not allowed.
type counter struct {
	m   *Metrics
	d   *Definition
	vec *prometheus.CounterVec
}

func (c counter) add(n float64, values ...string) {
	c.vec.WithLabelValues(c.m.allowed(c.d, values)...).Add(n)
}

// histogram is a histogram that replaces label values that are not allowed.
type histogram struct {
	m   *Metrics
	d   *Definition
	vec *prometheus.HistogramVec
}

func (h histogram) observe(n float64, values ...string) {
	h.vec.WithLabelValues(h.m.allowed(h.d, values)...).Observe(n)
}

// gauge is a gauge that replaces label values that are not allowed.
type gauge struct {
	m   *Metrics
	d   *Definition
	vec *prometheus.GaugeVec
}

func (g gauge) set(n float64, values ...string) {
	g.vec.WithLabelValues(g.m.allowed(g.d, values)...).Set(n)
}

// maxScrapes bounds the scrapes at the same time.
const maxScrapes = 4

// Handler returns the handler that serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes,
		ErrorHandling: promhttp.ContinueOnError, Registry: nil})
}

// Gatherer returns what gathers the metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
