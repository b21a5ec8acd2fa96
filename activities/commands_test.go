package activities_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/fateflow"
	"hutong/internal/httpclient"
	"hutong/store"
	"hutong/store/storetest"
)

// JobPermits implements [scheduler.Documents].
func (oneDocument) JobPermits(context.Context, string) ([]bfia.Permit, error) { return nil, nil }

// oneDocument holds the document of one job.
type oneDocument []byte

func (d oneDocument) Document(_ context.Context, id string) ([]byte, error) {
	if id != jobID {
		return nil, bfia.Errorf(bfia.CodeNotFound, "job_id: the document of job %q is not known", id)
	}
	return d, nil
}

// controlWorker holds the activities of a control worker.
type controlWorker struct {
	scheduler   *scheduler.Activities
	participant *participant.Activities
}

func newControlWorker(t testing.TB, p *partner) controlWorker {
	partners := client.New("A", func(node string) (string, bool) { return p.URL, node == "B" || node == "C" },
		httpclient.Direct(), 2*time.Second)

	db := storetest.Open(t, storetest.SQLite(t))
	return controlWorker{
		scheduler: &scheduler.Activities{Node: "A", Client: partners, Logger: quiet,
			Store:     db,
			Documents: oneDocument(`{"job_id":"` + jobID + `","dag":{"components":[]},"config":{}}`)},
		participant: &participant.Activities{Client: partners, HTTP: http.DefaultClient,
			Holders: func(context.Context, string) (string, []string, error) { return p.URL, nil, nil },
			Store:   db, Logger: quiet},
	}
}

// execute executes an activity as a workflow does, with retries.
func (c controlWorker) execute(name string, in any) error {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(quiet))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})
	env.RegisterActivity(c.scheduler)
	env.RegisterActivity(c.participant)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute,
			RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 3,
				NonRetryableErrorTypes: []string{activities.FailureRefused}}})

		return workflow.ExecuteActivity(ctx, name, in).Get(ctx, nil)
	})

	return env.GetWorkflowError()
}

func refuse(w http.ResponseWriter, code bfia.Code, message string) bool {
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "msg": message})
	return true
}

// accept answers with data.
func accept(w http.ResponseWriter, data any) bool {
	_ = json.NewEncoder(w).Encode(map[string]any{"code": 0, "msg": "success", "data": data})
	return true
}

// hangUp reads a request and closes the connection, so that its outcome is unknown to the sender.
func hangUp(http.ResponseWriter) bool { panic(http.ErrAbortHandler) }

