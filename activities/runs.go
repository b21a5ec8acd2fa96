package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// Runner runs containers (or processes) on this host.
type Runner struct {
	Node     string
	RunnerID string
	Store    *store.Store
	Blobs    blob.Store
	Drivers  map[string]driver.Driver // by device
	// System is what containers of a device are told of the party; Storage and LogPath are filled in for each run.
	System func(device string) bfia.System
	// Told passes on what a run says of its end when it is asked; nil leaves it at the run's callback and exit.
	Told func(ctx context.Context, jobID string, report bfia.TaskReport) error
	// StopGrace is what a run gets between SIGTERM and SIGKILL when it is this activity that stops it.
	StopGrace time.Duration
	Logger    *slog.Logger
	// Deployment is a label of the runs: Sweep leaves those of others alone.
	Deployment string

	watched  nameSet // the runs that a RunTask has in hand
	removing sync.WaitGroup
}

// Wait waits for the removals that RunTasks have begun and left behind, until ctx is done: the sweep takes what remains.
func (r *Runner) Wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { r.removing.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// heartbeatEvery keeps well below the heartbeat timeout, so that a stop that comes with it is heard soon.
const heartbeatEvery = 2 * time.Second

// RunTask runs one attempt of one part of a task, to its end: creates its container or finds it, waits, keeps its logs
// and outputs, records its exit, has it removed. Begun again it goes on where the last try was; a container never runs twice.
func (r *Runner) RunTask(ctx context.Context, req PartRequest) (PartResult, error) {
	// Only the wait for the run's end heeds a cancellation, which stops the run: cut off anywhere else it would leave a run
	// that nobody watches. Each other step is short.
	cancelled := ctx
	ctx = context.WithoutCancel(ctx)
	log := r.Logger.With("job_id", req.Key.JobID, "task_id", req.TaskID, "role", req.Part.Self(), "run", runName(req))
	row, err := r.Store.Task(ctx, req.Key.row())
	if err != nil {
		return PartResult{}, fmt.Errorf("reading the row of %s: %w", runName(req), err)
	}
	name := runName(req)
	defer r.watched.hold(name)()
	stopped := PartResult{Failure: at(&bfia.Failure{Kind: bfia.FailedStopped, Message: "stopped before it began"}, req.Key, req.Part)}
	begun := row.ContainerID != "" && row.Attempt == req.Attempt
	switch {
	case row.Attempt > req.Attempt:
		return r.outdated(ctx, req, log)
	case row.ExitCode != nil && row.Attempt == req.Attempt:
		// An earlier try came as far as the exit; only the cleaning is left.
		r.removeAll(ctx, name, log)
		return PartResult{Failure: row.Failure}, nil
	case row.StopRequested && !begun:
		// An earlier try may have created it, and come no further.
		r.removeAll(ctx, name, log)
		return stopped, nil
	}
	rn, err := r.begin(ctx, req, begun)
	if f := startFailure(err); f != nil {
		return PartResult{Failure: at(f, req.Key, req.Part)}, nil
	}
	if err != nil {
		return PartResult{}, err
	}
	startErr := rn.Start(ctx, name)
	switch {
	case startErr == nil || errors.Is(startErr, driver.ErrNotFound):
	case driver.IsNonRetryable(startErr):
		// It never will run. Where the runner has not written that down as its end, this does.
		if err := rn.Stop(ctx, name, 0); err != nil {
			return PartResult{}, fmt.Errorf("giving up %s, which can't be started: %w", name, err)
		}
	default:
		if errors.Is(startErr, driver.ErrCreateAgain) { // for the next try it has not begun
			if err := r.Store.SetTaskContainer(ctx, req.Key.row(), req.Attempt, "", "", ""); err != nil {
				return PartResult{}, fmt.Errorf("recording that %s is to be created again: %w", name, err)
			}
		}
		return PartResult{}, fmt.Errorf("starting %s: %w", name, startErr)
	}
	// A stop that was asked for meanwhile found nothing to stop, perhaps; from here on it finds the run.
	if row, err = r.Store.Task(ctx, req.Key.row()); err != nil {
		return PartResult{}, fmt.Errorf("reading the row of %s: %w", name, err)
	}
	if row.StopRequested || row.Attempt > req.Attempt {
		if err := rn.Stop(ctx, name, r.StopGrace); err != nil {
			return PartResult{}, fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	log.Info("run started", "device", rn.Device())
	exit, err := r.wait(cancelled, rn, req, log)
	if errors.Is(err, driver.ErrNotFound) {
		if row, err = r.Store.Task(ctx, req.Key.row()); err != nil {
			return PartResult{}, fmt.Errorf("reading the row of %s: %w", name, err)
		}
		if row.ExitCode != nil && row.Attempt == req.Attempt {
			// Another try, which was only believed dead, has seen the end and cleaned up.
			return PartResult{Failure: row.Failure}, nil
		}
		exit, err = driver.Exit{Code: driver.UnknownExitCode, Reason: "its container was removed by someone else", FinishedAt: time.Now()}, nil
	}
	if err != nil {
		return PartResult{}, err
	}
	var tail []string
	if exit.Code != 0 {
		tail = r.lastLines(ctx, rn, name)
	}
	failure := at(exitFailure(exit, tail), req.Key, req.Part)
	if exit.Code == driver.StoppedExitCode && driver.IsNonRetryable(startErr) {
		failure = at(&bfia.Failure{Kind: bfia.FailedStart, Message: startErr.Error()}, req.Key, req.Part)
	}
	r.tidyOutputs(ctx, req)
	// Before the exit: once that is recorded, nobody looks at the run any more.
	if err := r.Store.SetTaskFailure(ctx, req.Key.row(), req.TaskID, failure); err != nil {
		return PartResult{}, fmt.Errorf("recording the failure of %s: %w", name, err)
	}
	if err := r.Store.SetTaskExit(ctx, req.Key.row(), req.Attempt, exit.Code, failure.Text(), exit.FinishedAt); err != nil {
		return PartResult{}, fmt.Errorf("recording the exit of %s: %w", name, err)
	}
	log.Info("run ended", "exit_code", exit.Code, "seconds", exit.FinishedAt.Sub(exit.StartedAt).Seconds())
	// It needs nothing of the host any more, and nothing waits for its removal.
	letGo := r.watched.hold(name)
	r.removing.Go(func() {
		defer letGo()
		r.remove(ctx, rn, name, log)
	})
	return PartResult{Failure: failure}, nil
}

// outdated ends and removes the run of an attempt that another has followed: it counts no more, whatever came of it.
func (r *Runner) outdated(ctx context.Context, req PartRequest, log *slog.Logger) (PartResult, error) {
	if err := r.StopTask(ctx, req, r.StopGrace); err != nil {
		return PartResult{}, err
	}
	r.removeAll(ctx, runName(req), log)
	return PartResult{Failure: at(&bfia.Failure{Kind: bfia.FailedStopped, Message: "another attempt has followed"}, req.Key, req.Part)}, nil
}

// begin creates a run and records it, or finds the one that an earlier try has begun: whatever became of its provider and
// its inputs since.
func (r *Runner) begin(ctx context.Context, req PartRequest, begun bool) (driver.Driver, error) {
	name := runName(req)
	if begun {
		var found driver.Driver
		for _, rn := range r.Drivers {
			runs, err := rn.List(ctx)
			if err != nil {
				return nil, fmt.Errorf("looking for %s on %s: %w", name, rn.Device(), err)
			}
			if found == nil || slices.ContainsFunc(runs, func(run driver.Container) bool { return run.Name == name }) {
				found = rn // where it is; when it is nowhere, any device says so
			}
		}
		return found, nil
	}
	rn, spec, err := r.prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	id, err := rn.Create(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	if err := r.Store.SetTaskContainer(ctx, req.Key.row(), req.Attempt, r.RunnerID, name, id); err != nil {
		return nil, fmt.Errorf("recording the run of %s: %w", name, err)
	}
	return rn, nil
}

// StopTask stops a run, or sees to it that it never begins. The RunTask that waits for it then ends by itself.
func (r *Runner) StopTask(ctx context.Context, req PartRequest, grace time.Duration) error {
	for device, rn := range r.Drivers {
		if err := rn.Stop(ctx, runName(req), grace); err != nil {
			return fmt.Errorf("stopping %s on %s: %w", runName(req), device, err)
		}
	}
	return nil
}

// prepare derives what a run needs from the job's document: the device's runner and the spec.
func (r *Runner) prepare(ctx context.Context, req PartRequest) (driver.Driver, driver.Spec, error) {
	var none driver.Spec
	if err := recordGeneration(ctx, r.Store, req.Key, req.Part); err != nil {
		return nil, none, err
	}
	run, err := deriveRun(ctx, r.Store, req.Key, req.Part, req.TaskID)
	if err != nil {
		return nil, none, err
	}
	providers, err := r.Store.Providers(ctx, store.ProviderFilter{Name: run.Task.Provider, Version: run.Task.Version})
	if err != nil {
		return nil, none, err
	}
	var devices []string
	for device := range r.Drivers {
		devices = append(devices, device)
	}
	provider, ok := chooseProvider(providers, devices)
	if !ok {
		return nil, none, bfia.Errorf(bfia.CodeNotFound, "provider %s:%s is registered for no device of this host (%s)",
			run.Task.Provider, run.Task.Version, strings.Join(devices, ", "))
	}
	metadata, err := registered(provider)
	if err != nil {
		return nil, none, err
	}
	rn := r.Drivers[provider.Device]
	spec := driver.Spec{
		Name: runName(req), Image: metadata.Image, Command: metadata.Command,
		Labels: map[string]string{"job_id": req.Key.JobID, "task_id": req.TaskID, "task": req.Key.Task,
			"role": req.Part.Self(), "component": run.Task.ComponentName},
		Resources: limits(run.Resources),
	}
	if run.Image != "" {
		spec.Image = run.Image
	}
	r.labelOwner(spec.Labels, req)
	if spec.Mounts, err = r.mounts(run); err != nil {
		return nil, none, err
	}
	sys := r.System(provider.Device)
	sys.SessionID = bfia.AttemptSessionID(req.Key.JobID, req.TaskID, req.Attempt)
	sys.Token, sys.TraceID = sys.SessionID, req.Key.JobID
	sys.LogPath = rn.LogPath(spec.Name)
	if _, local := r.Blobs.(*blob.File); local {
		sys.Storage = "file://" + rn.StorageRoot(spec.Name)
	}
	if err := giveControlPort(rn, &spec, &sys); err != nil {
		return nil, none, err
	}
	spec.Env = bfia.Environment(run, sys)
	return rn, spec, nil
}

// jobDocument reads a job's document.
func jobDocument(ctx context.Context, db *store.Store, jobID string) (*bfia.Document, error) {
	doc, err := db.JobDocument(ctx, jobID)
	if err != nil {
		return nil, fmt.Errorf("reading the document of job %s: %w", jobID, err)
	}
	return doc, nil
}

// deriveRun derives from a job's document what one part of a task is in the attempt that taskID names: its inputs, outputs
// and parameters.
func deriveRun(ctx context.Context, db *store.Store, key TaskKey, part bfia.Part, taskID string) (*bfia.ContainerSpec, error) {
	doc, err := jobDocument(ctx, db, key.JobID)
	if err != nil {
		return nil, err
	}
	names := []string{key.Task} // the job may have very many
	for _, c := range doc.DAG.Components {
		if c.Name == key.Task {
			names = append(names, c.Upstreams()...)
		}
	}
	rows, err := db.TasksNamed(ctx, key.JobID, names...)
	if err != nil {
		return nil, fmt.Errorf("reading the tasks of job %s: %w", key.JobID, err)
	}
	ids, generation := map[string]string{}, ""
	for _, row := range rows {
		if row.Name == key.Task && row.Role == part.Role && row.RoleIndex == part.Index {
			generation = row.DatasetGeneration
		}
		if row.TaskID != "" {
			ids[row.Name] = row.OutputTaskID()
		}
		if row.Name == key.Task && row.ReusedTaskID == "" {
			ids[row.Name] = taskID // whatever attempt is now the task's
		}
	}
	spec, err := bfia.NewContainerSpec(doc, db.Describe(ctx), key.Task, part, ids)
	if err != nil {
		return nil, err
	}
	readGeneration(spec, generation)
	return spec, nil
}

// mounts show a run its own inputs and outputs, where the storage is files, and nothing else of it.
func (r *Runner) mounts(run *bfia.ContainerSpec) ([]driver.Mount, error) {
	local, ok := r.Blobs.(*blob.File)
	if !ok {
		return nil, nil // the storage is a service; the container talks to it
	}
	var mounts []driver.Mount
	for _, in := range run.Inputs {
		key := in.Address.Namespace + "/" + in.Address.Name
		source, err := local.Path(key)
		if err != nil {
			return nil, err
		}
		_, err = os.Stat(source)
		switch {
		case in.Key != "" && (errors.Is(err, fs.ErrNotExist) || emptyFolder(source)):
			// Its upstream wrote nothing, as it may; whether that will do is the component's to say. An empty folder is about to
			// go, with the upstream's container.
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking for input %s in the storage: %w", in.Port, err) // the storage is away: worth another try
		case err != nil:
			return nil, bfia.Wrap(bfia.CodeNotFound, err, "input %s: the storage has no dataset %q", in.Port, in.Address.String())
		}
		mounts = append(mounts, driver.Mount{Source: source, Target: key, ReadOnly: true})
	}
	for _, out := range run.Outputs {
		key := out.Address.Namespace + "/" + out.Address.Name
		source, err := local.Path(key)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(source, 0o755); err != nil {
			return nil, fmt.Errorf("making the folder of output %s: %w", out.Port, err)
		}
		// An image may name a user of its own; the storage's root keeps this machine's other users out.
		if err := os.Chmod(source, 0o777); err != nil {
			return nil, fmt.Errorf("opening the folder of output %s: %w", out.Port, err)
		}
		mounts = append(mounts, driver.Mount{Source: source, Target: key})
	}
	return mounts, nil
}

func emptyFolder(path string) bool {
	content, err := os.ReadDir(path)
	return err == nil && len(content) == 0
}

// tidyOutputs removes the folders that were made for outputs which the run did not write.
func (r *Runner) tidyOutputs(ctx context.Context, req PartRequest) {
	local, ok := r.Blobs.(*blob.File)
	if !ok {
		return
	}
	run, err := deriveRun(ctx, r.Store, req.Key, req.Part, req.TaskID)
	if err != nil {
		return // then they stay, and are empty
	}
	for _, out := range run.Outputs {
		if path, err := local.Path(out.Address.Namespace + "/" + out.Address.Name); err == nil {
			_ = os.Remove(path) // fails when something is in it, as it should
			_ = os.Remove(filepath.Dir(path))
		}
	}
}

// removeAll removes a run from whichever device it is on.
func (r *Runner) removeAll(ctx context.Context, name string, log *slog.Logger) {
	for _, rn := range r.Drivers {
		r.remove(ctx, rn, name, log)
	}
}

func (r *Runner) remove(ctx context.Context, rn driver.Driver, name string, log *slog.Logger) {
	if err := rn.Remove(ctx, name); err != nil {
		log.Warn("the run was not removed; the sweep takes it later", "error", err)
	}
}

// runName names an attempt's container, the same whenever it is derived.
func runName(req PartRequest) string {
	name := fmt.Sprintf("%s-%s-%s-%d", req.Key.JobID, req.Key.Task, req.Part.Self(), req.Attempt)
	if len(name) > 100 {
		name = fmt.Sprintf("%s-%s-%d", bfia.TaskID(req.Key.JobID, req.Key.Task), req.Part.Self(), req.Attempt)
	}
	return "hutong-" + name
}

// chooseProvider picks the provider whose device is there, Docker first, Kubernetes last.
func chooseProvider(providers []store.Provider, devices []string) (store.Provider, bool) {
	for _, device := range []bfia.Device{bfia.DeviceDocker, bfia.DeviceProcess, bfia.DeviceKubernetes} {
		if i := slices.IndexFunc(providers, func(p store.Provider) bool { return p.Device == string(device) }); i >= 0 &&
			slices.Contains(devices, string(device)) {
			return providers[i], true
		}
	}
	return store.Provider{}, false
}

func limits(res bfia.Resources) driver.Resources {
	var l driver.Resources
	if res.CPU > 0 {
		l.CPU = res.CPU
	}
	if res.Memory > 0 {
		l.Memory = int64(res.Memory * (1 << 30))
	}
	if res.Disk > 0 {
		l.Disk = int64(res.Disk * (1 << 30))
	}
	return l
}
