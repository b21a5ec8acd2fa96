package party

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"hutong/activities/housekeeping"
	"hutong/workflows"
)

// TemporalOptions returns the options of the connection to the party's Temporal namespace.
func TemporalOptions(cfg *Config, logger *slog.Logger) (client.Options, error) {
	tls, err := cfg.Temporal.TLSClient()
	if err != nil {
		return client.Options{}, err
	}
	options := client.Options{
		HostPort: cfg.Temporal.Address, Namespace: cfg.Temporal.Namespace,
		Identity: fmt.Sprintf("%s@%s/%d", cfg.NodeID, hostname(), os.Getpid()),
		Logger:   temporallog.NewStructuredLogger(slog.New(warnHandler{logger.Handler()})),
	}
	options.ConnectionOptions.TLS = tls
	if proxy := cfg.Proxy.Rule(); proxy.IsNone() {
		options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithNoProxy()}
	} else {
		options.HostPort = "passthrough:///" + cfg.Temporal.Address // the proxy may have to resolve the name
		options.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithContextDialer(proxy.Dial)}
	}
	if key := cfg.Temporal.APIKey.Reveal(); key != "" {
		options.Credentials = client.NewAPIKeyStaticCredentials(key)
	}
	ring, err := cfg.OpenKeys(logger)
	if err != nil {
		return client.Options{}, err
	}
	if ring != nil {
		encrypt(&options, ring.Codec())
	}
	return options, nil
}

// temporalOptions returns the options of this process's connections to Temporal.
func (p *Party) temporalOptions() (client.Options, error) {
	options, err := TemporalOptions(p.cfg, p.logger)
	if err != nil {
		return options, err
	}
	options.MetricsHandler = p.temporalMetrics
	if p.tracing != nil {
		i, err := p.tracing.Interceptor()
		if err != nil {
			return options, err
		}
		options.Interceptors = append(options.Interceptors, i)
	}
	return options, nil
}

// dialTemporal connects to the party's Temporal namespace.
func (p *Party) dialTemporal(ctx context.Context) (client.Client, error) {
	handler, stop, err := p.metrics.Temporal(p.logger)
	if err != nil {
		return nil, err
	}
	p.temporalMetrics = handler
	p.onStop(stop)
	options, err := p.temporalOptions()
	if err != nil {
		return nil, err
	}
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("failed to connect party %s to Temporal at %s: %w", p.cfg.NodeID,
			p.cfg.Temporal.Address, err)
	}
	return c, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// warnHandler drops messages below level warn, because Temporal's SDK logs each task at levels debug and
// info.
type warnHandler struct{ slog.Handler }

func (q warnHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

func (q warnHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnHandler{q.Handler.WithAttrs(attrs)}
}

func (q warnHandler) WithGroup(name string) slog.Handler {
	return warnHandler{q.Handler.WithGroup(name)}
}

// workflowDeleter returns a function that deletes both workflows of a job from Temporal.
func (p *Party) workflowDeleter(temporal client.Client) func(ctx context.Context, jobID string) error {
	return housekeeping.WorkflowDeleter(temporal, p.cfg.Temporal.Namespace, func(jobID string) []string {
		return []string{workflows.SchedulerJobID(jobID), workflows.ParticipantJobID(jobID)}
	})
}
