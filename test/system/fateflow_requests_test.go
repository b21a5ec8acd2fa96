package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// capturedRequest is a request that FATE-Flow sent as scheduler.
type capturedRequest struct {
	Method, Path string
	Headers      map[string]string
	Body         json.RawMessage
}

// send sends the request to a party as it was captured, including the spelling of its headers.
func (c capturedRequest) send(n *testParty) bfia.Envelope {
	n.t.Helper()
	request, err := http.NewRequestWithContext(n.t.Context(), c.Method, n.url+c.Path, bytes.NewReader(c.Body))
	require.NoError(n.t, err)
	for name, value := range c.Headers {
		request.Header[name] = []string{value}
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(n.t, err)
	defer func() { _ = response.Body.Close() }()
	var env bfia.Envelope
	require.NoError(n.t, json.NewDecoder(response.Body).Decode(&env))
	require.Equal(n.t, http.StatusOK, response.StatusCode)
	require.True(n.t, env.OK(), "%s: %d %s", c.Path, env.Code, env.Text())
	return env
}

// TestReplayFateFlowRequests sends what FATE-Flow sent, in its order, to two parties of which neither
// schedules the job: their containers come up and go, and the job ends well.
func TestReplayFateFlowRequests(t *testing.T) {
	var wire []capturedRequest
	require.NoError(t, json.Unmarshal(readVector(t, "fateflow-2.2.0.scheduler-wire.json"), &wire))
	for _, device := range []bfia.Device{bfia.DeviceProcess, bfia.DeviceDocker} {
		t.Run(string(device), func(t *testing.T) {
			if device == bfia.DeviceDocker {
				dockerClient(t)
			}
			pair := newPartyPair(t, func(cfg *party.Config) {
				openly(cfg) // FATE-Flow proves nothing
				if device == bfia.DeviceDocker {
					cfg.Runner.Docker.Enabled, cfg.Runner.Process.Allow = party.SwitchOn, nil
					t.Cleanup(func() { removeNetwork(t, cfg.NodeID) })
				}
			})
			pair.guest.start()
			pair.host.start()
			for _, n := range []*testParty{pair.guest, pair.host} {
				n.register(readVector(t, "provider_register.request.json"), device)
			}
			pair.guest.upload("guest.csv", "testspace", "test_guest")
			pair.host.upload("host.csv", "testspace", "test_host")
			replayRequests(t, wire, pair)
			for _, n := range []*testParty{pair.guest, pair.host} {
				requireNoContainers(t, n, jobIDOf(t, wire[0]), device)
			}
		})
	}
}

func jobIDOf(t *testing.T, c capturedRequest) string {
	t.Helper()
	var ref bfia.JobRef
	require.NoError(t, json.Unmarshal(c.Body, &ref))
	require.NotEmpty(t, ref.JobID)
	return ref.JobID
}

func replayRequests(t *testing.T, wire []capturedRequest, pair *partyPair) {
	t.Helper()
	parties := []*testParty{pair.guest, pair.host}
	jobID := jobIDOf(t, wire[0])
	for i, c := range wire {
		for _, n := range parties {
			c.send(n)
		}
		var ref bfia.TaskRef
		require.NoError(t, json.Unmarshal(c.Body, &ref))
		state := func(n *testParty) (bfia.JobState, string) {
			s := n.status(jobID)
			tasks := ""
			for _, task := range s.Tasks {
				tasks += fmt.Sprintf("%s ", task.State)
			}
			return s.State, tasks
		}
		for _, n := range parties {
			switch c.Path {
			case bfia.PathCreate:
				job, tasks := state(n)
				require.Equal(t, bfia.JobReady, job)
				require.Equal(t, "READY READY ", tasks)
			case bfia.PathStart:
				n.awaitJob(jobID, time.Minute,
					func(s bfia.JobStatus) bool { return s.State == bfia.JobRunning })
			case bfia.PathTaskStart:
				n.awaitJob(jobID, time.Minute, func(s bfia.JobStatus) bool {
					return len(s.Tasks) == 2 &&
						(s.Tasks[0].TaskID == ref.TaskID || s.Tasks[1].TaskID == ref.TaskID)
				})
			case bfia.PathTaskPoll: // the capture has only the last one, which returned the end
				require.Eventually(t, func() bool {
					var result bfia.PollResult
					require.NoError(t, json.Unmarshal(c.send(n).Data, &result))
					require.NotEqual(t, bfia.TaskFailed, result.Status, result.Reason)
					return result.Status == bfia.TaskSuccess
				}, 3*time.Minute, 100*time.Millisecond, "task %s at %s", ref.TaskID, n.cfg.NodeID)
			case bfia.PathStop:
				if i < len(wire)-1 { // after a task that succeeded: it cleans up, and changes nothing else
					job, _ := state(n)
					require.Equal(t, bfia.JobRunning, job)
					continue
				}
				s := n.awaitJob(jobID, time.Minute, isFinished)
				requireSuccess(t, s)
			}
		}
	}
	// Sending all requests again does not change a job that has ended.
	for _, c := range wire {
		if c.Path != bfia.PathStart {
			c.send(pair.host)
		}
	}
	requireSuccess(t, pair.host.status(jobID))
	// The logs of removed containers can be read by level and by range.
	task := pair.host.status(jobID).Tasks[0].TaskID
	var lines struct {
		Num      int
		Complete bool
	}
	query := "?log_level=info&role=host&task_id=" + task
	require.Eventually(t, func() bool {
		pair.host.mustRequest(http.MethodGet, bfia.PathPlatformLogLines+query, nil, &lines)
		return lines.Complete
	}, time.Minute, 50*time.Millisecond)
	require.Positive(t, lines.Num)
	var log struct{ Data string }
	pair.host.mustRequest(http.MethodGet,
		bfia.PathPlatformLog+fmt.Sprintf("%s&start=%d", query, lines.Num-1), nil, &log)
	require.NotEmpty(t, log.Data)
	require.NotContains(t, log.Data, "\n")
}
