package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/workflows"
)

var errDown = errors.New("no connection: the host secret-db.internal is down")

func TestStatus(t *testing.T) {
	p := running(t, "j1")
	id := bfia.TaskID("j1", first)
	require.NoError(t, p.store.UpdateScheduleTasks(t.Context(),
		[]store.ScheduleTaskChange{{TaskID: id, State: bfia.TaskRunning,
			Parts: []store.SchedulePartChange{{Role: "guest", State: bfia.TaskRunning}}}}, time.Now()))

	// By query, and by a JSON body on GET, as FATE-Flow sends it.
	for _, c := range []call{
		get(bfia.PathPlatformStatusAll + "?job_id=j1"),
		{method: http.MethodGet, path: bfia.PathPlatformStatusAll, body: `{"job_id": "j1"}`},
	} {
		r := p.good(c)
		var status bfia.JobStatus
		r.into(&status)
		require.Equal(t, bfia.JobPending, status.State)
		require.Equal(t, map[string]bfia.TaskState{id: bfia.TaskRunning,
			bfia.TaskID("j1", second): bfia.TaskReady}, status.Status)
		require.Equal(t, []string{first}, status.Tasks[1].DependsOn)
		require.Len(t, status.Tasks[0].Parties, 2)
		require.Equal(t, "RUNNING", string(status.Tasks[0].Parties[0].State))
		require.NotNil(t, status.Tasks[0].StartedAt)
		require.JSONEq(t, `"PENDING"`, string(r.Fields["job_status"]), "next to data, as in FATE-Flow")
		require.Contains(t, string(r.Fields["status"]), id)
	}
	// East-west by the tasks' names, with GET and POST.
	for _, c := range []call{
		get(bfia.PathStatusAll + "?job_id=j1"),
		{method: http.MethodGet, path: bfia.PathStatusAll, body: `{"job_id": "j1"}`},
		post(bfia.PathStatusAll, `{"job_id": "j1"}`),
	} {
		var status bfia.JobStatus
		p.good(c.from(guest)).into(&status)
		require.Equal(t, map[string]bfia.TaskState{first: bfia.TaskRunning, second: bfia.TaskReady},
			status.Status)
	}
	p.bad(get(bfia.PathPlatformStatusAll), 400, bfia.CodeBadRequest, "job_id: is required")
	p.bad(get(bfia.PathPlatformStatusAll+"?job_id=nobody"), 404, bfia.CodeNotFound,
		"job nobody")
	p.bad(get(bfia.PathPlatformStatusAll+"?job_id=a%2Fb"), 400, bfia.CodeBadRequest, "job_id:")
	p.bad(call{method: http.MethodGet, path: bfia.PathPlatformStatusAll, body: `{"job_id": {"a": 1}}`}, 400,
		bfia.CodeBadRequest, "job_id:")
	p.bad(call{method: http.MethodGet, path: bfia.PathPlatformStatusAll, body: `["j1"]`}, 400,
		bfia.CodeBadRequest, "body:")
	p.bad(post(bfia.PathStatusAll, `{"job_id": "nobody"}`), 200, bfia.CodeNotFound,
		"job nobody")
	p.bad(post(bfia.PathStatusAll, `{`), 400, bfia.CodeBadRequest, "body:")
}

