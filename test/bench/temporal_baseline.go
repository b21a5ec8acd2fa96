package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// bare is the engine's own rate: workflows whose activities do nothing, on the same server, with a worker of the SDK in
// this process that has as many pollers as a party's.
type temporalBaseline struct {
	client client.Client
	worker worker.Worker
}

const baselineQueue = "bench"

// baselineWorkflow is a workflow of activities in waves, one wave after the other, as a job's tasks are.
func baselineWorkflow(ctx workflow.Context, waves, width int) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range waves {
		var wave []workflow.Future
		for range width {
			wave = append(wave, workflow.ExecuteActivity(ctx, "nothing"))
		}
		for _, f := range wave {
			if err := f.Get(ctx, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// dial connects to the engine, in the namespace of a party.
func (d *deployment) dial(node string) (client.Client, error) {
	return client.Dial(client.Options{HostPort: d.temporal, Namespace: namespaceOf(node), Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
}

func startTemporalBaseline(d *deployment) (*temporalBaseline, error) {
	c, err := d.dial(d.guest)
	if err != nil {
		return nil, err
	}
	w := worker.New(c, baselineQueue, worker.Options{MaxConcurrentWorkflowTaskPollers: 4, MaxConcurrentActivityTaskPollers: 4})
	w.RegisterWorkflowWithOptions(baselineWorkflow, workflow.RegisterOptions{Name: "bare"})
	w.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: "nothing"})
	if err := w.Start(); err != nil {
		c.Close()
		return nil, err
	}
	return &temporalBaseline{client: c, worker: w}, nil
}

func (b *temporalBaseline) stop() {
	b.worker.Stop()
	b.client.Close()
}

// many runs n workflows at once and tells how long it took until the last had ended.
func (b *temporalBaseline) runMany(ctx context.Context, n, waves, width int) (time.Duration, error) {
	began := time.Now()
	err := forEachParallel(n, min(n, 64), func(int) error {
		run, err := b.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: baselineQueue}, "bare", waves, width)
		if err != nil {
			return fmt.Errorf("starting a bare workflow: %w", err)
		}
		return run.Get(ctx, nil)
	})
	return time.Since(began), err
}
