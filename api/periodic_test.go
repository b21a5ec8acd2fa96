package api

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/workflows"
)

// daily returns a request for a periodic job with the captured job.
func daily(t testing.TB, name string) map[string]any {
	return map[string]any{"name": name, "cron": "0 2 * * *", "timezone": "Asia/Shanghai",
		"document": json.RawMessage(job(t, "ignored"))}
}

func with(m map[string]any, key string, value any) map[string]any {
	m[key] = value
	if value == nil {
		delete(m, key)
	}
	return m
}

// TestPeriodic walks a periodic job through its endpoints, and compares what reaches its workflow.
func TestPeriodic(t *testing.T) {
	p := newParty(t).withProvider().withData()
	var added bfia.PeriodicAdded
	p.good(post(bfia.PathPeriodicAdd, daily(t, "psi"))).into(&added)
	require.Len(t, added.Upcoming, upcomingRuns)
	require.Equal(t, 18, added.Upcoming[0].UTC().Hour())
	require.Equal(t, []string{workflows.PeriodicJobID("psi")}, p.engine.started())
	p.bad(post(bfia.PathPeriodicAdd, daily(t, "psi")), 409, bfia.CodeConflict, "psi", "exists already")

	query := func(name string) (list []bfia.Periodic) {
		p.good(get(bfia.PathPeriodicQuery + "?name=" + name)).into(&list)
		return list
	}
	list := query("")
	require.Len(t, list, 1)
	require.Equal(t, bfia.PeriodicActive, list[0].State)
	require.Equal(t, added.Upcoming[0], *list[0].NextAt)
	require.Equal(t, added.Upcoming, list[0].Upcoming)
	require.Empty(t, list[0].Document)
	require.Equal(t, []string{guest}, list[0].Parties)
	shown := query("psi")
	require.NotContains(t, string(shown[0].Document), "ignored", "each run has a job_id of its own")
	p.bad(get(bfia.PathPeriodicQuery+"?name=none"), 404, bfia.CodeNotFound, "none")

	ref := bfia.PeriodicRef{Name: "psi"}
	p.good(post(bfia.PathPeriodicPause, bfia.PausePeriodic{Name: "psi", Reason: "holidays"}))
	p.good(post(bfia.PathPeriodicResume, ref))
	var started bfia.PeriodicStarted
	p.good(post(bfia.PathPeriodicRun, ref)).into(&started)
	require.NotEmpty(t, started.JobID)
	p.good(post(bfia.PathPeriodicChange, with(with(daily(t, "psi"), "document", nil), "cron", "@weekly")))
	id := workflows.PeriodicJobID("psi")
	require.Equal(t, []signal{{id, workflows.UpdatePeriodicPause, "holidays"},
		{id, workflows.UpdatePeriodicResume, nil},
		{id, workflows.UpdatePeriodicRun, workflows.PeriodicRunInput{}},
		{id, workflows.UpdatePeriodicChange, workflows.PeriodicChange{Revision: 2,
			Recurrence: bfia.Recurrence{Cron: "@weekly", Timezone: "Asia/Shanghai"}}}},
		p.engine.takeSignals())

	p.good(post(bfia.PathPeriodicRun, bfia.RunPeriodic{Name: "psi", RequestID: "r1"}))
	require.Equal(t, []signal{{id, workflows.UpdatePeriodicRun, workflows.PeriodicRunInput{RequestID: "r1"}}},
		p.engine.takeSignals())
	p.bad(post(bfia.PathPeriodicRun, bfia.RunPeriodic{Name: "psi", RequestID: "a b"}), 400,
		bfia.CodeBadRequest, "request_id: ")

	// The answer of the workflow is that of the endpoint.
	p.engine.set(workflows.Refuse(bfia.CodeConflict, "job 7 has not ended"), nil)
	p.bad(post(bfia.PathPeriodicRun, ref), 409, bfia.CodeConflict, "job 7 has not ended")
	p.engine.set(nil, errors.New("refused"))
	p.bad(post(bfia.PathPeriodicPause, ref), 503, bfia.CodeUnavailable, "control worker")
	p.engine.set(nil, nil)

	// What has no workflow any more can be deleted too.
	p.engine.set(nil, serviceerror.NewNotFound("no such workflow"))
	p.bad(post(bfia.PathPeriodicPause, ref), 404, bfia.CodeNotFound, "does not run")
	p.good(post(bfia.PathPeriodicDelete, ref))
	p.engine.set(nil, nil)
	require.Empty(t, query(""))
	for _, path := range []string{bfia.PathPeriodicPause, bfia.PathPeriodicResume, bfia.PathPeriodicRun,
		bfia.PathPeriodicDelete} {
		p.bad(post(path, ref), 404, bfia.CodeNotFound, "psi")
	}
	p.bad(post(bfia.PathPeriodicChange, daily(t, "psi")), 404, bfia.CodeNotFound, "psi")
}

// TestPeriodicRefuses checks that a mistake is found when the periodic job is added, and that the message
// names the field.
func TestPeriodicRefuses(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for _, c := range []struct {
		field, want string
		value       any
	}{
		{"name", "name: is required", nil}, {"name", "name: ", "a b"}, {"cron", "cron: is required", nil},
		{"cron", "cron: ", "61 * * * *"}, {"timezone", "timezone: ", "Mars"},
		{"overlap", "overlap: ", "both"}, {"count", "count: ", -1},
		{"document", "document: is required", nil},
		{"document", "document: ", json.RawMessage(`{"dag":{}}`)},
		{"ends_at", "ends_at: no run comes before it", time.Now().Add(-time.Hour)},
		{"document", "old_job_id", json.RawMessage(edited(t, "", "202601010000000000001", "old_job_id"))},
		{"document", "config.initiator.node_id", json.RawMessage(edited(t, "", "X", "config", "initiator",
			"node_id"))},
	} {
		p.bad(post(bfia.PathPeriodicAdd, with(daily(t, "psi"), c.field, c.value)), 400, bfia.CodeBadRequest,
			c.want)
	}
	bare := newParty(t)
	bare.bad(post(bfia.PathPeriodicAdd, daily(t, "psi")), 404, bfia.CodeNotFound, "document: ")
	require.Empty(t, p.engine.started())
}

