package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
)

// prepare derives what a run needs from the job's document: the device's runner and the spec.
func (r *Runner) prepare(ctx context.Context, req activities.PartRequest) (driver.Driver, driver.Spec, error) {
	var none driver.Spec
	if err := activities.RecordGeneration(ctx, r.Store, req.Key, req.Part); err != nil {
		return nil, none, err
	}
	run, err := activities.ContainerSpec(ctx, r.Store, req.Key, req.Part, req.TaskID)
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
	d := r.Drivers[provider.Device]
	spec := driver.Spec{
		Name: req.ContainerName(), Image: metadata.Image, Command: metadata.Command,
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
	sys.LogPath = d.LogPath(spec.Name)
	if _, local := r.Blobs.(*blob.File); local {
		sys.Storage = "file://" + d.StorageRoot(spec.Name)
	}
	if err := giveControlPort(d, &spec, &sys); err != nil {
		return nil, none, err
	}
	spec.Env = bfia.Environment(run, sys)
	return d, spec, nil
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
func (r *Runner) tidyOutputs(ctx context.Context, req activities.PartRequest) {
	local, ok := r.Blobs.(*blob.File)
	if !ok {
		return
	}
	run, err := activities.ContainerSpec(ctx, r.Store, req.Key, req.Part, req.TaskID)
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

// registered reads what a provider's registration says about how it runs.
func registered(p store.Provider) (bfia.Metadata, error) {
	var m bfia.Metadata
	if err := json.Unmarshal(p.Metadata, &m); err != nil {
		return m, fmt.Errorf("the metadata of provider %s:%s: %w", p.Name, p.Version, err)
	}
	return m, nil
}
