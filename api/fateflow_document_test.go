package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
)

// FATE-Flow's own commands do what the protocol's do, and one more for another role of the same party changes
// nothing.
func TestFateFlowDocument(t *testing.T) {
	p := newParty(t).withProvider().withData()
	command := func(role string, more map[string]any) map[string]any {
		body := map[string]any{"job_id": "j1", "role": role, "party_id": guest, "task_version": 0}
		for k, v := range more {
			body[k] = v
		}
		return body
	}
	// The job's initiator is its scheduler.
	fate := func(path string, body any) call { return post(path, body).from(guest) }
	inner := map[string]any{"dag": json.RawMessage(job(t, ""))}
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(job(t, "")), &doc))
	inner["dag"] = doc
	task := map[string]any{"task_id": "j1_" + first}
	for _, role := range []string{"guest", "host"} {
		r := p.good(fate(fateflow.PathJobCreate, command(role, map[string]any{"dag_schema": inner})))
		require.Equal(t, "success", r.Message)
		require.Equal(t, []string{workflows.ParticipantJobID("j1")}, p.engine.started())
		p.good(fate(fateflow.PathJobStart, command(role, nil)))
		p.good(fate(fateflow.PathTaskStart, command(role, task)))
	}
	start := signal{workflows.ParticipantJobID("j1"), workflows.SignalStart, nil}
	begin := signal{workflows.ParticipantJobID("j1"), workflows.SignalTaskStart,
		bfia.TaskRef{JobID: "j1", TaskID: "j1_" + first, TaskName: first}}
	require.Equal(t, []signal{start, begin, start, begin}, p.engine.takeSignals())
	_, err := p.store.StartTask(t.Context(), "j1", first, "j1_"+first, 1, time.Now())
	require.NoError(t, err)
	var state fateflow.Report
	p.good(fate(fateflow.PathTaskCollect, command("host", task))).into(&state)
	require.Equal(t, fateflow.Report{JobID: "j1", TaskID: "j1_" + first, Role: "host", PartyID: guest,
		Status: "running"}, state)
	p.good(fate(fateflow.PathTaskStop, command("host", task)))
	p.good(fate(fateflow.PathJobStop, command("guest", nil)))
	require.Equal(t, []signal{
		{workflows.ParticipantJobID("j1"), workflows.SignalStop,
			workflows.Stop{Task: first, By: guest, Attempt: 1}},
		{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}},
	}, p.engine.takeSignals())

	p.bad(fate(fateflow.PathJobStart, map[string]any{"job_id": "j1", "role": "guest", "party_id": host}), 200,
		bfia.CodeBadRequest, "party_id:")
	p.bad(fate(fateflow.PathJobStart, map[string]any{"job_id": "j1", "party_id": guest}), 200,
		bfia.CodeBadRequest, "role: is required")
	p.bad(fate(fateflow.PathTaskStart, command("guest", map[string]any{"task_id": "t1"})), 200,
		bfia.CodeBadRequest, "task_id:")
	p.bad(fate(fateflow.PathJobCreate, command("guest",
		map[string]any{"dag_schema": map[string]any{"dag": map[string]any{"tasks": 1}}})), 200,
		bfia.CodeBadRequest, "dag_schema.dag.dag: is required")
	p.bad(fate(fateflow.PathJobStart, `[`), 400, bfia.CodeBadRequest, "body:")
}
