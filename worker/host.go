package worker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/runner"
	"hutong/admission"
	"hutong/store"
	"hutong/workflows"
)

// RunnerCapacity is what a host offers its party for runs.
type RunnerCapacity struct {
	// Slots are how many runs it has at once.
	Slots int
	// Labels are what a provider or a task can require of it.
	Labels map[string]string
	// Capacity tells what it has for runs; it is asked again and again, since disks grow and limits change.
	Capacity func(context.Context) (driver.Capacity, error)
}

// capacityTimeout bounds the question for the capacity, so that a Docker Engine that hangs does not silence its host.
const capacityTimeout = 5 * time.Second

// announcer tells the control workers of a host.
type announcer struct {
	runs   *runner.Runner
	offer  RunnerCapacity
	logger *slog.Logger

	mu   sync.Mutex
	last driver.Capacity // what was told last; zero before the first time
}

// announce writes the row by which control workers find the host. Where the capacity can't be told, what was told before
// stands: a Docker Engine that restarts has lost nothing of it. The first time that is an error.
func (a *announcer) announce(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	asking, cancel := context.WithTimeout(ctx, capacityTimeout)
	defer cancel()
	has, err := a.offer.Capacity(asking)
	switch {
	case err == nil:
		a.last = has
	case a.last == driver.Capacity{}:
		return fmt.Errorf("what the host has for runs can't be told: %w", err)
	default:
		a.logger.Warn("what the host has for runs can't be told now; it stays as it was", "host_id", a.runs.RunnerID, "error", err)
	}
	return a.runs.Store.PutRunner(ctx, store.Runner{RunnerID: a.runs.RunnerID, NodeID: a.runs.Node, Devices: slices.Sorted(maps.Keys(a.runs.Drivers)),
		TaskQueue: activities.TaskQueueOfRunner(a.runs.RunnerID), Slots: a.offer.Slots, HeartbeatAt: time.Now(),
		CPUMilli: a.last.CPUMilli, Memory: a.last.Memory, Disk: a.last.Disk, Labels: a.offer.Labels})
}

// hintWaitingJobs tells jobs that wait for room at this party that a host has come.
func hintWaitingJobs(ctx context.Context, c client.Client, db *store.Store, logger *slog.Logger) {
	waiting, err := db.WaitingRequests(ctx, time.Now().Add(-admission.RequestTTL))
	if err != nil {
		logger.Warn("jobs that wait are not told of the host; they ask by themselves", "error", err)
	}
	for _, a := range waiting[:min(len(waiting), activities.MaxHints)] {
		if err := c.SignalWorkflow(ctx, workflows.ParticipantJobID(a.JobID), "", workflows.SignalCapacityHint, nil); err != nil {
			logger.Warn("a job that waits is not told of the host; it asks by itself", "job_id", a.JobID, "error", err)
		}
	}
}
