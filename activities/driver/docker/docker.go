package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
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
	"hutong/internal/httpclient"
)

// Options configure a Driver.
type Options struct {
	// NodeID is the party's node id. The driver only touches what is labelled with it.
	NodeID string

	// Network is the name of the party's bridge network. One that does not exist is created on demand, as an
	// internal network. One of a name given here may exist already, with another form; ExamineNetwork
	// returns how it deviates. "" is "hutong-" and the node id in lower case.
	Network string

	// HostNetwork runs containers on the host network instead. They start in about half the time, reach
	// everything that listens on the machine, and are not isolated from each other.
	HostNetwork bool

	// PartyHost is the host name by which containers reach the machine that they run on, where their party
	// listens. "" is "hutong".
	PartyHost string

	// Host is the address of Docker Engine. "" is DOCKER_HOST or the default socket.
	Host string

	// RemoteEngine says that this process can't read Docker Engine's files. Without it the driver finds out.
	RemoteEngine bool

	// Proxy chooses the proxy of the connection to a Docker Engine that is reached over TCP.
	Proxy httpclient.Proxy

	// SharedMemory is the size of /dev/shm in bytes. 0 is the container's memory limit, or half of the
	// machine's memory if it has none.
	SharedMemory int64

	// MaxLog limits the stored output of each container, in bytes. The oldest output is dropped. 0 is 100
	// MiB.
	MaxLog int64

	// Runtime is the name by which Docker Engine knows the OCI runtime of containers, such as runc, runsc or
	// kata. "" is its default.
	Runtime string

	// TmpBytes is the size of /tmp, which is in memory and counts against the memory limit. 0 is
	// DefaultTmpBytes.
	TmpBytes int64

	// Pids limits the processes and threads of a container. 0 is DefaultPids.
	Pids int64

	// Slots divides CPUMilli and Memory among the containers whose job sets no limits. 0: those have none.
	Slots int

	// CPUMilli and Memory (bytes) are what all containers together may use. 0: the machine's amount.
	CPUMilli, Memory int64
}

// Driver runs containers. Create one with New.
type Driver struct {
	opts  Options
	named bool // the network's name was configured
	locks driver.LockDir

	calls  *client.Client // with a timeout, for a Docker Engine that hangs
	stream *client.Client // without a timeout, for waits and logs, which take as long as the container runs

	mu      sync.Mutex
	network *networkInfo // nil until it is ensured
	machine machine      // zero until it is read

	outage outage

	foreign sync.Map // by id, the networks of others with the same name that the log reported
	volumes sync.Map // by image id, the paths of the volumes that it declares
}

// machine is what the driver needs to know of Docker Engine's machine.
type machine struct {
	engineID string
	memory   int64 // in bytes
	capacity driver.Capacity

	// idOffset is what Docker Engine adds to the users and groups of containers (userns-remap).
	idOffset int
}

type networkInfo struct {
	id       string // containers are attached by id, because names are not unique in Docker
	gateway  netip.Addr
	bridge   string // the interface
	internal bool   // its containers reach no other network
}

const (
	labelPrefix    = "hutong."
	labelNode      = labelPrefix + "node_id"
	labelContainer = labelPrefix + "container"

	// labelStopped marks the placeholder of a container that was stopped before its start.
	labelStopped = labelPrefix + "stopped"

	requestTimeout = 2 * time.Minute
)

var (
	_ driver.Driver = (*Driver)(nil)
	_ driver.Server = (*Driver)(nil)
)

// New returns a driver for Docker containers. It does not connect to Docker Engine, so it works while that is
// down.
func New(opts Options) (*Driver, error) {
	if opts.NodeID == "" {
		return nil, driver.NonRetryablef("docker driver: the node id is missing")
	}
	named := opts.Network != ""
	if !named {
		opts.Network = "hutong-" + strings.ToLower(opts.NodeID)
	}
	if opts.PartyHost == "" {
		opts.PartyHost = "hutong"
	}
	if opts.MaxLog == 0 {
		opts.MaxLog = driver.DefaultMaxLog
	}
	opts.TmpBytes = cmp.Or(opts.TmpBytes, DefaultTmpBytes)
	opts.Pids = cmp.Or(opts.Pids, DefaultPids)

	locks := filepath.Join(os.TempDir(), fmt.Sprintf("hutong-locks-%d", os.Geteuid()))
	d := &Driver{opts: opts, named: named, locks: driver.LockDir(locks)}

	clientOpts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if opts.Host != "" {
		clientOpts = append(clientOpts, client.WithHost(opts.Host))
	}

	clientOpts = append(clientOpts, func(c *client.Client) error { // after WithHost, which sets another proxy
		transport, ok := c.HTTPClient().Transport.(*http.Transport)
		if !ok {
			return errors.New("failed to set the proxy: the client has a transport of another kind")
		}
		transport.Proxy = opts.Proxy.For
		return nil
	})

	var err error
	if d.stream, err = client.NewClientWithOpts(clientOpts...); err != nil {
		return nil, fmt.Errorf("docker driver: %w", err)
	}

	clientOpts = append(clientOpts, client.WithTimeout(requestTimeout))
	if d.calls, err = client.NewClientWithOpts(clientOpts...); err != nil {
		return nil, fmt.Errorf("docker driver: %w", err)
	}

	return d, nil
}

