package runner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

// Labels that name a container's owner; see [Runner.Sweep].
const (
	labelDeployment = "deployment"
	labelAttempt    = "attempt"
)

// labelOwner sets the labels that name a container's owner.
func (r *Runner) labelOwner(labels map[string]string, req activities.PartRequest) {
	labels[labelDeployment], labels[labelAttempt] = r.Deployment, strconv.Itoa(req.Attempt)
}

// Sweep stops and removes this deployment's orphaned containers on this runner: those that no running job
// owns, left by a crash, a lost runner or a terminated workflow. It leaves containers that are just being
// created, that a RunTask watches, or whose exit a RunTask still has to read. jobRunning asks for the
// participant's workflow of a job. Sweep can be repeated.
func (r *Runner) Sweep(ctx context.Context, jobRunning activities.JobRunning) error {
	var failed []error
	for device, d := range r.Drivers {
		containers, err := d.List(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("failed to list the containers on %s: %w", device, err))
			continue
		}
		for _, container := range containers {
			if err := r.sweepContainer(ctx, d, container, jobRunning); err != nil {
				failed = append(failed, fmt.Errorf("failed to sweep container %s on %s: %w", container.Name,
					device, err))
			}
		}
	}
	return errors.Join(failed...)
}

// sweepContainer decides on one container, and removes it if it is an orphan.
func (r *Runner) sweepContainer(ctx context.Context, d driver.Driver, container driver.Container,
	jobRunning activities.JobRunning) error {
	if container.Labels[labelDeployment] != r.Deployment {
		return nil // another deployment of the same party, on the same Docker Engine
	}
	f := foundContainer{container: container, runnerID: r.RunnerID, watched: r.watched.has(container.Name),
		now: time.Now()}
	f.attempt, _ = strconv.Atoi(container.Labels[labelAttempt])
	jobID := container.Labels["job_id"]
	key := store.TaskKey{JobID: jobID, Name: container.Labels["task"]}
	if dot := strings.LastIndexByte(container.Labels["role"], '.'); dot >= 0 {
		key.Role = container.Labels["role"][:dot]
		key.RoleIndex, _ = strconv.Atoi(container.Labels["role"][dot+1:])
	}
	row, err := r.Store.Task(ctx, key)
	switch {
	case err == nil:
		f.row = &row
	case bfia.CodeOf(err) != bfia.CodeNotFound:
		return fmt.Errorf("failed to read its row: %w", err)
	}
	what, reason := f.judge()
	if what == askTemporal {
		running, closed, err := jobRunning(ctx, jobID)
		if err != nil {
			return fmt.Errorf("failed to ask Temporal whether job %s runs: %w", jobID, err)
		}
		if running {
			return nil
		}
		what, reason = removeContainer, reason+", and the job's workflow "+closed
	}
	if what == keepContainer {
		return nil
	}
	log := r.Logger.With("job_id", jobID, "task_id", container.Labels["task_id"], "role",
		container.Labels["role"], "container", container.Name)
	if err := d.Stop(ctx, container.Name, r.StopGrace); err != nil {
		return fmt.Errorf("failed to stop it (%s): %w", reason, err)
	}
	r.ownOutputs(ctx, d, container.Name, log)
	if err := d.Remove(ctx, container.Name); err != nil {
		return fmt.Errorf("failed to remove it (%s): %w", reason, err)
	}
	if r.OnOrphanRemoved != nil {
		r.OnOrphanRemoved()
	}
	log.Info("removed an orphaned container", "device", d.Device(), "state", string(container.State),
		"reason", reason)
	return nil
}

// verdict says what happens to a container.
type verdict int

const (
	keepContainer verdict = iota
	removeContainer
	askTemporal // remove it unless the job's workflow runs
)

// foundContainer holds all that is known of a container without asking Temporal.
type foundContainer struct {
	container driver.Container
	attempt   int         // the container's; 0 if its label is missing
	row       *store.Task // nil if the task is unknown
	runnerID  string      // of this runner
	watched   bool        // a RunTask of this process handles it
	now       time.Time
}

// sweepGrace is the time after its recorded exit in which a container is left to the RunTask that recorded
// it.
const sweepGrace = time.Minute

// judge returns what happens to a container, and why.
func (f foundContainer) judge() (verdict, string) {
	switch row := f.row; {
	case f.watched:
		return keepContainer, "a RunTask of this worker watches it"
	case row == nil:
		return askTemporal, "its task is unknown at this party"
	case f.attempt < row.Attempt:
		return removeContainer, fmt.Sprintf("attempt %d superseded its attempt %d", row.Attempt, f.attempt)
	case f.attempt > row.Attempt:
		return askTemporal, fmt.Sprintf("the task is at attempt %d, but this is attempt %d", row.Attempt,
			f.attempt)
	case row.ContainerID != "" && row.RunnerID != f.runnerID:
		return removeContainer, "the task runs on runner " + row.RunnerID
	case row.ExitCode != nil && row.ExitedAt != nil && f.now.Sub(*row.ExitedAt) >= sweepGrace:
		return removeContainer, "its exit is recorded"
	case row.ExitCode != nil:
		return keepContainer, "its exit was recorded a moment ago"
	case row.ContainerID == "":
		return askTemporal, "it was created, but not recorded"
	case row.State.Terminal():
		return askTemporal, "its task has ended, but its exit is not recorded"
	}
	return askTemporal, "no worker watches it"
}

// nameSet counts the holders of names.
type nameSet struct {
	mu    sync.Mutex
	names map[string]int
}

// hold adds a holder of a name until release is called.
func (s *nameSet) hold(name string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = map[string]int{}
	}
	s.names[name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.names[name]--; s.names[name] == 0 {
			delete(s.names, name)
		}
	}
}

func (s *nameSet) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name] > 0
}
