package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"hutong/activities/driver"
)

const (
	pidsLimit = 4096
	logTmpfs  = "rw,nosuid,nodev,noexec,size=256m,mode=1777"
	logFiles  = 2
	minMemory = 6 << 20 // the Engine takes no lower memory limit
)

// Create makes the container, and the party's network before the first one.
func (d *Driver) Create(ctx context.Context, spec driver.Spec) (string, error) {
	id, err := d.create(ctx, spec)
	return id, driver.WrapError("create", spec.Name, err)
}

func (d *Driver) create(ctx context.Context, spec driver.Spec) (string, error) {
	if err := d.check(&spec); err != nil {
		return "", err
	}
	network, err := d.ensureNetwork(ctx)
	if err != nil {
		return "", err
	}
	unlock, err := d.locks.Lock(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	config, host := d.containerConfig(spec, network)
	for attempt := 0; ; attempt++ {
		made, err := d.calls.ContainerCreate(ctx, config, host, nil, nil, spec.Name)
		switch {
		case err == nil:
			return made.ID, nil
		case cerrdefs.IsNotFound(err):
			return "", d.imageMissing(ctx, spec.Image, err)
		case !cerrdefs.IsConflict(err):
			return "", classify(err)
		}
		found, err := d.find(ctx, spec.Name, spec.Name)
		if err == nil {
			return found.ID, nil
		}
		// The name is taken but nothing is there: it is being made by a request
		// whose caller died, or being removed.
		if !errors.Is(err, driver.ErrNotFound) || attempt == 50 {
			return "", err
		}
		if err := driver.Sleep(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
}

func (d *Driver) check(spec *driver.Spec) error {
	if err := spec.Check(); err != nil {
		return err
	}
	if spec.Image == "" {
		return driver.NonRetryablef("the image is missing")
	}
	if m := spec.Resources.Memory; m > 0 && m < minMemory {
		return driver.NonRetryablef("resources: %d bytes of memory; Docker takes no less than %d", m, minMemory)
	}
	if strings.HasSuffix(spec.Name, markerSuffix) {
		return driver.NonRetryablef("name %q: the ending %q is reserved", spec.Name, markerSuffix)
	}
	for name := range spec.Labels {
		if name == "" || isOwnLabel(labelPrefix+name) {
			return driver.NonRetryablef("label %q is reserved", name)
		}
	}
	return nil
}

func (d *Driver) imageMissing(ctx context.Context, image string, err error) error {
	if _, inspectErr := d.calls.ImageInspect(ctx, image); cerrdefs.IsNotFound(inspectErr) {
		return driver.NonRetryable(noImage{fmt.Errorf("the image %s is not on this host; pull or load it there: docker pull %s", image, image)})
	}
	return err
}

func (d *Driver) containerConfig(spec driver.Spec, network networkInfo) (*container.Config, *container.HostConfig) {
	initProcess, limit := false, int64(pidsLimit)
	config := &container.Config{
		Image:       spec.Image,
		Cmd:         spec.Command,
		Env:         driver.Environ(spec.Env),
		Labels:      d.labels(spec),
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(network.id),
		ExtraHosts:    []string{d.opts.PartyHost + ":" + network.gateway.String()},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		CapDrop:       []string{"ALL"},
		SecurityOpt:   []string{"no-new-privileges"},
		Init:          &initProcess,
		Tmpfs:         map[string]string{d.LogPath(spec.Name): logTmpfs},
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": strconv.FormatInt(max(d.opts.MaxLog/logFiles, 1), 10),
			"max-file": strconv.Itoa(logFiles),
		}},
		Resources: container.Resources{
			NanoCPUs:  int64(spec.Resources.CPU * 1e9),
			Memory:    spec.Resources.Memory,
			PidsLimit: &limit,
		},
	}
	if spec.Resources.Memory > 0 {
		host.MemorySwap = spec.Resources.Memory
	}
	if os.Geteuid() != 0 {
		// The directories it mounts belong to the worker's user, and without this
		// root in the container could not write to them.
		host.CapAdd = []string{"DAC_OVERRIDE"}
	}
	for _, m := range spec.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{
			Type:     mount.TypeBind,
			Source:   m.Source,
			Target:   path.Join(d.StorageRoot(spec.Name), path.Clean(m.Target)),
			ReadOnly: m.ReadOnly,
		})
	}
	return config, host
}

type noImage struct{ error }

func (noImage) Is(target error) bool { return target == driver.ErrNoImage }
