package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"hutong/activities/driver"
)

// Options say for which party containers run, and how.
type Options struct {
	// NodeID is the party's; only what carries it as a label is ever touched.
	NodeID string

	// Network is the name of the party's bridge network, made when it is not
	// there; "" is "hutong-" and the node id in lower case.
	Network string

	// HostNetwork runs containers on the host's network instead. They start in about half the
	// time, reach everything that listens on the host, and are not kept apart from each other.
	HostNetwork bool

	// PartyHost is the name by which containers reach the host they run on,
	// where their party listens; "" is "hutong".
	PartyHost string

	// Host is the Docker Engine's address; "" is DOCKER_HOST or the default socket.
	Host string

	// MaxLog is how many bytes of each run's output are kept, the last ones; 0 is 100 MiB.
	MaxLog int64
}

// Driver runs containers. Make one with New.
type Driver struct {
	opts  Options
	locks driver.LockDir

	calls  *client.Client // with a timeout: a hanging Engine must not hang us
	stream *client.Client // without: for waits and logs, which take as long as a run does

	mu      sync.Mutex
	network *networkInfo // nil until ensured
	hostID  string
}

type networkInfo struct {
	id      string // containers are attached by it: names are not unique in Docker
	gateway netip.Addr
}

const (
	labelPrefix    = "hutong."
	labelNode      = labelPrefix + "node_id"
	labelRun       = labelPrefix + "run"
	labelStopped   = labelPrefix + "stopped" // marks what stands in for a run stopped before its start
	requestTimeout = 2 * time.Minute
)

var _ driver.Driver = (*Driver)(nil)

// New makes a Runner for containers. It does not talk to the Engine yet,
// so it works while the Engine is down.
func New(opts Options) (*Driver, error) {
	if opts.NodeID == "" {
		return nil, driver.NonRetryablef("docker runner: the node id is missing")
	}
	if opts.Network == "" {
		opts.Network = "hutong-" + strings.ToLower(opts.NodeID)
	}
	if opts.PartyHost == "" {
		opts.PartyHost = "hutong"
	}
	if opts.MaxLog == 0 {
		opts.MaxLog = driver.DefaultMaxLog
	}
	d := &Driver{opts: opts, locks: driver.LockDir(filepath.Join(os.TempDir(), fmt.Sprintf("hutong-locks-%d", os.Geteuid())))}
	clientOpts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if opts.Host != "" {
		clientOpts = append(clientOpts, client.WithHost(opts.Host))
	}
	var err error
	if d.stream, err = client.NewClientWithOpts(clientOpts...); err != nil {
		return nil, fmt.Errorf("docker runner: %w", err)
	}
	if d.calls, err = client.NewClientWithOpts(append(clientOpts, client.WithTimeout(requestTimeout))...); err != nil {
		return nil, fmt.Errorf("docker runner: %w", err)
	}
	return d, nil
}

// Close closes idle connections to the Engine. Runs go on.
func (d *Driver) Close() error {
	return errors.Join(d.calls.Close(), d.stream.Close())
}

// Device is "docker".
func (d *Driver) Device() string { return "docker" }

// RunnerID is the Docker Engine's id.
func (d *Driver) RunnerID(ctx context.Context) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hostID == "" {
		info, err := d.calls.Info(ctx)
		if err != nil {
			return "", driver.WrapError("ask the Docker Engine for its id", "", classify(err))
		}
		d.hostID = info.ID
	}
	return d.hostID, nil
}

// StorageRoot is the same for every container.
func (d *Driver) StorageRoot(string) string { return path.Join(driver.ContainerRoot, "storage") }

// LogPath is a file system in memory that goes when the container ends. It counts
// against the container's memory.
func (d *Driver) LogPath(string) string { return path.Join(driver.ContainerRoot, "logs") }

// List tells the party's containers.
func (d *Driver) List(ctx context.Context) ([]driver.Container, error) {
	list, err := d.calls.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", labelNode+"="+d.opts.NodeID), filters.Arg("label", labelRun)),
	})
	if err != nil {
		return nil, driver.WrapError("list containers", "", classify(err))
	}
	runs := make([]driver.Container, 0, len(list))
	for _, c := range list {
		run := driver.Container{
			Name: c.Labels[labelRun], ID: c.ID, State: driver.Exited,
			Labels: specLabels(c.Labels), CreatedAt: time.Unix(c.Created, 0).UTC(),
		}
		switch {
		case c.Labels[labelStopped] != "":
		case c.State == container.StateCreated:
			run.State = driver.Created
		case c.State == container.StateRunning || c.State == container.StatePaused:
			run.State = driver.Running
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// labels are the container's for the spec's; the party's own win.
func (d *Driver) labels(spec driver.Spec) map[string]string {
	labels := map[string]string{}
	for name, value := range spec.Labels {
		labels[labelPrefix+name] = value
	}
	labels[labelNode] = d.opts.NodeID
	labels[labelRun] = spec.Name
	return labels
}

// specLabels are the labels that the spec had.
func specLabels(labels map[string]string) map[string]string {
	spec := map[string]string{}
	for name, value := range labels {
		if short, ok := strings.CutPrefix(name, labelPrefix); ok {
			spec[short] = value
		}
	}
	maps.DeleteFunc(spec, func(name, _ string) bool { return isOwnLabel(labelPrefix + name) })
	return spec
}

func isOwnLabel(name string) bool {
	return name == labelNode || name == labelRun || name == labelStopped
}

// find inspects the run's container, which is there to stay.
func (d *Driver) find(ctx context.Context, name, ref string) (container.InspectResponse, error) {
	c, err := d.inspectOurs(ctx, name, ref)
	if err == nil && (c.State.Status == container.StateRemoving || c.State.Dead) {
		err = fmt.Errorf("the container is being removed: %w", driver.ErrNotFound)
	}
	return c, err
}

// inspectOurs inspects the run's container, by its name or id, and makes sure that it is ours.
func (d *Driver) inspectOurs(ctx context.Context, name, ref string) (container.InspectResponse, error) {
	c, err := d.calls.ContainerInspect(ctx, ref)
	if err != nil {
		return c, classify(err)
	}
	if c.Config.Labels[labelNode] != d.opts.NodeID || c.Config.Labels[labelRun] != name {
		return c, driver.NonRetryablef("the container %q was not made by Hutong for node %s; rename or remove it", ref, d.opts.NodeID)
	}
	return c, nil
}

// classify sorts an error of the Docker API.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", driver.ErrNotFound, err)
	case cerrdefs.IsInvalidArgument(err):
		return driver.NonRetryable(err)
	}
	return err
}
