// Package tracing exports OpenTelemetry traces of one party in one process over OTLP.
//
// A trace begins with a request of a client, or at this party with a command of a partner. It continues
// through workflows and activities by Temporal's interceptor, and through commands by the header traceparent
// (W3C Trace Context). A command of a partner begins a trace of its own, which links to the partner's: a
// partner can neither choose this party's trace ids nor whether it samples.
package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"hutong/internal/httpclient"
)

// Options configures the traces of a party in a process.
type Options struct {
	Node string
	// Processes are the processes of the party that this one runs.
	Processes []string
	// Endpoint is the URL of the OTLP receiver: http, https, grpc or grpcs, a host and a port.
	Endpoint string
	// Sample is the share of traces that is exported, from 0 to 1.
	Sample float64
	// Roots are the authorities of the receiver's certificate. nil: the system's.
	Roots *x509.CertPool
	Proxy httpclient.Proxy
}

// Tracing exports the traces of a party in a process.
type Tracing struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
}

// w3c reads and writes the header traceparent. It does not pass on baggage or vendors' state.
type w3c struct{ propagation.TraceContext }

// exportTimeout bounds one export.
const exportTimeout = 10 * time.Second

// New returns tracing to an OTLP receiver, which need not run yet. What it does not take in time is dropped:
// traces never delay a job.
func New(ctx context.Context, o Options) (*Tracing, error) {
	exporter, err := newExporter(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("failed to export traces to %s: %w", o.Endpoint, err)
	}
	attributes := resource.NewSchemaless(attribute.String("service.name", "hutong"),
		attribute.String("service.namespace", o.Node),
		attribute.StringSlice("hutong.processes", o.Processes))
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(attributes),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(o.Sample))))
	return &Tracing{provider: provider, tracer: provider.Tracer("hutong")}, nil
}

func newExporter(ctx context.Context, o Options) (*otlptrace.Exporter, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	if strings.HasPrefix(u.Scheme, "http") {
		transport := o.Proxy.Transport()
		transport.TLSClientConfig = secure
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("/v1/traces").String()),
			otlptracehttp.WithTimeout(exportTimeout),
			otlptracehttp.WithHTTPClient(&http.Client{Transport: transport, Timeout: exportTimeout}))
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(u.Host),
		otlptracegrpc.WithTimeout(exportTimeout)}
	if u.Scheme == "grpc" {
		options = append(options, otlptracegrpc.WithInsecure())
	} else {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(secure)))
	}
	dial := grpc.WithNoProxy()
	if !o.Proxy.IsNone() {
		dial = grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return o.Proxy.Dial(ctx, address)
		})
	}
	return otlptracegrpc.New(ctx, append(options, otlptracegrpc.WithDialOption(dial))...)
}

// Shutdown exports what is left.
func (t *Tracing) Shutdown(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Interceptor returns what carries traces through Temporal: from the client that starts or signals a
// workflow, through the workflow to its activities. It changes no history but headers, so workflows replay
// with and without it.
func (t *Tracing) Interceptor() (interceptor.Interceptor, error) {
	i, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{Tracer: t.tracer,
		TextMapPropagator: w3c{}, DisableBaggage: true, DisableQueryTracing: true,
		AllowInvalidParentSpans: true})
	if err != nil {
		return nil, fmt.Errorf("failed to trace Temporal: %w", err)
	}
	return i, nil
}

// Receive begins the span of a request to this party. The span continues the trace of the header traceparent
// if own is true: the request comes from this party's clients or processes. Otherwise it begins a trace,
// which links to the other one. end ends the span.
func (t *Tracing) Receive(ctx context.Context, route string, header func(string) string, own bool,
) (_ context.Context, end func(error)) {
	sent := w3c{}.Extract(context.Background(), headerFunc(header))
	options := []api.SpanStartOption{api.WithSpanKind(api.SpanKindServer)}
	if remote := api.SpanContextFromContext(sent); remote.IsValid() {
		if own {
			ctx = api.ContextWithRemoteSpanContext(ctx, remote)
		} else {
			options = append(options, api.WithNewRoot(), api.WithLinks(api.Link{SpanContext: remote}))
		}
	}
	ctx, span := t.tracer.Start(ctx, route, options...)
	return ctx, func(err error) { finish(span, err) }
}

// Send begins the span of a command to a node, and adds its traceparent to the header. end ends the span.
func (t *Tracing) Send(ctx context.Context, node, path string, header http.Header) (_ context.Context,
	end func(error)) {
	path, _, _ = strings.Cut(path, "?")
	ctx, span := t.tracer.Start(ctx, "command "+path, api.WithSpanKind(api.SpanKindClient),
		api.WithAttributes(attribute.String("hutong.partner", node)))
	w3c{}.Inject(ctx, propagation.HeaderCarrier(header))
	return ctx, func(err error) { finish(span, err) }
}

// finish ends a span with an error, or nil.
func finish(span api.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "failed") // the error may quote data of users and partners
	}
	span.End()
}

// Parent returns the traceparent of the span of a context, or "".
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	w3c{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// ID returns the trace id of a context, or "".
func ID(ctx context.Context) string {
	if s := api.SpanContextFromContext(ctx); s.IsValid() {
		return s.TraceID().String()
	}
	return ""
}

// headerFunc reads headers by a function.
type headerFunc func(string) string

// Get implements [propagation.TextMapCarrier].
func (h headerFunc) Get(key string) string { return h(key) }

// Set implements [propagation.TextMapCarrier]; it changes nothing.
func (headerFunc) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (headerFunc) Keys() []string { return []string{"traceparent"} }
