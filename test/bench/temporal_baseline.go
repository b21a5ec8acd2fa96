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

// temporalBaseline runs workflows whose activities do nothing on the same Temporal server. Its worker has as
// many pollers as a party's.
type temporalBaseline struct {
	client client.Client
	worker worker.Worker
}

const baselineQueue = "bench"

// baselineWorkflow runs activities in waves, one wave after the other, like a job's tasks.
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

// dial connects to the Temporal server, in the namespace of a party.
func (d *deployment) dial(node string) (client.Client, error) {
	return client.Dial(
		client.Options{HostPort: d.temporal, Namespace: namespaceOf(node),
			Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))},
	)
}

func startTemporalBaseline(d *deployment) (*temporalBaseline, error) {
	c, err := d.dial(d.guest)
	if err != nil {
		return nil, err
	}
	w := worker.New(c, baselineQueue,
		worker.Options{MaxConcurrentWorkflowTaskPollers: 4, MaxConcurrentActivityTaskPollers: 4})
	w.RegisterWorkflowWithOptions(baselineWorkflow, workflow.RegisterOptions{Name: "bare"})
	w.RegisterActivityWithOptions(func(context.Context) error { return nil },
		activity.RegisterOptions{Name: "nothing"})
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

// runMany runs n workflows at once and returns the time until the last has ended.
func (b *temporalBaseline) runMany(ctx context.Context, n, waves, width int) (time.Duration, error) {
	began := time.Now()
	err := forEachParallel(n, min(n, 64), func(int) error {
		run, err := b.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: baselineQueue},
			"bare", waves, width)
		if err != nil {
			return fmt.Errorf("failed to start a workflow: %w", err)
		}
		return run.Get(ctx, nil)
	})
	return time.Since(began), err
}
