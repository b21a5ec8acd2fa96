package metrics

import (
	"context"
	"crypto/x509"
	"database/sql"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sys/unix"

	"hutong/transport"
)

// collector collects gauges that a function writes at each scrape.
type collector struct {
	m       *Metrics
	defined []*Definition
	write   func(w writer)
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.defined {
		out <- d.desc()
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) { c.write(writer{c.m, out}) }

func (m *Metrics) collect(write func(w writer), defined ...*Definition) {
	m.registry.MustRegister(&collector{m, defined, write})
}

// CollectPools adds the metrics of the pools of connections to the database.
func (m *Metrics) CollectPools(pools map[string]*sql.DB) {
	for name, db := range pools {
		m.registry.MustRegister(collectors.NewDBStatsCollector(db, name))
	}
}

// CollectTransport adds the metrics of the transport, whose spool may hold limit bytes.
func (m *Metrics) CollectTransport(stats func() transport.Stats, limit int64) {
	m.collect(func(w writer) {
		s := stats()
		w.set(&relayedCalls, float64(s.Relayed))
		w.set(&transportSessions, float64(s.Sessions))
		w.set(&transportTopics, float64(s.Queues))
		w.set(&transportMessages, float64(s.Messages))
		w.set(&spoolBytes, float64(s.Bytes))
		w.set(&spoolLimit, float64(limit))
		w.set(&transportWaiting, float64(s.Readers), "pop")
		w.set(&transportWaiting, float64(s.Writers), "push")
	}, &relayedCalls, &transportSessions, &transportTopics, &transportMessages, &spoolBytes, &spoolLimit,
		&transportWaiting)
}

// Link describes the links with a partner in one direction: inbound if the partner keeps them.
type Link struct {
	Partner, Direction string
	// Up is how many are up, Since when the oldest of them was made, and Connections is the number of open
	// connections over them.
	Up          int
	Since       time.Time
	Connections int
	// Connects is how many were made since the start of the process.
	Connects int64
}

// CollectLinks adds the links of this process with partners.
func (m *Metrics) CollectLinks(read func() []Link) {
	m.collect(func(w writer) {
		for _, l := range read() {
			w.set(&linksUp, float64(l.Up), l.Partner, l.Direction)
			w.set(&linkConnections, float64(l.Connections), l.Partner, l.Direction)
			w.set(&linkConnects, float64(l.Connects), l.Partner, l.Direction)
			if l.Up > 0 {
				w.set(&linkSince, float64(l.Since.Unix()), l.Partner, l.Direction)
			}
		}
	}, &linksUp, &linkSince, &linkConnections, &linkConnects)
}

// CollectDisks adds the space of the disks of folders, by the value of the label folder.
func (m *Metrics) CollectDisks(folders map[string]string) {
	m.collect(func(w writer) {
		for name, dir := range folders {
			var disk unix.Statfs_t
			if err := unix.Statfs(dir, &disk); err != nil {
				continue // a folder that is gone has no series
			}
			w.set(&diskFree, float64(disk.Bavail)*float64(disk.Bsize), name)
			w.set(&diskSize, float64(disk.Blocks)*float64(disk.Bsize), name)
		}
	}, &diskFree, &diskSize)
}

// CollectCertificates adds when the certificates of this process expire. Of several with one use, such as
// authorities, it shows the one that expires first.
func (m *Metrics) CollectCertificates(read func() map[string][]*x509.Certificate) {
	m.collect(func(w writer) {
		for use, certificates := range read() {
			var first time.Time
			for _, c := range certificates {
				if first.IsZero() || c.NotAfter.Before(first) {
					first = c.NotAfter
				}
			}
			if !first.IsZero() {
				w.set(&certificateExpiry, float64(first.Unix()), use)
			}
		}
	}, &certificateExpiry)
}

const (
	// dependencyTimeout bounds the question to all services together. dependencyMaxAge is how long the
	// answers serve further scrapes and probes.
	dependencyTimeout = 3 * time.Second
	dependencyMaxAge  = 3 * time.Second
)

// Dependencies asks the services that a process needs whether they answer. Probes and scrapes share the
// answers, so that nobody can flood the services through them.
type Dependencies struct {
	mu      sync.Mutex
	checks  map[string]func(context.Context) error
	asked   time.Time
	answers map[string]error
}

// Add adds a service with its check.
func (d *Dependencies) Add(name string, check func(context.Context) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.checks == nil {
		d.checks = map[string]func(context.Context) error{}
	}
	d.checks[name], d.answers = check, nil
}

// Check returns the answer of each service: nil if it is well.
func (d *Dependencies) Check() map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answers != nil && time.Since(d.asked) < dependencyMaxAge {
		return d.answers
	}
	ctx, cancel := context.WithTimeout(context.Background(), dependencyTimeout)
	defer cancel()
	answers := map[string]error{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for name, check := range d.checks {
		group.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			answers[name] = err
		})
	}
	group.Wait()
	d.asked, d.answers = time.Now(), answers
	return answers
}

// CollectDependencies adds whether the services of this process answer.
func (m *Metrics) CollectDependencies(d *Dependencies) {
	m.collect(func(w writer) {
		for name, err := range d.Check() {
			up := 1.0
			if err != nil {
				up = 0
			}
			w.set(&dependencyUp, up, name)
		}
	}, &dependencyUp)
}
