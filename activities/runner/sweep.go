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

// Labels of a run that tell whose it is; see [Runner.Sweep].
const (
	labelDeployment = "deployment"
	labelAttempt    = "attempt"
)

// labelOwner tells by a run's labels whose it is.
func (r *Runner) labelOwner(labels map[string]string, req activities.PartRequest) {
	labels[labelDeployment], labels[labelAttempt] = r.Deployment, strconv.Itoa(req.Attempt)
}

// Sweep looks at all runs of this deployment on this host, and ends and removes those that no running job owns: what a
// crash, a lost host or an operator who terminated a workflow has left. What is just being created, what a RunTask
// watches, and what one has yet to read the exit of, stays. goesOn asks for the participant's workflow of a job. Made again
// it finds nothing to do.
func (r *Runner) Sweep(ctx context.Context, goesOn activities.JobRunning) error {
	var failed []error
	for device, d := range r.Drivers {
		runs, err := d.List(ctx)
		if err != nil {
			failed = append(failed, fmt.Errorf("listing the runs on %s: %w", device, err))
			continue
		}
		for _, run := range runs {
			if err := r.sweepRun(ctx, d, run, goesOn); err != nil {
				failed = append(failed, fmt.Errorf("run %s on %s: %w", run.Name, device, err))
			}
		}
	}
	return errors.Join(failed...)
}

func (r *Runner) sweepRun(ctx context.Context, d driver.Driver, run driver.Container, goesOn activities.JobRunning) error {
	if run.Labels[labelDeployment] != r.Deployment {
		return nil // another deployment of the same party, on the same Docker Engine
	}
	f := foundRun{run: run, host: r.RunnerID, watched: r.watched.has(run.Name), now: time.Now()}
	f.attempt, _ = strconv.Atoi(run.Labels[labelAttempt])
	jobID := run.Labels["job_id"]
	key := store.TaskKey{JobID: jobID, Name: run.Labels["task"]}
	if dot := strings.LastIndexByte(run.Labels["role"], '.'); dot >= 0 {
		key.Role = run.Labels["role"][:dot]
		key.RoleIndex, _ = strconv.Atoi(run.Labels["role"][dot+1:])
	}
	row, err := r.Store.Task(ctx, key)
	switch {
	case err == nil:
		f.row = &row
	case bfia.CodeOf(err) != bfia.CodeNotFound:
		return fmt.Errorf("reading its row: %w", err)
	}
	what, reason := f.judge()
	if what == askEngine {
		on, fate, err := goesOn(ctx, jobID)
		if err != nil {
			return fmt.Errorf("asking whether job %s goes on: %w", jobID, err)
		}
		if on {
			return nil
		}
		what, reason = endRun, reason+", and the job's workflow "+fate
	}
	if what == keepRun {
		return nil
	}
	log := r.Logger.With("job_id", jobID, "task_id", run.Labels["task_id"], "role", run.Labels["role"], "run", run.Name)
	if err := d.Stop(ctx, run.Name, r.StopGrace); err != nil {
		return fmt.Errorf("stopping it, since %s: %w", reason, err)
	}
	if err := d.Remove(ctx, run.Name); err != nil {
		return fmt.Errorf("removing it, since %s: %w", reason, err)
	}
	log.Info("removed a run that no job owns", "device", d.Device(), "state", string(run.State), "reason", reason)
	return nil
}

// verdict is what becomes of a run.
type verdict int

const (
	keepRun verdict = iota
	endRun
	askEngine // end it if its job's workflow does not go on
)

// foundRun is all that is known of a run without asking the engine.
type foundRun struct {
	run     driver.Container
	attempt int         // that of the run; 0 when it does not say
	row     *store.Task // nil: there is none
	host    string      // this one
	watched bool        // a RunTask of this process has it in hand
	now     time.Time
}

// sweepGrace is how long a run stays whose exit is recorded: who recorded it removes it.
const sweepGrace = time.Minute

// judge decides what becomes of a run, and tells why.
func (f foundRun) judge() (verdict, string) {
	switch row := f.row; {
	case f.watched:
		return keepRun, "it is watched"
	case row == nil:
		return askEngine, "its task is not known here"
	case f.attempt < row.Attempt:
		return endRun, fmt.Sprintf("attempt %d has followed its attempt %d", row.Attempt, f.attempt)
	case f.attempt > row.Attempt:
		return askEngine, fmt.Sprintf("the task is at attempt %d, and this is %d", row.Attempt, f.attempt)
	case row.ContainerID != "" && row.RunnerID != f.host:
		return endRun, "the task runs on host " + row.RunnerID
	case row.ExitCode != nil && row.ExitedAt != nil && f.now.Sub(*row.ExitedAt) >= sweepGrace:
		return endRun, "its exit is recorded"
	case row.ExitCode != nil:
		return keepRun, "its exit has just been recorded"
	case row.ContainerID == "":
		return askEngine, "it is created, and not recorded"
	case row.State.Terminal():
		return askEngine, "its task has ended, and its exit is not recorded"
	}
	return askEngine, "nobody watches it"
}

// nameSet counts who has a name in hand.
type nameSet struct {
	mu    sync.Mutex
	names map[string]int
}

// hold adds a name until it is let go.
func (s *nameSet) hold(name string) (letGo func()) {
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
