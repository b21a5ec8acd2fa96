package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

func TestHosts(t *testing.T) {
	p := newParty(t)
	hosts := func() []bfia.Host {
		var list []bfia.Host
		p.good(get(bfia.PathHostQuery)).into(&list)
		return list
	}
	require.Empty(t, hosts())
	now := time.Now().UTC().Truncate(time.Millisecond)
	big := store.Host{HostID: "big", NodeID: "A", Devices: []string{"docker"}, Queue: "q", Slots: 8, SeenAt: now,
		CPUMilli: 7500, Memory: 32 << 30, Disk: 3 << 29, Labels: map[string]string{"gpu": "1"}}
	require.NoError(t, p.store.PutHost(t.Context(), big))
	require.NoError(t, p.store.PutHost(t.Context(), store.Host{HostID: "old", NodeID: "A", Devices: []string{"process"}, Queue: "q", Slots: 1, SeenAt: now.Add(-2 * hostSilent)}))

	list := hosts()
	require.Len(t, list, 2)
	require.Equal(t, bfia.Host{HostID: "big", Devices: []string{"docker"}, Labels: map[string]string{"gpu": "1"}, State: bfia.HostReady,
		SeenAt: list[0].SeenAt, Total: bfia.HostRoom{Slots: 8, CPU: 7.5, Memory: 32, Disk: 1.5}}, list[0])
	require.WithinDuration(t, now, list[0].SeenAt, time.Second)
	require.Equal(t, bfia.HostSilent, list[1].State)

	p.good(post(bfia.PathHostDrain, map[string]any{"host_id": "big", "draining": true}))
	require.Equal(t, bfia.HostDrained, hosts()[0].State)
	require.True(t, hosts()[0].Draining)
	require.NoError(t, p.store.LeaveHost(t.Context(), "big"))
	require.Equal(t, bfia.HostLeft, hosts()[0].State)
	require.NoError(t, p.store.PutHost(t.Context(), big))
	require.Equal(t, bfia.HostDrained, hosts()[0].State, "it stays drained over a restart")
	p.good(post(bfia.PathHostDrain, map[string]any{"host_id": "big", "draining": false}))
	require.Equal(t, bfia.HostReady, hosts()[0].State)

	use := store.HostUse{Host: big, Seats: 3, UsedCPUMilli: 1500, UsedMemory: 1 << 28, UsedDisk: 1 << 30, Running: 1}
	use.Draining = true
	shown := hostOf(use, now)
	require.Equal(t, bfia.HostDraining, shown.State)
	require.Equal(t, bfia.HostRoom{Slots: 3, CPU: 1.5, Memory: 0.25, Disk: 1}, shown.Used)

	p.bad(post(bfia.PathHostDrain, map[string]any{"host_id": "none", "draining": true}), 404, bfia.CodeNotFound, `host_id: host "none" is not known`)
	p.bad(post(bfia.PathHostDrain, map[string]any{"draining": true}), 400, bfia.CodeBadRequest, "host_id: is required")
	p.bad(post(bfia.PathHostDrain, map[string]any{"host_id": "big"}), 400, bfia.CodeBadRequest, "draining: is required, true or false")
	p.bad(post(bfia.PathHostDrain, map[string]any{"host_id": "big", "draining": "yes"}), 400, bfia.CodeBadRequest, "draining: is a JSON string, true or false is wanted")
}
