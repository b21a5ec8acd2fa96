package system

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv/otlp"
)

// traceProgram prints the trace of its container.
const traceProgram = "echo the traceparent is \"$TRACEPARENT\" end\n"

var printedParent = regexp.MustCompile(`the traceparent is 00-([0-9a-f]{32})-([0-9a-f]{16})-01 end`)

// TestTraces submits a job with a trace of the client. One trace covers the submission, the commands, the
// workflows, the activities and the container of the submitting party. The partner's trace is another one,
// which links to it and covers its activities and its container.
func TestTraces(t *testing.T) {
	t.Parallel()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	receiver := otlp.New(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Tracing = party.TracingConfig{Endpoint: receiver.GRPC, Sample: 1, Containers: true}
		if cfg.NodeID == hostNode {
			cfg.Tracing.Endpoint = receiver.HTTP
		}
		cfg.Runner.Process.Allow = []string{"/bin/sh"}
	})
	script := filepath.Join(t.TempDir(), "trace.sh")
	require.NoError(t, os.WriteFile(script, []byte(traceProgram), 0o600))
	var registration map[string]any
	require.NoError(t, json.Unmarshal(sleepProvider(t), &registration))
	registration["metadata"] = map[string]any{"command": []string{"/bin/sh", script}}
	body, err := json.Marshal(registration)
	require.NoError(t, err)
	var stops []func()
	for _, n := range []*testParty{pair.guest, pair.host} {
		stops = append(stops, n.start())
		n.mustRequest(http.MethodPost, bfia.PathProviderRegister, body, nil)
	}
	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, sleepJob(t, 1, nil, nil),
		"traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	require.True(t, env.OK(), env.Text())
	var created struct {
		JobID string `json:"job_id"`
	}
	require.NoError(t, json.Unmarshal(env.Data, &created))
	requireSuccess(t, pair.guest.awaitJob(created.JobID, 2*time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(created.JobID, time.Minute, isFinished))

	printed := map[string][]string{}
	for _, n := range []*testParty{pair.guest, pair.host} {
		require.Eventually(t, func() bool {
			printed[n.cfg.NodeID] = printedParent.FindStringSubmatch(n.log(created.JobID, "s1"))
			return printed[n.cfg.NodeID] != nil
		}, time.Minute, 200*time.Millisecond, "the container of %s has no TRACEPARENT", n.cfg.NodeID)
	}
	for _, stop := range stops {
		stop() // exports what is left
	}

	spans := receiver.Spans()
	find := func(node, name string) (found []otlp.Span) {
		for _, s := range spans {
			if s.Service == node && strings.Contains(s.Name, name) {
				found = append(found, s)
			}
		}
		return found
	}
	inTrace := func(found []otlp.Span) bool {
		return slices.ContainsFunc(found, func(s otlp.Span) bool { return s.TraceID == trace })
	}
	for _, name := range []string{"POST " + bfia.PathPlatformCreateAll, "StartWorkflow:", "RunWorkflow:",
		"RunActivity:SendCreate", "command " + bfia.PathCreate, "POST " + bfia.PathCreate,
		"RunActivity:SendTaskStart", "command " + bfia.PathTaskStart, "RunActivity:RunTask"} {
		require.True(t, inTrace(find(guestNode, name)), "the client's trace has no span %q: %v", name,
			find(guestNode, name))
	}
	require.Equal(t, trace, printed[guestNode][1], "the container is not in the client's trace")
	require.Contains(t, find(guestNode, "RunActivity:RunTask")[0].ID, printed[guestNode][2])

	require.False(t, inTrace(find(hostNode, "")), "the partner has adopted the trace")
	linked := ""
	for _, s := range find(hostNode, "POST "+bfia.PathCreate) {
		if slices.Contains(s.Links, trace) {
			linked = s.TraceID
		}
	}
	require.NotEmpty(t, linked, "the partner's trace does not link to the initiator's")
	run := find(hostNode, "RunActivity:RunTask")
	require.NotEmpty(t, run)
	require.Equal(t, linked, run[0].TraceID)
	require.Equal(t, linked, printed[hostNode][1])
	for _, s := range spans {
		require.NotContains(t, s.Name, created.JobID)
	}
}
