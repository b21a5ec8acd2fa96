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
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities/driver/process"
	"hutong/api"
	"hutong/bfia"
	bfiaclient "hutong/bfia/client"
	"hutong/fateflow"
	"hutong/gate"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/imageref"
	"hutong/internal/limits"
	"hutong/internal/metrics"
	"hutong/internal/partners"
	"hutong/internal/placement"
	"hutong/internal/tracing"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/dataset"
	"hutong/transport"
)

// Roles select the servers and workers of a party that a process runs. Each may run in its own process, and
// several times; transports then need transport.several.
type Roles struct {
	API       bool // the HTTP API
	Control   bool // workflows, calls to partners, records
	Runner    bool // tasks on this machine
	Transport bool // messages between containers of different parties
}

// Party holds the running servers and workers of a party in this process.
type Party struct {
	cfg     *Config
	base    *slog.Logger
	logger  *slog.Logger         // with the attribute node_id
	own     *memoryListener      // at which api serves the requests of this process
	keys    gate.Keys            // of containers and the party's processes
	api     *api.Server          // nil unless the process runs the role API or Control
	channel *transport.Transport // nil unless the process runs the role Transport
	// partners knows who the partners are.
	partners *partners.Directory
	// authorities are those of partners.tls.ca_file, or nil.
	authorities *certs.Authorities
	contracts   *contracts  // nil unless the process needs partners
	pending     atomic.Bool // a node that is no partner may connect, to apply for a contract
	limiter     *limits.Limiter
	refusals    *audit.Recorder // nil in a transport that runs alone
	nonces      nonces          // of the requests of partners
	// placements finds the transport of a session, and relays relays calls to it; nil for a party with one
	// transport.
	placements *placement.Directory
	relays     *relays
	links      links
	// sessions decides which partners may send to which sessions of the transport.
	sessions *sessions
	// metrics counts what this process does, and dependencies are the services that it needs.
	metrics      *metrics.Metrics
	dependencies metrics.Dependencies
	started      atomic.Bool      // all roles run
	tracing      *tracing.Tracing // nil if it is off
	// temporalMetrics counts for Temporal's SDK; nil before the connection.
	temporalMetrics client.MetricsHandler
	// The certificates of listen and of partners, or nil.
	listenPair, partnerPair *certs.KeyPair
	closers                 []func(context.Context) error // in the order of the starts
	failed                  chan error
}

// createTimeout limits create_all, which creates a job at every party or undoes that.
const createTimeout = time.Minute

