package metrics

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// temporalBuckets are the buckets of all durations of Temporal's SDK, in seconds.
var temporalBuckets = []float64{0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600, 3600}

// Temporal returns a handler that adds the metrics of Temporal's SDK, which begin with temporal_. stop ends
// it.
func (m *Metrics) Temporal(logger *slog.Logger) (handler client.MetricsHandler,
	stop func(context.Context) error, err error) {
	exporter, err := prometheus.New(prometheus.WithRegisterer(m.registry), prometheus.WithoutScopeInfo(),
		prometheus.WithoutTargetInfo())
	if err != nil {
		return nil, nil, fmt.Errorf("failed to export the metrics of Temporal's SDK: %w", err)
	}
	provider := metric.NewMeterProvider(metric.WithReader(exporter), metric.WithResource(resource.Empty()),
		metric.WithView(metric.NewView(metric.Instrument{Kind: metric.InstrumentKindHistogram},
			metric.Stream{Aggregation: metric.AggregationExplicitBucketHistogram{
				Boundaries: temporalBuckets, NoMinMax: true}})))
	handler = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: provider.Meter("temporal-sdk-go"), UseMonotonicCounters: true,
		OnError: func(err error) { logger.Warn("failed to count for Temporal's SDK", "error", err) },
	})
	return handler, provider.Shutdown, nil
}
