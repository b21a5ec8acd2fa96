package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
)

const fateScheduler = "9999"

// fateCreate is a job in FATE's own language: the reference provider's two tasks, at this party as guest and
// host.
func fateCreate(t testing.TB) map[string]any {
	t.Helper()
	return map[string]any{"schema_version": "2.2.0", "kind": "fate", "dag": map[string]any{
		"parties": []any{map[string]any{"role": "guest", "party_id": []string{guest}},
			map[string]any{"role": "host", "party_id": []string{host}},
			map[string]any{"role": "arbiter", "party_id": []string{fateScheduler}}},
		"conf": map[string]any{"scheduler_party_id": fateScheduler, "initiator_party_id": fateScheduler,
			"sync_type": "callback", "priority": nil},
		"tasks": map[string]any{first: map[string]any{"component_ref": "Intersection",
			"parameters": map[string]any{}, "dependent_tasks": nil,
			"parties": []any{map[string]any{"role": "guest", "party_id": []string{guest}},
				map[string]any{"role": "host", "party_id": []string{host}}},
			"inputs": map[string]any{
				"data": map[string]any{"train_data": map[string]any{"data_warehouse": map[string]any{
					"namespace": "testspace", "name": "test_guest", "job_id": nil}}},
				"model": nil,
			}}},
	}}
}

func fateCommand(more map[string]any) map[string]any {
	body := map[string]any{"job_id": "j1", "role": "guest", "party_id": guest}
	for k, v := range more {
		body[k] = v
	}
	return body
}

func newFateJob(t *testing.T, change ...func(*Config)) *party {
	p := newParty(t, change...).withProvider().withData()
	p.peer("9999", "http://127.0.0.1:1")
	p.good(post(fateflow.PathJobCreate, fateCommand(fateCreate(t))).with("dest-party-id", guest))
	return p
}

// A FATE-Flow that schedules by its own protocol creates, starts, watches, stops and runs again.
func TestFateFlowJob(t *testing.T) {
	p := newFateJob(t)
	in := p.engine.party
	require.True(t, in.FateFlow)
	require.Equal(t, fateScheduler, in.Scheduler)
	require.Equal(t, []string{"guest.0"}, in.Roles)
	p.good(post(fateflow.PathJobCreate, fateCommand(fateCreate(t)))) // the same again
	require.Len(t, p.engine.started(), 1)
	job, err := p.store.Job(t.Context(), "j1")
	require.NoError(t, err)
	require.Equal(t, fateScheduler, job.SchedulerNode)

	task := func(version int, more map[string]any) map[string]any {
		body := fateCommand(map[string]any{"task_id": "j1_" + first, "task_version": version})
		for k, v := range more {
			body[k] = v
		}
		return body
	}
	collect := func(version int) string {
		var report fateflow.Report
		p.good(post(fateflow.PathTaskCollect, task(version, nil))).into(&report)
		require.Equal(t, fateflow.Report{JobID: "j1", TaskID: "j1_" + first, TaskVersion: version,
			Role: "guest", PartyID: guest, Status: report.Status}, report)
		return report.Status
	}
	p.good(post(fateflow.PathJobStatus, fateCommand(map[string]any{"status": "waiting"})))
	require.Equal(t, "waiting", collect(0))
	p.good(post(fateflow.PathJobStart, fateCommand(nil)))
	p.good(post(fateflow.PathTaskApply, task(0, nil)))
	p.good(post(fateflow.PathTaskStatus, task(0, map[string]any{"status": "running"})))
	p.good(post(fateflow.PathTaskStart, task(0, nil)))
	p.good(post(fateflow.PathJobUpdate, fateCommand(map[string]any{"progress": 50.0})))
	workflow := workflows.ParticipantJobID("j1")
	require.Equal(t, []signal{{workflow, workflows.SignalStart, nil},
		{workflow, workflows.SignalTaskStart,
			bfia.TaskRef{JobID: "j1", TaskID: "j1_" + first, TaskName: first}}}, p.engine.takeSignals())
	_, err = p.store.StartTask(t.Context(), "j1", first, "j1_"+first, 1, time.Now())
	require.NoError(t, err)
	require.Equal(t, "running", collect(0))
	require.Equal(t, "waiting", collect(1))

	// It fails; FATE-Flow ends the job, and then runs the task again.
	tasks, err := p.store.Tasks(t.Context(), "j1")
	require.NoError(t, err)
	require.NoError(t, p.store.EndTask(t.Context(), tasks[0].Key(), "j1_"+first, bfia.TaskFailed, "it hurts",
		time.Now()))
	require.Equal(t, "failed", collect(0))
	p.good(post(fateflow.PathTaskStop, task(0, map[string]any{"status": "failed"})))
	p.good(post(fateflow.PathJobStatus, fateCommand(map[string]any{"status": "failed"})))
	p.good(post(fateflow.PathJobStop, fateCommand(nil)))
	require.Equal(t, []signal{{workflow, workflows.SignalStop,
		workflows.Stop{Task: first, By: fateScheduler, Attempt: 1}},
		{workflow, workflows.SignalStop, workflows.Stop{By: fateScheduler}}, {workflow, workflows.SignalStop,
			workflows.Stop{By: fateScheduler}}}, p.engine.takeSignals())
	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobFinished, "it hurts", time.Now()))
	p.good(post(fateflow.PathTaskRerun, task(0, map[string]any{"new_version": 1})))
	p.bad(post(fateflow.PathTaskRerun, task(1, map[string]any{"new_version": 1})), 200, bfia.CodeBadRequest,
		"new_version:")
	p.good(post(fateflow.PathJobStatus, fateCommand(map[string]any{"status": "waiting"})))
	require.Equal(t, []workflows.PartBefore{{Task: first, Part: "guest.0", TaskID: "j1_" + first, Attempt: 1,
		State:   bfia.TaskFailed,
		Failure: &bfia.Failure{Kind: bfia.FailedUnknown, Message: "it hurts"}}}, p.engine.party.Before)
	job, err = p.store.Job(t.Context(), "j1")
	require.NoError(t, err)
	require.Equal(t, bfia.JobReady, job.State)
	p.good(post(fateflow.PathTaskStart, task(1, nil)))
	require.Equal(t, []signal{{workflow, workflows.SignalTaskStart,
		bfia.TaskRef{JobID: "j1", TaskID: "j1_" + first + ".v1", TaskName: first,
			Attempt: 2}}}, p.engine.takeSignals())
	_, err = p.store.StartTask(t.Context(), "j1", first, "j1_"+first+".v1", 2, time.Now())
	require.NoError(t, err)
	require.Equal(t, "failed", collect(0))
	require.Equal(t, "running", collect(1))
}