// A task is never started twice. If the outcome of a start is unknown, the party is polled before
// the next try.
func TestSendTaskStartAsksFirst(t *testing.T) {
	task := bfia.TaskRef{JobID: jobID, TaskID: "task", TaskName: "a"}
	for _, c := range []struct {
		name   string
		first  func(w http.ResponseWriter) bool // how the first start is answered
		polled func(w http.ResponseWriter, nth int) bool
		state  bfia.TaskState // the state in the poll's answer, unless polled answers
		starts int
		polls  int
		failed string
	}{
		{name: "accepted at once", starts: 1},
		{name: "arrived, and is running", first: hangUp, state: bfia.TaskRunning, starts: 1, polls: 1},
		{name: "arrived, and has ended", first: hangUp, state: bfia.TaskFailed, starts: 1, polls: 1},
		{name: "known, but not started", first: hangUp, state: bfia.TaskReady, starts: 2, polls: 1},
		{name: "never arrived", first: hangUp,
			polled: func(w http.ResponseWriter, _ int) bool { return refuse(w, 6000, "No found task") },
			starts: 2, polls: 1},
		{name: "polled twice, since the first answer is lost too", first: hangUp, state: bfia.TaskRunning,
			polled: func(w http.ResponseWriter, nth int) bool { return nth == 1 && hangUp(w) },
			starts: 1, polls: 2},
		{name: "nobody ever answers", first: hangUp,
			polled: func(w http.ResponseWriter, _ int) bool { return hangUp(w) },
			starts: 1, polls: 2, failed: "outcome unknown"},
		{name: "refused", first: func(w http.ResponseWriter) bool {
			return refuse(w, bfia.CodeForbidden, "not with you")
		}, starts: 1, failed: "not with you"},
		{name: "HTTP 502 of a proxy",
			first: func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadGateway); return true },
			state: bfia.TaskRunning, starts: 1, polls: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPartner(t)
			p.poll = bfia.PollResult{Status: c.state}
			p.answer = func(w http.ResponseWriter, path, _ string) bool {
				switch {
				case path == bfia.PathTaskStart && c.first != nil && len(p.bodies(path)) == 1:
					return c.first(w)
				case path == bfia.PathTaskPoll && c.polled != nil:
					return c.polled(w, len(p.bodies(path)))
				}
				return false
			}
			err := newControlWorker(t, p).execute("SendTaskStart",
				scheduler.SendTaskStartInput{Node: "B", Task: task})
			if c.failed == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.failed)
			}
			starts := p.bodies(bfia.PathTaskStart)
			assert.Len(t, starts, c.starts)
			assert.Len(t, p.bodies(bfia.PathTaskPoll), c.polls)
			assert.JSONEq(t, `{"job_id":"`+jobID+`","task_id":"task","task_name":"a"}`, starts[0])
		})
	}
}

// Commands are retried until they are accepted or refused. The error of a refusal keeps the party's message.
func TestCommandsAreRetried(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		arg  any
	}{
		"SendAudit": {bfia.PathAuditConfirm,
			participant.SendAuditInput{Node: "B", Audit: bfia.Audit{JobID: jobID, Status: bfia.JobReady}}},
		"SendCreate": {bfia.PathCreate, scheduler.SendCreateInput{Node: "B", JobID: jobID}},
		"SendStart":  {bfia.PathStart, scheduler.SendStartInput{Node: "B", JobID: jobID}},
		"SendStop": {bfia.PathStop, scheduler.SendStopInput{Node: "B",
			Job: bfia.JobRef{JobID: jobID, TaskName: "a"}}},
		"SendFateReport": {fateflow.PathSchedulerTaskReport,
			participant.SendFateReportInput{Node: "B",
				Report: fateflow.Report{JobID: jobID, TaskID: fateflow.TaskID(jobID, "a"), Role: "guest",
					PartyID: "A", Status: fateflow.Success}}},
		"SendCallback": {bfia.PathTaskCallback,
			participant.SendCallbackInput{Node: "B",
				Report: bfia.TaskReport{TaskID: "task", Status: bfia.TaskSuccess, Role: "guest"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPartner(t)
			p.answer = func(w http.ResponseWriter, path, _ string) bool {
				return len(p.bodies(path)) < 3 &&
					hangUp(w)
			}
			require.NoError(t, newControlWorker(t, p).execute(name, c.arg))
			sent := p.bodies(c.path)
			require.Len(t, sent, 3)
			assert.Equal(t, sent[0], sent[2], "each try sends the same body")

			for code, kept := range map[bfia.Code]bfia.Code{bfia.CodeForbidden: bfia.CodeForbidden,
				bfia.CodeConflict: bfia.CodeConflict, 6000: bfia.CodeRefused, 5001: bfia.CodeRefused} {
				p := newPartner(t)
				p.answer = func(w http.ResponseWriter, _,
					_ string) bool {
					return refuse(w, code, "we won't")
				}
				err := newControlWorker(t, p).execute(name, c.arg)
				var app *temporal.ApplicationError
				require.ErrorAs(t, err, &app)
				assert.Equal(t, activities.FailureRefused, app.Type())
				assert.Equal(t, "we won't", app.Message())
				var got bfia.Code
				require.NoError(t, app.Details(&got))
				assert.Equal(t, kept, got, "code %d", code)
				assert.Len(t, p.bodies(c.path), 1)
			}
		})
	}
}

