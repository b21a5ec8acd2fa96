package api

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// TestOverview checks what needs a person: an approval, a failed job with its task, a silent runner and a
// silent partner.
func TestOverview(t *testing.T) {
	p := newParty(t).withProvider().withData()
	ctx := t.Context()
	var view bfia.Overview
	p.good(get(bfia.PathOverview)).into(&view)
	require.Equal(t, bfia.Overview{NodeID: guest, Time: view.Time, Approvals: []bfia.OverviewJob{},
		Failed: []bfia.OverviewJob{}, SilentRunners: []string{}, SilentPartners: []bfia.SilentPartner{},
		Storage: view.Storage, Jobs: map[bfia.JobState]int{}, Partners: []bfia.PartnerContact{}}, view)
	require.Positive(t, view.Storage.FreeBytes)
	require.Greater(t, view.Storage.TotalBytes, view.Storage.FreeBytes)

	for _, id := range []string{"approve", "other", "failed", "old", "silent"} {
		p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	}
	now := time.Now()
	waits := func(id string, w bfia.Waiting) {
		require.NoError(t, p.store.SetJobWaiting(ctx, id, []bfia.Waiting{w}))
	}
	waits("approve", bfia.WaitForApproval("approve", guest, now))
	waits("other", bfia.WaitForApproval("other", host, now))
	waits("silent", bfia.Waiting{Kind: bfia.WaitsForPartner, NodeID: host, Message: "does not answer",
		Since: now.Add(-time.Minute)})
	failure := &bfia.Failure{Kind: bfia.FailedExit, NodeID: host, Role: "host.0", Task: second, ExitCode: 3}
	end := func(id string, at time.Time) {
		require.NoError(t, p.store.SetJobFailure(ctx, id, failure))
		require.NoError(t, p.store.UpdateJob(ctx, id, bfia.JobFinished, "task failed", at,
			store.EndsAs(bfia.OutcomeFailed)))
	}
	end("failed", now)
	end("old", now.Add(-25*time.Hour))
	require.NoError(t, p.store.PutRunner(ctx, store.Runner{RunnerID: "r1", Slots: 3, CPUMilli: 4000}))
	require.NoError(t, p.store.PutRunner(ctx, store.Runner{RunnerID: "r2", Slots: 5,
		HeartbeatAt: now.Add(-time.Hour)}))
	require.NoError(t, p.store.PutPartner(ctx, store.Partner{NodeID: host, ContractID: "c1",
		State: bfia.ContractApproved, Name: "Bank"}))
	p.server.recordContact(identity.Principal{Kind: identity.KindPartner, Node: host})

	view = bfia.Overview{}
	p.good(get(bfia.PathOverview)).into(&view)
	require.Len(t, view.Approvals, 1)
	require.Equal(t, 1, view.ApprovalCount)
	require.Equal(t, "approve", view.Approvals[0].JobID)
	require.Contains(t, view.Approvals[0].Reason, "hutong job approve approve")
	require.Len(t, view.Failed, 1)
	require.Equal(t, 1, view.FailedCount)
	require.Equal(t, "failed", view.Failed[0].JobID)
	require.Equal(t, host, view.Failed[0].NodeID)
	require.Equal(t, second, view.Failed[0].Task)
	require.Contains(t, view.Failed[0].Reason, "3")
	require.NotEmpty(t, view.Failed[0].Failure.Hint)
	require.Equal(t, []string{"r2"}, view.SilentRunners)
	require.Len(t, view.SilentPartners, 1)
	require.Equal(t, host, view.SilentPartners[0].NodeID)
	require.Equal(t, 1, view.SilentPartners[0].Jobs)
	require.Equal(t, 1, view.Capacity.Runners)
	require.Equal(t, 3, view.Capacity.Total.Slots)
	require.EqualValues(t, 4000, view.Capacity.Total.CPUMilli)
	require.Equal(t, 2, view.Jobs[bfia.JobFinished])
	require.Len(t, view.Partners, 1)
	require.Equal(t, "Bank", view.Partners[0].Name)
	require.WithinDuration(t, now, *view.Partners[0].ContactAt, time.Minute)
}

// TestContactOfPartners checks that a partner's request is recorded, and not each one.
func TestContactOfPartners(t *testing.T) {
	p := newParty(t)
	p.send(post(bfia.PathTaskPoll, `{"task_id":"none","role":"guest"}`).from(host))
	got, err := p.store.Contacts(t.Context())
	require.NoError(t, err)
	require.Contains(t, got, host)
	p.send(post(bfia.PathTaskPoll, `{"task_id":"none","role":"guest"}`).from(host))
	again, err := p.store.Contacts(t.Context())
	require.NoError(t, err)
	require.Equal(t, got, again)
}

// TestJobListFilters checks the filters by role and text.
func TestJobListFilters(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for _, id := range []string{"alpha", "beta_1", "betaX1"} {
		p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	}
	require.NoError(t, p.store.UpdateJob(t.Context(), "alpha", bfia.JobFinished, "The Disk is full",
		time.Now(), store.EndsAs(bfia.OutcomeFailed)))
	for query, want := range map[string]int{"role=guest": 3, "role=guest.0": 3, "role=gues": 0,
		"role=host": 3, "role=arbiter": 0,
		"role=%25": 0, "text=disk+IS": 1, "text=BETA_": 1, "text=beta": 2, "text=zeta": 0,
		"text=beta&role=guest&job_status=READY": 2, "text=%00": -1} {
		r := p.send(get(bfia.PathPlatformJobList + "?" + query))
		if want < 0 {
			require.Equal(t, 400, r.Status, query)
			require.Contains(t, r.Text(), "text: is not UTF-8 text")
			continue
		}
		var list bfia.JobList
		r.into(&list)
		require.Len(t, list.Jobs, want, query)
	}
}

// TestOverviewOfApprover has an approver without the role viewer read what it decides on, and nothing else.
func TestOverviewOfApprover(t *testing.T) {
	role := identity.Admin
	p := newParty(t, func(c *Config) {
		c.Clients = func(*fiber.Ctx) (identity.Principal, error) {
			return identity.Principal{Kind: identity.KindClient, Name: "adam",
				Roles: []identity.Role{role}}, nil
		}
	}).withProvider().withData()
	ctx := t.Context()
	for _, id := range []string{"approve", "failed"} {
		p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	}
	now := time.Now()
	require.NoError(t, p.store.SetJobWaiting(ctx, "approve",
		[]bfia.Waiting{bfia.WaitForApproval("approve", guest, now)}))
	require.NoError(t, p.store.UpdateJob(ctx, "failed", bfia.JobFinished, "task failed", now,
		store.EndsAs(bfia.OutcomeFailed)))

	read := func(as identity.Role) bfia.Overview {
		role = as
		resp := p.fetch(bfia.PathOverview, nil)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		var answer struct{ Data bfia.Overview }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		return answer.Data
	}
	view := read(identity.Approver)
	require.Equal(t, 1, view.ApprovalCount)
	require.Equal(t, "approve", view.Approvals[0].JobID)
	require.Equal(t, bfia.Overview{NodeID: guest, Time: view.Time, Approvals: view.Approvals,
		ApprovalCount: 1, Failed: []bfia.OverviewJob{}, SilentRunners: []string{},
		SilentPartners: []bfia.SilentPartner{},
		Jobs:           map[bfia.JobState]int{}, Partners: []bfia.PartnerContact{}}, view)
	view = read(identity.Viewer)
	require.Equal(t, 1, view.FailedCount)
	require.NotEmpty(t, view.Jobs)
	require.NotNil(t, view.Storage)
}
