package api

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/store"
)

// withOutputs returns a job of FATE's pipeline whose guest has written a table, a model and a report.
func withOutputs(t *testing.T) (p *party, jobID, query string) {
	t.Helper()
	p, jobID = fateJob(t)
	put := func(port, kind string, objects map[string]string) {
		o := store.Output{JobID: jobID, TaskName: "join", Role: "guest", Type: kind, Key: "k-" + port,
			Port:   port,
			TaskID: "t1", Namespace: "guest-" + guest + "-" + kind + "-" + port, Name: "t1", Bytes: 7}
		require.NoError(t, p.store.PutOutputs(t.Context(), []store.Output{o}))
		for name, content := range objects {
			require.NoError(t, p.blobs.Put(t.Context(), o.Namespace+"/"+o.Name+"/"+name,
				strings.NewReader(content)))
		}
	}
	put("rows", "data", map[string]string{"data_0": "id,x\n1,2\n3,4\n",
		"metadata": `{"column_info":[{"name":"id","type":"string"},{"name":"x","type":"int64"}],"partitions":1,
			"data_type":"dense","file_type":"csv","count":2,"metadata":{"match_id_name":"id","delimiter":","}}`})
	put("model", "model", map[string]string{"data_0": `{"trees": 2}`})
	put("binary", "model", map[string]string{"data_0": "\x00\x01"})
	put("auc", "report", map[string]string{"data_0": `[{"auc": 0.9}]`})
	put("fate", "report", map[string]string{"data_0": `[{"name": "loss", "type": "loss", "groups": [{"name": "t",
		"index": 0}], "step_axis": "epochs", "data": [{"metric": 0.5, "step": 0}]},
		{"name": "ks", "type": "custom", "groups": null, "step_axis": null, "data": 0.1},
		{"name": "summary", "type": null, "groups": [], "step_axis": null, "data": {"count": 2}}]`})
	put("none", "report", map[string]string{"data_0": `[]`})
	return p, jobID, "?job_id=" + jobID + "&role=guest&party_id=" + guest + "&task_name=join"
}