// A stop is sent again when its tasks have ended, or when the party does not know them.
func TestSendStopAgain(t *testing.T) {
	p := newPartner(t)
	p.answer = func(w http.ResponseWriter, path, body string) bool {
		switch {
		case path != bfia.PathTaskPoll:
			return false
		case strings.Contains(body, "unknown"):
			return refuse(w, 6000, "No found task")
		case len(p.bodies(path)) < 4:
			return accept(w, bfia.PollResult{Status: bfia.TaskRunning})
		}
		assert.Empty(t, p.bodies(bfia.PathStop))
		return accept(w, bfia.PollResult{Status: bfia.TaskFailed})
	}
	require.NoError(t, newControlWorker(t, p).execute("SendStopAgain",
		scheduler.SendStopAgainInput{Node: "B", Job: bfia.JobRef{JobID: jobID},
			TaskIDs: []string{"unknown", "task"}}))
	assert.Len(t, p.bodies(bfia.PathTaskPoll), 4)
	assert.Len(t, p.bodies(bfia.PathStop), 1)
}

func TestSendCreateOfUnknownJob(t *testing.T) {
	p := newPartner(t)
	require.Error(t, newControlWorker(t, p).execute("SendCreate",
		scheduler.SendCreateInput{Node: "B", JobID: "unknown"}))
	assert.Empty(t, p.distinctRequests())
}

// pollRequest polls the task at B and C.
var pollRequest = scheduler.PollTaskInput{JobID: jobID, TaskID: "task", Nodes: []string{"B", "C"},
	Every: 5 * time.Millisecond, GiveUpAfter: 300 * time.Millisecond}

// A poll continues until a party reports the end. It gives up a party that is silent for GiveUpAfter,
// not before.
func TestPollTask(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(nth int, w http.ResponseWriter) bool // polls come to B and C in turn
		states func(nth int) bfia.PollResult
		want   []scheduler.PollTaskResult
		polls  int // at least
	}{
		{"after a while", nil, func(nth int) bfia.PollResult {
			if nth < 7 {
				return bfia.PollResult{Status: bfia.TaskRunning}
			}
			return bfia.PollResult{Status: bfia.TaskFailed, Reason: "exit code 1"}
		}, []scheduler.PollTaskResult{
			{Node: "B", State: bfia.TaskFailed,
				Failure: &bfia.Failure{Kind: bfia.FailedUnknown, Message: "exit code 1"}},
			{Node: "C", State: bfia.TaskFailed,
				Failure: &bfia.Failure{Kind: bfia.FailedUnknown, Message: "exit code 1"}}}, 8},
		{"of one", nil, func(nth int) bfia.PollResult {
			if nth == 4 {
				return bfia.PollResult{Status: bfia.TaskSuccess}
			}
			return bfia.PollResult{Status: bfia.TaskReady}
		}, []scheduler.PollTaskResult{{Node: "C", State: bfia.TaskSuccess}}, 4},
		{"one is down for a while", func(nth int, w http.ResponseWriter) bool {
			return nth%2 == 1 && nth < 9 && hangUp(w)
		}, func(nth int) bfia.PollResult {
			if nth == 11 {
				return bfia.PollResult{Status: bfia.TaskSuccess}
			}
			return bfia.PollResult{Status: bfia.TaskRunning}
		}, []scheduler.PollTaskResult{{Node: "B", State: bfia.TaskSuccess}}, 11},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPartner(t)
			p.answer = func(w http.ResponseWriter, path, _ string) bool {
				nth := len(p.bodies(path))
				if c.answer != nil && c.answer(nth, w) {
					return true
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"code": 0, "data": c.states(nth)})
				return true
			}
			got, err := pollOnce(t, newControlWorker(t, p), pollRequest)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
			assert.GreaterOrEqual(t, len(p.bodies(bfia.PathTaskPoll)), c.polls)
		})
	}
}

