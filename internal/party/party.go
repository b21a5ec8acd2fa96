package party

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/process"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/activities/scheduler"
	"hutong/admission"
	"hutong/api"
	"hutong/bfia"
	bfiaclient "hutong/bfia/client"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/transport"
	"hutong/worker"
	"hutong/workflows"
)

// Roles say which parts of a party a process is. One process may be all of them, or each a process of its own, any
// number of them but for the transport, which is one.
type Roles struct {
	API       bool // the HTTP endpoints
	Control   bool // workflows, commands, records
	Runner    bool // containers on this host
	Transport bool // the channel between containers
}

// Party is a running part of a party, or all of it.
type Party struct {
	cfg     *Config
	base    *slog.Logger
	logger  *slog.Logger                  // names the node
	closers []func(context.Context) error // in the order of starting
	failed  chan error
}

// callWait is how long create_all may take: creation at every party, and undoing it.
const callWait = time.Minute

// Start starts what roles say of the party that cfg describes. It answers when all of it serves.
func Start(ctx context.Context, cfg *Config, roles Roles, logger *slog.Logger) (_ *Party, err error) {
	p := &Party{cfg: cfg, base: logger, logger: logger.With("node_id", cfg.NodeID), failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			p.Stop(context.WithoutCancel(ctx))
		}
	}()
	for _, dir := range []string{cfg.DataDir, cfg.Upload.Dir, p.tempDir()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("making the folder of party %s: %w", cfg.NodeID, err)
		}
	}
	docker, err := p.docker(ctx)
	if err != nil {
		return nil, err
	}
	if roles.Transport {
		if err := p.startTransport(ctx, docker); err != nil {
			return nil, err
		}
	}
	if !roles.API && !roles.Control && !roles.Runner {
		return p, nil
	}
	db, err := store.Open(ctx, cfg.Database.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("opening the database of party %s: %w", cfg.NodeID, err)
	}
	p.closing(func(context.Context) error { return db.Close() })
	if err := db.CheckSchema(ctx); err != nil {
		return nil, fmt.Errorf("the database of party %s: %w", cfg.NodeID, err)
	}
	blobs, err := blob.Open(ctx, cfg.Storage.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("opening the storage of party %s: %w", cfg.NodeID, err)
	}
	engine, err := dial(ctx, cfg, p.logger)
	if err != nil {
		return nil, err
	}
	p.closing(func(context.Context) error { engine.Close(); return nil })

	if roles.Control {
		if err := p.startControl(engine, db, blobs); err != nil {
			return nil, err
		}
	}
	if roles.Runner {
		if err := p.startRunner(ctx, engine, db, blobs, docker); err != nil {
			return nil, err
		}
	}
	if roles.API {
		if err := p.startAPI(ctx, engine, db, blobs, docker); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Stop stops what was started, the last first: it takes no more requests, and lets go of work that others, or this party
// when it is started again, go on with.
func (p *Party) Stop(ctx context.Context) {
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](ctx); err != nil {
			p.logger.Warn("a part did not stop cleanly", "error", err)
		}
	}
	p.closers = nil
}

// Failed tells when a part that serves has ended by itself.
func (p *Party) Failed() <-chan error { return p.failed }

func (p *Party) closing(f func(context.Context) error) { p.closers = append(p.closers, f) }

func (p *Party) tempDir() string { return filepath.Join(p.cfg.DataDir, "tmp") }

// TemporalOptions are how the party's engine is reached.
func TemporalOptions(cfg *Config, logger *slog.Logger) (client.Options, error) {
	tls, err := cfg.Temporal.TLSClient()
	if err != nil {
		return client.Options{}, err
	}
	options := client.Options{
		HostPort: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace,
		Identity: fmt.Sprintf("%s@%s/%d", cfg.NodeID, hostname(), os.Getpid()),
		Logger:   temporallog.NewStructuredLogger(slog.New(quietEngine{logger.Handler()})),
	}
	options.ConnectionOptions.TLS = tls
	if key := cfg.Temporal.APIKey.Reveal(); key != "" {
		options.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	return options, nil
}

// dial connects to the party's engine.
func dial(ctx context.Context, cfg *Config, logger *slog.Logger) (client.Client, error) {
	options, err := TemporalOptions(cfg, logger)
	if err != nil {
		return nil, err
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("connecting party %s to Temporal at %s: %w", cfg.NodeID, cfg.Temporal.Address, err)
	}
	return c, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown-host"
	}
	return name
}

// quietEngine leaves out what the engine's SDK says at debug and info level of each task.
type quietEngine struct{ slog.Handler }

func (q quietEngine) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q quietEngine) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietEngine{q.Handler.WithAttrs(attrs)}
}

func (q quietEngine) WithGroup(name string) slog.Handler {
	return quietEngine{q.Handler.WithGroup(name)}
}

