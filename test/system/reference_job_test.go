package system

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"hutong/activities/driver/docker"
	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/workflows"
)

// TestReferenceJob runs the captured registration and job, byte for byte: both roles at one party, then at
// two parties.
func TestReferenceJob(t *testing.T) {
	for _, device := range []bfia.Device{bfia.DeviceProcess, bfia.DeviceDocker} {
		t.Run(string(device), func(t *testing.T) {
			if device == bfia.DeviceDocker {
				dockerClient(t)
			}
			pair := newPartyPair(t, func(cfg *party.Config) {
				if device == bfia.DeviceDocker {
					cfg.Runner.Docker.Enabled, cfg.Runner.Process.Allow = party.SwitchOn, nil
					t.Cleanup(func() { removeNetwork(t, cfg.NodeID) })
				}
				if cfg.NodeID == hostNode && device == bfia.DeviceProcess {
					cfg.Database.URL = party.Secret(storetest.Postgres(t)) // the guest has SQLite
				}
			})
			pair.guest.start()
			pair.host.start()
			registration := readVector(t, "provider_register.request.json")
			for _, n := range []*testParty{pair.guest, pair.host} {
				n.register(registration, device)
				n.upload("host.csv", "testspace", "test_host")
			}
			pair.guest.upload("guest.csv", "testspace", "test_guest")
			for name, apart := range map[string]bool{"one node": false, "two nodes": true} {
				t.Run(name, func(t *testing.T) {
					jobID := pair.guest.submit(referenceJob(t, apart))
					requireSuccess(t, pair.guest.awaitJob(jobID, 3*time.Minute, isFinished))
					host := pair.guest
					if apart {
						host = pair.host
						requireSuccess(t, host.awaitJob(jobID, time.Minute, isFinished))
					}
					requireResults(t, pair.guest, host, jobID)
					requireNoContainers(t, pair.guest, jobID, device)
					requireNoContainers(t, host, jobID, device)
					requireWorkflowSuccess(t, pair.guest, workflows.SchedulerJobID(jobID))
					requireWorkflowSuccess(t, host, workflows.ParticipantJobID(jobID))
					if apart {
						requireShortHistories(t, pair.guest, host, jobID)
					}
				})
			}
		})
	}
}

// requireResults checks the outputs and logs of the reference job at both parties.
func requireResults(t *testing.T, guest, host *testParty, jobID string) {
	t.Helper()
	g, h := guest.outputs(jobID), host.outputs(jobID)
	for _, name := range []string{
		"intersect_rsa_1 guest.0 train_data", "intersect_rsa_1 guest.0 train-intersection",
		"hetero_secureboost_1 guest.0 train_data", "hetero_secureboost_1 guest.0 model",
		"hetero_secureboost_1 guest.0 train-loss", "hetero_secureboost_1 guest.0 train-auc",
		"hetero_secureboost_1 guest.0 train-ks",
	} {
		require.Contains(t, g, name)
	}
	require.Contains(t, h, "hetero_secureboost_1 host.0 model")
	var auc struct{ Value float64 }
	require.NoError(t,
		json.Unmarshal([]byte(guest.download(g["hetero_secureboost_1 guest.0 train-auc"])), &auc))
	require.GreaterOrEqual(t, auc.Value, 0.99)

	guestIDs := readIDs(t, guest.download(g["intersect_rsa_1 guest.0 train_data"]))
	require.Len(t, guestIDs, 509)
	require.Equal(t, guestIDs, readIDs(t, host.download(h["intersect_rsa_1 host.0 train_data"])))

	var lines struct{ Num int }
	task := g["hetero_secureboost_1 guest.0 model"].TaskID
	guest.mustRequest(http.MethodGet,
		bfia.PathPlatformLogLines+"?log_level=info&role=guest.0&task_id="+task, nil, &lines)
	require.Positive(t, lines.Num)
	var log struct{ Data string }
	guest.mustRequest(http.MethodGet,
		bfia.PathPlatformLog+"?log_level=info&start=0&length=100&role=guest.0&task_id="+task, nil, &log)
	require.Contains(t, log.Data, "input read")
}

// readIDs returns the id column of a CSV file.
func readIDs(t *testing.T, csv string) []string {
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

// requireNoContainers waits until a job has neither containers nor container folders at a party.
func requireNoContainers(t *testing.T, n *testParty, jobID string, device bfia.Device) {
	t.Helper()
	var cli *client.Client
	if device != bfia.DeviceProcess {
		cli = dockerClient(t)
	}
	require.Eventually(t, func() bool {
		if device == bfia.DeviceProcess {
			left, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "runs", "*"+jobID+"*"))
			return err == nil && len(left) == 0
		}
		ofJob := container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("name", jobID))}
		left, err := cli.ContainerList(t.Context(), ofJob)
		return err == nil && len(left) == 0
	}, time.Minute, 100*time.Millisecond, "containers of job %s are left at %s", jobID, n.cfg.NodeID)
}

// requireWorkflowSuccess checks the result of a workflow and its search attribute for the state.
func requireWorkflowSuccess(t *testing.T, n *testParty, workflowID string) {
	t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace},
	)
	require.NoError(t, err)
	defer c.Close()
	var result workflows.Result
	require.NoError(t, c.GetWorkflow(t.Context(), workflowID, "").Get(t.Context(), &result))
	require.Equal(t, workflows.OutcomeSuccess, result.Outcome)
	described, err := c.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	state, ok := described.TypedSearchAttributes.GetKeyword(workflows.AttributeState)
	require.True(t, ok)
	require.Equal(t, string(workflows.OutcomeSuccess), state)
}

// requireMemo checks that a workflow's memo has the reason why its job failed.
func requireMemo(t *testing.T, n *testParty, workflowID, want string) {
	t.Helper()
	c, err := temporal.Dial(
		temporal.Options{HostPort: n.cfg.Temporal.Address, Namespace: n.cfg.Temporal.Namespace},
	)
	require.NoError(t, err)
	defer c.Close()
	// The job's rows have its end before the last workflow task completes.
	_, ended := workflows.ResultOf(c.GetWorkflow(t.Context(), workflowID, "").Get(t.Context(), nil))
	require.True(t, ended)
	described, err := c.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	var memo string
	require.NoError(t,
		converter.GetDefaultDataConverter().FromPayload(described.Memo.GetFields()["failure"], &memo))
	require.Equal(t, want, memo)
}

// removeNetwork removes a party's Docker network after its test, when the context of the test is canceled
// already.
func removeNetwork(t *testing.T, nodeID string) {
	d, err := docker.New(docker.Options{NodeID: nodeID})
	require.NoError(t, err)
	defer func() { _ = d.Close() }()
	// Another test, or a party that runs on this machine, may still use it.
	if err := d.RemoveNetwork(context.WithoutCancel(t.Context())); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
	}
}