// Start starts the given roles of the party that cfg describes. It returns when all of them are ready.
func Start(ctx context.Context, cfg *Config, roles Roles, logger *slog.Logger) (_ *Party, err error) {
	p := &Party{cfg: cfg, base: logger, logger: logger.With("node_id", cfg.NodeID),
		failed: make(chan error, 8), own: newMemoryListener(), limiter: cfg.Limits.limiter()}
	defer func() {
		if err != nil {
			p.Stop(context.WithoutCancel(ctx))
			return
		}
		p.started.Store(true)
	}()
	for _, dir := range []string{cfg.DataDir, cfg.Upload.Dir, p.tempDir()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("failed to create folder %s of party %s: %w", dir, cfg.NodeID, err)
		}
	}
	p.openMetrics(roles)
	if err := p.openTracing(ctx, roles); err != nil {
		return nil, err
	}
	if err := p.openPartners(); err != nil {
		return nil, err
	}
	if err := p.startOps(ctx); err != nil {
		return nil, err
	}
	if cfg.Transport.Sessions == SessionsAll {
		return p, p.startTransportAlone(ctx, roles)
	}
	docker, err := p.openDocker(ctx)
	if err != nil {
		return nil, err
	}
	db, err := p.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	p.observeStores(db)
	p.openTrail(db)
	if roles.API || roles.Control || roles.Transport {
		if err := p.watchContracts(ctx, db); err != nil {
			return nil, err
		}
	}
	p.nonces.use(db)
	p.sessions = newSessions(cfg.NodeID, db.JobParties, p.logger)
	if err := p.readKeys(ctx, db); err != nil {
		return nil, err
	}
	p.openPlacements(db)
	p.openLinks(db, roles)
	if roles == (Roles{Transport: true}) {
		if err := p.startTransport(ctx, db, roles); err != nil {
			return nil, err
		}
		return p, p.startPartners(ctx, false, p.channel)
	}
	blobs, err := cfg.OpenStorage(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to open the storage of party %s: %w", cfg.NodeID, err)
	}
	blobs = p.observeStorage(blobs)
	temporal, err := p.dialTemporal(ctx)
	if err != nil {
		return nil, err
	}
	p.onStop(func(context.Context) error { temporal.Close(); return nil })
	p.observeTemporal(temporal)
	if err := p.checkRestored(ctx, roles, db, blobs, temporal); err != nil {
		return nil, err
	}
	if roles.Transport { // after a restore was finished, which stops transports that run
		if err := p.startTransport(ctx, db, roles); err != nil {
			return nil, err
		}
	}

	if roles.API || roles.Control {
		if err := p.openAPI(temporal, db, blobs); err != nil {
			return nil, err
		}
	}
	if roles.Control {
		if err := p.startControl(ctx, temporal, db, blobs); err != nil {
			return nil, err
		}
	}
	if roles.Runner {
		if err := p.guardBridge(ctx, docker); err != nil {
			return nil, err
		}
		if err := p.startRunner(ctx, temporal, db, blobs, docker); err != nil {
			return nil, err
		}
	}
	if roles.API {
		if err := p.startAPI(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.startPartners(ctx, roles.API, p.channel); err != nil {
		return nil, err
	}
	return p, nil
}

// Stop stops the roles in reverse order. They accept no more requests and release their work, which other
// processes of the party, or this one after a restart, continue.
func (p *Party) Stop(ctx context.Context) {
	p.started.Store(false)
	for i := len(p.closers) - 1; i >= 0; i-- {
		if err := p.closers[i](ctx); err != nil {
			p.logger.Warn("failed to stop cleanly", "error", err)
		}
	}
	p.closers = nil
}

// Failed returns a channel that receives the error of a server that has stopped unexpectedly.
func (p *Party) Failed() <-chan error { return p.failed }

// onStop registers a function that Stop calls.
func (p *Party) onStop(f func(context.Context) error) { p.closers = append(p.closers, f) }

func (p *Party) tempDir() string { return p.cfg.tempDir() }

func (c *Config) tempDir() string { return filepath.Join(c.DataDir, "tmp") }

// route returns the base URL of a party's API.
func (p *Party) route(node string) (string, bool) {
	if node == p.cfg.NodeID {
		return "http://" + ownAPI, true
	}
	partner, ok := p.partners.Lookup(node)
	return partner.URL, ok
}

// remote returns a client for commands to partners.
func (p *Party) remote(timeout time.Duration) *bfiaclient.Client {
	c := bfiaclient.New(p.cfg.NodeID, p.route, p.partnerTransport(), timeout)
	c.Explain = fateflow.ExplainRefusal
	c.Observe = p.metrics.Command
	if p.tracing != nil {
		c.Trace = p.tracing.Send
	}
	return c
}

// TransportAddress returns the address at which the party's control workers, which release sessions, reach
// its transport. An IPv4 address may be in brackets in the configuration: Kubernetes knows the address of a
// pod, but not of which kind it is.
func (c *Config) TransportAddress() string {
	if host, port, err := net.SplitHostPort(c.Transport.Advertise); err == nil {
		return net.JoinHostPort(host, port)
	}
	return localAddress(c.Transport.Listen)
}

// localAddress returns the address at which processes of this machine reach a server that listens on listen.
func localAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// openAPI creates the party's API and serves it to this process, at p.own.
func (p *Party) openAPI(temporal client.Client, db *store.Store, blobs blob.Store) error {
	clients, recheck, err := p.clients(db)
	if err != nil {
		return err
	}
	notifier, err := p.cfg.Notifier()
	if err != nil {
		return err
	}
	allow := p.cfg.Runner.Process.Allow
	p.api = api.New(api.Config{
		Node: p.cfg.NodeID, Scheduler: p.cfg.Scheduler, Schedulers: p.cfg.Routes.schedulers(),
		Retention: p.cfg.Jobs.Retention,
		Settings:  p.settings(), Limits: p.limits(),
		WorkflowsURL:  p.cfg.Temporal.workflowsURL(),
		Approval:      p.cfg.Jobs.Approval == ApprovalManual,
		CheckDatasets: p.cfg.Jobs.CheckDatasets, StrictParameters: p.cfg.Jobs.Parameters == ParametersStrict,
		MaxDocumentBytes: p.cfg.Jobs.MaxDocumentBytes,
		UploadDir:        p.cfg.Upload.Dir, MaxUploadBytes: p.cfg.Upload.MaxBytes, TempDir: p.tempDir(),
		AllowCommand: func(command []string) error { return process.CheckCommand(allow, command) },
		AllowImage: func(device bfia.Device, reference string) error {
			return imageref.CheckAllowed(p.cfg.Images.Registries, reference, device == bfia.DeviceKubernetes)
		},
		GrantsRequired:  p.cfg.Grants != GrantsOpen,
		PermitsRequired: p.cfg.Grants == GrantsPermits,
		Clients:         clients,
		Recheck:         recheck,
		Login:           p.login(),
		FourEyes:        p.cfg.Jobs.FourEyes,
		OpenPartners:    p.cfg.Security.OpenPartners,
		OpenJobs:        p.cfg.Limits.OpenJobs,
		Callers:         p.limiter,
		Refusals:        p.refusals,
		ClientTimeout:   30 * time.Second,
		OnRequest:       p.observeRequest,
		Trace:           p.receive(),
		OnCallback:      func(err error) { p.metrics.Callback("partner", err) },
		Notifier:        notifier,
		Signer:          p.cfg.signer, KnownSigner: p.knownSigner, Software: softwareVersion(),
	}, api.Dependencies{
		Store: db, Blobs: blobs, Datasets: dataset.New(blobs, db), Temporal: temporal,
		Remote:          p.remote(createTimeout),
		DeleteWorkflows: p.workflowDeleter(temporal), Contracts: p.contracts, Logger: p.logger,
	})
	p.onStop(p.api.Shutdown)
	go func() {
		if err := p.api.ServePartners(p.own); err != nil {
			p.failed <- fmt.Errorf("failed to serve the processes of party %s: %w", p.cfg.NodeID, err)
		}
	}()
	return nil
}

// serve listens on an address and serves it until the party stops.
func (p *Party) serve(ctx context.Context, field, address string, serve func(net.Listener) error,
	shutdown func(context.Context) error) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("failed to listen on %s (%s) of party %s: %w", address, field, p.cfg.NodeID, err)
	}
	p.serveListener(l, address, serve, shutdown)
	return nil
}

// serveListener serves a listener until the party stops.
func (p *Party) serveListener(l net.Listener, name string, serve func(net.Listener) error,
	shutdown func(context.Context) error) {
	l = p.cfg.Limits.bounded(l)
	p.onStop(shutdown)
	go func() {
		if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			p.failed <- fmt.Errorf("failed to serve %s of party %s: %w", name, p.cfg.NodeID, err)
		}
	}()
}