// route finds the base URL of a node's endpoints.
func (p *Party) route(node string) (string, bool) {
	if node == p.cfg.NodeID {
		return "http://" + reachable(p.cfg.Listen), true
	}
	r, ok := p.cfg.Routes[node]
	return r.URL, ok
}

// reachable is an address at which this host's own processes reach what listens on it.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// tasksInFlight bounds the tasks of one job that run at once at parties which grant no room, as FATE-Flow. Each step of a
// job's workflow looks at all of them, so many more make a job slower, not faster.
const tasksInFlight = 32

func (p *Party) settings() workflows.Settings {
	return workflows.Settings{
		PollAfter: p.cfg.Jobs.PollAfter, PollEvery: p.cfg.Jobs.PollEvery, GiveUpAfter: p.cfg.Remote.GiveUpAfter,
		StopGrace: p.cfg.Runner.StopGrace, TasksInFlight: tasksInFlight, Attempts: p.cfg.Jobs.MaxAttempts, RunnerLostAfter: p.cfg.Jobs.RunnerLostAfter, FailureSharing: p.cfg.Jobs.ShareFailure,
	}
}

func (p *Party) limits() admission.Limits {
	j := p.cfg.Jobs
	return admission.Limits{Jobs: j.MaxJobs, Tasks: j.MaxContainers, PerFlow: j.MaxJobsPerFlow, PerPartner: j.MaxJobsPerPartner}
}

func (p *Party) startTransport(ctx context.Context, docker *docker.Driver) error {
	const mib = 1 << 20
	t, err := transport.New(transport.Config{
		NodeID: p.cfg.NodeID,
		Spool:  p.cfg.Transport.SpoolDir,
		Route: func(node string) (string, bool) {
			r, ok := p.cfg.Routes[node]
			return r.Transport(), ok
		},
		Logger: p.base, // it names the node itself
		Limits: transport.Limits{MessageBytes: int64(p.cfg.Transport.MaxMessageMiB) * mib,
			SessionBytes: int64(p.cfg.Transport.SessionMiB) * mib, TotalBytes: int64(p.cfg.Transport.TotalMiB) * mib,
			SessionTTL: p.cfg.Transport.SessionTTL},
	})
	if err != nil {
		return fmt.Errorf("the transport of party %s: %w", p.cfg.NodeID, err)
	}
	p.closing(t.Close)
	srv := t.Server()
	if partners := p.cfg.Transport.PartnerListen; partners != "" {
		srv.Handler = t.ContainerHandler()
		outer := t.Server()
		outer.Handler = t.PartnerHandler()
		if err := p.serve(ctx, "transport.partner_listen", partners, outer.Serve, outer.Shutdown); err != nil {
			return err
		}
	}
	if err := p.serve(ctx, "transport.listen", p.cfg.Transport.Listen, srv.Serve, srv.Shutdown); err != nil {
		return err
	}
	p.serveBridge(ctx, docker, p.cfg.Transport.Listen, func() (func(net.Listener) error, func(context.Context) error) {
		inner := t.Server()
		inner.Handler = t.ContainerHandler()
		return inner.Serve, inner.Shutdown
	})
	return nil
}

func (p *Party) startControl(engine client.Client, db *store.Store, blobs blob.Store) error {
	httpClient := &http.Client{Timeout: p.cfg.Remote.Timeout}
	partners := bfiaclient.New(p.cfg.NodeID, p.route, p.cfg.Remote.Timeout)
	w := worker.NewControl(engine,
		&scheduler.Activities{Node: p.cfg.NodeID, Store: db, Documents: db, Limits: p.limits(), Client: partners, Logger: p.logger},
		&participant.Activities{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Limits: p.limits(), Client: partners,
			Transport: "http://" + reachable(p.cfg.Transport.Listen), HTTP: httpClient, Logger: p.logger},
		&housekeeping.Activities{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Keep: p.cfg.Jobs.Retention, Logger: p.logger})
	if err := w.Start(); err != nil {
		return err
	}
	p.closing(func(context.Context) error { w.Stop(); return nil })
	return nil
}

