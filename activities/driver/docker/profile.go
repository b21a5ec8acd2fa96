package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"hutong/activities/driver"
	"hutong/bfia"
)

// ContainerUID is the user and group of containers, unless their provider has the exception
// [bfia.Exceptions].Root. No account of a usual machine has it.
const ContainerUID = 65532

var containerUser = fmt.Sprintf("%d:%d", ContainerUID, ContainerUID)

const (
	// DefaultTmpBytes is the default size of a container's /tmp.
	DefaultTmpBytes = 1 << 30
	// DefaultPids is the default limit of a container's processes and threads.
	DefaultPids = 512

	// openFiles limits the open files of a container's processes. Docker Engine may not have the right to
	// raise its own limit, which is often 20,000 or more.
	openFiles = 16384
	// oomScore makes the kernel kill containers before the worker and Docker Engine if the machine runs out
	// of memory.
	oomScore = 500
)

// noDNS is the only name server of containers on an internal network. Docker Engine before version 25.0.5
// forwards their queries to the machine's name server (CVE-2024-29018), by which data can leave. Nothing
// listens at this address of a container.
const noDNS = "127.0.0.1"

// profile restricts a container to what every component needs. Docker Engine's defaults for seccomp and
// AppArmor stay in force, because SecurityOpt names neither.
func (d *Driver) profile(spec driver.Spec, m machine, config *container.Config, host *container.HostConfig) {
	pids := d.opts.Pids
	host.CapDrop = []string{"ALL"}
	host.SecurityOpt = []string{"no-new-privileges"}
	host.Privileged = false
	host.ReadonlyRootfs = !spec.Allow.Writable
	host.CgroupnsMode = container.CgroupnsModePrivate
	host.IpcMode = container.IPCModePrivate
	host.OomScoreAdj = oomScore
	host.Runtime = d.opts.Runtime
	host.Resources.PidsLimit = &pids
	host.Resources.Ulimits = []*container.Ulimit{
		{Name: "core", Soft: 0, Hard: 0},
		{Name: "nofile", Soft: openFiles, Hard: openFiles},
	}
	host.Tmpfs = map[string]string{"/tmp": d.tmpfs()}

	if spec.Allow.Root {
		return
	}
	config.User = containerUser
	if _, given := spec.Env["HOME"]; !given {
		config.Env = append(config.Env, "HOME=/tmp") // that of the image belongs to another user
	}
	if group, ok := m.outputGroup(); ok {
		host.GroupAdd = []string{strconv.Itoa(group)}
	}
}

// tmpfs returns the options of a temporary file system that every user of the container may write to.
// Programs may be run from it, because Python and Java packages load libraries that they unpack there.
func (d *Driver) tmpfs() string {
	return "rw,nosuid,nodev,exec,mode=1777,size=" + strconv.FormatInt(d.opts.TmpBytes, 10)
}

// defaultResources returns the limits of a container, with a slot's share of the machine in place of those
// that its job does not set.
func (d *Driver) defaultResources(r bfia.Resources, m machine) bfia.Resources {
	slots := int64(d.opts.Slots)
	if slots <= 0 {
		return r
	}
	cpu, memory := cmp.Or(d.opts.CPUMilli, m.capacity.CPUMilli), cmp.Or(d.opts.Memory, m.capacity.Memory)
	if r.CPUMilli == 0 {
		r.CPUMilli = cpu / slots
	}
	if r.Memory == 0 && memory > 0 {
		r.Memory = max(memory/slots, minMemory)
	}

	return r
}

// hideVolumes covers the folders that an image declares as volumes with temporary file systems. Docker Engine
// would create volumes there, on which a container could fill the disk.
func (d *Driver) hideVolumes(ctx context.Context, spec driver.Spec, host *container.HostConfig) error {
	if spec.Allow.Writable {
		return nil
	}
	volumes, err := d.imageVolumes(ctx, spec.Image)
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		if volume != logMount && !strings.HasPrefix(volume+"/", d.StorageRoot("")+"/") {
			host.Tmpfs[volume] = d.tmpfs()
		}
	}

	return nil
}

// imageVolumes returns the volumes that an image declares. It returns none if the runner lacks the image,
// which the creation of the container reports.
func (d *Driver) imageVolumes(ctx context.Context, ref string) ([]string, error) {
	if known, ok := d.volumes.Load(ref); ok {
		return known.([]string), nil
	}
	image, err := d.calls.ImageInspect(ctx, ref)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read the volumes of image %s: %w", ref, classify(err))
	}
	var volumes []string
	if image.Config != nil {
		volumes = slices.Sorted(maps.Keys(image.Config.Volumes))
	}
	if image.ID == ref { // a reference can get another image
		d.volumes.Store(ref, volumes)
	}

	return volumes, nil
}
