package runner

import (
	"cmp"
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

// prepare derives the container of a part from the job's record. It returns the driver that runs it, and
// its spec.
func (r *Runner) prepare(ctx context.Context, req activities.PartRequest,
) (driver.Driver, driver.Spec, error) {
	var none driver.Spec
	container, err := activities.ContainerSpec(ctx, r.Store, req.Key, req.Part, req.TaskID)
	if err != nil {
		return nil, none, err
	}

	record, err := activities.JobRecord(ctx, r.Store, req.Key.JobID)
	if err != nil {
		return nil, none, err
	}
	task := container.Task
	entries := record.Registry.Entries(task.Provider, task.Version, task.ComponentName)
	var devices []string
	for device := range r.Drivers {
		devices = append(devices, device)
	}
	provider, ok := chooseProvider(entries, devices)
	if !ok {
		return nil, none, bfia.Errorf(bfia.CodeNotFound,
			"provider %s:%s had component %s for no device of this runner (%s) when the job was created",
			task.Provider, task.Version, task.ComponentName, strings.Join(devices, ", "))
	}
	metadata, err := parseMetadata(provider)
	if err != nil {
		return nil, none, err
	}

	allow, err := r.allowed(provider, metadata)
	if err != nil {
		return nil, none, err
	}
	d := r.Drivers[provider.Device]
	image, err := r.fixImage(ctx, d, record, provider, req, task.ComponentName)
	if err != nil {
		return nil, none, err
	}
	spec := driver.Spec{
		Name: req.ContainerName(), Image: image.RunOn(r.RunnerID), Command: metadata.Command,
		Labels: map[string]string{"job_id": req.Key.JobID, "task_id": req.TaskID, "task": req.Key.Task,
			"role": req.Part.Self(), "component": task.ComponentName},
		Resources: container.Resources, Allow: allow,
	}
	spec.Resources.GPU, err = r.requestedGPUs(ctx, container.Resources.GPU, record, provider, req)
	if err != nil {
		return nil, none, err
	}
	r.labelOwner(spec.Labels, req)
	if spec.Mounts, err = r.mounts(container); err != nil {
		return nil, none, err
	}

	sys := r.System(provider.Device, spec.Name)
	sys.SessionID = bfia.AttemptSessionID(req.Key.JobID, req.TaskID, req.Attempt, metadata.Session)
	sys.Token, sys.TraceID = cmp.Or(sys.Token, sys.SessionID), req.Key.JobID
	sys.LogPath = d.LogPath(spec.Name)
	spec.Labels[labelSession] = sys.SessionID
	if _, local := blob.Folder(r.Blobs); local {
		sys.Storage = "file://" + d.StorageRoot(spec.Name)
	}
	if err := addControlPort(d, &spec, &sys); err != nil {
		return nil, none, err
	}
	spec.Env = bfia.Environment(container, sys)
	if r.TraceParent != nil {
		if parent := r.TraceParent(ctx); parent != "" {
			spec.Env["TRACEPARENT"] = parent
		}
	}
	return d, spec, nil
}

// allowed returns the exceptions from the container profile that a provider asks for, if all of them were
// approved when the job was created.
func (r *Runner) allowed(provider store.Provider, metadata bfia.Metadata) (bfia.Exceptions, error) {
	missing := metadata.Allow.Beyond(provider.Allowed)
	if missing == (bfia.Exceptions{}) || r.AllowExceptions || provider.Device == string(bfia.DeviceProcess) {
		return metadata.Allow, nil
	}

	return bfia.Exceptions{}, bfia.Errorf(bfia.CodeForbidden,
		"provider %s:%s asks for exceptions from the container profile (%s) that no administrator approved: run "+
			"'hutong provider allow %[1]s:%[2]s %[4]s' and submit the job again", provider.Name, provider.Version,
		missing, metadata.Allow)
}

// mounts returns the mounts of a container's own inputs and outputs, if the storage is a folder. An S3
// storage needs none.
func (r *Runner) mounts(container *bfia.ContainerSpec) ([]driver.Mount, error) {
	local, ok := blob.Folder(r.Blobs)
	if !ok {
		return nil, nil // the storage is a service; the container talks to it
	}
	var mounts []driver.Mount
	for _, in := range container.Inputs {
		key := in.Address.Namespace + "/" + in.Address.Name
		source, err := local.Path(key)
		if err != nil {
			return nil, err
		}
		_, err = os.Stat(source)
		switch {
		case !in.IsRootDataset() && (errors.Is(err, fs.ErrNotExist) || emptyFolder(source)):
			// The upstream task, or the training of the model, may have written nothing. The component
			// decides whether it can do without. An empty folder is removed with the upstream's container.
			continue
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			// retryable
			return nil, fmt.Errorf("failed to look for input %s in the storage: %w", in.Port, err)
		case err != nil:
			return nil, bfia.Wrap(bfia.CodeNotFound, err, "input %s: the storage has no dataset %q", in.Port,
				in.Address.String())
		}
		// Two inputs may be the same output, such as the rows to train with and to validate with.
		mount := driver.Mount{Source: source, Target: key, ReadOnly: true}
		if !slices.Contains(mounts, mount) {
			mounts = append(mounts, mount)
		}
	}
	for _, out := range container.Outputs {
		key := out.Address.Namespace + "/" + out.Address.Name
		source, err := local.Path(key)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(source, 0o755); err != nil {
			return nil, fmt.Errorf("failed to create the folder of output %s: %w", out.Port, err)
		}
		mounts = append(mounts, driver.Mount{Source: source, Target: key})
	}
	return mounts, nil
}

// emptyFolder reports whether path is an empty folder.
func emptyFolder(path string) bool {
	content, err := os.ReadDir(path)
	return err == nil && len(content) == 0
}

// tidyOutputs removes the folders of outputs that the container did not write.
func (r *Runner) tidyOutputs(ctx context.Context, req activities.PartRequest) {
	local, ok := blob.Folder(r.Blobs)
	if !ok {
		return
	}
	container, err := activities.ContainerSpec(ctx, r.Store, req.Key, req.Part, req.TaskID)
	if err != nil {
		return // the folders stay, empty
	}
	for _, out := range container.Outputs {
		if path, err := local.Path(out.Address.Namespace + "/" + out.Address.Name); err == nil {
			_ = os.Remove(path) // fails for a folder with content, as intended
			_ = os.Remove(filepath.Dir(path))
		}
	}
}

// chooseProvider returns the provider for one of the runner's devices, Docker first, Kubernetes last.
func chooseProvider(providers []store.Provider, devices []string) (store.Provider, bool) {
	for _, device := range []bfia.Device{bfia.DeviceDocker, bfia.DeviceProcess, bfia.DeviceKubernetes} {
		if i := slices.IndexFunc(providers,
			func(p store.Provider) bool { return p.Device == string(device) }); i >= 0 &&
			slices.Contains(devices, string(device)) {
			return providers[i], true
		}
	}
	return store.Provider{}, false
}

// parseMetadata reads the image and command of a registered provider.
func parseMetadata(p store.Provider) (bfia.Metadata, error) {
	var m bfia.Metadata
	if err := json.Unmarshal(p.Metadata, &m); err != nil {
		return m, fmt.Errorf("failed to read the metadata of provider %s:%s: %w", p.Name, p.Version, err)
	}
	return m, nil
}
