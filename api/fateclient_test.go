package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/store"
)

// fateDAG is the captured job as FATE's pipeline would submit it.
const fateDAG = `{"dag_schema": {"schema_version": "2.0.0", "kind": "bfia", "dag": {
	"parties": [{"role": "guest", "party_id": ["JG0100001100000010"]}, {"role": "host",
		"party_id": ["JG0100001100000010"]}],
	"conf": {"extra": {"flow_id": "f"}},
	"tasks": {
		"join": {"component_ref": "Intersection", "parameters": {"id": "id"},
			"inputs": {"data": {"train_data": {"data_warehouse": [
				{"namespace": "testspace", "name": "test_guest", "parties": [{"role": "guest",
					"party_id": ["JG0100001100000010"]}]},
				{"dataset_id": "testspace#test_host", "parties": [{"role": "host",
					"party_id": ["JG0100001100000010"]}]}]}}},
			"outputs": {"data": {"train_data": {"output_artifact_key_alias": "rows",
				"output_artifact_type_alias": "data"}}},
			"conf": {"provider": "unionpay", "version": "2.1.0"}},
		"train": {"component_ref": "HeteroSecureBoost", "parameters": {"id": "id", "label": "y"},
			"inputs": {"data": {"train_data": {"task_output_artifact": {"producer_task": "join",
				"output_artifact_key": "train_data"}}}},
			"outputs": {"model": {"model": {"output_artifact_key_alias": "model",
				"output_artifact_type_alias": "model"}}},
			"conf": {"provider": "unionpay", "version": "2.0.0"}}}}}}`

// fateJob submits the job of FATE's pipeline and records it as its participant does.
func fateJob(t *testing.T) (*party, string) {
	t.Helper()
	p := newParty(t).withProvider().withData()
	r := p.good(post(fateclient.PathJobSubmit, fateDAG))
	var jobID string
	require.NoError(t, json.Unmarshal(r.Fields["job_id"], &jobID))
	doc, err := p.store.JobDocument(t.Context(), jobID)
	require.NoError(t, err)
	p.good(post(bfia.PathCreate, string(doc.Bytes())).from(guest))
	return p, jobID
}

// rowsOf returns the rows of an answer.
func rowsOf(t *testing.T, r *reply) []map[string]any {
	t.Helper()
	var rows []map[string]any
	r.into(&rows)
	return rows
}

func TestFATESubmit(t *testing.T) {
	p, jobID := fateJob(t)
	require.Contains(t, p.engine.started(), "scheduler-job/"+jobID)
	doc, err := p.store.JobDocument(t.Context(), jobID)
	require.NoError(t, err)
	require.Equal(t, "f", doc.FlowID)
	require.Equal(t, []bfia.Port{{Type: "data", Key: "join.rows"}}, doc.DAG.Components[1].Input,
		"the types are those of the client, which FATE-Flow compares as texts")
	require.Equal(t, "2.0.0", doc.DAG.Components[0].Version)

	for want, body := range map[string]string{
		"dag_schema: is required":                       `{}`,
		"config.role: at least one role with a node is": `{"dag_schema": {"dag": {"parties": [], "tasks": {}}}}`,
		"config.role: at least one role with a node":    `{"dag_schema": {"kind": "bfia", "dag": {"parties": [], "tasks": {}}}}`,
		"dag_schema.config.role: is a JSON string":      `{"dag_schema": {"config": {"role": "x"}, "dag": {}}}`,
		"config.initiator.node_id: is \"\", this party": `{"dag_schema": {"config": {}, "dag": {}}}`,
	} {
		p.bad(post(fateclient.PathJobSubmit, body), 200, fateclient.CodeParameters, want)
	}
	p.engine.set(errors.New("down"), nil)
	r := p.send(post(fateclient.PathJobSubmit, fateDAG))
	require.Equal(t, fateclient.CodeNotCreated, r.Code, "%s", r.Body)
	require.Equal(t, 200, r.Status)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"),
		"with any other type flow's downloads print success")

	// A BFIA document, as flow submits FATE-Flow's restful examples.
	p.good(post(fateclient.PathJobSubmit, `{"dag_schema": `+job(t, "")+`}`))
}

