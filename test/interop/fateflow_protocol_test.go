package interop

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"testing"

	"github.com/docker/docker/api/types/container"
	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
)

// newRouter starts the reverse proxy for FATE-Flow servers that use their own protocol. It sends each command
// to the party in the header dest-party-id. In production it is an nginx.
func newRouter(t *testing.T, parties map[string]string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", parties[r.In.Header.Get("dest-party-id")]
	}}}
	go func() { _ = server.Serve(l) }()
	atExit(func() { _ = server.Close() })
	return l.Addr().String()
}

// fateFlowDAG describes a job in FATE-Flow's own format: a chain of two tasks at Hutong. FATE-Flow initiates
// and schedules it.
type fateFlowDAG struct {
	provider string
	seconds  string // of the first task
	sync     string
	retries  int
	file     string // uploaded by a task of FATE-Flow's own component upload; "" for none
}

func (d fateFlowDAG) document() map[string]any {
	if d.provider == "" {
		d.provider = "test"
	}
	host := []any{map[string]any{"role": "host", "party_id": []string{hutongNode}}}
	task := func(seconds string, input map[string]any, depends ...string) map[string]any {
		return map[string]any{
			"component_ref":   "Sleep",
			"dependent_tasks": depends,
			"parameters":      map[string]any{"seconds": "0"},
			"parties":         host,
			"inputs": map[string]any{
				"data": map[string]any{"in": input},
			},
			"conf": map[string]any{"provider": d.provider + ":1@docker"},
		}
	}
	tasks := map[string]any{
		"s1": task(d.seconds,
			map[string]any{"data_warehouse": map[string]any{"namespace": "interop", "name": "host"}}),
		"s2": task(
			"1",
			map[string]any{
				"task_output_artifact": map[string]any{"producer_task": "s1", "output_artifact_key": "out"},
			},
			"s1",
		),
	}
	if d.file != "" {
		tasks["own"] = map[string]any{
			"component_ref": "upload",
			"conf":          map[string]any{"provider": "fate_flow:2.2.0@local"},
			"parties":       []any{map[string]any{"role": "guest", "party_id": []string{fateFlowNode}}},
			"parameters": map[string]any{"file": d.file, "head": true, "partitions": 1,
				"extend_sid": true, "storage_engine": "standalone", "namespace": "interop", "name": "own",
				"meta": map[string]any{"delimiter": ",", "match_id_name": "id"}},
		}
	}
	return map[string]any{
		"dag_schema": map[string]any{"schema_version": "2.2.0", "kind": "fate", "dag": map[string]any{
			"parties": append(
				[]any{map[string]any{"role": "guest", "party_id": []string{fateFlowNode}}},
				host...),
			"conf": map[string]any{"sync_type": d.sync, "auto_retries": d.retries, "priority": 2,
				"cores": 1},
			"stage": "train",
			"tasks": tasks,
			"party_tasks": map[string]any{"hutong": map[string]any{"parties": host,
				"tasks": map[string]any{
					"s1": map[string]any{"parameters": map[string]any{"seconds": d.seconds}},
				}}},
		}},
	}
}

// submitFateFlow submits a job in FATE-Flow's own format at FATE-Flow.
func (env *environment) submitFateFlow(t *testing.T, d fateFlowDAG) string {
	t.Helper()
	a := env.fateFlow.request(t, http.MethodPost, "/v2/job/submit", d.document())
	require.True(t, a.OK(), a.raw)
	id, _ := decode(t, []byte(a.raw))["job_id"].(string)
	require.NotEmpty(t, id, a.raw)
	return id
}

// awaitFateFlowProtocol waits until a job ends in a state of FATE-Flow's own protocol at its scheduler, and
// at Hutong.
func (env *environment) awaitFateFlowProtocol(t *testing.T, id, state string) bfia.JobStatus {
	t.Helper()
	require.Eventually(t, func() bool { return string(env.fateFlow.scheduledState(t, id)) == state },
		jobTimeout, pollInterval, "the job must end as %s at FATE-Flow", state)
	status := env.awaitHutong(t, id, isFinished)
	env.requireNoContainers(t, id)
	return status
}

