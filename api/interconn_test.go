package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
)

// withHost returns a job in which another party is the host.
func withHost(t testing.TB, id string) string {
	return job(t, id, guest+`"
      ]
    },`, host+`"
      ]
    },`)
}

func TestCreateAllAndCreateTwice(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for range 2 {
		r := p.good(post(bfia.PathCreateAll, job(t, "j1")).from(guest))
		require.JSONEq(t, `{"job_id":"j1"}`, string(r.Data))
		p.good(post(bfia.PathCreate, job(t, "j1")).from(host))
	}
	require.Equal(t, []string{workflows.SchedulerJobID("j1"), workflows.ParticipantJobID("j1")},
		p.engine.started())
	other := job(t, "j1", "0.5", "0.25")
	p.bad(post(bfia.PathCreateAll, other).from(guest), 200, bfia.CodeConflict, "j1")
	p.bad(post(bfia.PathCreate, other).from(host), 200, bfia.CodeConflict, "j1")
	p.bad(post(bfia.PathCreateAll, job(t, "")).from(guest), 200, bfia.CodeBadRequest, "job_id: is required")
	p.bad(post(bfia.PathCreate, job(t, "")).from(host), 200, bfia.CodeBadRequest, "job_id: is required")
	p.bad(post(bfia.PathCreate, edited(t, "j9", map[string]any{"guest": []any{host}}, "config",
		"role")).from(host), 200, bfia.CodeBadRequest,
		"config.role: "+guest+" has no role in job j9")
	require.Len(t, p.engine.started(), 2)
	stored, err := p.store.Job(t.Context(), "j1")
	require.NoError(t, err)
	require.Equal(t, host, stored.SchedulerNode, "the sender")
}

// The sender's header, which counts in development only, is read in the spelling of the specification, of
// FATE-Flow and of Kuscia. Only the scheduler may send commands; the initiator may stop the job.
func TestSender(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, withHost(t, "j1")).with("x_node_id", host))
	stored, err := p.store.Job(t.Context(), "j1")
	require.NoError(t, err)
	require.Equal(t, host, stored.SchedulerNode)

	p.bad(post(bfia.PathCreate, withHost(t, "j2")).unnamed(), 200, bfia.CodeForbidden, "proves none")
	p.bad(post(bfia.PathCreate, withHost(t, "j1")).from(guest), 200, bfia.CodeForbidden,
		"the scheduler of job j1 is not "+guest)
	p.bad(post(bfia.PathCreate, withHost(t, "j2")).from("JG0190099900000000"), 200, bfia.CodeForbidden,
		"whose jobs JG0190099900000000 may not schedule", "routes."+guest+".schedulers")

	command := func(path string) call {
		return post(path, map[string]string{"job_id": "j1", "task_id": "t1", "task_name": first})
	}
	for _, header := range []string{"x-source-node-id", "x_source_node_id", "X-Source-Node-Id", "x_node_id",
		"X-Node-Id", "x-node-id", "X_NODE_ID"} {
		for _, path := range []string{bfia.PathStart, bfia.PathTaskStart, bfia.PathStop} {
			p.server.signals = signalLimits{}
			p.good(command(path).with(header, host))
			const stranger = "JG0190099900000000"
			if path == bfia.PathStop {
				p.good(command(path).with(header, guest))
				p.engine.takeSignals()
				p.good(command(path).with(header, stranger)) // as for a job that does not exist
				require.Empty(t, p.engine.takeSignals())
				continue
			}
			p.bad(command(path).with(header, guest), 200, bfia.CodeForbidden, "is for its scheduler; "+guest+
				" is its initiator")
			p.bad(command(path).with(header, stranger), 200, bfia.CodeNotFound,
				"knows no job j1 in which "+stranger+" takes part")
		}
	}
	for _, path := range []string{bfia.PathStart, bfia.PathTaskStart, bfia.PathStop} {
		p.bad(command(path).unnamed(), 200, bfia.CodeForbidden, "this request proves none")
	}
}

