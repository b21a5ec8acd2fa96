package api

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/store"
	"hutong/workflows"
)

// schedulesFor makes another party the scheduler of this party's jobs, and grants required.
func schedulesFor(node string) func(*Config) {
	return func(c *Config) {
		c.GrantsRequired, c.Scheduler, c.Schedulers = true, node, nil
	}
}

// TestJobInTheNameOfThisParty has the foreign scheduler of this party's jobs create jobs that name this party
// as their initiator. They need no grant if a client of this party has submitted exactly them.
func TestJobInTheNameOfThisParty(t *testing.T) {
	p := newParty(t, schedulesFor(host)).withProvider().withData()
	missing := "partner: " + host + " has no grant at " + guest
	document := withHost(t, "j1")
	p.bad(post(bfia.PathCreate, document).from(host), 200, bfia.CodeForbidden, missing)
	var check bfia.PartyCheck
	p.good(post(bfia.PathCheck, document).from(host)).into(&check)
	require.False(t, *check.Accepts)
	require.Contains(t, check.Reason, missing)
	require.Empty(t, p.engine.started())

	// A submission that the scheduler refuses is none.
	p.answering(host, http.StatusOK, `{"code":400,"msg":"no"}`)
	p.bad(post(bfia.PathPlatformCreateAll, document), 422, bfia.CodeRefused)
	p.bad(post(bfia.PathCreate, document).from(host), 200, bfia.CodeForbidden, missing)

	p.answering(host, http.StatusOK, `{"code":0,"msg":"success"}`)
	p.good(post(bfia.PathPlatformCreateAll, document))
	// The scheduler can't change what was submitted, nor submit it under another id.
	for name, forged := range map[string]string{
		"another job":    withHost(t, "j2"),
		"a parameter":    strings.Replace(document, `"tol": 0.0001`, `"tol": 0.5`, 1),
		"another output": strings.Replace(document, "{", `{"old_job_id":"j0",`, 1),
	} {
		require.NotEqual(t, document, forged, name)
		p.bad(post(bfia.PathCreate, forged).from(host), 200, bfia.CodeForbidden, missing)
	}
	require.Empty(t, p.engine.started())
	p.good(post(bfia.PathCreate, strings.Replace(document, `"sync_type": "poll"`, `"sync_type": "callback"`,
		1)).from(host))
	require.Len(t, p.engine.started(), 1)

	// With a grant of its own, the scheduler's job runs; outputs of this party's job are not for it.
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": host, "component": "*", "dataset": "*"}))
	p.good(post(bfia.PathCreate, withHost(t, "j2")).from(host))
	p.bad(post(bfia.PathCreate, strings.Replace(withHost(t, "j3"), "{", `{"old_job_id":"j1",`, 1)).
		from(host), 200, bfia.CodeForbidden, "old_job_id:")
}

// TestFATEFlowJobInTheNameOfThisParty does the same by FATE-Flow's own protocol.
func TestFATEFlowJobInTheNameOfThisParty(t *testing.T) {
	p := newParty(t, schedulesFor(fateScheduler)).withProvider().withData()
	p.peer(fateScheduler, "http://127.0.0.1:1")
	body := fateCreate(t)
	body["dag"].(map[string]any)["conf"].(map[string]any)["initiator_party_id"] = guest
	r := p.send(post(fateflow.PathJobCreate, fateCommand(body)).with("dest-party-id", guest))
	require.Contains(t, string(r.Body), "partner: "+fateScheduler+" has no grant at "+guest)
	require.Empty(t, p.engine.started())
}

// TestGrantsOfJobsThatNeverStart checks that the use of a grant does not stay counted if the workflow of the
// job refuses it or never starts.
func TestGrantsOfJobsThatNeverStart(t *testing.T) {
	p := newParty(t, func(c *Config) { c.GrantsRequired = true }).withProvider().withData()
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": host, "component": "*", "dataset": "*",
		"times": 1}))
	used := func() int {
		grants, err := p.store.Grants(t.Context(), host)
		require.NoError(t, err)
		return grants[0].Used
	}
	create := func(id string) call { return post(bfia.PathCreate, hostsJob(t, id)).from(host) }

	p.engine.set(workflows.Refuse(bfia.CodeRefused, "it was not created at every party"), nil)
	p.bad(create("j1"), 200, bfia.CodeRefused, "not created at every party")
	require.Zero(t, used(), "the workflow refused the job")

	// After an error of Temporal the workflow may still start. The use is held for some time, not for ever.
	p.engine.set(nil, errDown)
	p.bad(create("j2"), 503, bfia.CodeUnavailable)
	require.Equal(t, 1, used())
	p.bad(create("j3"), 200, bfia.CodeForbidden, "was for 1 jobs")
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(p.database, "sqlite://")+
		"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.ExecContext(t.Context(),
		"UPDATE t_grant_use SET used_at = '2025-01-01 00:00:00+00:00' WHERE job_id = 'j2'")
	require.NoError(t, err)
	require.Zero(t, used(), "the workflow has not started for an hour")

	p.engine.set(nil, nil)
	p.good(create("j3"))
	require.Equal(t, 1, used())
	// The workflow of j2 starts after all. Its use is gone.
	err = p.store.CreateJob(t.Context(), store.Job{JobID: "j2"}, nil)
	require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err))
	require.ErrorContains(t, err, "other jobs have used grant")
	require.Equal(t, 1, used())
}

// TestGrantsOfRerunJob checks that a job that FATE-Flow reruns needs its grant still, and uses it once.
func TestGrantsOfRerunJob(t *testing.T) {
	p := newParty(t, func(c *Config) { c.GrantsRequired = true }).withProvider().withData()
	p.peer(fateScheduler, "http://127.0.0.1:1")
	var grant bfia.DataGrant
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": fateScheduler, "component": "*", "dataset": "*",
		"times": 1})).into(&grant)
	p.good(post(fateflow.PathJobCreate, fateCommand(fateCreate(t))).with("dest-party-id", guest))
	finish := func() {
		require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobFinished, "", time.Now()))
	}
	rerun := post(fateflow.PathJobStatus, fateCommand(map[string]any{"status": "waiting"}))
	state := func() bfia.JobState {
		job, err := p.store.Job(t.Context(), "j1")
		require.NoError(t, err)
		return job.State
	}

	finish()
	p.good(rerun)
	require.Equal(t, bfia.JobReady, state())
	grants, err := p.store.Grants(t.Context(), fateScheduler)
	require.NoError(t, err)
	require.Equal(t, 1, grants[0].Used)

	finish()
	p.good(post(bfia.PathGrantRevoke, bfia.GrantRef{ID: grant.ID}))
	r := p.send(rerun)
	require.Contains(t, string(r.Body), "was revoked at")
	require.Equal(t, bfia.JobFinished, state())
}
