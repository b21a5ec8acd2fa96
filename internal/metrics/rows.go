package metrics

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hutong/store"
)

const (
	// rowsTimeout bounds the read of the rows, so that a scrape ends before Prometheus gives it up.
	rowsTimeout = 5 * time.Second
	// rowsMaxAge is how long what was read serves further scrapes.
	rowsMaxAge = 10 * time.Second
	// maxRunners bounds the runners that have series.
	maxRunners = 200
)

// Rows reads what the rows of a party say.
type Rows interface {
	Snapshot(ctx context.Context, node string) (store.Snapshot, error)
}

// RunnerState names the state of a runner at a time.
type RunnerState func(use store.RunnerUse, now time.Time) string

// CollectRows adds the metrics from the rows. They are read at a scrape, at most once in some seconds. If
// that fails, the scrape has none of them, and rows_read_failures_total counts it.
func (m *Metrics) CollectRows(rows Rows, state RunnerState, logger *slog.Logger) {
	m.registry.MustRegister(&rowCollector{m: m, rows: rows, state: state, logger: logger})
}

// rowCollector collects the metrics from the rows.
type rowCollector struct {
	m      *Metrics
	rows   Rows
	state  RunnerState
	logger *slog.Logger

	mu       sync.Mutex
	snap     store.Snapshot
	read     time.Time // of the last attempt, by this machine's clock
	ok       bool
	failures float64
}

// rowDefinitions are the metrics from the rows.
var rowDefinitions = []*Definition{&jobs, &queueLength, &queueOldest, &approvalsWaiting, &approvalOldest,
	&partnerContact, &partnerWaiting, &runnerState, &runnerHeartbeat, &runnerContainers, &runnerCapacity,
	&runnerReserved, &rowsRead, &rowsFailed}

// Describe implements [prometheus.Collector].
func (c *rowCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range rowDefinitions {
		out <- d.desc()
	}
}

// desc returns the definition as Prometheus' library has it.
func (d *Definition) desc() *prometheus.Desc {
	return prometheus.NewDesc(d.Name, d.Help, d.labelNames(), nil)
}

// Collect implements [prometheus.Collector].
func (c *rowCollector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) > rowsMaxAge {
		c.refresh()
	}
	w := writer{c.m, out}
	w.count(&rowsFailed, c.failures)
	if !c.ok {
		return
	}
	c.writeJobs(w)
	c.writePartners(w)
	c.writeRunners(w)
}

// refresh reads the rows. The caller holds the lock.
func (c *rowCollector) refresh() {
	ctx, cancel := context.WithTimeout(context.Background(), rowsTimeout)
	defer cancel()
	snap, err := c.rows.Snapshot(ctx, c.m.o.Node)
	c.read, c.ok = time.Now(), err == nil
	if err != nil {
		c.failures++
		c.logger.Warn("failed to read the rows for metrics", "error", err)
		return
	}
	c.snap = snap
}

func (c *rowCollector) writeJobs(w writer) {
	snap := c.snap
	w.set(&rowsRead, seconds1970(c.read))
	for _, side := range []store.Side{store.SideScheduler, store.SideParticipant} {
		states := map[string]int{}
		for state, n := range snap.Jobs[side] {
			states[strings.ToLower(string(state))] += n
		}
		for _, state := range jobs.Labels[1].Values {
			w.set(&jobs, float64(states[state]), string(side), state)
		}
	}
	w.set(&queueLength, float64(snap.Queued))
	w.set(&queueOldest, age(snap.Time, snap.QueuedSince))
	w.set(&approvalsWaiting, float64(snap.Approvals))
	w.set(&approvalOldest, age(snap.Time, snap.ApprovalSince))
}

// writePartners writes what the rows say of partners. Those that no route and no contract names any more have
// no series.
func (c *rowCollector) writePartners(w writer) {
	waiting := map[string]int{}
	for node, at := range c.snap.Contacts {
		if c.m.o.KnownPartner(node) {
			w.set(&partnerContact, seconds1970(at), node)
			waiting[node] = 0
		}
	}
	for node, n := range c.snap.Waiting {
		if c.m.o.KnownPartner(node) {
			waiting[node] = n
		}
	}
	for node, n := range waiting {
		w.set(&partnerWaiting, float64(n), node)
	}
}

func (c *rowCollector) writeRunners(w writer) {
	for _, u := range c.snap.Runners[:min(len(c.snap.Runners), maxRunners)] {
		id := u.RunnerID
		w.set(&runnerState, 1, id, c.state(u, c.snap.Time))
		w.set(&runnerHeartbeat, age(c.snap.Time, u.HeartbeatAt), id)
		w.set(&runnerContainers, float64(u.RunningParts), id)
		for _, r := range []struct {
			name            string
			capacity, inUse float64
		}{{"slots", float64(u.Slots), float64(u.UsedSlots)},
			{"cpu_cores", float64(u.CPUMilli) / 1000, float64(u.UsedCPUMilli) / 1000},
			{"memory_bytes", float64(u.Memory), float64(u.UsedMemory)},
			{"disk_bytes", float64(u.Disk), float64(u.UsedDisk)},
			{"gpus", float64(u.GPU), float64(u.UsedGPU)}} {
			w.set(&runnerCapacity, r.capacity, id, r.name)
			w.set(&runnerReserved, r.inUse, id, r.name)
		}
	}
}

// writer writes constant metrics.
type writer struct {
	m   *Metrics
	out chan<- prometheus.Metric
}

func (w writer) set(d *Definition, n float64, values ...string) {
	w.out <- prometheus.MustNewConstMetric(d.desc(), prometheus.GaugeValue, n, w.m.allowed(d, values)...)
}

func (w writer) count(d *Definition, n float64, values ...string) {
	w.out <- prometheus.MustNewConstMetric(d.desc(), prometheus.CounterValue, n, w.m.allowed(d, values)...)
}

// age returns the seconds since a time; 0 if it is zero or in the future.
func age(now, since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(now.Sub(since).Seconds(), 0)
}

// seconds1970 returns a time in seconds since 1970.
func seconds1970(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
