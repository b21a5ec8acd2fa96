package activities_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/internal/httpclient"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

const jobID = "202609010000001234567"

// oneStart is the line that each container of a test appends to its output.
const oneStart = "one start\n"

var (
	guestA = bfia.Part{Role: "guest", NodeID: "A"}
	hostB  = bfia.Part{Role: "host", NodeID: "B"}
	quiet  = slog.New(slog.NewTextHandler(io.Discard, nil))
)

// testParty is a party with everything that its activities use:
// a real database, real storage, a real driver, and a partner that serves HTTP.
type testParty struct {
	t            *testing.T
	db           *store.Store
	blobs        blob.Store
	driver       testDriver
	partner      *partner
	scheduler    *scheduler.Activities
	participant  *participant.Activities
	runner       *runner.Runner
	housekeeping *housekeeping.Activities
	plan         bfia.Plan    // the parts of both parties
	own          bfia.Plan    // only this party's parts
	offers       store.Runner // labels and GPUs of its runner
	gpus         []string     // their names
	// grants exceptions from the container profile without an approval
	allowExceptions bool
	// receives the reports of containers that are asked on their control port
	onReport func(context.Context, string, bfia.TaskReport) error
	// receives what parts wait for
	onWait func(context.Context, string, activities.PartWait) error
}

// newTestParty creates a party with one job of the tasks a and b, where b reads the output of a.
// Both tasks have parts for guest A and host B. The slices a and b hold the arguments of their programs.
// DATA in an argument is replaced by the output folder of the container.
func newTestParty(t *testing.T, address string, d testDriver, a, b []string) *testParty {
	ctx := t.Context()
	blobs, err := blob.Open(ctx, "file://"+t.TempDir())
	require.NoError(t, err)
	h := &testParty{t: t, db: storetest.Open(t, address), blobs: blobs, driver: d, partner: newPartner(t)}
	partners := client.New("A", func(node string) (string, bool) { return h.partner.URL, node == "B" },
		httpclient.Direct(), 10*time.Second)
	h.scheduler = &scheduler.Activities{Node: "A", Store: h.db, Documents: h.db, Client: partners,
		Logger: quiet}
	h.participant = &participant.Activities{Node: "A", Store: h.db, Blobs: blobs, Client: partners,
		Holders: func(context.Context, string) (string, []string, error) { return h.partner.URL, nil, nil },
		HTTP:    http.DefaultClient, Logger: quiet}
	h.runner = h.newRunner(d)
	h.housekeeping = &housekeeping.Activities{Node: "A", Store: h.db, Blobs: blobs, Scheduled: workflowGone,
		Participating: workflowGone, Logger: quiet,
		DeleteWorkflows: func(context.Context, string) error { return nil }}

	for name, arguments := range map[string][]string{"a": a, "b": b} {
		data := fmt.Sprintf("%s/guest-A-dataset-d/%s", d.StorageRoot(h.containerName(name)),
			bfia.TaskID(jobID, name))
		command := []string{d.program}
		for _, argument := range arguments {
			command = append(command, strings.ReplaceAll(argument, "DATA", data))
		}
		metadata, err := json.Marshal(bfia.Metadata{Image: prog.image, Command: command})
		require.NoError(t, err)
		_, err = h.db.PutProvider(ctx, store.Provider{Name: "vendor-" + name, Version: "1",
			Device: d.Device(), Metadata: metadata,
			Components: map[string]json.RawMessage{"C": component("vendor-" + name)}})
		require.NoError(t, err)
	}
	doc, err := bfia.ParseDocument(
		[]byte(`{"job_id":"` + jobID + `","flow_id":"flow","dag":{"version":"2.0","components":[
		{"name":"a","componentName":"C","provider":"vendor-a","version":"1","input":[],
			"output":[{"type":"dataset","key":"d"}]},
		{"name":"b","componentName":"C","provider":"vendor-b","version":"1",
			"input":[{"type":"dataset","key":"a.d"}],"output":[{"type":"dataset","key":"d"}]}]},
		"config":{"initiator":{"role":"guest","node_id":"A"},"role":{"guest":["A"],"host":["B"]},
			"job_params":{},"task_params":{}}}`),
	)
	require.NoError(t, err)
	registry := h.putRecord(doc)
	plan, err := bfia.NewPlan(doc, registry.Describe, "")
	require.NoError(t, err)
	h.plan, h.own = *plan, *plan
	h.own.Tasks = slices.Clone(plan.Tasks)
	for i := range h.own.Tasks {
		h.own.Tasks[i].Parts = h.own.Tasks[i].PartsOf("A")
	}
	return h
}

