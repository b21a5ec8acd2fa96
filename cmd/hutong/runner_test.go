package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

func TestRunner(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC)
	p := newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathRunnerQuery: data([]bfia.Runner{
			{
				RunnerID:    "a",
				Devices:     []string{"docker"},
				Labels:      map[string]string{"region": "north", "gpu": "1"},
				State:       bfia.RunnerOnline,
				HeartbeatAt: at,
				Running:     2,
				Total: bfia.RunnerCapacity{Slots: 8,
					Resources: bfia.Resources{CPUMilli: 7500, Memory: 31<<30 + 1<<27, Disk: 200 << 30}},
				Used: bfia.RunnerCapacity{Slots: 3,
					Resources: bfia.Resources{CPUMilli: 1500, Memory: 1 << 29}},
			},
			{
				RunnerID:    "b",
				Devices:     []string{"docker", "process"},
				State:       bfia.RunnerDrained,
				Draining:    true,
				HeartbeatAt: at,
				Total:       bfia.RunnerCapacity{Slots: 2},
			},
		}),
		"POST " + bfia.PathRunnerDrain: data(nil),
	})
	status, stdout, stderr := p.run(t, "runner", "list")
	require.Equal(t, exitOK, status, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 3)
	seen := at.Local().Format("2006-01-02 15:04:05")
	assert.Equal(t, "RUNNER STATE DEVICES SLOTS CPU MEMORY DISK GPU RUNNING LABELS HEARTBEAT",
		strings.Join(strings.Fields(lines[0]), " "))
	assert.Equal(t, "a online docker 3/8 1.5/7.5 0.5/31.12 0/200 0/0 2 gpu=1, region=north "+seen,
		strings.Join(strings.Fields(lines[1]), " "))
	assert.Equal(t, "b drained docker, process 0/2 0/? 0/? 0/? 0/0 0 "+seen,
		strings.Join(strings.Fields(lines[2]), " "))
	_, stdout, _ = p.run(t, "runner", "list", "--json")
	assert.Contains(t, stdout, `"runner_id": "a"`)

	status, stdout, stderr = p.run(t, "runner", "drain", "b")
	require.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "runner b is draining; see 'hutong runner list' for when it is drained\n", stdout)
	status, stdout, stderr = p.run(t, "runner", "undrain", "b")
	require.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "runner b gets new tasks again\n", stdout)
	var sent []string
	for _, r := range p.requests() {
		if r.path == bfia.PathRunnerDrain {
			sent = append(sent, r.body)
		}
	}
	require.Len(t, sent, 2)
	assert.JSONEq(t, `{"runner_id":"b","draining":true}`, sent[0])
	assert.JSONEq(t, `{"runner_id":"b","draining":false}`, sent[1])
}