// A poll gives up a party that never reports a state.
func TestPollTaskGivesUp(t *testing.T) {
	t.Parallel()
	p := newPartner(t)
	p.answer = func(w http.ResponseWriter, path, _ string) bool {
		if len(p.bodies(path))%2 == 1 {
			return refuse(w, 6000, "No found task")
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"code": 0,
			"data": bfia.PollResult{Status: bfia.TaskRunning}})
		return true
	}
	began := time.Now()
	got, err := pollOnce(t, newControlWorker(t, p), pollRequest)
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, "B", got[0].Node)
	assert.Equal(t, bfia.TaskFailed, got[0].State)
	assert.Contains(t, got[0].Failure.Text(), "No found task")
	assert.GreaterOrEqual(t, time.Since(began), pollRequest.GiveUpAfter)
}

// A worker that shuts down leaves the poll to another worker.
func TestPollTaskWorkerShutsDown(t *testing.T) {
	t.Parallel()
	p := newPartner(t)
	p.poll = bfia.PollResult{Status: bfia.TaskRunning}
	stop := make(chan struct{})
	p.answer = func(_ http.ResponseWriter, path, _ string) bool {
		if len(p.bodies(path)) == 5 {
			close(stop)
		}
		return false
	}
	env := pollEnv(newControlWorker(t, p))
	env.SetWorkerStopChannel(stop)
	_, err := env.ExecuteActivity("PollTask", pollRequest)
	require.ErrorContains(t, err, "another worker continues to poll")
}

func pollEnv(c controlWorker) *testsuite.TestActivityEnvironment {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(quiet))
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(c.scheduler)
	return env
}

func pollOnce(t *testing.T, c controlWorker, req scheduler.PollTaskInput) (ended []scheduler.PollTaskResult,
	err error) {
	value, err := pollEnv(c).ExecuteActivity("PollTask", req)
	if err == nil {
		require.NoError(t, value.Get(&ended))
	}
	return ended, err
}