// An approver, and who registered a provider, see the ids of images next to their references, or that no
// runner has resolved them yet.
func TestImageIDsAreShown(t *testing.T) {
	const ref, id = "unionpay:2.0.0", "sha256:1"
	p := newParty(t).withProvider().withData()
	parts := [2]string{guest + `"
      ]
    },`, host + `"
      ]
    },`}
	p.good(post(bfia.PathCreate, job(t, "j1", parts[0], parts[1])).from(host))
	shown := func(jobID string) []string {
		r := p.good(get(bfia.PathJobShow + "?job_id=" + jobID))
		require.Contains(t, string(r.Body), `"image_ids":[`)
		var view bfia.JobView
		r.into(&view)
		require.Equal(t, ref, view.Tasks[0].Images[0].Image)
		return view.Tasks[0].Images[0].ImageIDs
	}
	registered := func() []bfia.ProviderImage {
		var list []struct {
			Images []bfia.ProviderImage `json:"images"`
		}
		p.good(get(bfia.PathProviderQuery + "?provider_name=unionpay:2.0.0@docker")).into(&list)
		return list[0].Images
	}
	require.Empty(t, shown("j1"))
	require.Equal(t, []bfia.ProviderImage{{Reference: ref, IDs: map[string]string{}}}, registered())

	record, err := p.store.JobRecord(t.Context(), "j1")
	require.NoError(t, err)
	_, err = p.store.FixImage(t.Context(), "j1", record.Registry.Providers()[0], ref, "r1", id)
	require.NoError(t, err)
	require.Equal(t, []string{id}, shown("j1"))
	require.Equal(t, []bfia.ProviderImage{{Reference: ref, IDs: map[string]string{"r1": id}}}, registered())
	p.good(post(bfia.PathCreate, job(t, "j2", parts[0], parts[1])).from(host))
	require.Equal(t, []string{id}, shown("j2"), "known at its creation")
}

// An approver sees the columns and the number of rows of the own datasets, and only the names of others'.
func TestColumnsAreShown(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "j1", guest+`"
      ]
    },`, host+`"
      ]
    },`)).from(host))
	var view bfia.JobView
	p.good(get(bfia.PathJobShow + "?job_id=j1")).into(&view)
	datasets := map[string]*bfia.DatasetView{}
	for _, part := range view.Tasks[0].Parts {
		datasets[part.NodeID] = part.Dataset
	}
	require.Equal(t, map[string]*bfia.DatasetView{
		guest: {Namespace: "testspace", Name: "test_guest", Rows: 2,
			Columns: []bfia.ColumnView{{Name: "id", Type: "int64"}, {Name: "y", Type: "int64"},
				{Name: "x0", Type: "float64"}}},
		host: {Namespace: "testspace", Name: "test_host"},
	}, datasets)
}

// TestWorkflowLinks checks that clients that operate, and no others, get the addresses of a job's workflows
// in Temporal's UI, if it is known.
func TestWorkflowLinks(t *testing.T) {
	const base = "https://temporal.bank.example/namespaces/hutong-a/workflows/"
	address := storetest.SQLite(t)
	p := newStrictParty(t, storetest.Open(t, address), func(c *Config) {
		c.CheckDatasets, c.WorkflowsURL = false, base
	})
	own := p.store
	p.store = storetest.Open(t, address)
	tokens := map[string]string{}
	for name, roles := range map[string][]identity.Role{"viewer": {identity.Viewer},
		"operator":     {identity.Operator, identity.Viewer},
		"runner-admin": {identity.RunnerAdmin, identity.Viewer}, "admin": {identity.Admin}} {
		tokens[name] = p.token(name, nil, roles...)
	}
	p.store = own
	over := p.client()
	p.server.Config.Clients = nil // the applications hold the authenticator
	ask := func(who, method, path string, body any) bfia.Envelope {
		status, _, answer := p.ask(over, tokens[who], method, path, body)
		require.Equal(t, http.StatusOK, status, answer.Text())
		return answer
	}
	ask("admin", http.MethodPost, bfia.PathProviderRegister,
		json.RawMessage(vector(t, "provider_register.request.json")))
	p.resolve("sha256:1")
	ask("operator", http.MethodPost, bfia.PathPlatformCreateAll, json.RawMessage(job(t, "j1")))
	p.createAt("j1")
	show := func(who string) []bfia.WorkflowView {
		var view bfia.JobView
		require.NoError(t, json.Unmarshal(
			ask(who, http.MethodGet, bfia.PathJobShow+"?job_id=j1", nil).Data, &view))
		return view.Workflows
	}
	want := []bfia.WorkflowView{
		{Side: "scheduler", WorkflowID: "scheduler-job/j1", URL: base + "scheduler-job%2Fj1"},
		{Side: "participant", WorkflowID: "participant-job/j1", URL: base + "participant-job%2Fj1"}}
	for who, links := range map[string][]bfia.WorkflowView{"viewer": nil, "operator": want,
		"runner-admin": want, "admin": want} {
		require.Equal(t, links, show(who), who)
	}
}

