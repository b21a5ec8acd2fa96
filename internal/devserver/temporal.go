//go:build !slim

package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"hutong/internal/temporalns"
)

// startTimeout is how long an engine may take from the start of its services until all its namespaces answer.
const startTimeout = 60 * time.Second

// TemporalServer is a Temporal server in this process, on a database in a folder. It listens on 127.0.0.1 only, where everyone
// who can reach it may do everything: it has no authorisation.
type TemporalServer struct {
	address   string
	uiAddress string
	server    temporal.Server
	ui        *uiserver.Server
	store     *temporalStore
	log       *slog.Logger
	stopping  *atomic.Bool
	stop      sync.Once
}

// StartTemporalServer starts an engine and returns when all its namespaces can be used. What an earlier engine of the same folder
// had not finished goes on, also if it was killed.
func StartTemporalServer(ctx context.Context, o TemporalServerOptions) (*TemporalServer, error) {
	if len(o.Namespaces) == 0 {
		return nil, errors.New("engine: needs at least one namespace")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	store, err := openTemporalStore(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e := &TemporalServer{store: store, log: o.Logger, stopping: &atomic.Bool{}}
	if err := e.start(ctx, o); err != nil {
		e.Stop()
		return nil, fmt.Errorf("engine: %w", err)
	}
	return e, nil
}

// Address is host:port of the frontend.
func (e *TemporalServer) Address() string { return e.address }

// UIAddress is the URL of the web UI, "" if there is none.
func (e *TemporalServer) UIAddress() string { return e.uiAddress }

// Stop ends the engine and waits for that. What was not finished goes on when the folder is used again. Calling it
// again does nothing.
func (e *TemporalServer) Stop() {
	e.stop.Do(func() {
		e.stopping.Store(true)
		if e.ui != nil {
			e.ui.Stop()
		}
		if e.server != nil {
			if err := e.server.Stop(); err != nil {
				e.log.Warn("embedded engine did not stop cleanly", "error", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := e.store.checkpoint(ctx); err != nil {
				e.log.Warn("embedded engine's database keeps its log", "error", err)
			}
		}
		e.store.close()
	})
}

func (e *TemporalServer) start(ctx context.Context, o TemporalServerOptions) error {
	if o.Port != 0 {
		if err := checkPort(o.Port, "--port"); err != nil {
			return err
		}
	}
	if o.UIPort != 0 {
		if err := checkPort(o.UIPort, "--ui-port"); err != nil {
			return err
		}
	}
	ports, err := freePorts(len(temporal.DefaultServices))
	if err != nil {
		return err
	}
	port := servicePorts{}
	for i, service := range temporal.DefaultServices {
		port[service] = ports[i]
	}
	if o.Port != 0 {
		port[string(primitives.FrontendService)] = o.Port
	}
	e.address = hostPort(port[string(primitives.FrontendService)])
	if err := e.store.prepare(ctx, o.Namespaces, o.Retention); err != nil {
		return err
	}
	if err := e.startServer(port); err != nil {
		return err
	}
	if o.UIPort != 0 {
		e.startUI(o.UIPort, o.Namespaces[0])
	}
	return e.ready(ctx, o)
}

// The server's worker service is left out: it runs the server's own workflows (schedules, batches, scanners, deletion of
// namespaces), none of which a development folder needs, and costs half of the start, a second at each stop, and a dozen pollers. The others still want its
// address.
var services = []string{string(primitives.FrontendService), string(primitives.HistoryService), string(primitives.MatchingService)}

type servicePorts map[string]int

func (e *TemporalServer) startServer(port servicePorts) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(r.message)
		default:
			panic(r)
		}
	}()
	logger := temporalLog{to: e.log, stopping: e.stopping}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for service, p := range port {
		hosts[primitives.ServiceName(service)] = static.SingleLocalHost(hostPort(p))
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(serverConfig(port, e.store.config())),
		temporal.ForServices(services),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
		temporal.WithDynamicConfigClient(dynamicConfig()),
	)
	if err != nil {
		return fmt.Errorf("assemble server: %w", err)
	}
	e.server = server
	if err := server.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	return nil
}

func serverConfig(port servicePorts, database *config.SQL) *config.Config {
	frontend := hostPort(port[string(primitives.FrontendService)])
	c := &config.Config{Services: map[string]config.Service{}}
	c.Global.Membership.MaxJoinDuration = 30 * time.Second
	c.Global.Membership.BroadcastAddress = loopback
	c.Persistence = config.Persistence{
		DefaultStore: "sqlite", VisibilityStore: "sqlite",
		// One connection writes; more shards would only mean more timers and queues over it.
		NumHistoryShards: 1,
		DataStores:       map[string]config.DataStore{"sqlite": {SQL: database}},
	}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10,
		MasterClusterName:        clusterName,
		CurrentClusterName:       clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
			Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend,
			// The same at every start, or the server finds its folder to be another cluster's.
			ClusterID: "5d0f4a7e-0f6b-4c39-9d7b-6e5b8f0c2a11",
		}},
	}
	c.DCRedirectionPolicy.Policy = "noop"
	for service, p := range port {
		c.Services[service] = config.Service{RPC: config.RPC{GRPCPort: p, BindOnIP: loopback}}
	}
	c.Archival.History.State, c.Archival.Visibility.State = "disabled", "disabled"
	c.NamespaceDefaults.Archival.History.State, c.NamespaceDefaults.Archival.Visibility.State = "disabled", "disabled"
	c.PublicClient.HostPort = frontend
	return c
}

