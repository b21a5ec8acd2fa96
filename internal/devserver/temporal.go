//go:build !slim

package devserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
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

	"hutong/internal/httpclient"
	"hutong/internal/temporalns"
)

// startTimeout limits the time from the start of the services until all namespaces can be used.
const startTimeout = 60 * time.Second

// TemporalServer is a Temporal server in this process with a database in a folder. It listens on 127.0.0.1
// only, because it has no authorisation: every local user may do everything.
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

// StartTemporalServer starts a server and returns when all its namespaces can be used. Unfinished workflows
// of an earlier server of the same folder resume, also if that server was killed.
func StartTemporalServer(ctx context.Context, o TemporalServerOptions) (*TemporalServer, error) {
	if len(o.Namespaces) == 0 {
		return nil, errors.New("failed to start Temporal: at least one namespace is required")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	store, err := openTemporalStore(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("failed to start Temporal: %w", err)
	}
	s := &TemporalServer{store: store, log: o.Logger, stopping: &atomic.Bool{}}
	if err := s.start(ctx, o); err != nil {
		s.Stop()
		return nil, fmt.Errorf("failed to start Temporal: %w", err)
	}
	return s, nil
}

// Address returns the host:port of the frontend.
func (s *TemporalServer) Address() string { return s.address }

// UIAddress returns the URL of the web UI, or "" without a UI.
func (s *TemporalServer) UIAddress() string { return s.uiAddress }

// Stop stops the server and waits for its end. Unfinished workflows resume when a server uses the folder
// again. Further calls do nothing.
func (s *TemporalServer) Stop() {
	s.stop.Do(func() {
		s.stopping.Store(true)
		if s.ui != nil {
			s.ui.Stop()
		}
		if s.server != nil {
			if err := s.server.Stop(); err != nil {
				s.log.Warn("failed to stop the embedded Temporal server cleanly", "error", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.store.checkpoint(ctx); err != nil {
				s.log.Warn("failed to checkpoint the embedded Temporal server's database", "error", err)
			}
		}
		s.store.close()
	})
}

func (s *TemporalServer) start(ctx context.Context, o TemporalServerOptions) error {
	if o.Port != 0 {
		if err := checkPort(o.Port, cmp.Or(o.PortFlag, "--port")); err != nil {
			return err
		}
	}
	if o.UIPort != 0 {
		if err := checkPort(o.UIPort, cmp.Or(o.UIPortFlag, "--ui-port")); err != nil {
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
	s.address = hostPort(port[string(primitives.FrontendService)])
	if err := s.store.prepare(ctx, o.Namespaces, o.Retention); err != nil {
		return err
	}
	settings, err := dynamicConfig(o.DynamicConfig)
	if err != nil {
		return err
	}
	if err := s.startServer(port, settings); err != nil {
		return err
	}
	if o.UIPort != 0 {
		s.startUI(o.UIPort, o.Namespaces[0])
	}
	return s.waitReady(ctx, o)
}

// services omits the server's worker service, which runs the server's own workflows: schedules, batches,
// scanners, deletion of namespaces. Development needs none of them. The service costs half of the start time,
// a second at each stop and a dozen pollers. The other services still require its address.
var services = []string{string(primitives.FrontendService), string(primitives.HistoryService),
	string(primitives.MatchingService)}

type servicePorts map[string]int

func (s *TemporalServer) startServer(port servicePorts, settings dynamicconfig.Client) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(r.message)
		default:
			panic(r)
		}
	}()
	logger := temporalLog{to: s.log, stopping: s.stopping}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for service, p := range port {
		hosts[primitives.ServiceName(service)] = static.SingleLocalHost(hostPort(p))
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(serverConfig(port, s.store.config())),
		temporal.ForServices(services),
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper {
			return authorization.NewNoopClaimMapper()
		}),
		temporal.WithDynamicConfigClient(settings),
	)
	if err != nil {
		return fmt.Errorf("failed to configure the server: %w", err)
	}
	s.server = server
	if err := server.Start(); err != nil {
		return fmt.Errorf("failed to start the server: %w", err)
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
		// There is one writing connection. More shards would only add timers and queues.
		NumHistoryShards: 1,
		DataStores:       map[string]config.DataStore{"sqlite": {SQL: database}},
	}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10,
		MasterClusterName:        clusterName,
		CurrentClusterName:       clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
			Enabled: true, InitialFailoverVersion: 1, RPCAddress: frontend,
			// A constant, because the server rejects a folder of a cluster with another id.
			ClusterID: "5d0f4a7e-0f6b-4c39-9d7b-6e5b8f0c2a11",
		}},
	}
	c.DCRedirectionPolicy.Policy = "noop"
	for service, p := range port {
		c.Services[service] = config.Service{RPC: config.RPC{GRPCPort: p, BindOnIP: loopback}}
	}
	c.Archival.History.State, c.Archival.Visibility.State = "disabled", "disabled"
	c.NamespaceDefaults.Archival.History.State, c.NamespaceDefaults.Archival.Visibility.State = "disabled",
		"disabled"
	c.PublicClient.HostPort = frontend
	return c
}

