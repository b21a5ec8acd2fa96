package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
)

func TestRunnerStates(t *testing.T) {
	p := newParty(t)
	hosts := func() []bfia.Runner {
		var list []bfia.Runner
		p.good(get(bfia.PathRunnerQuery)).into(&list)
		return list
	}
	require.Empty(t, hosts())
	now := time.Now().UTC().Truncate(time.Millisecond)
	big := store.Runner{RunnerID: "big", NodeID: "A", Devices: []string{"docker"}, TaskQueue: "q", Slots: 8,
		HeartbeatAt: now,
		CPUMilli:    7500, Memory: 32 << 30, Disk: 3 << 29, Labels: map[string]string{"gpu": "1"}}
	require.NoError(t, p.store.PutRunner(t.Context(), big))
	require.NoError(t, p.store.PutRunner(t.Context(),
		store.Runner{RunnerID: "old", NodeID: "A", Devices: []string{"process"}, TaskQueue: "q", Slots: 1,
			HeartbeatAt: now.Add(-2 * activities.RunnerSilentAfter)}))

	list := hosts()
	require.Len(t, list, 2)
	require.Equal(t, bfia.Runner{RunnerID: "big", Devices: []string{"docker"},
		Labels: map[string]string{"gpu": "1"}, State: bfia.RunnerOnline,
		HeartbeatAt: list[0].HeartbeatAt, Total: bfia.RunnerCapacity{Slots: 8,
			Resources: bfia.Resources{CPUMilli: 7500, Memory: 32 << 30, Disk: 3 << 29}}}, list[0])
	require.WithinDuration(t, now, list[0].HeartbeatAt, time.Second)
	require.Equal(t, bfia.RunnerSilent, list[1].State)

	p.good(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "big", "draining": true}))
	require.Equal(t, bfia.RunnerDrained, hosts()[0].State)
	require.True(t, hosts()[0].Draining)
	require.NoError(t, p.store.DeregisterRunner(t.Context(), "big"))
	require.Equal(t, bfia.RunnerDeregistered, hosts()[0].State)
	require.NoError(t, p.store.PutRunner(t.Context(), big))
	require.Equal(t, bfia.RunnerDrained, hosts()[0].State, "it stays drained over a restart")
	p.good(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "big", "draining": false}))
	require.Equal(t, bfia.RunnerOnline, hosts()[0].State)

	use := store.RunnerUse{Runner: big, UsedSlots: 3, UsedCPUMilli: 1500, UsedMemory: 1 << 28,
		UsedDisk: 1 << 30, RunningParts: 1}
	use.Draining = true
	shown := runnerOf(use, now)
	require.Equal(t, bfia.RunnerDraining, shown.State)
	require.Equal(t, bfia.RunnerCapacity{Slots: 3,
		Resources: bfia.Resources{CPUMilli: 1500, Memory: 1 << 28, Disk: 1 << 30}}, shown.Used)

	p.bad(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "none", "draining": true}), 404,
		bfia.CodeNotFound, `runner_id: runner "none" is not known`)
	p.bad(post(bfia.PathRunnerDrain, map[string]any{"draining": true}), 400, bfia.CodeBadRequest,
		"runner_id: is required")
	p.bad(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "big"}), 400, bfia.CodeBadRequest,
		"draining: is required, true or false")
	p.bad(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "big", "draining": "yes"}), 400,
		bfia.CodeBadRequest, "draining: is a JSON string, must be true or false")
}

// A job is rejected if it requires labels that no runner has or that contradict the provider's, or if it
// names an unknown task.
func TestRequiredLabels(t *testing.T) {
	p := newParty(t).withProvider().withData()
	require.NoError(t, p.store.PutRunner(t.Context(),
		store.Runner{RunnerID: "h", NodeID: guest, Devices: []string{"docker"}, TaskQueue: "q", Slots: 4,
			Labels: map[string]string{"gpu": "1", "region": "north"}}))
	requires := func(id, task string, labels map[string]string) call {
		return post(bfia.PathCreate, edited(t, id, map[string]any{task: labels}, "config", "job_params",
			"common", "requires")).from(host)
	}
	p.good(requires("j1", "*", map[string]string{"gpu": "1", "region": "north"}))
	p.bad(requires("j2", "*", map[string]string{"region": "south"}), 200, bfia.CodeBadRequest,
		"runner h lacks the label region=south")
	p.bad(requires("j2", "train", map[string]string{"gpu": "1"}), 200, bfia.CodeBadRequest,
		"config.job_params.common.requires.train: the DAG has no task of that name")

	var registration map[string]any
	require.NoError(t, json.Unmarshal(vector(t, "provider_register.request.json"), &registration))
	registration["metadata"].(map[string]any)["requires"] = map[string]string{"gpu": "2"}
	p.good(post(bfia.PathProviderRegister, registration))
	p.bad(post(bfia.PathCreate, job(t, "j3")).from(host), 200, bfia.CodeBadRequest,
		"runner h lacks the label gpu=2")
	p.bad(requires("j3", "*", map[string]string{"gpu": "1"}), 200, bfia.CodeBadRequest,
		"requires a runner with the label gpu=1, and its provider unionpay requires gpu=2")
	registration["metadata"].(map[string]any)["requires"] = map[string]string{"gpu": "1"}
	p.good(post(bfia.PathProviderRegister, registration))
	p.good(requires("j3", "*", map[string]string{"gpu": "1"}))
}