func (p *Party) startRunner(ctx context.Context, engine client.Client, db *store.Store, blobs blob.Store, docker *docker.Driver) error {
	runs := &runner.Runner{Node: p.cfg.NodeID, Store: db, Blobs: blobs, Drivers: map[string]driver.Driver{},
		System: p.system, OnReport: forwardReports(engine), StopGrace: p.cfg.Runner.StopGrace, Logger: p.logger}
	var host driver.Driver
	if len(p.cfg.Runner.Process.Allow) > 0 {
		processes, err := process.New(process.Options{Dir: filepath.Join(p.cfg.DataDir, "runs"), AllowedCommands: p.cfg.Runner.Process.Allow})
		if err != nil {
			return fmt.Errorf("the process device of party %s: %w", p.cfg.NodeID, err)
		}
		runs.Drivers[processes.Device()] = processes
		host = processes
	}
	if docker != nil {
		runs.Drivers[docker.Device()] = docker
		host = docker // its engine's id names the host also to a worker without this one's data folder
	}
	if p.cfg.Runner.K8s.Enabled {
		cluster, err := p.cfg.Runner.K8s.Open(p.cfg.NodeID)
		if err != nil {
			return fmt.Errorf("the k8s device of party %s: %w", p.cfg.NodeID, err)
		}
		runs.Drivers[cluster.Device()] = cluster
		host = cluster
	}
	if host == nil {
		return fmt.Errorf("party %s has no device to run on: no Docker Engine answers, runner.process.allow is empty, and runner.k8s is off", p.cfg.NodeID)
	}
	id, err := host.RunnerID(ctx)
	if err != nil {
		return fmt.Errorf("naming the host of party %s: %w", p.cfg.NodeID, err)
	}
	runs.RunnerID = id
	w, err := worker.NewRunner(ctx, engine, runs, worker.RunnerCapacity{Slots: p.cfg.Runner.Slots, Labels: p.cfg.Runner.Labels, Capacity: p.cfg.Runner.offered(host)}, p.logger)
	if err != nil {
		return err
	}
	if err := w.Start(); err != nil {
		return err
	}
	p.closing(func(context.Context) error { w.Stop(); return nil })
	return nil
}

// forwardReports returns a function that forwards the end of a polled container to the job's workflow, as its callback does.
func forwardReports(engine client.Client) func(context.Context, string, bfia.TaskReport) error {
	return func(ctx context.Context, jobID string, report bfia.TaskReport) error {
		return engine.SignalWorkflow(ctx, workflows.ParticipantJobID(jobID), "", workflows.SignalTaskCallback, report)
	}
}

func (p *Party) startAPI(ctx context.Context, engine client.Client, db *store.Store, blobs blob.Store, docker *docker.Driver) error {
	allow := p.cfg.Runner.Process.Allow
	s := api.New(api.Config{
		Node: p.cfg.NodeID, Scheduler: p.cfg.Scheduler, Settings: p.settings(), Limits: p.limits(), Approval: p.cfg.Jobs.Approval == ApprovalManual,
		CheckDatasets: p.cfg.Jobs.CheckDatasets, StrictParameters: p.cfg.Jobs.Parameters == ParametersStrict, MaxDocumentBytes: p.cfg.Jobs.MaxDocumentBytes,
		UploadDir: p.cfg.Upload.Dir, MaxUploadBytes: p.cfg.Upload.MaxBytes, TempDir: p.tempDir(),
		AllowCommand: func(command []string) error { return process.CheckCommand(allow, command) }, ClientTimeout: 30 * time.Second,
	}, api.Dependencies{
		Store: db, Blobs: blobs, Datasets: dataset.New(blobs, db), Temporal: engine,
		Remote: bfiaclient.New(p.cfg.NodeID, p.route, callWait), Logger: p.logger,
	})
	if err := p.serve(ctx, "listen", p.cfg.Listen, s.Serve, s.Shutdown); err != nil {
		return err
	}
	p.serveBridge(ctx, docker, p.cfg.Listen, func() (func(net.Listener) error, func(context.Context) error) {
		return s.ServeContainers, func(context.Context) error { return nil } // Shutdown ends both
	})
	return nil
}

// serve listens on an address and serves there until the party stops.
func (p *Party) serve(ctx context.Context, field, address string, serve func(net.Listener) error, shutdown func(context.Context) error) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s of party %s: %w", field, p.cfg.NodeID, err)
	}
	p.closing(shutdown)
	go func() {
		if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.failed <- fmt.Errorf("serving %s of party %s: %w", address, p.cfg.NodeID, err)
		}
	}()
	return nil
}

// system is what containers of a device are told of this party.
func (p *Party) system(device string) bfia.System {
	api, channel := reachable(p.cfg.Listen), reachable(p.cfg.Transport.Listen)
	if device == string(bfia.DeviceDocker) && !p.cfg.Runner.Docker.HostNetwork {
		api, channel = p.onBridge(p.cfg.Listen), p.onBridge(p.cfg.Transport.Listen)
	}
	if p.cfg.Advertise != "" {
		api = p.cfg.Advertise
	}
	if p.cfg.Transport.Advertise != "" {
		channel = p.cfg.Transport.Advertise
	}
	if device == string(bfia.DeviceKubernetes) {
		api, channel = p.cfg.Runner.K8s.Advertise, p.cfg.Runner.K8s.TransportAdvertise
	}
	return bfia.System{Storage: p.cfg.Storage.URL.Reveal(), Transport: channel, Callback: "http://" + api + bfia.PathPlatformCallback}
}

// onBridge is where containers on the party's network reach what listens on an address.
func (p *Party) onBridge(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(p.cfg.Runner.Docker.PartyHost, port)
}