// A party that is only a participant reports its own parts.
func TestStatusAtAParticipant(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "j2", guest+`"
      ]
    },`, host+`"
      ]
    },`)).from(host))
	_, err := p.store.StartTask(t.Context(), "j2", first, "t1", 1, time.Now())
	require.NoError(t, err)
	var status bfia.JobStatus
	p.good(get(bfia.PathPlatformStatusAll + "?job_id=j2")).into(&status)
	require.Equal(t, host, status.Scheduler)
	require.Equal(t, bfia.TaskRunning, status.Status["t1"])
	require.Len(t, status.Status, 1, "a task that has not started has no id here")
	require.Equal(t, []string{first}, status.Tasks[1].DependsOn)
	for _, task := range status.Tasks {
		for _, part := range task.Parties {
			require.Equal(t, "guest", part.Role)
		}
	}
	p.bad(post(bfia.PathStatusAll, `{"job_id": "j2"}`).from(host), 200, bfia.CodeNotFound,
		"knows no job j2")
}

func TestJobList(t *testing.T) {
	p := newParty(t).withProvider().withData()
	for _, id := range []string{"a", "b", "c"} {
		p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	}
	p.good(post(bfia.PathCreate, job(t, "d", `"flow_id": "JG0100001100000000"`,
		`"flow_id": "other"`)).from(guest))
	var list bfia.JobList
	r := p.good(get(bfia.PathPlatformJobList))
	r.into(&list)
	require.Len(t, list.Jobs, 4)
	require.Equal(t, "d", list.Jobs[0].JobID, "newest first")
	require.JSONEq(t, `{"a":"READY","b":"READY","c":"READY","d":"READY"}`, string(r.Fields["job_list"]),
		"next to data, as in FATE-Flow")
	list = bfia.JobList{}
	p.good(call{method: http.MethodGet, path: bfia.PathPlatformJobList,
		body: `{"flow_id": "other"}`}).into(&list)
	require.Equal(t, map[string]bfia.JobState{"d": bfia.JobReady}, list.JobList)

	var pages []string
	for next := ""; ; {
		list = bfia.JobList{}
		p.good(get(bfia.PathPlatformJobList + "?limit=2&before=" + next)).into(&list)
		for _, j := range list.Jobs {
			pages = append(pages, j.JobID)
		}
		if next = list.Next; next == "" {
			break
		}
	}
	require.Equal(t, []string{"d", "c", "b", "a"}, pages)
	list = bfia.JobList{}
	p.good(call{method: http.MethodGet, path: bfia.PathPlatformJobList, body: `{"limit": 1}`}).into(&list)
	require.Len(t, list.Jobs, 1)
	for _, limit := range []string{"0", "-1", "1001", "many", "1.5", "99999999999999999999", "1e2", "%00"} {
		p.bad(get(bfia.PathPlatformJobList+"?limit="+limit), 400, bfia.CodeBadRequest, "limit:")
	}
	p.bad(call{method: http.MethodGet, path: bfia.PathPlatformJobList, body: `{"limit": [1]}`}, 400,
		bfia.CodeBadRequest, "limit:")
	p.bad(get(bfia.PathPlatformJobList+"?before=yesterday"), 400, bfia.CodeBadRequest, "before")
}

