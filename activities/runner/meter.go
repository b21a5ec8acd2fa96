package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/store"
)

const (
	// firstSample is how soon after its start a container is measured; the interval then doubles up to
	// maxSample. What a container uses after its last sample is unknown if its device forgets it.
	firstSample = 100 * time.Millisecond
	maxSample   = 2 * time.Second
	// saveSamples is how often samples are recorded, for the case that this process or the container is gone
	// when it ends.
	saveSamples = 10 * time.Second
)

// meter measures what a container uses while it runs.
type meter struct {
	runner *Runner
	name   string // the container's
	req    activities.PartRequest
	device string
	source driver.Meter // nil: the device does not measure
	log    *slog.Logger

	mu     sync.Mutex
	latest driver.Usage
}

func (r *Runner) newMeter(d driver.Driver, name string, req activities.PartRequest, log *slog.Logger) *meter {
	source, _ := d.(driver.Meter)

	return &meter{runner: r, name: name, req: req, device: d.Device(), source: source, log: log}
}

// follow measures the container until the context ends, and records samples.
func (m *meter) follow(ctx context.Context) {
	if m.source == nil {
		return
	}
	var saved time.Time
	for interval := firstSample; driver.Sleep(ctx, interval) == nil; interval = min(2*interval, maxSample) {
		if m.sample(ctx) && time.Since(saved) >= saveSamples {
			saved = time.Now()
			if err := m.record(ctx, driver.Exit{}); err != nil && ctx.Err() == nil {
				m.log.Warn("failed to record what a container uses", "error", err)
			}
		}
	}
}

// sample measures the container once, and reports whether its device knew anything.
func (m *meter) sample(ctx context.Context) bool {
	if m.source == nil {
		return false
	}
	usage, err := m.source.Usage(ctx, m.name)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, driver.ErrNotFound) {
			m.log.Debug("failed to measure a container", "error", err)
		}
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest = larger(m.latest, usage)

	return usage.CPU != nil || usage.PeakMemory != nil
}

// larger merges two samples of one container.
func larger(a, b driver.Usage) driver.Usage {
	if b.CPU != nil && (a.CPU == nil || *b.CPU > *a.CPU) {
		a.CPU = b.CPU
	}
	if b.PeakMemory != nil && (a.PeakMemory == nil || *b.PeakMemory > *a.PeakMemory) {
		a.PeakMemory = b.PeakMemory
	}
	a.Final = a.Final || b.Final

	return a
}

// record writes what the container has used so far, and its times if it has ended. An end that nobody has
// observed has no time.
func (m *meter) record(ctx context.Context, exit driver.Exit) error {
	m.mu.Lock()
	usage := m.latest
	m.mu.Unlock()
	key := m.req.Key
	row := store.Usage{JobID: key.JobID, Name: key.Task, Role: key.Role, RoleIndex: key.Index,
		Attempt: m.req.Attempt, TaskID: m.req.TaskID, RunnerID: m.runner.RunnerID, Device: m.device,
		PeakMemory: usage.PeakMemory, Final: usage.Final}
	if usage.CPU != nil {
		row.CPUMillis = new(usage.CPU.Milliseconds())
	}
	if !exit.StartedAt.IsZero() {
		row.StartedAt = &exit.StartedAt
		if exit.Code != driver.UnknownExitCode {
			row.EndedAt = &exit.FinishedAt
		}
	}
	if err := m.runner.Store.RecordUsage(ctx, row); err != nil {
		return fmt.Errorf("failed to record what %s has used: %w", m.name, err)
	}

	return nil
}

// neverStarted reports whether a container has certainly not run.
func neverStarted(exit driver.Exit) bool {
	return exit.StartedAt.IsZero() && exit.Code != driver.UnknownExitCode && !exit.Killed
}
