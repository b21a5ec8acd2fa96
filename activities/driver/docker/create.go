package docker

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/dustin/go-humanize"

	"hutong/activities/driver"
)

const (
	logFiles  = 2
	minMemory = 6 << 20 // Docker Engine refuses a lower memory limit
)

// Create creates the container, and the party's network before the first one.
func (d *Driver) Create(ctx context.Context, spec driver.Spec) (string, error) {
	id, err := d.create(ctx, spec)

	return id, driver.WrapError("create", spec.Name, err)
}

func (d *Driver) create(ctx context.Context, spec driver.Spec) (string, error) {
	if err := d.check(&spec); err != nil {
		return "", err
	}

	info, err := d.ensureNetwork(ctx)
	if err != nil {
		return "", err
	}

	unlock, err := d.locks.Lock(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	defer unlock()

	m, err := d.readMachine(ctx)
	if err != nil {
		return "", err
	}
	spec.Resources = d.defaultResources(spec.Resources, m)
	config, host := d.containerConfig(spec, info, m)
	if err := d.hideVolumes(ctx, spec, host); err != nil {
		return "", err
	}
	for attempt := 0; ; attempt++ {
		created, err := d.calls.ContainerCreate(ctx, config, host, d.endpoint(info), nil, spec.Name)
		switch {
		case err == nil:
			return created.ID, nil
		case cerrdefs.IsNotFound(err):
			return "", d.checkImage(ctx, spec.Image, err)
		case !cerrdefs.IsConflict(err):
			return "", classify(err)
		}

		found, err := d.find(ctx, spec.Name, spec.Name)
		if err == nil {
			return found.ID, nil
		}

		// The name is taken, but no container has it: a request whose caller died still creates it, or it is
		// being removed.
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
		return driver.NonRetryablef("resources: %s of memory are too little; Docker requires at least %s",
			humanize.IBytes(uint64(m)), humanize.IBytes(minMemory))
	}

	if strings.HasSuffix(spec.Name, markerSuffix) {
		return driver.NonRetryablef("name %q: the suffix %q is reserved", spec.Name, markerSuffix)
	}

	for name := range spec.Labels {
		if name == "" || isReservedLabel(labelPrefix+name) {
			return driver.NonRetryablef("label %q is reserved", name)
		}
	}

	return nil
}

// missingImage is an ErrNoImage with a message of its own.
type missingImage struct{ error }

func (missingImage) Is(target error) bool { return target == driver.ErrNoImage }

var _ driver.ImageFinder = (*Driver)(nil)

// ImageID returns the id of an image by its reference or id.
func (d *Driver) ImageID(ctx context.Context, ref string) (string, error) {
	image, err := d.calls.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		err = driver.ErrNoImage
	}

	return image.ID, driver.WrapError("find image "+ref, "", err)
}

// checkImage returns a non-retryable error if the runner does not have the image, and otherwise err.
func (d *Driver) checkImage(ctx context.Context, image string, err error) error {
	if _, inspectErr := d.calls.ImageInspect(ctx, image); cerrdefs.IsNotFound(inspectErr) {
		return driver.NonRetryable(missingImage{fmt.Errorf(
			"the image %s is not on this runner; pull or load it there: docker pull %s", image, image)})
	}

	return err
}

// endpoint names the party's network by its id. With the mode alone, Docker Engine looks the network up by
// its name when it starts the container, and fails if another network has that name too.
func (d *Driver) endpoint(info networkInfo) *network.NetworkingConfig {
	if d.opts.HostNetwork {
		return nil
	}

	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		d.opts.Network: {NetworkID: info.id},
	}}
}

func (d *Driver) containerConfig(spec driver.Spec, info networkInfo, m machine,
) (*container.Config, *container.HostConfig) {
	initProcess := false
	config := &container.Config{
		Image:       spec.Image,
		Cmd:         spec.Command,
		Env:         driver.Environ(spec.Env),
		Labels:      d.labels(spec),
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(info.id),
		ExtraHosts:    []string{d.opts.PartyHost + ":" + info.gateway.String()},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Init:          &initProcess,
		ShmSize:       d.sharedMemory(spec.Resources.Memory, m),
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
			"max-size": strconv.FormatInt(max(d.opts.MaxLog/logFiles, 1), 10),
			"max-file": strconv.Itoa(logFiles),
		}},
		Resources: container.Resources{
			NanoCPUs: spec.Resources.CPUMilli * 1e6,
			Memory:   spec.Resources.Memory,
		},
	}

	if spec.Resources.Memory > 0 {
		host.MemorySwap = spec.Resources.Memory
	}

	d.profile(spec, m, config, host)
	if info.internal {
		host.DNS, host.DNSOptions = []string{noDNS}, []string{"attempts:1", "timeout:1"}
	}
	addGPUs(&host.Resources, spec.GPUs)

	// An anonymous volume outlives the container's end, so that its log files can be read, and is removed
	// with it. What an image has at its path, such as symbolic links, is not copied to it.
	host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Target: logMount,
		VolumeOptions: &mount.VolumeOptions{NoCopy: true}})

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

// sharedMemory returns the size of /dev/shm. Docker Engine's own default of 64 MiB is too little for
// frameworks that pass tensors between processes there. What is in it counts against the container's memory
// limit.
func (d *Driver) sharedMemory(limit int64, m machine) int64 {
	switch {
	case d.opts.SharedMemory > 0:
		return d.opts.SharedMemory
	case limit > 0:
		return limit
	}

	return m.memory / 2 // as Linux does for the machine's own /dev/shm
}

// addGPUs gives a container GPUs: NVIDIA's and those with a CDI name by requests to Docker Engine, others as
// device files.
func addGPUs(r *container.Resources, gpus []string) {
	var nvidia, cdi []string
	for _, gpu := range gpus {
		switch driver.KindOfGPU(gpu) {
		case driver.GPUNvidia:
			nvidia = append(nvidia, gpu)
		case driver.GPUCDI:
			cdi = append(cdi, gpu)
		case driver.GPUDeviceFile:
			r.Devices = append(r.Devices,
				container.DeviceMapping{PathOnHost: gpu, PathInContainer: gpu, CgroupPermissions: "rwm"})
		}
	}
	if len(nvidia) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{
			Driver: "nvidia", DeviceIDs: nvidia, Capabilities: [][]string{{"gpu"}}})
	}
	if len(cdi) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
}
