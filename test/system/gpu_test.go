package system

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// hostResources returns a job whose host's part requests resources.
func hostResources(t testing.TB, resources map[string]any) []byte {
	return editJSON(t, hostJob(t, seconds(60)), func(f map[string]any) {
		f["config"].(map[string]any)["job_params"].(map[string]any)["host"] =
			map[string]any{"0": map[string]any{"resources": resources}}
	})
}

// TestContainerGetsGPU requests a GPU, and memory: the container gets the device, and as much /dev/shm as
// memory. More GPUs than the host has are refused at once.
func TestContainerGetsGPU(t *testing.T) {
	t.Parallel()
	const device = "/dev/fuse" // in place of a GPU: no container has it by default
	pair := startLimitedPair(t, true, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Runner.GPUs = []string{device}
		}
	})
	jobID := pair.guest.submit(hostResources(t, map[string]any{"gpu": 1, "memory": 0.25}))
	pair.host.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	var name string
	require.Eventually(t, func() bool {
		tasks, err := pair.host.database().Tasks(t.Context(), jobID)
		require.NoError(t, err)
		name = tasks[0].ContainerName
		return name != ""
	}, time.Minute, 50*time.Millisecond)
	c, err := dockerClient(t).ContainerInspect(t.Context(), name)
	require.NoError(t, err)
	require.Len(t, c.HostConfig.Devices, 1)
	assert.Equal(t, device, c.HostConfig.Devices[0].PathInContainer)
	assert.Equal(t, int64(256<<20), c.HostConfig.ShmSize)
	uses, err := pair.host.database().RunnerUses(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), uses[0].UsedGPU)

	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
		hostResources(t, map[string]any{"gpu": 2}))
	require.False(t, env.OK())
	assert.Contains(t, env.Text(), "has 1 GPUs (runner.gpus), asked for 2")
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	pair.host.awaitJob(jobID, time.Minute, isFinished)
}