func TestFATEJobs(t *testing.T) {
	p, jobID := fateJob(t)
	query := fateclient.PathJobQuery + "?job_id=" + jobID
	rows := rowsOf(t, p.good(get(query)))
	require.Len(t, rows, 2, "a row for each role of this party")
	row := rows[0]
	for name, want := range map[string]any{
		"job_id": jobID, "role": "guest", "party_id": guest, "status": "waiting", "progress": 0.0,
		"flow_id": "f", "initiator_party_id": guest, "scheduler_party_id": guest, "protocol": "bfia",
		"model_id": jobID, "model_version": "0", "tag": "", "start_time": nil, "end_time": nil,
		"elapsed":     0.0,
		"status_code": nil, "engine_name": nil, "cores": 0.0, "resource_in_use": false,
		"parties": []any{map[string]any{"role": "guest", "party_id": []any{guest}},
			map[string]any{"role": "host", "party_id": []any{guest}}},
	} {
		require.Contains(t, row, name)
		require.Equal(t, want, row[name], name)
	}
	require.Contains(t, row["dag"], "config")
	require.NotEmpty(t, row["description"], "what it waits for")

	require.Len(t, rowsOf(t, p.good(get(query+"&role=host&party_id="+guest+"&status=waiting"))), 1)
	require.Len(t, rowsOf(t, p.good(get(fateclient.PathJobQuery))), 2, "the newest jobs")
	for _, filter := range []string{"&role=arbiter", "&party_id=1", "&status=running"} {
		p.bad(get(query+filter), 200, fateclient.CodeNoJob, "knows no such job")
	}
	p.bad(get(fateclient.PathJobQuery+"?job_id=none"), 200, fateclient.CodeNoJob, "does not know job none")
	p.bad(get(fateclient.PathJobQuery+"?job_id=a/b"), 200, fateclient.CodeBadArgument, "job_id: ")

	// A job that has failed is failed, and says why. FATE-Flow calls it a success.
	now := time.Now()
	require.NoError(t, p.store.UpdateJob(t.Context(), jobID, bfia.JobRunning, "", now))
	require.Equal(t, "running", rowsOf(t, p.good(get(query)))[0]["status"])
	require.NoError(t, p.store.SetJobFailure(t.Context(), jobID, &bfia.Failure{Kind: bfia.FailedExit,
		NodeID: guest,
		Role:   "guest.0", Task: "join", ExitCode: 3}))
	require.NoError(t, p.store.UpdateJob(t.Context(), jobID, bfia.JobFinished, "", now,
		store.EndsAs(bfia.OutcomeFailed)))
	row = rowsOf(t, p.good(get(query)))[0]
	require.Equal(t, "failed", row["status"])
	require.Contains(t, row["description"], "join")
	require.Equal(t, "job_end", row["tag"])
	require.NotNil(t, row["end_time"])
}

func TestFATEJobList(t *testing.T) {
	p := newParty(t)
	from := time.Now().Add(-time.Hour)
	for i, id := range []string{"j1", "j2", "j3", "k4"} {
		state, outcome := bfia.JobFinished, bfia.OutcomeSuccess
		if id == "j3" {
			outcome = bfia.OutcomeStopped
		}
		at := from.Add(time.Duration(i) * time.Minute)
		require.NoError(t, p.store.CreateJob(t.Context(), store.Job{JobID: id, State: bfia.JobReady,
			Roles: []string{"guest.0"}, CreatedAt: at, PartyNodes: []string{guest, host}}, nil))
		require.NoError(t, p.store.UpdateJob(t.Context(), id, state, "", at.Add(time.Second),
			store.EndsAs(outcome)))
	}
	for query, want := range map[string][]string{
		"":                                   {"k4", "j3", "j2", "j1"},
		"?limit=2":                           {"k4", "j3"},
		"?limit=2&page=2":                    {"j2", "j1"},
		"?limit=2&page=3":                    {},
		"?limit=0&page=0&order=asc":          {"j1", "j2", "j3", "k4"},
		"?job_id=j&order_by=job_id":          {"j3", "j2", "j1"},
		"?status=canceled":                   {"j3"},
		"?status=canceled&status=success":    {"k4", "j3", "j2", "j1"},
		"?role=host":                         {},
		"?partner=" + host:                   {"k4", "j3", "j2", "j1"},
		"?partner=" + guest:                  {},
		"?role=host&role=guest&party_id=JG0": {"k4", "j3", "j2", "j1"},
	} {
		var page struct {
			Count int
			Data  []struct {
				JobID    string `json:"job_id"`
				Partners []string
			}
		}
		p.good(get(fateclient.PathJobList + query)).into(&page)
		got := []string{}
		for _, j := range page.Data {
			got = append(got, j.JobID)
			require.Equal(t, []string{host}, j.Partners)
		}
		require.Equal(t, want, got, query)
		require.GreaterOrEqual(t, page.Count, len(want), query)
		require.NotNil(t, page.Data, "a list, even if it is empty")
	}
	p.bad(get(fateclient.PathJobList+"?limit=x"), 200, fateclient.CodeBadArgument, "limit: ")
	p.bad(get(fateclient.PathJobList+"?order=up"), 200, fateclient.CodeBadArgument, "order: ")
	p.bad(get(fateclient.PathJobList+"?order_by=cores"), 200, fateclient.CodeBadArgument, "order_by: ")
}