// component returns the self-description of the component C.
func component(provider string) json.RawMessage {
	return json.RawMessage(
		`{"componentName":"C","title":"C","provider":"` + provider + `","version":"1",
		"roleList":["guest","host"],
		"storageEngine":["file"],"inputParam":[],"inputData":[{"name":"in","category":"dataset"}],
		"outputData":[{"name":"out","category":"dataset"}],"result":[]}`,
	)
}

// newRunner returns the runner of a worker that restarts on the same machine.
func (h *testParty) newRunner(r driver.Driver) *runner.Runner {
	return &runner.Runner{Node: "A", RunnerID: "runner-1", Deployment: "ours", Store: h.db, Blobs: h.blobs,
		Drivers: map[string]driver.Driver{r.Device(): r},
		System: func(string, string) bfia.System {
			return bfia.System{Transport: "hutong:9381",
				Callback: "http://hutong:9380"}
		}, StopGrace: time.Second, GPUs: h.gpus, AllowExceptions: h.allowExceptions,
		Logger: quiet, OnReport: h.onReport, OnWait: h.onWait}
}

// activities returns the structs whose methods are registered anywhere.
func (h *testParty) activities() []any {
	return []any{h.scheduler, h.participant, h.housekeeping, &runner.Activities{Runner: h.runner}}
}

// activityNames returns the names of all activities.
func (h *testParty) activityNames() (names []string) {
	for _, a := range h.activities() {
		for m := range reflect.TypeOf(a).Methods() {
			names = append(names, m.Name)
		}
	}

	return names
}

// env returns a worker for activities. The contexts of its activities end with ctx.
func (h *testParty) env(ctx context.Context) *testsuite.TestActivityEnvironment {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(quiet))
	env := suite.NewTestActivityEnvironment()
	options := workerOptions
	options.BackgroundActivityContext = ctx
	env.SetWorkerOptions(options)
	for _, a := range h.activities() {
		env.RegisterActivity(a)
	}
	return env
}

func (h *testParty) containerName(task string) string {
	return "hutong-" + jobID + "-" + task + "-guest.0-1"
}

func (h *testParty) taskKey(task string) activities.TaskKey {
	return activities.TaskKey{JobID: jobID, Task: task, Role: "guest"}
}

func (h *testParty) partRequest(task string) activities.PartRequest {
	return activities.PartRequest{Key: h.taskKey(task), Part: guestA, TaskID: bfia.TaskID(jobID, task),
		Attempt: 1}
}

func (h *testParty) taskRef(task string) bfia.TaskRef {
	return bfia.TaskRef{JobID: jobID, TaskID: bfia.TaskID(jobID, task), TaskName: task}
}

// claimTaskA records the job, reserves its resources and claims task a, so that task a can run.
func (h *testParty) claimTaskA() {
	ctx := h.t.Context()
	require.NoError(h.t, h.participant.RecordJob(ctx,
		participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"}, Scheduler: "B",
			State: bfia.JobReady, At: time.Now()}))
	require.NoError(h.t, h.db.PutRunner(ctx,
		store.Runner{RunnerID: "runner-1", NodeID: "A", Devices: []string{h.driver.Device()}, TaskQueue: "q",
			Slots: 2, Labels: h.offers.Labels, GPU: h.offers.GPU}))
	answer, err := h.participant.Reserve(ctx, h.reserveInput(time.Now()))
	require.NoError(h.t, err)
	require.True(h.t, answer.Grant.Granted, answer.Grant.Reason)
	_, err = h.participant.ClaimTask(ctx, participant.ClaimTaskInput{Task: h.taskRef("a"),
		Parts: []bfia.Part{guestA}, At: time.Now()})
	require.NoError(h.t, err)
}

// reserveInput returns the job's reservation request at this party.
func (h *testParty) reserveInput(at time.Time) participant.ReserveInput {
	return participant.ReserveInput{JobID: jobID, Scheduler: "B", Created: at, At: at}
}

func (h *testParty) taskRow(task string) store.Task {
	row, err := h.db.Task(context.Background(), store.TaskKey{JobID: jobID, Name: task, Role: "guest"})
	require.NoError(h.t, err)
	return row
}

// readOutput returns what the containers of a task have written to their output, one line each.
func (h *testParty) readOutput(task string) string {
	local := h.blobs.(*blob.File)
	folder, err := local.Path("guest-A-dataset-d/" + bfia.TaskID(jobID, task))
	require.NoError(h.t, err)
	b, err := os.ReadFile(filepath.Join(folder, "data_0"))
	if !os.IsNotExist(err) {
		require.NoError(h.t, err)
	}
	return string(b)
}

// readLog returns the stored log of a task's container, without the times.
func (h *testParty) readLog(task string) string {
	rc, err := activities.ReadLog(context.Background(), h.blobs, h.containerName(task))
	require.NoError(h.t, err)
	defer func() { _ = rc.Close() }()
	b, err := io.ReadAll(rc)
	require.NoError(h.t, err)
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		_, line, _ = strings.Cut(line, " ")
		text.WriteString(line)
	}
	return text.String()
}