func TestStartAndStop(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "j1")).from(host))
	start := func(name, id string) call {
		return post(bfia.PathTaskStart, map[string]string{"job_id": "j1", "task_id": id,
			"task_name": name}).from(host)
	}
	// Before job/start, and twice: the workflow sorts it out, the handler passes it on.
	p.good(start(first, "t1"))
	p.good(post(bfia.PathStart, `{"job_id": "j1"}`).from(host))
	p.good(post(bfia.PathStart, `{"job_id": "j1"}`).from(host))
	require.Equal(t, []signal{
		{workflows.ParticipantJobID("j1"), workflows.SignalTaskStart,
			bfia.TaskRef{JobID: "j1", TaskID: "t1", TaskName: first}},
		{workflows.ParticipantJobID("j1"), workflows.SignalStart, nil},
		{workflows.ParticipantJobID("j1"), workflows.SignalStart, nil},
	}, p.engine.takeSignals())
	_, err := p.store.StartTask(t.Context(), "j1", first, "t1", 1, time.Now())
	require.NoError(t, err)
	p.good(start(first, "t1"))
	require.Empty(t, p.engine.takeSignals(), "it runs already")
	p.bad(start(first, "t2"), 200, bfia.CodeConflict, "already runs under the id t1")
	p.bad(start("nothing", "t3"), 200, bfia.CodeNotFound, `has no task "nothing"`)
	p.bad(start(first, ""), 200, bfia.CodeBadRequest, "task_id: is required")
	p.bad(start("", "t1"), 200, bfia.CodeBadRequest, "task_name: is required")
	p.bad(post(bfia.PathStart, `{"job_id": "nobody"}`).from(host), 200, bfia.CodeNotFound,
		"knows no job nobody")
	p.bad(post(bfia.PathStart, `{"job_id": 1}`).from(host), 400, bfia.CodeBadRequest,
		"job_id: is a JSON number, must be a string")

	p.good(post(bfia.PathStop, `{"job_id": "j1", "task_name": "intersect_rsa_1"}`).from(host))
	p.good(post(bfia.PathStop, `{"job_id": "j1", "undo": true}`).from(host))
	rejected := `{"job_id": "j1", "job_status": "REJECTED", "reason": "because"}`
	p.good(post(bfia.PathStop, rejected).from(host))
	p.good(post(bfia.PathStop, rejected).from(guest)) // the initiator, which knows no reason
	p.bad(post(bfia.PathStop, `{"job_id": "j1", "undo": true}`).from(guest), 200, bfia.CodeForbidden,
		"job/stop (undo) of job j1 is for its scheduler")
	require.Equal(t, []signal{
		{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{Task: first, By: host}},
		{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: host, Undo: true}},
		{workflows.ParticipantJobID("j1"), workflows.SignalStop,
			workflows.Stop{By: host, Rejected: true, Reason: "because"}},
		{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}},
	}, p.engine.takeSignals())
	p.good(post(bfia.PathStop, `{"job_id": "never-came"}`).from(host))
	require.Empty(t, p.engine.takeSignals())

	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobFinished, "", time.Now()))
	p.bad(start(second, "t9"), 200, bfia.CodeConflict, "is FINISHED")
	p.good(post(bfia.PathStop, `{"job_id": "j1"}`).from(host))
}

func TestStopAll(t *testing.T) {
	p := running(t, "j1")
	p.engine.takeSignals()
	p.good(post(bfia.PathStopAll, `{"job_id": "j1"}`).from(guest))
	p.good(post(bfia.PathStopAll, `{"job_id": "j1", "task_name": "intersect_rsa_1"}`))
	require.Equal(t, []signal{
		{workflows.SchedulerJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}},
		{workflows.SchedulerJobID("j1"), workflows.SignalStop,
			workflows.Stop{By: guest, Task: first}},
	}, p.engine.takeSignals())
	p.bad(post(bfia.PathStopAll, `{"job_id": "j1"}`).from(host), 200, bfia.CodeNotFound,
		"knows no job j1 in which "+host+" takes part")
	p.bad(post(bfia.PathStopAll, `{"job_id": "nobody"}`).from(guest), 200, bfia.CodeNotFound,
		"knows no job nobody")
	p.bad(post(bfia.PathStopAll, `{"job_id": "j1", "task_name": "nothing"}`).from(guest), 200,
		bfia.CodeNotFound, "has no task")
	require.Empty(t, p.engine.takeSignals())
}