// Close closes idle connections to Docker Engine. Containers continue to run.
func (d *Driver) Close() error {
	return errors.Join(d.calls.Close(), d.stream.Close())
}

// Device returns "docker".
func (d *Driver) Device() string { return "docker" }

// RunnerID returns the id of Docker Engine.
func (d *Driver) RunnerID(ctx context.Context) (string, error) {
	m, err := d.readMachine(ctx)

	return m.engineID, driver.WrapError("get the id of Docker Engine", "", err)
}

func (d *Driver) readMachine(ctx context.Context) (machine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.machine.engineID == "" {
		info, err := d.calls.Info(ctx)
		if err != nil {
			return machine{}, classify(err)
		}
		capacity, err := capacityOf(info)
		if err != nil {
			return machine{}, err
		}
		d.machine = machine{engineID: info.ID, memory: info.MemTotal, capacity: capacity,
			idOffset: idOffset(info)}
	}

	return d.machine, nil
}

// StorageRoot returns the same folder for every container.
func (d *Driver) StorageRoot(string) string { return path.Join(driver.ContainerRoot, "storage") }

// logMount is the path of an anonymous volume, which is deleted with the container. Docker Engine creates it
// for root only, and copies nothing to the root of a volume of a read-only container.
var logMount = path.Join(driver.ContainerRoot, "logs")

// logFolder is the folder in that volume that all users may write to.
const logFolder = "files"

// LogPath returns the path of a folder in an anonymous volume, which is deleted with the container.
func (d *Driver) LogPath(string) string { return path.Join(logMount, logFolder) }

// List returns the party's containers.
func (d *Driver) List(ctx context.Context) ([]driver.Container, error) {
	list, err := d.calls.ContainerList(ctx, container.ListOptions{
		All: true,
		Filters: filters.NewArgs(filters.Arg("label", labelNode+"="+d.opts.NodeID),
			filters.Arg("label", labelContainer)),
	})
	if err != nil {
		return nil, driver.WrapError("list containers", "", classify(err))
	}

	containers := make([]driver.Container, 0, len(list))
	for _, c := range list {
		found := driver.Container{
			Name: c.Labels[labelContainer], ID: c.ID, State: driver.Exited,
			Labels: specLabels(c.Labels), CreatedAt: time.Unix(c.Created, 0).UTC(),
		}

		switch {
		case c.Labels[labelStopped] != "":
		case c.State == container.StateCreated:
			found.State = driver.Created
		case c.State == container.StateRunning || c.State == container.StatePaused:
			found.State = driver.Running
			found.Address = d.addressOf(c)
		}

		containers = append(containers, found)
	}

	return containers, nil
}

// addressOf returns a running container's address on the party's network. Any other network is not the
// party's, and its addresses prove nothing.
func (d *Driver) addressOf(c container.Summary) string {
	if d.opts.HostNetwork || c.NetworkSettings == nil || c.NetworkSettings.Networks[d.opts.Network] == nil {
		return ""
	}

	return c.NetworkSettings.Networks[d.opts.Network].IPAddress
}

// labels returns the container's labels for a spec. The driver's own labels take precedence.
func (d *Driver) labels(spec driver.Spec) map[string]string {
	labels := map[string]string{}
	for name, value := range spec.Labels {
		labels[labelPrefix+name] = value
	}
	labels[labelNode] = d.opts.NodeID
	labels[labelContainer] = spec.Name

	return labels
}

// specLabels returns the labels of the spec from a container's labels.
func specLabels(labels map[string]string) map[string]string {
	spec := map[string]string{}
	for name, value := range labels {
		if short, ok := strings.CutPrefix(name, labelPrefix); ok {
			spec[short] = value
		}
	}
	maps.DeleteFunc(spec, func(name, _ string) bool { return isReservedLabel(labelPrefix + name) })

	return spec
}

func isReservedLabel(name string) bool {
	return name == labelNode || name == labelContainer || name == labelStopped
}

// find inspects the container, and returns ErrNotFound if it is being removed.
func (d *Driver) find(ctx context.Context, name, ref string) (container.InspectResponse, error) {
	c, err := d.inspectOwned(ctx, name, ref)
	if err == nil && (c.State.Status == container.StateRemoving || c.State.Dead) {
		err = fmt.Errorf("the container is being removed: %w", driver.ErrNotFound)
	}

	return c, err
}

// inspectOwned inspects the container, by its name or id, and verifies that the party owns it.
func (d *Driver) inspectOwned(ctx context.Context, name, ref string) (container.InspectResponse, error) {
	c, err := d.calls.ContainerInspect(ctx, ref)
	d.outage.note(err, time.Now())
	if err != nil {
		return c, classify(err)
	}

	if c.Config.Labels[labelNode] != d.opts.NodeID || c.Config.Labels[labelContainer] != name {
		return c, driver.NonRetryablef(
			"the container %q was not created by Hutong for node %s; rename or remove it",
			ref,
			d.opts.NodeID,
		)
	}

	return c, nil
}

// IsUnreachable implements [driver.Server].
func (d *Driver) IsUnreachable(err error) bool {
	return client.IsErrConnectionFailed(err) || cerrdefs.IsUnavailable(err)
}

// classify maps an error of the Docker API to ErrNotFound or a non-retryable error.
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
