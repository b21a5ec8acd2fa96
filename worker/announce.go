package worker

import (
	"context"
	"errors"
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
	"hutong/bfia"
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

	mu     sync.Mutex
	last   driver.Capacity   // announced last; zero before the first time
	images map[string]string // announced last
	// registered is when each provider of Docker had been registered at the last check
	registered map[store.ProviderFilter]time.Time
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

	images, err := a.findImages(ctx)
	if err == nil {
		a.images = images
	} else {
		a.logger.Warn("failed to look for the images of registered providers; keeping the last result",
			"runner_id", a.runner.RunnerID, "error", err)
	}

	return a.runner.Store.PutRunner(ctx, store.Runner{
		Machine: a.runner.Machine, Images: a.images,
		RunnerID: a.runner.RunnerID, NodeID: a.runner.Node,
		Devices:   slices.Sorted(maps.Keys(a.runner.Drivers)),
		TaskQueue: activities.TaskQueueOfRunner(a.runner.RunnerID),
		Slots:     a.offer.Slots, Clock: time.Now(),
		CPUMilli: a.last.CPUMilli, Memory: a.last.Memory, Disk: a.last.Disk, GPU: a.last.GPU,
		Labels: a.offer.Labels})
}

// findImages returns the images that registered providers name and this runner has: the id of each reference,
// and each id that a provider was resolved to. It resolves the images that this runner has not resolved yet.
func (a *announcer) findImages(ctx context.Context) (map[string]string, error) {
	finder, ok := a.runner.Drivers[string(bfia.DeviceDocker)].(driver.ImageFinder)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, capacityTimeout)
	defer cancel()
	providers, err := a.runner.Store.Providers(ctx, store.ProviderFilter{Device: string(bfia.DeviceDocker)})
	if err != nil {
		return nil, err
	}

	asked, found := map[string]bool{}, map[string]string{}
	find := func(ref string) error {
		if ref == "" || asked[ref] {
			return nil
		}
		asked[ref] = true
		id, err := finder.ImageID(ctx, ref)
		if err == nil {
			found[ref], found[id] = id, id
		}
		if errors.Is(err, driver.ErrNoImage) {
			return nil
		}
		return err
	}
	for _, p := range providers {
		resolved := map[string]string{}
		for component := range p.Components {
			image, err := activities.ImageOf(p, component)
			if err != nil {
				return nil, err
			}
			for _, ref := range append(image.Alternatives(), image.Reference) {
				if err := find(ref); err != nil {
					return nil, err
				}
			}
			if id := found[image.Reference]; id != "" && image.IDs[a.runner.RunnerID] == "" {
				resolved[image.Reference] = id
			}
		}
		if len(resolved) > 0 {
			if err := a.runner.Store.ResolveImages(ctx, p, a.runner.RunnerID, resolved); err != nil {
				return nil, err
			}
		}
	}

	return found, nil
}

// providersChanged reports whether a provider of Docker was registered since the last call.
func (a *announcer) providersChanged(ctx context.Context) bool {
	if _, finds := a.runner.Drivers[string(bfia.DeviceDocker)].(driver.ImageFinder); !finds {
		return false
	}
	registered, err := a.runner.Store.Registrations(ctx, string(bfia.DeviceDocker))
	if err != nil {
		return false // the next heartbeat looks, and reports a database that fails
	}
	changed := !maps.Equal(a.registered, registered)
	a.registered = registered

	return changed
}

// sendHeartbeats announces the runner at intervals, and soon after the registration of a provider, whose
// images it resolves then, until ctx ends.
func (a *announcer) sendHeartbeats(ctx context.Context) {
	tick := time.NewTicker(heartbeatInterval)
	defer tick.Stop()
	look := time.NewTicker(registrationInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if !a.providersChanged(ctx) {
				continue
			}
		case <-tick.C:
		}
		if err := a.announce(ctx); err != nil && ctx.Err() == nil {
			a.logger.Warn("failed to send a heartbeat", "runner_id", a.runner.RunnerID, "error", err)
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
