package system

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/doctor"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// TestDoctor examines a healthy party, then one whose partner is down, whose runner drains and whose worker
// has stopped.
func TestDoctor(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Ops.Listen = testenv.FreeAddress(t)
		cfg.Jobs.Retention = 24 * time.Hour // as long as Temporal's namespaces of tests keep histories
	})
	stop := pair.guest.start()
	gone := pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	requireSuccess(
		t,
		pair.guest.awaitJob(pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil)),
			time.Minute, isFinished),
	)
	for _, c := range doctor.Examine(t.Context(), pair.guest.cfg) {
		require.Equal(t, doctor.OK, c.State, "%+v", c)
	}
	gone()
	found := map[string]doctor.Check{}
	for _, c := range doctor.Examine(t.Context(), pair.guest.cfg) {
		found[c.Name] = c
	}
	for _, name := range []string{"routes." + hostNode, "routes." + hostNode + ".transport_url"} {
		require.Equal(t, doctor.Failed, found[name].State, "%+v", found[name])
		require.Contains(t, found[name].Fix, "ask the partner")
	}
	hosts, err := pair.guest.database().Runners(t.Context(), time.Minute)
	require.NoError(t, err)
	require.Len(t, hosts, 1)
	require.NoError(t, pair.guest.database().DrainRunner(t.Context(), hosts[0].RunnerID, true))
	for _, c := range doctor.Examine(t.Context(), pair.guest.cfg) {
		found[c.Name] = c
	}
	require.Equal(t, doctor.Warning, found["runners"].State, "%+v", found["runners"])
	require.Contains(t, found["runners"].Fix, "hutong runner undrain")
	stop()
	for _, c := range doctor.Examine(t.Context(), pair.guest.cfg) {
		found[c.Name] = c
	}
	require.Equal(t, doctor.Warning, found["runners"].State, "%+v", found["runners"])
	require.Contains(t, found["runners"].Fix, "hutong worker")
}