// snapshot returns everything that activities can change as text: rows, stored objects, containers,
// and the distinct requests to the partner.
func (h *testParty) snapshot() string {
	ctx := context.Background()
	var b strings.Builder
	put := func(what string, v any, err error) {
		if err != nil {
			require.Equal(h.t, bfia.CodeNotFound, bfia.CodeOf(err), "%s: %v", what, err)
			v = "none"
		}
		text, err := json.Marshal(v)
		require.NoError(h.t, err)
		fmt.Fprintf(&b, "%s: %s\n", what, text)
	}
	scheduled, err := h.db.ScheduleJob(ctx, jobID)
	put("t_schedule_job", scheduled, err)
	tasks, err := h.db.ScheduleTasks(ctx, jobID)
	put("t_schedule_task", tasks, err)
	statuses, err := h.db.ScheduleParts(ctx, jobID)
	put("t_schedule_part", statuses, err)
	job, err := h.db.Job(ctx, jobID)
	put("t_job", job, err)
	slots, err := h.db.ReservedSlots(ctx, jobID)
	put("t_reservation", slots, err)
	own, err := h.db.Tasks(ctx, jobID)
	put("t_task", own, err)
	outputs, err := h.db.Outputs(ctx, jobID)
	put("t_task_output", outputs, err)
	doc, err := h.db.Document(ctx, jobID)
	put("t_job_document", doc, err)
	objects, err := h.blobs.List(ctx, "")
	require.NoError(h.t, err)
	for _, o := range objects {
		// its time may differ: a log may be written again with the same content
		put("object "+o.Key, o.Size, nil)
	}
	containers, err := h.driver.List(ctx)
	require.NoError(h.t, err)
	for _, container := range containers {
		put("container "+container.Name, container, nil)
	}
	put("partner", h.partner.distinctRequests(), nil)
	return b.String()
}

// partner is another party's server, which records its requests.
type partner struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	// answer replaces the default answer if it is not nil and returns true.
	answer func(w http.ResponseWriter, path, body string) bool
	poll   bfia.PollResult
}

func newPartner(t *testing.T) *partner {
	p := &partner{poll: bfia.PollResult{Status: bfia.TaskSuccess}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		session := req.Header.Get("x-ptp-session-id")
		p.mu.Lock()
		p.requests = append(p.requests,
			strings.TrimSpace(req.Method+" "+req.URL.Path+" "+session+" "+string(body)))
		answer, poll := p.answer, p.poll
		p.mu.Unlock()
		if answer != nil && answer(w, req.URL.Path, string(body)) {
			return
		}
		var data any
		if req.URL.Path == bfia.PathTaskPoll {
			data = poll
		}
		if req.URL.Path == bfia.PathReserve {
			data = bfia.Grant{Granted: true, Parallelism: 1}
		}
		if req.URL.Path == bfia.PathStatusAll {
			data = bfia.JobStatus{State: bfia.JobRunning}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"code": 0, "msg": "success", "data": data})
	}))
	t.Cleanup(p.Close)
	return p
}

// distinctRequests returns each distinct request to the partner once. Duplicates are harmless, see package
// bfia.
func (p *partner) distinctRequests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := slices.Clone(p.requests)
	slices.Sort(requests)
	return slices.Compact(requests)
}

// bodies returns the bodies of all requests to a path, in order.
func (p *partner) bodies(path string) (bodies []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if strings.HasPrefix(r, "POST "+path+" ") {
			bodies = append(bodies, strings.TrimPrefix(r, "POST "+path+" "))
		}
	}
	return bodies
}

// putRecord stores the record of a job, with the providers that are registered now, and returns these.
func (h *testParty) putRecord(doc *bfia.Document) *store.Registry {
	h.t.Helper()
	registry, err := h.db.RegistryFor(h.t.Context(), doc)
	require.NoError(h.t, err)
	require.NoError(h.t, h.db.PutJobRecord(h.t.Context(), doc.JobID, doc.Bytes(), registry.Of(doc)))
	return registry
}

// recordAgain replaces the record of the party's job by one with the providers that are registered now.
func (h *testParty) recordAgain() {
	h.t.Helper()
	doc, err := h.db.JobDocument(h.t.Context(), jobID)
	require.NoError(h.t, err)
	require.NoError(h.t, h.db.DeleteDocument(h.t.Context(), jobID))
	registry, err := h.db.RegistryFor(h.t.Context(), doc)
	require.NoError(h.t, err)
	require.NoError(h.t, h.db.PutJobRecord(h.t.Context(), jobID, doc.Bytes(), registry))
}
