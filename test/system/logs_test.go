package system

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// TestLogsWhileRunning reads a container's log while it runs, by level and range, and the whole log after its
// removal.
func TestLogsWhileRunning(t *testing.T) {
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
			})
			pair.guest.start()
			pair.guest.register(
				editJSON(t, sleepProvider(t), func(fields map[string]any) { fields["device"] = "docker" }),
				device,
			)
			// Both roles are at one party, which keeps a log for each.
			long := map[string]any{"seconds": "600"}
			document := editJSON(
				t,
				sleepJob(t, 1, map[string]any{"s1": long}, nil),
				func(fields map[string]any) {
					fields["config"].(map[string]any)["role"] = map[string]any{
						"guest": []string{guestNode}, "host": []string{guestNode}}
				},
			)
			jobID := pair.guest.submit(document)
			task := pair.guest.awaitJob(jobID, 2*time.Minute, isTaskRunning("s1")).Tasks[0].TaskID
			count := func(level string) (n int, complete bool) {
				var lines struct {
					Num      int
					Complete bool
				}
				env, _ := pair.guest.request(http.MethodGet,
					bfia.PathPlatformLogLines+"?role=host.0&log_level="+level+"&task_id="+task, nil)
				if env.OK() { // the scheduler may record the task a moment before the participant
					require.NoError(t, json.Unmarshal(env.Data, &lines))
				}
				return lines.Num, lines.Complete
			}
			read := func(window string) []string {
				var log struct{ Data string }
				pair.guest.mustRequest(http.MethodGet,
					bfia.PathPlatformLog+"?role=host.0&log_level=debug&task_id="+task+"&"+window, nil,
					&log)
				if log.Data == "" {
					return nil
				}
				return strings.Split(log.Data, "\n")
			}
			require.Eventually(t, func() bool { n, _ := count("debug"); return n >= 3 }, 2*time.Minute,
				100*time.Millisecond, "the container logged fewer than three lines")
			n, complete := count("debug")
			require.False(t, complete, "the container still runs")
			errors, _ := count("error")
			require.Less(t, errors, n)
			before := read("start=0")
			require.GreaterOrEqual(t, len(before), 3)
			require.Contains(t, strings.Join(before, "\n"), "sleeping, second 1")
			require.Equal(t, before[1:2], read("start=1&length=1"))

			pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll,
				[]byte(`{"job_id":"`+jobID+`"}`), nil)
			pair.guest.awaitJob(jobID, 2*time.Minute, isFinished)
			require.Eventually(t, func() bool { _, complete := count("debug"); return complete },
				2*time.Minute, 100*time.Millisecond)
			requireNoContainers(t, pair.guest, jobID, device)
			after := read("start=0")
			require.Equal(t, before, after[:len(before)], "the log changed when its container was removed")
		})
	}
}
