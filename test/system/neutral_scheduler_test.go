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

// TestNeutralScheduler has a third party without a role schedule the guest's jobs. The guest forwards its
// users' requests, and reports the state of all parties to them.
func TestNeutralScheduler(t *testing.T) {
	t.Parallel()
	neutral := newTestParty(t, neutralNode, testenv.Temporal(t), pairCount.Add(1))
	neutral.cfg.Routes, neutral.cfg.Partners.Listen = party.Routes{}, "" // all speak HTTP with it
	toNeutral := neutral.plainRoute()
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Routes[neutralNode] = toNeutral
		neutral.cfg.Routes[cfg.NodeID] = (&testParty{t: t, cfg: cfg}).plainRoute()
		if cfg.NodeID == guestNode {
			cfg.Scheduler = neutralNode
			cfg.Grants = party.GrantsRequired // its own jobs need none
		} else {
			cfg.Jobs.Approval = party.ApprovalManual
			route := cfg.Routes[guestNode]
			route.Schedulers = []string{neutralNode}
			cfg.Routes[guestNode] = route
		}
	})
	neutral.prepare()
	for _, n := range []*testParty{pair.guest, pair.host, neutral} {
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	approve := func(jobID string) {
		env, _ := pair.host.audit(jobID, bfia.JobReady, "")
		require.True(t, env.OK(), env.Text())
	}
	jobID := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil))
	require.Equal(t, bfia.JobPending, pair.guest.status(jobID).State)
	approve(jobID)
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	requireSuccess(t, s)
	require.Equal(t, neutralNode, s.Scheduler)
	require.Len(t, s.Tasks[0].Parties, 2, "the initiator reads the state of all parties")
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))

	stopped := pair.guest.submit(sleepJob(t, 2, map[string]any{"s1": seconds(60), "s2": seconds(0)}, nil))
	approve(stopped)
	pair.guest.awaitJob(stopped, time.Minute, isTaskRunning("s1"))
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+stopped+`"}`), nil)
	s = pair.guest.awaitJob(stopped, time.Minute, isFinished)
	require.Equal(t, "stopped by "+guestNode, s.Reason)
	require.Equal(t, &bfia.Failure{Kind: bfia.FailedStopped, By: guestNode}, s.Failure)
	for _, n := range []*testParty{pair.guest, pair.host} {
		requireNoContainers(t, n, stopped, bfia.DeviceProcess)
	}
	// What the guest's users did not submit is the scheduler's own job, whatever it says.
	forged := withJobID(t, sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)}, nil),
		bfia.NewJobID(time.Now(), 7))
	refused := neutral.post(pair.guest, bfia.PathCreate, forged)
	require.Equal(t, bfia.CodeForbidden, refused.Code)
	require.Contains(t, refused.Text(), "partner: "+neutralNode+" has no grant at "+guestNode)

	// Without a role the guest would receive no report of its job.
	env, status := pair.guest.request(
		http.MethodPost,
		bfia.PathPlatformCreateAll,
		editJSON(t, sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil),
			func(f map[string]any) {
				f["config"].(map[string]any)["role"] = map[string]any{"host": []string{hostNode}}
			}),
	)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, env.Text(), "holds no role")
}