func TestReleaseSession(t *testing.T) {
	p := newPartner(t)
	c := newControlWorker(t, p)
	require.NoError(t, c.execute("ReleaseSession", participant.ReleaseSessionInput{Session: "session_1"}))
	assert.Equal(t, []string{"POST /v1/interconn/chan/release session_1 {}"}, p.distinctRequests())
	p.answer = func(w http.ResponseWriter, _, _ string) bool {
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	err := c.execute("ReleaseSession", participant.ReleaseSessionInput{Session: "session_1"})
	require.Error(t, err)
	assert.True(t, strings.Contains(err.Error(), "HTTP 500"), err)
}

// A session is released at all transports. That the one which holds it does so is required; their bytes are
// added up. Without a holder, one of them must answer.
func TestReleaseSessionAtSeveralTransports(t *testing.T) {
	transports := map[string]*partner{}
	for _, name := range []string{"holder", "other", "down"} {
		p := newPartner(t)
		p.answer = func(w http.ResponseWriter, _, _ string) bool {
			transfers := `[{"session_id":"session_1","node_id":"B","sent_bytes":4,"sent_messages":1}]`
			_ = json.NewEncoder(w).Encode(map[string]any{"content": []byte(transfers)})
			return true
		}
		transports[name] = p
	}
	transports["down"].answer = func(w http.ResponseWriter, _, _ string) bool { return hangUp(w) }
	for _, c := range []struct {
		holder string
		others []string
		sent   int64 // -1 for an error
	}{{"holder", []string{"other", "down"}, 8}, {"down", []string{"other"}, -1},
		{"", []string{"other", "down"}, 4}, {"", []string{"down"}, -1}} {
		control := newControlWorker(t, transports["holder"])
		control.participant.Holders = func(context.Context, string) (holder string, others []string,
			_ error) {
			if c.holder != "" {
				holder = transports[c.holder].URL
			}
			for _, name := range c.others {
				others = append(others, transports[name].URL)
			}
			return holder, others, nil
		}
		require.Equal(t, c.sent < 0, control.execute("ReleaseSession",
			participant.ReleaseSessionInput{Session: "session_1", Uncounted: true}) != nil)
		_, complete, err := control.participant.Store.Transfers(t.Context(), "1")
		require.NoError(t, err)
		require.False(t, complete, "a restore has lost the counts")
		before := len(transports["other"].distinctRequests())
		err = control.execute("ReleaseSession", participant.ReleaseSessionInput{Session: "session_1"})
		require.Equal(t, c.sent < 0, err != nil, "%+v: %v", c, err)
		if slices.Contains(c.others, "other") {
			require.GreaterOrEqual(t, len(transports["other"].distinctRequests()), max(before, 1))
		}
		var transfers []store.Transfer
		transfers, complete, err = control.participant.Store.Transfers(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, c.sent >= 0, complete)
		if c.sent >= 0 {
			require.Len(t, transfers, 1)
			require.Equal(t, c.sent, transfers[0].Sent)
		}
	}
}

// A transport whose machine is gone does not answer, and does not delay a release at the one that holds the
// session.
func TestReleaseSessionBesideSilentTransport(t *testing.T) {
	holder, silent := newPartner(t), newPartner(t)
	holder.answer = func(w http.ResponseWriter, _, _ string) bool {
		_ = json.NewEncoder(w).Encode(map[string]any{"content": []byte("[]")})
		return true
	}
	ended := make(chan struct{})
	silent.answer = func(http.ResponseWriter, string, string) bool {
		<-ended
		return true
	}
	defer close(ended)
	control := newControlWorker(t, holder)
	control.participant.Holders = func(context.Context, string) (string, []string, error) {
		return holder.URL, []string{silent.URL}, nil
	}
	require.NoError(t, control.execute("ReleaseSession",
		participant.ReleaseSessionInput{Session: "session_1"}))
	_, complete, err := control.participant.Store.Transfers(t.Context(), "1")
	require.NoError(t, err)
	require.True(t, complete)
}

// The time since the last answer of a silent party is kept in the heartbeat, so it survives the
// worker.
func TestPollTaskResumesTimeout(t *testing.T) {
	p := newPartner(t)
	p.answer = func(w http.ResponseWriter, _, _ string) bool { return hangUp(w) }
	env := pollEnv(newControlWorker(t, p))
	env.SetHeartbeatDetails(map[string]time.Time{"B": time.Now().Add(-time.Hour)})
	value, err := env.ExecuteActivity("PollTask",
		scheduler.PollTaskInput{JobID: jobID, TaskID: "task", Nodes: []string{"B"},
			Every: time.Millisecond, GiveUpAfter: 30 * time.Minute})
	require.NoError(t, err)
	var results []scheduler.PollTaskResult
	require.NoError(t, value.Get(&results))
	require.Len(t, results, 1)
	assert.Equal(t, bfia.FailedTimeout, results[0].Failure.Kind)
	assert.Len(t, p.bodies(bfia.PathTaskPoll), 1)
}

// RetryDelay is an exponential backoff with a limit and jitter.
func TestRetryDelay(t *testing.T) {
	for attempt, want := range map[int32]time.Duration{2: 200 * time.Millisecond, 3: 400 * time.Millisecond,
		7: 6400 * time.Millisecond, 8: 10 * time.Second, 179: 10 * time.Second, 180: time.Minute,
		1000: time.Minute, 1 << 30: time.Minute} {
		assert.Equal(t, want, activities.RetryDelay(attempt, 0.5), "before attempt %d", attempt)
		assert.Equal(t, want*3/4, activities.RetryDelay(attempt, 0))
		assert.Equal(t, want*5/4, activities.RetryDelay(attempt, 1))
	}
}