// What the party's own people stop, FATE-Flow's scheduler is asked to stop.
func TestFateFlowStoppedHere(t *testing.T) {
	p := newFateJob(t)
	asked := p.answering(fateScheduler, http.StatusOK, `{"code":0,"message":"success"}`)
	p.good(post(bfia.PathPlatformStopAll, map[string]any{"job_id": "j1"}))
	require.Equal(t, []string{fateflow.PathSchedulerJobStop}, asked())
	p.bad(post(bfia.PathPlatformStopTask, map[string]any{"job_id": "j1", "task_name": first}), 422,
		bfia.CodeRefused, "not a task")
}

// FATE-Flow's scheduler keeps a job waiting, or ends it, by the code of the answer.
func TestFateFlowReservation(t *testing.T) {
	p := newFateJob(t)
	apply := post(fateflow.PathJobApply, fateCommand(nil))
	p.engine.grant = bfia.Grant{Granted: true}
	p.good(apply)
	p.engine.grant = bfia.Grant{Reason: "all slots are in use"}
	p.bad(apply, 200, fateflow.CodeInsufficient, "all slots are in use")
	p.engine.grant = bfia.Grant{State: bfia.JobFinished, Reason: "the job was stopped here by ops"}
	p.bad(apply, 200, fateflow.CodeNeverAvailable, "stopped here by ops")
	p.good(post(fateflow.PathJobReturn, fateCommand(nil)))
	require.Equal(t, workflows.UpdateRelease, p.engine.takeSignals()[3].Name)

	waiting := newFateJob(t, func(c *Config) { c.Approval = true })
	waiting.bad(apply, 200, bfia.CodeConflict, "waits for an approval")
}