func TestFATEOutputs(t *testing.T) {
	p, jobID, query := withOutputs(t)
	r := p.good(get(fateclient.PathMetricQuery + query))
	require.JSONEq(t, `[{"name":"auc","type":"custom","groups":[],"step_axis":null,"data":[{"auc":0.9}]},
		{"name":"loss","type":"loss","groups":[{"name":"t","index":0}],"step_axis":"epochs","data":[{"metric":0.5,"step":0}]},
		{"name":"ks","type":"custom","groups":[],"step_axis":null,"data":0.1},
		{"name":"summary","type":null,"groups":[],"step_axis":null,"data":{"count":2}}]`,
		string(r.Data))
	r = p.good(get(fateclient.PathMetricKeys + query))
	require.JSONEq(t, `[{"name":"auc","type":"custom","groups":[],"step_axis":null},
		{"name":"loss","type":"loss","groups":[{"name":"t","index":0}],"step_axis":"epochs"},
		{"name":"ks","type":"custom","groups":[],"step_axis":null},
		{"name":"summary","type":null,"groups":[],"step_axis":null}]`, string(r.Data))
	r = p.good(get(fateclient.PathModelQuery + query))
	require.JSONEq(t, `{"model":{"trees":2},"binary":"7 bytes; download it to read it"}`, string(r.Data))

	address := `{"namespace":"guest-` + guest + `-data-rows","name":"t1"}`
	r = p.send(get(fateclient.PathDataTable + query))
	require.JSONEq(t, `{"rows":[`+address+`]}`, string(r.Body), "without an envelope")
	r = p.send(get(fateclient.PathDataDisplay + query))
	require.JSONEq(t, `{"rows":[{"data":[["1","2"],["3","4"]],"metadata":{"header":["id","x"],
		"schema_meta":{"fields":[{"name":"id"},{"name":"x"}],"anonymous_summary":{"site_name":"guest_`+guest+`"}}},
		"total":2}]}`, string(r.Body))

	r = p.send(get(fateclient.PathDataDownload + query + "&path=/tmp"))
	require.Equal(t, "application/gzip", r.Header.Get("Content-Type"))
	require.Equal(t, map[string]string{"rows/0.csv": "id,x\n1,2\n3,4\n",
		"rows/0.meta": `{"header":["id","x"]}`},
		unpack(t, r.Body))
	r = p.send(get(fateclient.PathModelDownload + query + "&path=/tmp"))
	require.Equal(t, "application/x-tar", r.Header.Get("Content-Type"))
	archive := tar.NewReader(bytes.NewReader(r.Body))
	models := map[string]string{}
	for header, err := archive.Next(); !errors.Is(err, io.EOF); header, err = archive.Next() {
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		models[header.Name] = string(content)
	}
	require.Equal(t, map[string]string{"model.json": `{"trees": 2}`, "binary.json": "\x00\x01"}, models)

	// A table of an output, by the address that data/table has.
	var table map[string]any
	of := "?name=t1&display=true&namespace=guest-" + guest + "-data-rows"
	p.good(get(fateclient.PathTableQuery + of)).into(&table)
	require.Equal(t, 2.0, table["count"])
	require.Equal(t, []any{[]any{"1", "2"}, []any{"3", "4"}}, table["display"])

	host := strings.Replace(query, "role=guest", "role=host", 1)
	require.JSONEq(t, `{}`, string(p.send(get(fateclient.PathDataTable+host)).Body))
	require.JSONEq(t, `[]`, string(p.good(get(fateclient.PathMetricQuery+host)).Data))
	p.bad(get(fateclient.PathDataDownload+host), 200, fateclient.CodeNoTable, "has no such data")
	p.bad(get(fateclient.PathModelDownload+host), 200, fateclient.CodeNoModel, "has no model")
	for _, path := range []string{fateclient.PathMetricQuery, fateclient.PathMetricKeys,
		fateclient.PathModelQuery, fateclient.PathDataTable, fateclient.PathDataDisplay,
		fateclient.PathDataDownload} {
		p.bad(get(path+query+"x"), 200, fateclient.CodeNoTask, "has no such task")
		p.bad(get(path+"?job_id="+jobID), 200, fateclient.CodeBadArgument, "role: is required")
	}
}

func TestFATETable(t *testing.T) {
	p := newParty(t).withData()
	const query = fateclient.PathTableQuery + "?namespace=testspace&name=test_guest"
	var table map[string]any
	before := len(p.trail())
	p.good(get(query)).into(&table)
	require.Len(t, p.trail(), before, "no row is shown")
	require.Equal(t, 2.0, table["count"])
	require.Equal(t, map[string]any{"header": []any{"id", "y", "x0"}}, table["meta"])
	require.NotContains(t, table, "display")
	p.good(get(query + "&display=True")).into(&table)
	require.Equal(t, []any{[]any{"1", "0", "0.5"}, []any{"2", "1", "0.25"}}, table["display"])
	require.Equal(t, audit.Download, p.trail()[before].Act)
	p.bad(get(query+"x"), 200, fateclient.CodeNoTable)
	p.bad(get(fateclient.PathTableQuery+"?name=x"), 200, fateclient.CodeBadArgument, "namespace: is required")

	address := map[string]any{"namespace": "testspace", "name": "test_guest"}
	p.good(post(fateclient.PathTableDelete, address))
	p.bad(post(fateclient.PathTableDelete, address), 200, fateclient.CodeNoTable)

	used, _ := fateJob(t)
	used.bad(post(fateclient.PathTableDelete, address), 200, fateclient.CodeParameters, "is read by")
}

