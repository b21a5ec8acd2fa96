package main

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"hutong/bfia"
)

func TestApproveAndReject(t *testing.T) {
	p := newParty(t,
		map[string]http.HandlerFunc{
			"POST " + bfia.PathPlatformAudit: respond(`{"code":0,"msg":"success"}`),
			"GET " + bfia.PathJobShow:        data(jobToApprove()),
		})
	status, stdout, _ := p.run(t, "job", "approve", "j", "--yes")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "job j is approved\n", stdout)
	status, stdout, _ = p.run(t, "job", "reject", "j", "--reason", "no budget")
	assert.Equal(t, exitOK, status)
	assert.Equal(t, "job j is rejected\n", stdout)
	assert.JSONEq(t, `{"job_id":"j","status":"READY"}`, p.requests()[0].body)
	assert.JSONEq(t, `{"job_id":"j","status":"REJECTED","reason":"no budget"}`, p.requests()[1].body)
}

// jobToApprove returns what the party B sees of a job that waits for its approval.
func jobToApprove() *bfia.JobView {
	return &bfia.JobView{JobID: "j", FlowID: "f", State: bfia.JobPending, Self: "B", Scheduler: "A",
		Initiator: bfia.Initiator{Role: "guest", NodeID: "A"},
		Waiting:   []bfia.Waiting{bfia.WaitForApproval("j", "B", time.Now().Add(-2*time.Minute))},
		Parts:     []bfia.Part{{Role: "guest", NodeID: "A"}, {Role: "host", NodeID: "B"}},
		Tasks: []bfia.TaskView{{Name: "psi", Component: "Intersection", Provider: "p:1",
			Images: []bfia.ImageView{{Device: "docker", Image: "p@sha256:12",
				ImageIDs: []string{"sha256:34"}},
				{Device: "k8s", Image: "p:2"}},
			Parts: []bfia.PartView{
				{NodeID: "A", Role: "guest.0",
					Parameters: map[string]json.RawMessage{"id": []byte(`"phone"`)},
					Dataset:    &bfia.DatasetView{Namespace: "n", Name: "theirs"}},
				{NodeID: "B", Role: "host.0",
					Dataset: &bfia.DatasetView{Namespace: "n", Name: "ours", Rows: 7,
						Columns: []bfia.ColumnView{{Name: "phone", Type: "string"},
							{Name: "age", Type: "int64"}}}}},
			Outputs: []bfia.OutputView{{Type: "dataset", Key: "ids", Description: "交集 the rows",
				Parties: []string{"A (guest.0)", "B (host.0)"}}}}}}
}

// TestApproverSeesJob checks that 'job show', and 'job approve' without --yes, show what a job does, and that
// the latter approves nothing when it can't ask.
func TestApproverSeesJob(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathJobShow: data(jobToApprove()),
		"GET " + bfia.PathJobApproval: data(bfia.ApprovalOf(jobToApprove(), nil))})
	status, shown, _ := p.run(t, "job", "show", "j")
	assert.Equal(t, exitOK, status)
	status, words, _ := p.run(t, "job", "show", "j", "--approval")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, words, "Task psi (host.0) reads dataset n#ours (7 rows) with all its columns: phone, age\n")
	assert.Contains(t, words, "Task psi makes for A (guest.0), B (host.0), each for its own part:\n"+
		"  dataset ids: rows of data, described as \"交集 the rows\"\n")
	for _, text := range []string{
		"submitted by A, scheduled by A", "parties: guest.0 A, host.0 B (this party is B)",
		"waits for the approval of B: a person there runs 'hutong job approve j' or 'hutong job reject j', for 2m",
		"task psi: Intersection of p:1",
		"runs     docker: p@sha256:12 (sha256:34)\n", "runs     k8s: p:2\n", "guest.0  A reads n#theirs\n",
		`    id = "phone"`, "host.0   B reads n#ours: 7 rows of phone string, age int64",
		"output   dataset ids: to A (guest.0), B (host.0)",
	} {
		assert.Contains(t, shown, text)
	}
	status, stdout, stderr := p.run(t, "job", "approve", "j")
	assert.Equal(t, exitUsage, status)
	assert.Equal(t, shown+"\n"+words, stdout)
	assert.Contains(t, stderr, "add --yes to approve job j")
}

// TestApproverSeesModel checks that 'job show' has a line for each model of an earlier job, and names the
// parts that use it if not all do.
func TestApproverSeesModel(t *testing.T) {
	job := jobToApprove()
	model := bfia.InputModelView{Model: "old:boost.m", JobID: "old", Task: "boost", Component: "Boost",
		Provider: "p:1"}
	other := bfia.InputModelView{Model: "gone:boost", JobID: "gone", Task: "boost"}
	const trained = "old:boost.m, which job old trained with Boost of p:1"
	for want, models := range map[string][2]*bfia.InputModelView{
		trained:                   {&model, &model},
		trained + ", for host.0":  {nil, &model},
		trained + ", for guest.0": {&model, &other},
		"gone:boost, which job gone trained, for host.0": {&model, &other},
	} {
		for i := range models {
			job.Tasks[0].Parts[i].Model = models[i]
		}
		p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathJobShow: data(job)})
		status, shown, _ := p.run(t, "job", "show", "j")
		assert.Equal(t, exitOK, status)
		assert.Contains(t, shown, "  model    "+want+"\n")
	}
	job.Tasks[0].Parts[0].Model, job.Tasks[0].Parts[1].Model = nil, nil
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathJobShow: data(job)})
	_, shown, _ := p.run(t, "job", "show", "j")
	assert.NotContains(t, shown, "model")
}

// TestApproverSeesUnresolvedImage checks that 'job show' says that the id of an image is not known yet.
func TestApproverSeesUnresolvedImage(t *testing.T) {
	job := jobToApprove()
	job.Tasks[0].Images[0].ImageIDs = []string{}
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathJobShow: data(job)})
	status, shown, _ := p.run(t, "job", "show", "j")
	assert.Equal(t, exitOK, status)
	assert.Contains(t, shown, "runs     docker: p@sha256:12 (not resolved yet: ")
}
