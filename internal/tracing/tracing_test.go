package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/tracing"
	"hutong/test/testenv/otlp"
)

const (
	remoteTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	remoteParent = "00-" + remoteTrace + "-00f067aa0ba902b7-01"
)

// traced returns tracing to a receiver.
func traced(t *testing.T, endpoint string, sample float64) *tracing.Tracing {
	t.Helper()
	tr, err := tracing.New(t.Context(), tracing.Options{Node: "A", Endpoint: endpoint, Sample: sample})
	require.NoError(t, err)
	return tr
}

// header returns a function that reads a traceparent.
func header(parent string) func(string) string {
	return func(name string) string {
		if name == "traceparent" {
			return parent
		}
		return ""
	}
}

// TestExport checks that a trace of an own client continues over a command, and is exported over gRPC and
// HTTP.
func TestExport(t *testing.T) {
	r := otlp.New(t)
	for _, endpoint := range []string{r.GRPC, r.HTTP} {
		tr := traced(t, endpoint, 1)
		ctx, end := tr.Receive(t.Context(), "POST /x", header(remoteParent), true)
		sent := http.Header{}
		_, endSend := tr.Send(ctx, "B", "/v1/y?job_id=j", sent)
		endSend(errors.New("a secret"))
		end(nil)
		require.NoError(t, tr.Shutdown(t.Context()))

		spans := r.Spans()
		command, request := spans[len(spans)-2], spans[len(spans)-1]
		require.Equal(t, "command /v1/y", command.Name)
		require.Equal(t, "POST /x", request.Name)
		require.Equal(t, "A", request.Service)
		require.Equal(t, remoteTrace, request.TraceID, "the client's trace continues")
		require.Equal(t, "00f067aa0ba902b7", request.Parent)
		require.Equal(t, remoteTrace, command.TraceID)
		require.Equal(t, request.ID, command.Parent)
		require.Equal(t, "00-"+remoteTrace+"-"+command.ID+"-01", sent.Get("traceparent"))
	}
	require.Len(t, r.Spans(), 4)
}

// TestPartnerIsLinked checks that a partner's trace is linked and not continued, and that the partner does
// not choose whether this party samples. What is no traceparent has no effect.
func TestPartnerIsLinked(t *testing.T) {
	r := otlp.New(t)
	tr := traced(t, r.GRPC, 1)
	for _, parent := range []string{remoteParent, "", "00-xyz",
		"00-" + remoteTrace + "-0000000000000000-01"} {
		ctx, end := tr.Receive(t.Context(), "POST /x", header(parent), false)
		require.NotEmpty(t, tracing.ID(ctx))
		require.NotContains(t, tracing.Parent(ctx), remoteTrace)
		end(nil)
	}
	require.NoError(t, tr.Shutdown(t.Context()))
	spans := r.Spans()
	require.Len(t, spans, 4)
	require.Equal(t, []string{remoteTrace}, spans[0].Links)
	for i, s := range spans {
		require.NotEqual(t, remoteTrace, s.TraceID)
		require.Empty(t, s.Parent)
		require.Equal(t, i > 0, len(s.Links) == 0)
	}

	none := traced(t, r.GRPC, 0) // and the partner's traceparent says: sampled
	_, end := none.Receive(t.Context(), "POST /x", header(remoteParent), false)
	end(nil)
	require.NoError(t, none.Shutdown(t.Context()))
	require.Len(t, r.Spans(), 4)
}

// TestReceiverDown checks that a receiver that does not answer delays nothing.
func TestReceiverDown(t *testing.T) {
	tr := traced(t, "grpc://127.0.0.1:1", 1)
	began := time.Now()
	for range 10_000 {
		_, end := tr.Receive(t.Context(), "POST /x", header(""), true)
		end(nil)
	}
	require.Less(t, time.Since(began), 10*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_ = tr.Shutdown(ctx) // fails, in time
	require.Less(t, time.Since(began), 20*time.Second)
}

// TestLogHandler checks that lines whose context has a trace name it.
func TestLogHandler(t *testing.T) {
	r := otlp.New(t)
	tr := traced(t, r.GRPC, 1)
	var out bytes.Buffer
	log := slog.New(tracing.LogHandler(slog.NewTextHandler(&out, nil))).With("node_id", "A")
	ctx, end := tr.Receive(t.Context(), "POST /x", header(remoteParent), true)
	log.InfoContext(ctx, "in a trace")
	end(nil)
	require.Contains(t, out.String(), "node_id=A trace_id="+remoteTrace)
	out.Reset()
	log.InfoContext(t.Context(), "in none")
	log.Info("without a context")
	require.NotContains(t, out.String(), "trace_id")
	require.NoError(t, tr.Shutdown(t.Context()))
}