func TestFATETasks(t *testing.T) {
	p, jobID := fateJob(t)
	query := fateclient.PathTaskQuery + "?job_id=" + jobID
	require.Len(t, rowsOf(t, p.good(get(query))), 4, "two tasks in two roles")
	p.bad(get(query+"&status=running"), 200, fateclient.CodeNoTask, "has no such task")

	id := bfia.TaskID(jobID, "join")
	_, err := p.store.StartTask(t.Context(), jobID, "join", id, 1, time.Now())
	require.NoError(t, err)
	rows := rowsOf(t, p.good(get(query+"&status=running&role=guest&party_id="+guest)))
	require.Len(t, rows, 1)
	for name, want := range map[string]any{
		"task_name": "join", "task_id": id, "task_version": 0.0, "component": "Intersection",
		"provider_name": "unionpay:2.0.0@docker", "status": "running", "party_status": "running",
		"execution_id": id + "_0_guest_" + guest, "error_report": "", "end_time": nil, "protocol": "bfia",
		"kill_status": false, "component_parameters": map[string]any{"id": "id",
			"dataset_id": "testspace#test_guest"},
	} {
		require.Contains(t, rows[0], name)
		require.Equal(t, want, rows[0][name], name)
	}
	require.Len(t, rowsOf(t, p.good(get(fateclient.PathTaskQuery+"?task_id="+id+"&task_version=0"))), 2)
	p.bad(get(fateclient.PathTaskQuery+"?task_id="+id+"&task_version=1"), 200, fateclient.CodeNoTask)
	p.bad(get(fateclient.PathTaskQuery+"?task_id=none"), 200, fateclient.CodeNoTask)
	p.bad(get(fateclient.PathTaskQuery+"?job_id=none"), 200, fateclient.CodeNoTask)

	require.NoError(t, p.store.EndTask(t.Context(), store.TaskKey{JobID: jobID, Name: "join", Role: "guest"},
		id,
		bfia.TaskFailed, "", time.Now()))
	require.NoError(t, p.store.SetTaskFailure(t.Context(),
		store.TaskKey{JobID: jobID, Name: "join", Role: "guest"}, id,
		&bfia.Failure{Kind: bfia.FailedExit, ExitCode: 3}))
	row := rowsOf(t, p.good(get(query+"&task_name=join&role=guest")))[0]
	require.Equal(t, "failed", row["status"])
	require.Contains(t, row["error_report"], "3")

	var page struct {
		Count int
		Data  []map[string]any
	}
	p.good(get(fateclient.PathTaskList + "?limit=3&order_by=task_name&order=asc&job_id=" + jobID)).into(&page)
	require.Equal(t, 4, page.Count)
	require.Len(t, page.Data, 3)
	require.Equal(t, "join", page.Data[0]["task_name"])
}

func TestFATEStop(t *testing.T) {
	p, jobID := fateJob(t)
	p.engine.takeSignals()
	p.good(post(fateclient.PathJobStop, map[string]any{"job_id": jobID}))
	require.NotEmpty(t, p.engine.takeSignals())
	p.bad(post(fateclient.PathJobStop, map[string]any{"job_id": "none"}), 200, fateclient.CodeNoJob)
	p.bad(post(fateclient.PathJobStop, map[string]any{}), 200, fateclient.CodeBadArgument,
		"job_id: is required")
}

// The pipeline uploads a file and waits for the upload's job.
func TestFATEUpload(t *testing.T) {
	p := newParty(t)
	r := p.good(form(t, bfia.PathDataFile, field{"head", "1"}, field{"role", "guest"}, field{"party_id",
		"9999"},
		field{"file", "id,x\n1,2\n3,4\n"}))
	var jobID string
	require.NoError(t, json.Unmarshal(r.Fields["job_id"], &jobID))
	var table struct{ Namespace, Name string }
	r.into(&table)
	require.Equal(t, "upload", table.Namespace)
	require.Len(t, table.Name, 36)
	rows := rowsOf(t, p.good(get(fateclient.PathJobQuery+"?role=local&party_id=0&job_id="+jobID)))
	require.Len(t, rows, 1)
	require.Equal(t, "success", rows[0]["status"])
	require.Equal(t, 100.0, rows[0]["progress"])
	require.Equal(t, "0", rows[0]["party_id"])

	r = p.send(get(bfia.PathDataDownload + "?path=/tmp/x&namespace=upload&name=" + table.Name))
	require.Equal(t, "application/gzip", r.Header.Get("Content-Type"))
	require.Equal(t, map[string]string{"data/0.csv": "id,x\n1,2\n3,4\n",
		"data/0.meta": `{"header":["id","x"]}`},
		unpack(t, r.Body))
	r = p.send(get(bfia.PathDataDownload + "?namespace=upload&name=" + table.Name))
	require.Equal(t, "id,x\n1,2\n3,4\n", string(r.Body), "the client of Hutong gets the rows alone")
	p.bad(get(bfia.PathDataDownload+"?path=/tmp/x&namespace=upload&name=none"), 200, fateclient.CodeNoTable)
}

// unpack returns the files of a gzipped tar archive.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	files := map[string]string{}
	for r := tar.NewReader(zipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		files[header.Name] = string(content)
	}
}