// What can't be done is refused, with words that FATE-Flow shows.
func TestFateFlowRefusals(t *testing.T) {
	p := newFateJob(t)
	other := fateCreate(t)
	other["dag"].(map[string]any)["tasks"].(map[string]any)[first].(map[string]any)["component_ref"] = "psi"
	for _, c := range []struct {
		path  string
		body  map[string]any
		code  bfia.Code
		words string
	}{
		{fateflow.PathJobCreate, fateCommand(other), bfia.CodeNotFound, "dag.tasks." + first +
			".component_ref: no provider that is registered at " + guest + " has psi"},
		{fateflow.PathJobCreate, fateCommand(nil), bfia.CodeBadRequest, "dag: is required"},
		{fateflow.PathJobStart, fateCommand(map[string]any{"job_id": "j0"}), bfia.CodeNotFound,
			"knows no job j0"},
		{fateflow.PathJobStatus, fateCommand(map[string]any{"job_id": "j0", "status": "waiting"}),
			bfia.CodeNotFound, "knows no job j0"},
		{fateflow.PathTaskStart, fateCommand(map[string]any{"task_id": "j1_no"}), bfia.CodeNotFound,
			`no task "no"`},
		{fateflow.PathTaskStart, fateCommand(map[string]any{"task_id": "j1_" + first, "role": "host"}),
			bfia.CodeNotFound, "for host of"},
		{fateflow.PathTaskStart, fateCommand(map[string]any{"task_id": "j1_" + first, "task_version": -1}),
			bfia.CodeBadRequest, "task_version:"},
		{fateflow.PathTaskStart, fateCommand(map[string]any{"task_id": "j1_" + first,
			"task_version": 1 << 40}), bfia.CodeBadRequest, "task_version:"},
	} {
		p.bad(post(c.path, c.body), 200, c.code, c.words)
	}
	p.good(post(fateflow.PathJobStop, fateCommand(map[string]any{"job_id": "j0"}))) // it is stopped already
	p.bad(post(fateflow.PathJobCreate, fateCommand(fateCreate(t))).from(host), 200, bfia.CodeForbidden,
		"dag.conf.scheduler_party_id:")
	p.bad(post(fateflow.PathJobStart, fateCommand(nil)).from(host), 200, bfia.CodeForbidden,
		"job/start of job j1 is for its scheduler; "+host+" is a participant")
	p.bad(post(fateflow.PathJobStart, fateCommand(nil)).from("JG99"), 200, bfia.CodeNotFound,
		"knows no job j1")
	p.bad(post(fateflow.PathJobStart, fateCommand(nil)).unnamed(), 200, bfia.CodeForbidden, "proves none")
}

// Of a scheduler's own endpoints, stops and reports do what the protocol's do; the rest is refused.
func TestFateFlowScheduler(t *testing.T) {
	p := running(t, "j1")
	task := bfia.TaskID("j1", first)
	p.engine.takeSignals()
	p.good(post(fateflow.PathSchedulerTaskReport,
		fateflow.Report{JobID: "j1", TaskID: task, Role: "host", PartyID: guest, Status: "success"}))
	p.good(post(fateflow.PathSchedulerJobStop, map[string]any{"job_id": "j1", "stop_status": "canceled"}))
	require.Equal(t, []signal{
		{workflows.SchedulerJobID("j1"), workflows.SignalCallback,
			workflows.Callback{Node: guest, TaskID: task, Role: "host", State: bfia.TaskSuccess}},
		{workflows.SchedulerJobID("j1"), workflows.SignalStop,
			workflows.Stop{By: guest}}}, p.engine.takeSignals())
	report := func(change func(*fateflow.Report)) call {
		r := fateflow.Report{JobID: "j1", TaskID: task, Role: "host", PartyID: guest, Status: "success"}
		change(&r)
		return post(fateflow.PathSchedulerTaskReport, r)
	}
	p.bad(report(func(r *fateflow.Report) { r.Status = "DONE" }), 200, bfia.CodeBadRequest, "status:")
	p.bad(report(func(r *fateflow.Report) { r.TaskID = "none" }), 200, bfia.CodeNotFound,
		"knows no task none")
	p.bad(report(func(r *fateflow.Report) { r.PartyID = "5555" }).from("5555"), 200, bfia.CodeNotFound,
		"knows no task "+task)
	p.bad(report(func(r *fateflow.Report) { r.Role = "arbiter" }), 200, bfia.CodeForbidden,
		"role: arbiter is not a role of "+guest)
	p.bad(report(func(r *fateflow.Report) { r.Role = "" }), 200, bfia.CodeBadRequest, "role: is required")
	p.bad(report(func(*fateflow.Report) {}).from(host), 200, bfia.CodeForbidden, "comes from")
	for _, path := range []string{fateflow.PathSchedulerJobCreate, fateflow.PathSchedulerJobRerun} {
		r := p.bad(post(path, map[string]any{"job_id": "j1"}), 200, bfia.CodeRefused,
			"schedules jobs of the BFIA protocol")
		require.True(t, strings.Contains(r.Text(), bfia.PathCreateAll))
	}
}