// TestSubmitPeriodic checks that a run submits an ordinary job in the name of its owner, once, with an entry
// in the audit trail, and is refused once the owner may not submit jobs any more.
func TestSubmitPeriodic(t *testing.T) {
	database := storetest.Open(t, storetest.SQLite(t))
	token := func(name string, roles ...identity.Role) store.Token {
		_, row, err := clients.NewToken(name, roles, "root", nil)
		require.NoError(t, err)
		require.NoError(t, database.CreateToken(t.Context(), row))
		return row
	}
	p := newParty(t, func(c *Config) {
		c.Recheck, c.OpenJobs = clients.New(clients.Config{}, database).Recheck, 2
	}).withProvider().withData()
	require.NoError(t, p.store.AddPeriodicJob(t.Context(), store.PeriodicJob{PeriodicID: "id", Name: "psi"},
		store.PeriodicDocument{Document: []byte(job(t, ""))}))
	alice := token("alice", identity.Operator)
	owner := func(row store.Token) store.PeriodicDocument {
		return store.PeriodicDocument{PeriodicID: "id", ProvedAt: time.Now(),
			Owner: store.PeriodicOwner{Name: row.Name, Proof: identity.ByToken, Credential: row.TokenID,
				Roles: []identity.Role{identity.Operator}}}
	}
	doc, err := bfia.ParseDocument([]byte(job(t, "run-1")))
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, p.server.SubmitPeriodic(t.Context(), "psi", owner(alice), doc))
	}
	require.Equal(t, []string{workflows.SchedulerJobID("run-1")}, p.engine.started())
	by, err := p.store.JobClients(t.Context(), "run-1")
	require.NoError(t, err)
	require.Len(t, by, 1)
	require.Equal(t, "alice", by[0].Name)

	entries := func() []audit.Entry {
		list, err := p.store.AuditEntries(t.Context(), store.AuditFilter{Act: audit.Submit})
		require.NoError(t, err)
		return list
	}
	entry := entries()[0]
	require.Equal(t, "alice", entry.Name)
	require.Equal(t, "periodic job psi", entry.Address)
	require.Equal(t, audit.Object{Kind: audit.Job, ID: "run-1"}, entry.Object)
	require.Equal(t, audit.Allowed, entry.Outcome)
	require.Len(t, entry.Digest, 64)

	refused := func(code bfia.Code, row store.Token, want string) {
		t.Helper()
		err := p.server.SubmitPeriodic(t.Context(), "psi", owner(row), doc.WithJobID("run-2"))
		require.ErrorContains(t, err, want)
		require.Equal(t, code, bfia.CodeOf(err))
	}
	refused(bfia.CodeForbidden, token("bob", identity.Viewer), "lacks the role operator")
	refused(bfia.CodeUnauthenticated, store.Token{TokenID: "t-none", Name: "carol"}, "does not exist")

	// The limits are the owner's too.
	require.NoError(t, p.server.SubmitPeriodic(t.Context(), "psi", owner(alice), doc.WithJobID("run-3")))
	refused(bfia.CodeTooMany, alice, "open jobs")
	require.NoError(t, database.RevokeToken(t.Context(), alice.TokenID, time.Now()))
	refused(bfia.CodeUnauthenticated, alice, "was revoked")
	require.Len(t, p.engine.started(), 2)
	p.server.Recheck = nil
	refused(bfia.CodeForbidden, alice, "can't check")
}

// TestPeriodicPlaceholders checks that the document of a periodic job is checked as its next run expands it,
// and is shown as it was added.
func TestPeriodicPlaceholders(t *testing.T) {
	p := newParty(t).withProvider().withData()
	with := func(id, flow string) map[string]any {
		return map[string]any{"name": "psi", "cron": "0 2 * * *", "timezone": "Asia/Shanghai",
			"document": json.RawMessage(job(t, "ignored", `"id": "id"`, `"id": "`+id+`"`,
				`"flow_id": "JG0100001100000000"`, `"flow_id": "`+flow+`"`))}
	}
	p.bad(post(bfia.PathPeriodicAdd, with("{{dte}}", "f")), 400, bfia.CodeBadRequest,
		"document.config.task_params.common.", `{{dte}}: "dte" is not one of date, `)
	p.bad(post(bfia.PathPeriodicAdd, with("id", "{{date")), 400, bfia.CodeBadRequest, "document.flow_id: ")
	p.good(post(bfia.PathPeriodicAdd, with("id_{{ymd-1d}}", "night of {{date}}")))
	p.bad(post(bfia.PathPeriodicChange, with("{{date+1}}", "f")), 400, bfia.CodeBadRequest,
		"{{date+1}} is not a placeholder")

	var list []bfia.Periodic
	p.good(get(bfia.PathPeriodicQuery + "?name=psi")).into(&list)
	require.Contains(t, string(list[0].Document), "id_{{ymd-1d}}")
	zone, err := time.LoadLocation("Asia/Shanghai")
	require.NoError(t, err)
	require.Equal(t, "night of "+list[0].NextAt.In(zone).Format(time.DateOnly), list[0].FlowID)
}
