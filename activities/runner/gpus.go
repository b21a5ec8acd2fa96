package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

// labelGPUs names the GPUs of a container, separated by commas.
const labelGPUs = "gpus"

// freeGPUs returns the first n GPUs of this runner that no container has. Reservations bound how many
// containers have: too few are free only while a container of an earlier task still ends, so the error is
// retryable.
func (r *Runner) freeGPUs(ctx context.Context, name string, n int64) ([]string, error) {
	if n > int64(len(r.GPUs)) {
		return nil, driver.NonRetryablef("it requests %d GPUs, but runner %s has %d (runner.gpus)",
			n, r.RunnerID, len(r.GPUs))
	}
	used := map[string]bool{}
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
		}
	}

	free := slices.DeleteFunc(slices.Clone(r.GPUs), func(gpu string) bool { return used[gpu] })
	if int64(len(free)) < n {
		return nil, fmt.Errorf("it waits for %d GPUs of runner %s: %d of %d are free",
			n, r.RunnerID, len(free), len(r.GPUs))
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
