// Package worker runs a party's Temporal workers: control workers, which run workflows, commands to parties and records,
// and host workers, which run containers on the host that they are on. A party may have any number of each; a host has
// one host worker.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	housekeepingacts "hutong/activities/housekeeping"
	participantacts "hutong/activities/participant"
	"hutong/activities/runner"
	scheduleracts "hutong/activities/scheduler"
	"hutong/workflows"
	"hutong/workflows/housekeeping"
	"hutong/workflows/participant"
	"hutong/workflows/scheduler"
)

const (
	// stopTimeout is how long a worker that shuts down waits for activities to leave; runs leave at once and go on.
	stopTimeout = 10 * time.Second
	// deadlock is how long workflow code may compute at once. Machines are busy; ours computes microseconds.
	deadlock = 10 * time.Second
	// heartbeatInterval is how often a host says that it is there.
	heartbeatInterval = 15 * time.Second
	// duplicateMargin is how long the worker before may still poll, by clocks that differ, when a host's worker is replaced.
	duplicateMargin = 30 * time.Second
	// leaveTimeout is how long a host that stops tries to say so.
	leaveTimeout = 5 * time.Second
	// stopSlots is how many runs of a host are stopped at once.
	stopSlots = 20
)

// Worker is one or more Temporal workers that live together.
type Worker struct {
	workers []worker.Worker
	cancel  context.CancelFunc
	done    chan struct{}
	leave   func()       // tells that the host is no longer there
	begin   func() error // what follows the start
	after   func()       // what follows the end of the work
}

// NewControl creates a control worker. Its start also starts the party's housekeeping, unless that is running.
func NewControl(c client.Client, jobs *scheduleracts.Activities, parts *participantacts.Activities,
	house *housekeepingacts.Activities,
) *Worker {
	w := worker.New(c, activities.ControlQueue, worker.Options{
		Interceptors:      []interceptor.WorkerInterceptor{&failureLogger{}},
		WorkerStopTimeout: stopTimeout, DeadlockDetectionTimeout: deadlock,
		MaxConcurrentWorkflowTaskPollers: 4, MaxConcurrentActivityTaskPollers: 4,
	})
	RegisterWorkflows(w)
	w.RegisterActivity(jobs)
	w.RegisterActivity(parts)
	w.RegisterActivity(withJobRunning(c, house))

	return &Worker{workers: []worker.Worker{w}, begin: func() error { return startHousekeeping(c) }}
}

// RegisterWorkflows registers all workflows, with a worker or a replayer.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(scheduler.Job, workflow.RegisterOptions{Name: workflows.SchedulerJobType})
	r.RegisterWorkflowWithOptions(participant.Job, workflow.RegisterOptions{Name: workflows.ParticipantJobType})
	r.RegisterWorkflowWithOptions(housekeeping.Run, workflow.RegisterOptions{Name: workflows.HousekeepingType})
}

// NewRunner makes the worker of this host, for its runs, and stops beside them, and tells the control workers of the host; it
// goes on telling until Stop. It runs what comes: jobs hold seats, of which the host has as many as slots.
func NewRunner(ctx context.Context, c client.Client, runs *runner.Runner, offer RunnerCapacity, logger *slog.Logger) (*Worker, error) {
	slots := offer.Slots
	host := &announcer{runs: runs, offer: offer, logger: logger}
	if err := host.announce(ctx); err != nil {
		return nil, fmt.Errorf("announcing host %s: %w", runs.RunnerID, err)
	}
	var err error
	if runs.Deployment, err = runs.Store.DeploymentID(ctx); err != nil {
		return nil, err
	}
	self, began := identity(runs.Node), time.Now()
	run := worker.New(c, activities.TaskQueueOfRunner(runs.RunnerID), worker.Options{
		Identity: self, WorkerStopTimeout: stopTimeout, DisableWorkflowWorker: true,
		// Jobs hold seats for their runs, so this bounds only what comes together by accident: ends that are still being tidied
		// up, seats that have moved.
		MaxConcurrentActivityExecutionSize: 4*slots + 20, MaxConcurrentActivityTaskPollers: 4,
		// A stop comes with a heartbeat's answer.
		MaxHeartbeatThrottleInterval: 2 * time.Second,
	})
	run.RegisterActivity(&runner.Activities{Runner: runs})
	stop := worker.New(c, activities.StopQueueOfRunner(runs.RunnerID), worker.Options{
		WorkerStopTimeout: stopTimeout, DisableWorkflowWorker: true,
		MaxConcurrentActivityExecutionSize: stopSlots, MaxConcurrentActivityTaskPollers: 2,
	})
	stop.RegisterActivity(&runner.Activities{Runner: runs})

	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &Worker{workers: []worker.Worker{run, stop}, cancel: cancel, done: make(chan struct{})}
	w.after = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		runs.Wait(ctx)
	}
	w.leave = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		if err := runs.Store.DeregisterRunner(ctx, runs.RunnerID); err != nil {
			logger.Warn("the host could not say that it leaves; tasks may wait for it for a while", "host_id", runs.RunnerID, "error", err)
		}
	}
	w.begin = func() error { hintWaitingJobs(ctx, c, runs.Store, logger); return nil }
	var sweeping sync.WaitGroup
	sweeping.Go(func() {
		sweep(ctx, c, runs, logger, func() { logDuplicateRunners(ctx, c, runs.RunnerID, self, began.Add(duplicateMargin), logger) })
	})
	go func() {
		defer close(w.done)
		defer sweeping.Wait()
		tick := time.NewTicker(heartbeatInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := host.announce(ctx); err != nil && ctx.Err() == nil {
					logger.Warn("the host could not say that it is there", "host_id", runs.RunnerID, "error", err)
				}
			}
		}
	}()
	return w, nil
}

// Start begins to take work. It fails when the engine does not answer.
func (w *Worker) Start() error {
	for i, tw := range w.workers {
		if err := tw.Start(); err != nil {
			for _, started := range w.workers[:i] {
				started.Stop()
			}
			return fmt.Errorf("starting a worker: %w", err)
		}
	}
	if w.begin == nil {
		return nil
	}
	if err := w.begin(); err != nil {
		for _, started := range w.workers {
			started.Stop()
		}
		return err
	}
	return nil
}

// Stop takes no more work and lets go of what is under way: another worker, or this one started again, goes on with it.
func (w *Worker) Stop() {
	if w.cancel != nil {
		w.cancel()
		<-w.done
		w.leave()
	}
	done := make(chan struct{})
	for _, tw := range w.workers {
		go func() { tw.Stop(); done <- struct{}{} }()
	}
	for range w.workers {
		<-done
	}
	if w.after != nil {
		w.after()
	}
}
