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

// RunnerCapacity is what a runner offers its party for containers.
type RunnerCapacity struct {
	// Slots is how many containers it runs at once.
	Slots int
	// Labels are what a provider or a task can require of it.
	Labels map[string]string
	// Capacity returns its resources. They are read with every heartbeat, since disks grow and limits change.
	Capacity func(context.Context) (driver.Capacity, error)
}

// capacityTimeout bounds the read of the capacity: a Docker Engine that hangs must not silence its runner.
const capacityTimeout = 5 * time.Second

// announcer announces a runner to its party.
type announcer struct {
	runner *runner.Runner
	offer  RunnerCapacity
	logger *slog.Logger

	mu   sync.Mutex
	last driver.Capacity // announced last; zero before the first time
}

// announce writes the runner's row, with a heartbeat. If its capacity can't be read, it repeats the one
// before: a Docker Engine that restarts has lost none of it. The first time, that is an error.
func (a *announcer) announce(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()

	capacityCtx, cancel := context.WithTimeout(ctx, capacityTimeout)
	defer cancel()
	capacity, err := a.offer.Capacity(capacityCtx)
	switch {
	case err == nil:
		a.last = capacity
	case a.last == driver.Capacity{}:
		return fmt.Errorf("failed to read the runner's capacity: %w", err)
	default:
		a.logger.Warn("failed to read the runner's capacity; keeping the last one",
			"runner_id", a.runner.RunnerID, "error", err)
	}

	return a.runner.Store.PutRunner(ctx, store.Runner{
		RunnerID: a.runner.RunnerID, NodeID: a.runner.Node,
		Devices:   slices.Sorted(maps.Keys(a.runner.Drivers)),
		TaskQueue: activities.TaskQueueOfRunner(a.runner.RunnerID),
		Slots:     a.offer.Slots, Clock: time.Now(),
		CPUMilli: a.last.CPUMilli, Memory: a.last.Memory, Disk: a.last.Disk, GPU: a.last.GPU,
		Labels: a.offer.Labels})
}

// sendHeartbeats announces the runner at intervals, until ctx ends.
func (a *announcer) sendHeartbeats(ctx context.Context) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := a.announce(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("failed to send a heartbeat", "runner_id", a.runner.RunnerID, "error", err)
			}
		}
	}
}

// hintWaitingJobs hints to jobs that wait for a reservation at this party that a runner is online.
func hintWaitingJobs(ctx context.Context, c client.Client, db *store.Store, logger *slog.Logger) {
	waiting, err := db.WaitingRequests(ctx, time.Now().Add(-admission.RequestTTL))
	if err != nil {
		logger.Warn("failed to hint to waiting jobs that a runner is online; they poll", "error", err)
	}
	for _, request := range waiting[:min(len(waiting), activities.MaxHints)] {
		id := workflows.ParticipantJobID(request.JobID)
		if err := c.SignalWorkflow(ctx, id, "", workflows.SignalCapacityHint, nil); err != nil {
			logger.Warn("failed to hint to a waiting job that a runner is online; it polls",
				"job_id", request.JobID, "error", err)
		}
	}
}
