package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"hutong/activities"
	"hutong/activities/runner"
)

const (
	// heartbeatInterval is the interval of a runner's heartbeats.
	heartbeatInterval = 15 * time.Second
	// registrationInterval is how often a runner looks for new registrations of providers.
	registrationInterval = time.Second
	// duplicateMargin is how long the runner's previous worker may seem to poll after it was replaced, since
	// clocks differ.
	duplicateMargin = 30 * time.Second
	// deregisterTimeout bounds how long a runner that stops tries to deregister.
	deregisterTimeout = 5 * time.Second
	// stopSlots is how many containers of a runner can be stopped at once.
	stopSlots = 20
)

// NewRunner creates the worker of this machine's runner, announces the runner to the party, and keeps sending
// its heartbeats until Stop. The worker accepts every task: jobs hold reservations, which the party bounds by
// the runner's slots.
func NewRunner(
	ctx context.Context, c client.Client, r *runner.Runner, offer RunnerCapacity, logger *slog.Logger,
) (*Worker, error) {
	a := &announcer{runner: r, offer: offer, logger: logger}
	if err := a.announce(ctx); err != nil {
		return nil, fmt.Errorf("failed to announce runner %s: %w", r.RunnerID, err)
	}
	var err error
	if r.Deployment, err = r.Store.DeploymentID(ctx); err != nil {
		return nil, err
	}

	self, started := identity(r.Node), time.Now()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() {
		sweepContainers(ctx, c, r, logger, func() {
			logDuplicateRunners(ctx, c, r.RunnerID, self, started.Add(duplicateMargin), logger)
		})
	})
	background.Go(func() { a.sendHeartbeats(ctx) })

	return &Worker{
		workers: newRunnerWorkers(c, r, offer.Slots, self),
		onStart: func() error { hintWaitingJobs(ctx, c, r.Store, logger); return nil },
		onStop: func() {
			cancel()
			background.Wait()
			deregister(ctx, r, logger)
		},
		onEnd: func() {
			ctx, cancel := timeout(ctx, stopTimeout)
			defer cancel()
			r.Wait(ctx)
		},
	}, nil
}

// newRunnerWorkers returns the workers that run and stop containers.
func newRunnerWorkers(c client.Client, r *runner.Runner, slots int, self string) []worker.Worker {
	acts := &runner.Activities{Runner: r}
	run := worker.New(c, activities.TaskQueueOfRunner(r.RunnerID), worker.Options{
		Identity: self, WorkerStopTimeout: stopTimeout, DisableWorkflowWorker: true,
		// Reservations bound what runs. This limit is for what exceeds them for a moment: containers that are
		// being removed, and slots that have moved here.
		MaxConcurrentActivityExecutionSize: 4*slots + 20, MaxConcurrentActivityTaskPollers: 4,
		// A stop comes with a heartbeat's answer.
		MaxHeartbeatThrottleInterval: activities.HeartbeatInterval,
	})
	run.RegisterActivity(acts)

	stop := worker.New(c, activities.StopQueueOfRunner(r.RunnerID), worker.Options{
		WorkerStopTimeout: stopTimeout, DisableWorkflowWorker: true,
		MaxConcurrentActivityExecutionSize: stopSlots, MaxConcurrentActivityTaskPollers: 2,
	})
	stop.RegisterActivity(acts)

	return []worker.Worker{run, stop}
}

// deregister marks the runner as offline.
func deregister(ctx context.Context, r *runner.Runner, logger *slog.Logger) {
	ctx, cancel := timeout(ctx, deregisterTimeout)
	defer cancel()
	if err := r.Store.DeregisterRunner(ctx, r.RunnerID); err != nil {
		logger.Warn("failed to deregister runner; tasks wait for it until it counts as silent",
			"runner_id", r.RunnerID, "error", err)
	}
}
