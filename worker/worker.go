package worker

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	housekeepingacts "hutong/activities/housekeeping"
	notificationacts "hutong/activities/notification"
	participantacts "hutong/activities/participant"
	periodicacts "hutong/activities/periodic"
	scheduleracts "hutong/activities/scheduler"
	"hutong/workflows"
	"hutong/workflows/housekeeping"
	"hutong/workflows/notification"
	"hutong/workflows/participant"
	"hutong/workflows/periodic"
	"hutong/workflows/scheduler"
)

const (
	// stopTimeout bounds how long a worker that shuts down waits for its activities. Containers keep running.
	stopTimeout = 10 * time.Second
	// deadlockTimeout bounds how long a workflow may compute without yielding. Workflows compute for
	// microseconds, but the machine may be busy.
	deadlockTimeout = 10 * time.Second
)

// Worker is a group of Temporal workers that start and stop together.
type Worker struct {
	workers []worker.Worker
	onStart func() error // runs after the start
	onStop  func()       // runs before the stop
	onEnd   func()       // runs after the stop
}

// NewControl creates a control worker. Its start also starts the party's housekeeping, unless that is
// running, its restore mark, its notifications, or ends those if notifies is false, and the workflows of its
// periodic jobs.
func NewControl(c client.Client, jobs *scheduleracts.Activities, parts *participantacts.Activities,
	keeping *housekeepingacts.Activities, notifying *notificationacts.Activities, notifies bool,
	recurring *periodicacts.Activities,
) *Worker {
	keeping.Scheduled = jobRunning(c, workflows.SchedulerJobID)
	keeping.Participating = jobRunning(c, workflows.ParticipantJobID)

	w := worker.New(c, activities.ControlQueue, worker.Options{
		Interceptors:      []interceptor.WorkerInterceptor{&failureLogger{}},
		WorkerStopTimeout: stopTimeout, DeadlockDetectionTimeout: deadlockTimeout,
		MaxConcurrentWorkflowTaskPollers: 4, MaxConcurrentActivityTaskPollers: 4,
	})
	RegisterWorkflows(w)
	w.RegisterActivity(jobs)
	w.RegisterActivity(parts)
	w.RegisterActivity(keeping)
	w.RegisterActivity(notifying)
	w.RegisterActivity(recurring)
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	startOthers := func() error {
		if err := startHousekeeping(c); err != nil {
			return err
		}
		if err := startRestoreMark(c, keeping); err != nil {
			return err
		}
		if notifies {
			return startNotifications(c)
		}

		return stopNotifications(c)
	}

	return &Worker{workers: []worker.Worker{w},
		onStart: func() error {
			if err := startOthers(); err != nil {
				cancel()
				return err
			}
			go func() {
				defer close(started)
				keepPeriodicJobs(ctx, c, recurring)
			}()
			return nil
		},
		onStop: func() {
			cancel()
			<-started
		}}
}

// RegisterWorkflows registers all workflows with a worker or a replayer.
func RegisterWorkflows(r worker.WorkflowRegistry) {
	register := func(w any, name string) {
		r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
	register(scheduler.Job, workflows.SchedulerJobType)
	register(scheduler.Job, workflows.QueuedSchedulerJobType)
	register(participant.Job, workflows.ParticipantJobType)
	register(participant.Job, workflows.ReadyParticipantJobType)
	register(housekeeping.Run, workflows.HousekeepingType)
	register(housekeeping.Mark, workflows.RestoreMarkType)
	register(housekeeping.Notify, workflows.RestoreNoticeType)
	register(periodic.Job, workflows.PeriodicJobType)
	register(notification.Watch, workflows.NotificationsType)
	register(notification.Deliver, workflows.NotificationType)
}

// Start starts the workers. It fails if Temporal does not answer.
func (w *Worker) Start() error {
	for i, tw := range w.workers {
		if err := tw.Start(); err != nil {
			stopAll(w.workers[:i])

			return fmt.Errorf("failed to start a worker: %w", err)
		}
	}
	if w.onStart == nil {
		return nil
	}
	if err := w.onStart(); err != nil {
		stopAll(w.workers)

		return err
	}

	return nil
}

// Stop stops the workers. What they were doing continues on another worker, or on this one after a restart.
func (w *Worker) Stop() {
	if w.onStop != nil {
		w.onStop()
	}
	stopAll(w.workers)
	if w.onEnd != nil {
		w.onEnd()
	}
}

// stopAll stops workers at the same time, and waits for all of them.
func stopAll(workers []worker.Worker) {
	done := make(chan struct{})
	for _, tw := range workers {
		go func() { tw.Stop(); done <- struct{}{} }()
	}
	for range workers {
		<-done
	}
}

// timeout returns a context that outlives ctx, with a timeout of its own.
func timeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
