package system

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

const neutralNode = "JG0100009900000000"

// TestNeutralScheduler has a third node, which plays no role, schedule the guest's jobs: the guest forwards what its users
// want, and tells them of all parties.
func TestNeutralScheduler(t *testing.T) {
	t.Parallel()
	neutral := newNode(t, neutralNode, testenv.Temporal(t), worlds.Add(1))
	neutral.cfg.Routes = party.Routes{}
	w := newWorld(t, func(cfg *party.Config) {
		cfg.Routes[neutralNode] = party.Route{URL: neutral.url, TransportURL: "http://" + neutral.cfg.Transport.Listen}
		neutral.cfg.Routes[cfg.NodeID] = party.Route{URL: "http://" + cfg.Listen, TransportURL: "http://" + cfg.Transport.Listen}
		if cfg.NodeID == guestNode {
			cfg.Scheduler = neutralNode
		} else {
			cfg.Jobs.Approval = party.ApprovalManual
		}
	})
	neutral.prepare()
	for _, n := range []*node{w.guest, w.host, neutral} {
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	approve := func(jobID string) {
		env, _ := w.host.audit(jobID, bfia.JobReady, "")
		require.True(t, env.OK(), env.Text())
	}
	jobID := w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil))
	require.Equal(t, bfia.JobPending, w.guest.status(jobID).State)
	approve(jobID)
	s := w.guest.await(jobID, time.Minute, finished)
	requireSuccess(t, s)
	require.Equal(t, neutralNode, s.Scheduler)
	require.Len(t, s.Tasks[0].Parties, 2, "the initiator reads of all parties")
	requireSuccess(t, w.host.await(jobID, time.Minute, finished))

	stopped := w.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)}, nil))
	approve(stopped)
	w.guest.await(stopped, time.Minute, running("s1"))
	w.guest.good(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+stopped+`"}`), nil)
	s = w.guest.await(stopped, time.Minute, finished)
	require.Equal(t, "stopped by "+guestNode, s.Reason)
	require.Equal(t, &bfia.Failure{Kind: bfia.FailedStopped, By: guestNode}, s.Failure)
	for _, n := range []*node{w.guest, w.host} {
		checkNothingLeft(t, n, stopped, bfia.DeviceProcess)
	}
	// Without a role the guest would hear of its job no more.
	env, status := w.guest.ask(http.MethodPost, bfia.PathPlatformCreateAll, edit(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil),
		func(f map[string]any) {
			f["config"].(map[string]any)["role"] = map[string]any{"host": []string{hostNode}}
		}))
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, env.Text(), "holds no role")
}