func TestFATELogs(t *testing.T) {
	p := withLogs(t)
	query := "?job_id=j1&role=guest&party_id=" + guest + "&task_name=" + first + "&log_type="
	for kind, want := range map[string]float64{"task_debug": 7, "task_info": 6, "task_warning": 4,
		"task_error": 3} {
		var n float64
		p.good(get(fateclient.PathLogCount + query + kind)).into(&n)
		require.Equal(t, want, n, kind)
	}
	lines := func(words string) (lines []struct {
		Number  int `json:"line_num"`
		Content string
	}) {
		p.good(get(fateclient.PathLogQuery + words)).into(&lines)
		return lines
	}
	all := lines(query + "task_info")
	require.Len(t, all, 6)
	require.Equal(t, 1, all[0].Number)
	some := lines(query + "task_info&begin=2&end=4")
	require.Equal(t, all[1:4], some, "both ends are included")
	require.Empty(t, lines(query+"task_info&begin=7"))
	require.Empty(t, lines(query+"task_info&begin=4&end=3"))
	require.Len(t, lines("?job_id=j1&log_type=task_error"), 4,
		"of all parts, as flow asks without role and party")

	require.NoError(t, p.store.EndTask(t.Context(), store.TaskKey{JobID: "j1", Name: first, Role: "guest"},
		"t1",
		bfia.TaskFailed, "it broke", time.Now()))
	schedule := lines("?job_id=j1&log_type=schedule_info")
	require.Contains(t, schedule[0].Content, "job j1 is created")
	failed := lines("?job_id=j1&log_type=schedule_error")
	require.Len(t, failed, 1)
	require.Contains(t, failed[0].Content, "task "+first+" guest.0 fails: it broke")

	r := p.send(post(fateclient.PathJobLog, map[string]any{"job_id": "j1"}))
	require.Equal(t, "application/gzip", r.Header.Get("Content-Type"))
	files := unpack(t, r.Body)
	require.Equal(t, 3, strings.Count(files["guest/"+guest+"/"+first+"/root/ERROR"], "\n"))
	require.Contains(t, files["host/"+guest+"/"+first+"/root/INFO"], "ERROR host")
	require.Contains(t, files["schedule_error.log"], "it broke")

	p.bad(get(fateclient.PathLogQuery+query+"audit"), 200, fateclient.CodeBadArgument, "log_type: ")
	p.bad(get(fateclient.PathLogQuery+"?job_id=none&log_type=task_info"), 200, fateclient.CodeNoJob)
	p.bad(post(fateclient.PathJobLog, map[string]any{"job_id": "none"}), 200, fateclient.CodeNoJob)
}

func TestFATEBoard(t *testing.T) {
	p, jobID := fateJob(t)
	query := "?job_id=" + jobID + "&role=guest&party_id=" + guest
	r := p.good(get(fateclient.PathJobData + query))
	require.JSONEq(t, `{"data_view":{"guest":{"`+guest+`":[{"namespace":"testspace","name":"test_guest"}]},
		"host":{"`+guest+`":[{"namespace":"testspace","name":"test_host"}]}}}`, string(r.Data))
	r = p.good(get(fateclient.PathJobDependency + query))
	require.JSONEq(t, `{"component_list":["join","train"],
		"component_module":{"join":"Intersection","train":"HeteroSecureBoost"},
		"component_stage":{"join":"default","train":"train"},"component_need_run":{"join":true,"train":true},
		"dependencies":{"train":[{"type":"train_data","model_type":"data","component_name":"join",
			"up_output_info":["train_data"]}]}}`,
		string(r.Data))
	r = p.good(get(fateclient.PathJobDependency + "?job_id=" + jobID + "&role=arbiter&party_id=" + guest))
	require.Contains(t, string(r.Data), `"component_list":[]`)
	// It sends the job's id as party_id too, and asks for a task by the id that FATE-Flow's own jobs have.
	p.good(get(fateclient.PathJobDependency + "?job_id=" + jobID + "&role=guest&party_id=" + jobID))
	tasks := rowsOf(t, p.good(get(fateclient.PathTaskQuery+"?job_id="+jobID+"&task_id="+jobID+"_join")))
	require.Equal(t, "join", tasks[0]["task_name"])
	require.NotNil(t, tasks[0]["component_parameters"])
	p.bad(get(fateclient.PathTaskQuery+"?job_id="+jobID+"&task_id="+jobID+"_x"), 200,
		fateclient.CodeNoTask)
	p.bad(get(fateclient.PathJobDependency+"?job_id=none"), 200, fateclient.CodeNoJob)
	p.bad(get(fateclient.PathJobData+"?job_id=none"), 200, fateclient.CodeNoJob)

	r = p.good(get(fateclient.PathSite))
	require.JSONEq(t, `{"party_id":"`+guest+`"}`, string(r.Data))
	var servers map[string]map[string]any
	p.good(get(fateclient.PathServer)).into(&servers)
	require.Equal(t, 0.0, servers[guest]["grpc_port"])
	require.NotZero(t, servers[guest]["http_port"])

	note := map[string]any{"job_id": jobID, "role": "guest", "party_id": guest, "notes": "a try"}
	p.adds(post(fateclient.PathJobNotes, note), "job.note job "+jobID+" allowed")
	require.Regexp(t, "^a try", rowsOf(t, p.good(get(fateclient.PathJobQuery+query)))[0]["description"])
	note["job_id"] = "none"
	p.bad(post(fateclient.PathJobNotes, note), 200, fateclient.CodeNoJob)
	p.bad(post(fateclient.PathJobNotes, map[string]any{"job_id": jobID}), 200, fateclient.CodeBadArgument,
		"notes: is required")
}