// TestCreateWithoutARouteBack checks that a participant refuses a job for which it lacks a route to the
// scheduler or to a party with another role in its tasks. Hosts need no routes to each other.
func TestCreateWithoutARouteBack(t *testing.T) {
	p := newParty(t).withProvider().withData()
	far := job(t, "j1", `"host": [
        "JG0100001100000010"`, `"host": [
        "JG999"`)
	p.bad(post(bfia.PathCreate, far).from(guest), 200, bfia.CodeNotFound,
		"task intersect_rsa_1 runs at JG999 too, and "+guest+" can't send to it",
		"the route table has no node JG999",
		"make it a partner of "+guest+": with 'hutong partner invite JG999'")
	p.bad(post(bfia.PathCreate, job(t, "j2")).from("JG999"), 200, bfia.CodeNotFound,
		"the job's scheduler: the route table has no node JG999")
	require.Empty(t, p.engine.started())
	_, err := p.store.Document(t.Context(), "j1")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "nothing of it is kept")

	hosts := job(t, "j3", `"guest": [
        "JG0100001100000010"`, `"guest": [
        "`+host+`"`, `"host": [
        "JG0100001100000010"`, `"host": [
        "JG0100001100000010", "JG999"`)
	p.good(post(bfia.PathCreate, hosts).from(host))
}

// TestStopAfterTheEnd checks that stopping a job that its scheduler has ended ends it at the participants
// that may not know, and names those that can't be reached.
func TestStopAfterTheEnd(t *testing.T) {
	p := newParty(t).withProvider().withData()
	stops := p.answering(host, 200, `{"code":0,"data":{}}`)
	p.good(post(bfia.PathCreateAll, withHost(t, "j1")).from(guest))
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "j1", bfia.JobFinished, "", time.Now()))
	p.peer(guest, "http://"+p.address)
	p.good(post(bfia.PathPlatformStopAll, `{"job_id": "j1"}`))
	require.Contains(t, stops(), bfia.PathStop)

	p.answering(host, 404, `<html>no backend</html>`)
	p.bad(post(bfia.PathPlatformStopAll, `{"job_id": "j1"}`), 502, bfia.CodePartnerDown,
		"job j1 has ended, but "+host+" did not take the end of the job",
		"answered by something that is not the partner's API: HTTP 404 Not Found")
}

// TestStopAtAParticipant checks that a stop has effect at a participant whose scheduler has ended the job,
// does not know it, or can't be reached.
func TestStopAtAParticipant(t *testing.T) {
	for name, c := range map[string]struct {
		status  int
		answer  string
		want    []signal
		code    bfia.Code
		message string
	}{
		"it has ended the job": {200,
			`{"code":0,"data":{"job_status":"finished","failure":{"kind":"exit_code","exit_code":3}}}`,
			[]signal{{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: host,
				Failure: &bfia.Failure{Kind: bfia.FailedExit, ExitCode: 3}}}}, bfia.CodeOK, ""},
		"it runs the job": {200, `{"code":0,"data":{"job_status":"RUNNING"}}`, nil, bfia.CodeOK, ""},
		"it does not know the job": {404, `{"code":4040,"msg":"job_id: unknown"}`,
			[]signal{{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}}},
			bfia.CodeOK, ""},
		"it refuses": {200, `{"code":4030,"msg":"not a participant"}`, nil, bfia.CodeForbidden,
			"not a participant"},
		"a gateway answers": {503, `<html>no backend</html>`,
			[]signal{{workflows.ParticipantJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}}},
			bfia.CodePartnerDown, "The job is being stopped at " + guest + " only"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newParty(t).withProvider().withData()
			p.good(post(bfia.PathCreate, job(t, "j1")).from(host))
			p.answering(host, c.status, c.answer)
			stop := post(bfia.PathPlatformStopAll, `{"job_id": "j1"}`)
			if c.code == bfia.CodeOK {
				p.good(stop)
			} else {
				p.bad(stop, c.code.HTTPStatus(), c.code, c.message)
			}
			require.Equal(t, c.want, p.engine.takeSignals())
		})
	}
}