// TestFateFlowProtocol has a FATE-Flow that schedules by its own protocol run jobs of two dependent tasks at
// Hutong. Hutong reports their ends, or FATE-Flow polls for them.
func TestFateFlowProtocol(t *testing.T) {
	env := sharedEnvironment(t)
	for _, sync := range []string{"callback", "poll"} {
		t.Run("success by "+sync, func(t *testing.T) {
			id := env.submitFateFlow(t, fateFlowDAG{seconds: "1", sync: sync})
			status := env.awaitFateFlowProtocol(t, id, "success")
			require.Equal(t, map[string]bfia.TaskState{"s1": "success", "s2": "success"},
				env.fateFlow.scheduledTasks(t, id))
			require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskSuccess, "s2": bfia.TaskSuccess},
				statesByName(status))
			require.Equal(t, fateFlowNode, status.Scheduler)
			require.NotEmpty(t, env.toHutong.exchangesWith(fateflow.PathJobApply, id),
				"resources must be applied for before the start")
			require.NotEmpty(t, env.toFateFlow.exchangesWith(fateflow.PathSchedulerTaskReport, id),
				"the scheduler must get a report")
		})
	}
	t.Run("failure at Hutong", func(t *testing.T) {
		// FATE-Flow starts the task a second time after it has ended the job.
		id := env.submitFateFlow(t,
			fateFlowDAG{provider: failsAtHutong, seconds: "1", sync: "callback", retries: 1})
		require.Eventually(t, func() bool {
			return len(
				env.toFateFlow.exchangesWith(fateflow.PathSchedulerTaskReport, `"task_version":1,`),
			) == 2
		}, jobTimeout, pollInterval, "the second attempt must be reported")
		for _, x := range env.toFateFlow.exchangesWith(fateflow.PathSchedulerTaskReport, id) {
			require.Contains(t, x.answer, `"code":0`)
		}
		status := env.awaitFateFlowProtocol(t, id, "failed")
		require.Equal(t, bfia.TaskFailed, statesByName(status)["s1"])
		require.NotEqual(t, bfia.TaskSuccess, statesByName(status)["s2"])
		require.Equal(t, map[string]bfia.TaskState{"s1": "failed", "s2": "waiting"},
			env.fateFlow.scheduledTasks(t, id))
	})
	t.Run("failure at FATE-Flow", func(t *testing.T) {
		id := env.submitFateFlow(t, fateFlowDAG{seconds: "20", sync: "callback", file: "/no/such/file"})
		status := env.awaitFateFlowProtocol(t, id, "failed")
		require.Equal(t, map[string]bfia.TaskState{"own": "failed", "s1": "success", "s2": "waiting"},
			env.fateFlow.scheduledTasks(t, id))
		require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskSuccess, "s2": bfia.TaskReady},
			statesByName(status))
	})
	t.Run("run again", func(t *testing.T) {
		// The job is fixed with its provider, but not the image that no runner has yet.
		const image = "hutong/interop-later:1"
		removeImage := func() {
			_, _ = env.docker.ImageRemove(context.Background(), image, dockerimage.RemoveOptions{})
		}
		removeImage()
		env.hutong.mustRequest(t, http.MethodPost, bfia.PathProviderRegister, sleepProvider("fixed", image),
			nil)
		id := env.submitFateFlow(t, fateFlowDAG{provider: "fixed", seconds: "1", sync: "callback"})
		status := env.awaitFateFlowProtocol(t, id, "failed")
		require.Equal(t, bfia.TaskFailed, statesByName(status)["s1"])
		require.NoError(t, env.docker.ImageTag(t.Context(), providerImage, image))
		t.Cleanup(removeImage)
		a := env.fateFlow.request(t, http.MethodPost, "/v2/job/rerun", map[string]any{"job_id": id})
		require.True(t, a.OK(), a.raw)
		require.Eventually(t, func() bool { return env.fateFlow.scheduledState(t, id) == "success" },
			jobTimeout, pollInterval, "the job must succeed when it is run again")
		status = env.awaitHutong(t, id,
			func(s bfia.JobStatus) bool { return isFinished(s) && statesByName(s)["s2"] == bfia.TaskSuccess })
		require.Equal(t, map[string]bfia.TaskState{"s1": bfia.TaskSuccess, "s2": bfia.TaskSuccess},
			statesByName(status))
		env.requireNoContainers(t, id)
	})
	t.Run("stop", func(t *testing.T) {
		id := env.submitFateFlow(t, fateFlowDAG{seconds: "300", sync: "callback"})
		require.Eventually(t, func() bool {
			names, err := env.containers(
				t.Context(),
				func(c container.Summary) bool {
					return c.Labels["hutong.job_id"] == id && c.State == "running"
				},
			)
			return err == nil && len(names) == 1
		}, jobTimeout, pollInterval, "the container runs")
		a := env.fateFlow.request(t, http.MethodPost, "/v2/job/stop", map[string]any{"job_id": id})
		require.True(t, a.OK(), a.raw)
		status := env.awaitFateFlowProtocol(t, id,
			"failed") // FATE-Flow's state of a job stopped while a task ran
		require.Equal(t, bfia.TaskFailed, statesByName(status)["s1"])
	})
	t.Run("stop by a user of Hutong", func(t *testing.T) {
		id := env.submitFateFlow(t, fateFlowDAG{seconds: "300", sync: "poll"})
		require.Eventually(t, func() bool { return env.hutong.status(t, id).State == bfia.JobRunning },
			jobTimeout, pollInterval, "the job runs")
		env.hutong.mustRequest(t, http.MethodPost, bfia.PathPlatformStopAll, map[string]any{"job_id": id},
			nil)
		require.Eventually(t,
			func() bool { s := env.fateFlow.scheduledState(t, id); return s == "failed" || s == "canceled" },
			jobTimeout, pollInterval, "the job ends at FATE-Flow")
		env.awaitHutong(t, id, isFinished)
		env.requireNoContainers(t, id)
	})
	t.Run("refused", func(t *testing.T) {
		a := env.fateFlow.request(t, http.MethodPost, "/v2/job/submit",
			fateFlowDAG{provider: "nobody", seconds: "1", sync: "callback"}.document())
		require.False(t, a.OK())
		require.Contains(t, a.raw, `provider: \"nobody\" is not registered`)
		id, _ := decode(t, []byte(a.raw))["job_id"].(string)
		env.fateFlow.deleteJob(t, id)
	})
}

func statesByName(status bfia.JobStatus) map[string]bfia.TaskState {
	states := map[string]bfia.TaskState{}
	for _, t := range status.Tasks {
		states[t.Name] = t.State
	}
	return states
}
