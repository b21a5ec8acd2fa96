package system

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/workflows"
)

// TestSeedJob runs the seed's registration and job, byte for byte: both roles on one node, and the host on another one.
func TestSeedJob(t *testing.T) {
	for _, device := range []bfia.Device{bfia.DeviceProcess, bfia.DeviceDocker} {
		t.Run(string(device), func(t *testing.T) {
			if device == bfia.DeviceDocker {
				docker(t)
			}
			w := newWorld(t, func(cfg *party.Config) {
				if device == bfia.DeviceDocker {
					cfg.Runner.Docker.Enabled, cfg.Runner.Process.Allow = party.SwitchOn, nil
					t.Cleanup(func() { removeNetwork(t, cfg.NodeID) })
				}
				if cfg.NodeID == hostNode && device == bfia.DeviceProcess {
					cfg.Database.URL = party.Secret(storetest.Postgres(t)) // one of each
				}
			})
			w.guest.start()
			w.host.start()
			registration := vector(t, "provider_register.request.json")
			for _, n := range []*node{w.guest, w.host} {
				n.register(registration, device)
				n.upload("host.csv", "testspace", "test_host")
			}
			w.guest.upload("guest.csv", "testspace", "test_guest")
			for name, apart := range map[string]bool{"one node": false, "two nodes": true} {
				t.Run(name, func(t *testing.T) {
					jobID := w.guest.submit(seedJob(t, apart))
					requireSuccess(t, w.guest.await(jobID, 3*time.Minute, finished))
					host := w.guest
					if apart {
						host = w.host
						requireSuccess(t, host.await(jobID, 10*time.Second, finished))
					}
					checkResults(t, w.guest, host, jobID)
					checkNothingLeft(t, w.guest, jobID, device)
					checkNothingLeft(t, host, jobID, device)
					checkEngine(t, w.guest, workflows.SchedulerJobID(jobID))
					checkEngine(t, host, workflows.ParticipantJobID(jobID))
				})
			}
		})
	}
}

// checkResults looks at what the parties got.
func checkResults(t *testing.T, guest, host *node, jobID string) {
	t.Helper()
	g, h := guest.outputs(jobID), host.outputs(jobID)
	for _, name := range []string{"intersect_rsa_1 guest.0 train_data", "intersect_rsa_1 guest.0 train-intersection",
		"hetero_secureboost_1 guest.0 train_data", "hetero_secureboost_1 guest.0 model", "hetero_secureboost_1 guest.0 train-loss",
		"hetero_secureboost_1 guest.0 train-auc", "hetero_secureboost_1 guest.0 train-ks"} {
		require.Contains(t, g, name)
	}
	require.Contains(t, h, "hetero_secureboost_1 host.0 model")
	var auc struct{ Value float64 }
	require.NoError(t, json.Unmarshal([]byte(guest.download(g["hetero_secureboost_1 guest.0 train-auc"])), &auc))
	require.GreaterOrEqual(t, auc.Value, 0.99)

	guestIDs := ids(t, guest.download(g["intersect_rsa_1 guest.0 train_data"]))
	require.Len(t, guestIDs, 509)
	require.Equal(t, guestIDs, ids(t, host.download(h["intersect_rsa_1 host.0 train_data"])))

	var lines struct{ Num int }
	task := g["hetero_secureboost_1 guest.0 model"].TaskID
	guest.good(http.MethodGet, bfia.PathPlatformLogLines+"?log_level=info&role=guest.0&task_id="+task, nil, &lines)
	require.Positive(t, lines.Num)
	var log struct{ Data string }
	guest.good(http.MethodGet, bfia.PathPlatformLog+"?log_level=info&start=0&length=100&role=guest.0&task_id="+task, nil, &log)
	require.Contains(t, log.Data, "input read")
}

// ids is the id column of a CSV file.
func ids(t *testing.T, csv string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	column := -1
	for i, name := range strings.Split(lines[0], ",") {
		if name == "id" {
			column = i
		}
	}
	require.GreaterOrEqual(t, column, 0, lines[0])
	var list []string
	for _, line := range lines[1:] {
		list = append(list, strings.Split(line, ",")[column])
	}
	return list
}

// checkNothingLeft sees to it that a job's end leaves neither containers nor run folders.
func checkNothingLeft(t *testing.T, n *node, jobID string, device bfia.Device) {
	t.Helper()
	require.Eventually(t, func() bool {
		if device == bfia.DeviceProcess {
			left, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "runs", "*"+jobID+"*"))
			return err == nil && len(left) == 0
		}
		left, err := docker(t).ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", jobID))})
		return err == nil && len(left) == 0
	}, 20*time.Second, 100*time.Millisecond, "runs of job %s are left at %s", jobID, n.cfg.NodeID)
}

// checkEngine sees to it that Temporal's UI tells the job's end.
func checkEngine(t *testing.T, n *node, workflowID string) {
	t.Helper()
	c, err := temporal.Dial(temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()
	var result workflows.Result
	require.NoError(t, c.GetWorkflow(t.Context(), workflowID, "").Get(t.Context(), &result))
	require.Equal(t, workflows.OutcomeSuccess, result.Outcome)
	described, err := c.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	state, ok := described.TypedSearchAttributes.GetKeyword(workflows.AttributeState)
	require.True(t, ok)
	require.Equal(t, workflows.OutcomeSuccess, state)
}

// checkExplained sees to it that the engine's own lists say why a job did not go well.
func checkExplained(t *testing.T, n *node, workflowID, want string) {
	t.Helper()
	c, err := temporal.Dial(temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()
	// The job's rows tell its end before the workflow's last step has ended.
	require.NoError(t, c.GetWorkflow(t.Context(), workflowID, "").Get(t.Context(), nil))
	described, err := c.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	var memo string
	require.NoError(t, converter.GetDefaultDataConverter().FromPayload(described.Memo.GetFields()["explanation"], &memo))
	require.Equal(t, want, memo)
}

func removeNetwork(t *testing.T, nodeID string) {
	d, err := runner.NewDocker(runner.DockerOptions{NodeID: nodeID})
	require.NoError(t, err)
	defer func() { _ = d.Close() }()
	// Another test, or the machine's own Hutong, may use it still.
	if err := d.RemoveNetwork(t.Context()); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
	}
}
