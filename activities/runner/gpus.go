package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

// labelGPUs names the GPUs of a container, separated by commas.
const labelGPUs = "gpus"

// gpuPollInterval is the interval at which a part that waits for GPUs looks for free ones.
const gpuPollInterval = time.Second

// busyGPUs is the error of a container for which too few GPUs are free now.
type busyGPUs struct {
	wanted, free, all int
	runnerID          string
	holders           []string // the containers that have the others
}

func (e *busyGPUs) Error() string {
	return fmt.Sprintf("waits for %d of the GPUs of runner %s: %d of %d are free; the others are held until "+
		"these containers have ended: %s", e.wanted, e.runnerID, e.free, e.all, strings.Join(e.holders, ", "))
}

// createWithGPUs calls createNew. Reservations bound how many GPUs containers have, so too few are free only
// while a container of an earlier task still ends. It waits for that, and records the wait. It returns a
// result if the part is stopped meanwhile.
func (t *taskRun) createWithGPUs(cancellable context.Context) (*activities.PartResult, error) {
	ctx, beaten := context.WithoutCancel(cancellable), time.Now()
	for {
		err := t.createNew(ctx)
		var busy *busyGPUs
		if !errors.As(err, &busy) {
			return nil, err
		}
		t.noteWait(ctx, &bfia.Waiting{Kind: bfia.WaitsForGPU, Message: busy.Error()})
		if time.Since(beaten) >= activities.HeartbeatInterval {
			t.heartbeat(cancellable)
			beaten = time.Now()
		}
		select {
		case <-time.After(gpuPollInterval):
		case <-cancellable.Done():
		case <-activity.GetWorkerStopChannel(ctx):
			return nil, fmt.Errorf("the worker is shutting down; another worker continues: %w", err)
		}
		if result, err := t.settle(ctx); result != nil || err != nil {
			return result, err
		}
		if cancellable.Err() != nil {
			return nil, context.Cause(cancellable)
		}
	}
}

// freeGPUs returns the first n GPUs of this runner that no container has, or a [*busyGPUs].
func (r *Runner) freeGPUs(ctx context.Context, name string, n int64) ([]string, error) {
	if n > int64(len(r.GPUs)) {
		return nil, driver.NonRetryablef("it requests %d GPUs, but runner %s has %d (runner.gpus)",
			n, r.RunnerID, len(r.GPUs))
	}
	used, busy := map[string]bool{}, &busyGPUs{wanted: int(n), runnerID: r.RunnerID, all: len(r.GPUs)}
	for device, d := range r.Drivers {
		containers, err := d.List(ctx)
		if err != nil {
			return nil, fmt.Errorf("failed to look for the GPUs in use on %s: %w", device, err)
		}
		for _, c := range containers {
			if c.State == driver.Exited || c.Name == name {
				continue
			}
			for gpu := range strings.SplitSeq(c.Labels[labelGPUs], ",") {
				used[gpu] = true
			}
			if c.Labels[labelGPUs] != "" {
				busy.holders = append(busy.holders, c.Name)
			}
		}
	}

	free := slices.DeleteFunc(slices.Clone(r.GPUs), func(gpu string) bool { return used[gpu] })
	if int64(len(free)) < n {
		slices.Sort(busy.holders)
		busy.free = len(free)

		return nil, busy
	}

	return free[:n], nil
}

// requestedGPUs returns how many GPUs a container gets on this runner: as many as its job requests, or one if
// the job or its provider requires the label of GPUs.
func (r *Runner) requestedGPUs(ctx context.Context, requested int64, record *store.JobRecord,
	provider store.Provider, req activities.PartRequest) (int64, error) {
	if requested > 0 {
		return requested, nil
	}
	ofProvider, err := bfia.ProviderConstraints(provider.Metadata)
	if err != nil {
		return 0, err
	}
	ofJob, err := record.Document.Config.Constraints(req.Key.Task, req.Part)
	if err != nil {
		return 0, err
	}
	if !bfia.RequiresGPU(ofProvider) && !bfia.RequiresGPU(ofJob) {
		return 0, nil
	}
	runners, err := r.Store.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return 0, err
	}
	for _, own := range runners {
		if own.RunnerID == r.RunnerID && own.GPU > 0 {
			return 1, nil
		}
	}

	return 0, nil
}