func TestPoll(t *testing.T) {
	p := running(t, "j1")
	tasks, err := p.store.StartTask(t.Context(), "j1", first, "t1", 1, time.Now())
	require.NoError(t, err)
	require.Len(t, tasks, 2)
	poll := func(role string) bfia.TaskState {
		var result bfia.PollResult
		p.good(post(bfia.PathTaskPoll, bfia.TaskPoll{TaskID: "t1", Role: role}).from(guest)).into(&result)
		return result.Status
	}
	require.Equal(t, bfia.TaskRunning, poll(""))
	key := store.TaskKey{JobID: "j1", Name: first, Role: "guest"}
	require.NoError(t, p.store.EndTask(t.Context(), key, "t1", bfia.TaskSuccess, "", time.Now()))
	require.Equal(t, bfia.TaskSuccess, poll("guest"))
	require.Equal(t, bfia.TaskSuccess, poll("guest.0"))
	require.Equal(t, bfia.TaskRunning, poll("host"))
	require.Equal(t, bfia.TaskRunning, poll(""), "of all roles that the node holds")
	p.bad(post(bfia.PathTaskPoll, `{"task_id": "t9", "role": ""}`), 200, bfia.CodeNotFound, "knows no task t9")
	p.bad(post(bfia.PathTaskPoll, `{"task_id": "t1", "role": "arbiter"}`), 200, bfia.CodeNotFound,
		`no part "arbiter"`)
	p.bad(post(bfia.PathTaskPoll, `{}`), 200, bfia.CodeBadRequest, "task_id: is required")
}

// Reports of other parties are passed on, in any order. The workflow orders them.
func TestCallbacks(t *testing.T) {
	p := running(t, "j1")
	_, err := p.store.StartTask(t.Context(), "j1", first, "t1", 1, time.Now())
	require.NoError(t, err)
	p.engine.takeSignals()
	id := bfia.TaskID("j1", first)
	report := post(bfia.PathTaskCallback, map[string]string{"task_id": id, "status": "SUCCESS",
		"role": "host.0", "reason": "all well"})
	p.good(report.from(guest))
	p.good(report.with("x_node_id", guest))
	callback := workflows.Callback{Node: guest, TaskID: id, Role: "host.0", State: bfia.TaskSuccess}
	p.good(post(bfia.PathTaskCallback, map[string]string{"task_id": id, "status": "success",
		"role": "host.0"}).from(guest))
	require.Equal(t, []signal{{workflows.SchedulerJobID("j1"), workflows.SignalCallback, callback},
		{workflows.SchedulerJobID("j1"), workflows.SignalCallback, callback},
		{workflows.SchedulerJobID("j1"), workflows.SignalCallback, callback}}, p.engine.takeSignals())
	p.bad(report.unnamed(), 200, bfia.CodeForbidden, "this request proves none")
	p.bad(report.from(host), 200, bfia.CodeNotFound, "knows no task "+id+" of a job in which "+host)
	p.bad(post(bfia.PathTaskCallback, `{"task_id": "t9", "status": "SUCCESS", "role": "guest"}`).from(guest),
		200, bfia.CodeNotFound, "knows no task t9")
	require.Empty(t, p.engine.takeSignals())
	p.engine.set(nil, errDown)
	p.bad(report.from(guest), 503, bfia.CodeUnavailable, "Temporal of")
}