// dynamicConfig returns settings for low latency on one small machine, with other values, in JSON, by their
// keys.
func dynamicConfig(others map[string]string) (dynamicconfig.StaticClient, error) {
	settings := dynamicconfig.StaticClient{
		// With the default of four partitions, a task often has to be forwarded to the partition of its
		// poller.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		// These are defaults. They are set explicitly because the latency depends on them.
		dynamicconfig.EnableActivityEagerExecution.Key(): true,
		dynamicconfig.EnableEagerWorkflowStart.Key():     true,
		// Each shard polls its queues in the database, at most 20 times a second by default. With a single
		// shard, each step of a chain of workflow tasks would wait 50 ms.
		dynamicconfig.TransferProcessorMaxPollRPS.Key(): 1000,
		dynamicconfig.TimerProcessorMaxPollRPS.Key():    1000,
		// Allows bursts of callbacks for one job.
		dynamicconfig.WorkflowExecutionMaxInFlightUpdates.Key(): 1000,
		dynamicconfig.WorkflowExecutionMaxTotalUpdates.Key():    20000,
		// The UI alone exceeds the default of 10 requests a second.
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 200,
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 4096,
		// Without the worker service, the history service closes the children of a closed workflow.
		dynamicconfig.EnableParentClosePolicyWorker.Key(): false,
	}
	for key, text := range others {
		var value any
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("dynamic configuration %s: %q is not JSON", key, text)
		}
		if number, ok := value.(json.Number); ok {
			whole, err := strconv.Atoi(number.String())
			value = whole
			if err != nil {
				value, _ = number.Float64()
			}
		}
		settings[dynamicconfig.MakeKey(key)] = value
	}
	return settings, nil
}

func (s *TemporalServer) startUI(port int, namespace string) {
	s.uiAddress = "http://" + hostPort(port)
	s.ui = uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host: loopback, Port: port, TemporalGRPCAddress: s.address, EnableUI: true,
		DefaultNamespace: namespace,
		CORS:             uiconfig.CORS{CookieInsecure: true}, DisableNewsFetch: true, HideLogs: true,
		BatchActionsDisabled: true,
	}))
	// Start returns when the UI is stopped. checkPort has checked its port.
	go func() { _ = s.ui.Start() }()
}

// waitReady waits until the frontend answers for every namespace, and the UI if it is enabled.
func (s *TemporalServer) waitReady(ctx context.Context, o TemporalServerOptions) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	options := client.Options{HostPort: s.address,
		Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))}
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
		return fmt.Errorf("failed to wait for the frontend at %s: %w", s.address, err)
	}
	for _, namespace := range o.Namespaces {
		if err := temporalns.Ensure(ctx, options, namespace, o.Retention); err != nil {
			return err
		}
	}
	if s.uiAddress == "" {
		return nil
	}
	client := &http.Client{Transport: httpclient.Direct()}
	err = temporalns.Poll(ctx, func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.uiAddress+"/healthz", nil)
		if err != nil {
			return true, err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, err
		}
		return true, response.Body.Close()
	})
	if err != nil {
		return fmt.Errorf("failed to wait for the UI at %s: %w", s.uiAddress, err)
	}
	return nil
}