func TestFATERerun(t *testing.T) {
	p, jobID := fateJob(t)
	r := p.good(post(fateclient.PathJobRerun, map[string]any{"job_id": jobID}))
	var again string
	require.NoError(t, json.Unmarshal(r.Fields["job_id"], &again))
	doc, err := p.store.JobDocument(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, jobID, doc.OldJobID)
	require.Equal(t, again, doc.JobID)
	require.Len(t, doc.DAG.Components, 2)
	p.bad(post(fateclient.PathJobRerun, map[string]any{"job_id": "none"}), 200, fateclient.CodeNoJob)

	// Only what waits is stopped, each with an entry of its own.
	doc, err = p.store.JobDocument(t.Context(), again)
	require.NoError(t, err)
	p.good(post(bfia.PathCreate, string(doc.Bytes())).from(guest))
	before := len(p.trail())
	r = p.good(post(fateclient.PathQueueClean, nil))
	require.JSONEq(t, `{"`+jobID+`":"success","`+again+`":"success"}`, string(r.Data))
	entries := p.trail()[before:]
	stops := 0
	for _, e := range entries {
		if e.Act == audit.Stop {
			stops++
		}
	}
	require.Equal(t, 2, stops)
}

func TestFATEClean(t *testing.T) {
	p, jobID, query := withOutputs(t)
	now := time.Now()
	require.NoError(t, p.store.UpdateJob(t.Context(), jobID, bfia.JobFinished, "", now,
		store.EndsAs(bfia.OutcomeStopped)))
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), jobID, bfia.JobFinished, "", now,
		store.EndsAs(bfia.OutcomeStopped)))
	p.good(post(fateclient.PathJobClean, map[string]any{"job_id": jobID}))
	p.bad(get(fateclient.PathJobQuery+query), 200, fateclient.CodeNoJob)
	objects, err := p.blobs.List(t.Context(), "guest-"+guest+"-data-rows/t1")
	require.NoError(t, err)
	require.Empty(t, objects)
	p.bad(post(fateclient.PathJobClean, map[string]any{"job_id": "none"}), 200, fateclient.CodeNoJob)
}

func TestFATERefusals(t *testing.T) {
	p := newParty(t)
	require.GreaterOrEqual(t, len(fateclient.Refusals()), 27)
	for _, r := range fateclient.Refusals() {
		p.bad(call{method: r.Method, path: r.Path, body: `{"x": 1}`}, 200, fateclient.CodeRestricted,
			r.What+": not at Hutong: "+r.Instead)
	}
}