func TestStop(t *testing.T) {
	p := running(t, "j1")
	p.engine.takeSignals()
	p.good(post(bfia.PathPlatformStopAll, `{"job_id": "j1"}`))
	p.good(post(bfia.PathPlatformStopTask, map[string]string{"job_id": "j1", "task_name": first}))
	require.Equal(t, []signal{
		{workflows.SchedulerJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest}},
		{workflows.SchedulerJobID("j1"), workflows.SignalStop, workflows.Stop{By: guest, Task: first}},
	}, p.engine.takeSignals())
	p.bad(post(bfia.PathPlatformStopAll, `{"job_id": "nobody"}`), 404, bfia.CodeNotFound,
		"job nobody")
	p.bad(post(bfia.PathPlatformStopAll, `{}`), 400, bfia.CodeBadRequest, "job_id: is required")
	p.bad(post(bfia.PathPlatformStopTask, `{"job_id": "j1"}`), 400, bfia.CodeBadRequest,
		"task_name: is required")
	p.bad(post(bfia.PathPlatformStopTask, `{"job_id": "j1", "task_name": "nothing"}`), 404, bfia.CodeNotFound,
		`has no task "nothing"`)
	p.bad(post(bfia.PathPlatformStopTask, `{"job_id": "j1", "task_name": 1}`), 400, bfia.CodeBadRequest,
		"task_name: is a JSON number")
	require.Empty(t, p.engine.takeSignals())

	// Where another node schedules the job, it is asked.
	p.good(post(bfia.PathCreate, job(t, "j2")).from(host))
	asked := p.answering(host, 200, `{"code":0,"msg":"success"}`)
	p.good(post(bfia.PathPlatformStopAll, `{"job_id": "j2"}`))
	require.Equal(t, []string{bfia.PathStopAll, bfia.PathStatusAll}, asked())
}

func TestOutputs(t *testing.T) {
	p := running(t, "j1")
	r := p.good(get(bfia.PathJobOutputs + "?job_id=j1"))
	require.JSONEq(t, `{"outputs":[]}`, string(r.Data))
	require.NoError(t, p.store.PutOutputs(t.Context(),
		[]store.Output{{JobID: "j1", TaskName: first, Role: "guest", Type: "dataset", Key: "train_data",
			Port: "train_data", TaskID: "t1", Namespace: "guest-x", Name: "t1", Bytes: 12}}))
	var got struct{ Outputs []bfia.Output }
	p.good(call{method: http.MethodGet, path: bfia.PathJobOutputs, body: `{"job_id": "j1"}`}).into(&got)
	require.Equal(t, []bfia.Output{{TaskName: first, TaskID: "t1", Role: "guest.0", Type: "dataset",
		Key: "train_data", Output: "train_data",
		Namespace: "guest-x", Name: "t1", Bytes: 12}}, got.Outputs)
	p.bad(get(bfia.PathJobOutputs+"?job_id=nobody"), 404, bfia.CodeNotFound, "job nobody")
	p.bad(get(bfia.PathJobOutputs), 400, bfia.CodeBadRequest, "job_id: is required")
}

func TestHealth(t *testing.T) {
	p := newParty(t)
	p.good(get(bfia.PathHealth))
	p.good(get(bfia.PathReady))
	r := p.send(call{method: http.MethodHead, path: bfia.PathReady})
	require.Equal(t, 200, r.Status)
	require.Empty(t, r.Body)
	p.engine.set(nil, errDown)
	p.bad(get(bfia.PathReady), 503, bfia.CodeUnavailable, "no answer from Temporal")
	p.good(get(bfia.PathHealth))
	require.NoError(t, p.store.Close())
	r = p.bad(get(bfia.PathReady), 503, bfia.CodeUnavailable, "no answer from the database and Temporal")
	require.NotContains(t, string(r.Body), "secret-db", "what is behind it is for the log")
	require.Contains(t, p.log.String(), "secret-db")
}
