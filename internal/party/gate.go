package party

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/gate"
	"hutong/gate/storage"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/blob"
	"hutong/workflows"
)

// gateSecret names the secret of the gate in the database.
const gateSecret = "gate"

// readKeys reads the keys of this party's containers and processes. The first process makes their secret.
func (p *Party) readKeys(ctx context.Context, db *store.Store) error {
	secret, err := db.Secret(ctx, gateSecret)
	if err == nil {
		p.keys, err = gate.NewKeys(secret)
	}
	if err != nil {
		return fmt.Errorf("failed to read the keys of party %s: %w", p.cfg.NodeID, err)
	}
	return nil
}

// startGate serves what containers reach, at containers.listen and on their bridge network. A runner serves
// its own containers.
func (p *Party) startGate(ctx context.Context, runs *runner.Runner, temporal client.Client, db *store.Store,
	docker *docker.Driver) error {
	bucket, err := p.gateStorage()
	if err != nil {
		return err
	}
	report := p.reporter(temporal, db, runs)
	g, err := gate.New(gate.Config{
		Node: p.cfg.NodeID, Keys: p.keys,
		Containers: func(ctx context.Context) ([]gate.Container, error) {
			containers, err := runs.Containers(ctx)
			var all []gate.Container
			for _, c := range containers {
				all = append(all, gate.Container{Name: c.Name, ID: c.ID, Labels: c.Labels, Address: c.Address,
					Addressed: p.addressed(c.Device)})
			}
			return all, err
		},
		Describe: describeRun(runs),
		Report: func(ctx context.Context, r bfia.TaskReport) error {
			err := report(ctx, r)
			p.metrics.Callback("container", err)
			return err
		},
		Transport:    p.containerTransport(),
		Storage:      bucket,
		Unidentified: p.cfg.Security.Mode == SecurityOpen || p.cfg.Runner.Unsafe,
		OnRefusal:    p.recordGateRefusal,
		Logger:       p.logger,
	})
	if err != nil {
		return fmt.Errorf("failed to open the gate of party %s: %w", p.cfg.NodeID, err)
	}
	runs.BeforeStart = g.BeginStart

	srv := g.Server()
	err = p.serve(ctx, "containers.listen", p.cfg.Containers.Listen, srv.Serve, srv.Shutdown)
	if err != nil {
		return err
	}
	p.serveBridge(ctx, docker, p.cfg.Containers.Listen,
		func() (func(net.Listener) error, func(context.Context) error) {
			srv := g.Server()
			return srv.Serve, srv.Shutdown
		})
	return nil
}

// describeRun returns what a container of a runner may use.
func describeRun(runs *runner.Runner) func(context.Context, gate.Container) (gate.Run, error) {
	return func(ctx context.Context, c gate.Container) (gate.Run, error) {
		a, err := runs.Access(ctx, driver.Container{Name: c.Name, Labels: c.Labels})
		if err != nil {
			return gate.Run{}, err
		}
		prefixes := func(addresses []bfia.Address) (all []string) {
			for _, a := range addresses {
				all = append(all, a.Namespace+"/"+a.Name)
			}
			return all
		}
		return gate.Run{
			Run:     identity.Run{JobID: a.JobID, TaskID: a.TaskID, Role: a.Role, Session: a.Session},
			Storage: storage.Grant{Read: prefixes(a.Inputs), Write: prefixes(a.Outputs)},
		}, nil
	}
}

// addressed returns whether each container on a device has an address of its own.
func (p *Party) addressed(device string) bool {
	return device == string(bfia.DeviceDocker) && !p.cfg.Runner.Docker.HostNetwork
}

// containerTransport returns the transport of the party, in this process or another one.
func (p *Party) containerTransport() http.Handler {
	if p.channel != nil {
		return p.channel.ContainerHandler()
	}
	if p.placements != nil {
		return p.placedTransport()
	}
	return gate.RemoteTransport(p.cfg.TransportAddress(), p.keys, p.logger)
}

// gateStorage returns the bucket that containers reach through the gate, or nil.
func (p *Party) gateStorage() (*gate.StorageConfig, error) {
	u, err := url.Parse(p.cfg.Storage.URL.Reveal())
	if err != nil || u.Scheme != "s3" || p.cfg.Storage.Credentials == CredentialsShared {
		return nil, nil // Validate has checked the address
	}
	bucket, err := blob.ParseS3(u)
	if err != nil {
		return nil, fmt.Errorf(
			"failed to open the storage of party %s for its containers: %w",
			p.cfg.NodeID,
			err,
		)
	}
	roots, err := readAuthorities("storage.ca_file", p.cfg.Storage.CAFile)
	if err != nil {
		return nil, err
	}
	return &gate.StorageConfig{Bucket: bucket, Proxy: p.cfg.Proxy.Rule(), Roots: roots}, nil
}

// reporter returns a function that signals the state which a container reports to the workflow of its job. It
// leaves an end to the RunTask that waits for the container's exit.
func (p *Party) reporter(
	temporal client.Client,
	db *store.Store,
	runs *runner.Runner,
) func(context.Context, bfia.TaskReport) error {
	return func(ctx context.Context, report bfia.TaskReport) error {
		tasks, err := db.TasksByID(ctx, report.TaskID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(tasks, func(t store.Task) bool {
			return report.Role == t.Role || report.Role == bfia.Part{Role: t.Role, Index: t.RoleIndex}.Self()
		})
		if i < 0 {
			return bfia.Errorf(
				bfia.CodeNotFound,
				"task_id: %s has no part %q of task %s",
				p.cfg.NodeID,
				report.Role,
				report.TaskID,
			)
		}
		part := bfia.Part{Role: tasks[i].Role, Index: tasks[i].RoleIndex}
		if tasks[i].State.Terminal() || runs.HoldReport(ctx, report.TaskID, part, report.Status) {
			return nil
		}
		err = temporal.SignalWorkflow(ctx, workflows.ParticipantJobID(tasks[i].JobID), "",
			workflows.SignalTaskCallback, report)
		var ended *serviceerror.NotFound
		if err == nil || errors.As(err, &ended) {
			return nil
		}
		return bfia.Wrap(
			bfia.CodeUnavailable,
			err,
			"Temporal of %s does not answer; try again later",
			p.cfg.NodeID,
		)
	}
}

// system returns what a container on a device must know of this party.
func (p *Party) system(device, container string) bfia.System {
	address := localAddress(p.cfg.Containers.Listen)
	token := p.keys.Token(container)
	inPath := token
	switch {
	case p.addressed(device):
		address, inPath = p.onBridge(p.cfg.Containers.Listen), ""
	case device == string(bfia.DeviceKubernetes):
		address = p.cfg.Runner.K8s.Advertise
	}
	return bfia.System{Storage: p.storageFor(container, address), Transport: address, Token: token,
		Callback: "http://" + address + gate.CallbackPath(inPath)}
}

// storageFor returns system.storage of a container: the gate at an address, with credentials of its own.
func (p *Party) storageFor(container, address string) string {
	bucket, err := p.gateStorage()
	if err != nil || bucket == nil {
		return p.cfg.Storage.URL.Reveal()
	}
	query := url.Values{"username": {container}, "password": {p.keys.StoragePassword(container)},
		"bucket": {bucket.Bucket.Bucket}}
	return (&url.URL{Scheme: "s3", Host: address, RawQuery: query.Encode()}).String()
}

// onBridge returns the address at which containers on the party's bridge network reach a server that listens
// on listen.
func (p *Party) onBridge(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(p.cfg.Runner.Docker.PartyHost, port)
}