// dynamicConfig is tuned for one small machine: few hops between its parts.
func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		// With the defaults of four partitions, a task and its poller often meet only after being forwarded.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// The defaults, but what the latency rests on.
		dynamicconfig.EnableActivityEagerExecution.Key(): true,
		dynamicconfig.EnableEagerWorkflowStart.Key():     true,
		// What a step brings about is read from the database, for a shard 20 times a second by default. All is in one shard here: a
		// chain of steps would wait 50 ms for each.
		dynamicconfig.TransferProcessorMaxPollRPS.Key(): 1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():    1000,
		// A burst of callbacks for one job is no reason to refuse one.
		dynamicconfig.WorkflowExecutionMaxInFlightUpdates.Key(): 1000,
		dynamicconfig.WorkflowExecutionMaxTotalUpdates.Key():    20000,
		// The UI alone asks more often than the default of 10 a second.
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 200,
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 4096,
		// Without the worker service, children of a parent that ends are closed where they are, however many.
		dynamicconfig.EnableParentClosePolicyWorker.Key(): false,
	}
}

func (e *TemporalServer) startUI(port int, namespace string) {
	e.uiAddress = "http://" + hostPort(port)
	e.ui = uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host: loopback, Port: port, TemporalGRPCAddress: e.address, EnableUI: true, DefaultNamespace: namespace,
		CORS: uiconfig.CORS{CookieInsecure: true}, DisableNewsFetch: true, HideLogs: true, BatchActionsDisabled: true,
	}))
	// Start returns when the UI is stopped; that its port was free was checked before.
	go func() { _ = e.ui.Start() }()
}

// ready waits until the frontend answers for every namespace, and the UI if there is one.
func (e *TemporalServer) ready(ctx context.Context, o TemporalServerOptions) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	options := client.Options{HostPort: e.address, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))}
	err := temporalns.Poll(ctx, func() (bool, error) {
		c, err := client.DialContext(ctx, options)
		if err != nil {
			return false, err
		}
		defer c.Close()
		_, err = c.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the frontend at %s: %w", e.address, err)
	}
	for _, namespace := range o.Namespaces {
		if err := temporalns.Ensure(ctx, options, namespace, o.Retention); err != nil {
			return err
		}
	}
	if e.uiAddress == "" {
		return nil
	}
	err = temporalns.Poll(ctx, func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.uiAddress+"/healthz", nil)
		if err != nil {
			return true, err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, err
		}
		return true, answer.Body.Close()
	})
	if err != nil {
		return fmt.Errorf("wait for the UI at %s: %w", e.uiAddress, err)
	}
	return nil
}
