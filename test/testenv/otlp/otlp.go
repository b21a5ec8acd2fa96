// Package otlp receives traces over OTLP for tests.
package otlp

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Span is a span that was exported.
type Span struct {
	Name, TraceID, ID, Parent string
	// Service is the party's node id. Links are the trace ids of its links.
	Service string
	Links   []string
}

// Receiver is an OTLP receiver, over gRPC and over HTTP.
type Receiver struct {
	collector.UnimplementedTraceServiceServer
	// GRPC and HTTP are its URLs.
	GRPC, HTTP string

	mu    sync.Mutex
	spans []Span
}

// New starts a receiver, until the test ends.
func New(t testing.TB) *Receiver {
	t.Helper()
	r := &Receiver{}
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	g, h := listen(), listen()
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	go func() { _ = server.Serve(g) }()
	t.Cleanup(server.Stop)
	web := &http.Server{Handler: http.HandlerFunc(r.serveHTTP)} //nolint:gosec // a test's
	go func() { _ = web.Serve(h) }()
	t.Cleanup(func() { _ = web.Close() })
	r.GRPC, r.HTTP = "grpc://"+g.Addr().String(), "http://"+h.Addr().String()
	return r
}

// Spans returns all spans that were received.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Export implements the service of OTLP.
func (r *Receiver) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (
	*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range in.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.namespace" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{Name: s.GetName(), TraceID: hex.EncodeToString(s.GetTraceId()),
					ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Service: service}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, hex.EncodeToString(l.GetTraceId()))
				}
				r.spans = append(r.spans, span)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *Receiver) serveHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var in collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	_, _ = r.Export(req.Context(), &in)
	w.Header().Set("Content-Type", "application/x-protobuf")
}
