package periodic

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

const document = `{"flow_id":"flow","dag":{"version":"2.0","components":[]},"config":{"initiator":` +
	`{"role":"guest","node_id":"A"},"role":{"guest":["A"]},"job_params":{},"task_params":{}}}`

// first is so young that the id of its run's job has its time ([maxIDAge]).
var first = time.Now().UTC().Truncate(time.Second).Add(-time.Hour)

// party is a party with the periodic job p1, whose jobs it creates and counts.
type party struct {
	*Activities
	db        *store.Store
	submitted []string
	answer    error
	env       *testsuite.TestActivityEnvironment
}

func newParty(t *testing.T, address string) *party {
	t.Helper()
	p := &party{db: storetest.Open(t, address)}
	p.Activities = &Activities{Store: p.db, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Submit: p.submitJob}
	require.NoError(t, p.db.AddPeriodicJob(t.Context(),
		store.PeriodicJob{PeriodicID: "p1", Name: "daily", Recurrence: bfia.Recurrence{Cron: "@daily"}},
		store.PeriodicDocument{Document: []byte(document), Owner: store.PeriodicOwner{Name: "alice"}}))
	var suite testsuite.WorkflowTestSuite
	p.env = suite.NewTestActivityEnvironment()
	p.env.RegisterActivity(p.Activities)
	return p
}

func (p *party) submitJob(ctx context.Context, name string, owner store.PeriodicDocument,
	doc *bfia.Document) error {
	p.submitted = append(p.submitted, name+" "+owner.Owner.Name+" "+doc.JobID)
	if p.answer != nil {
		return p.answer
	}
	return p.db.CreateScheduleJob(ctx, store.ScheduleJob{JobID: doc.JobID, FlowID: doc.FlowID}, nil, nil)
}

// do runs an activity and returns its answer.
func (p *party) do(t *testing.T, name string, in any) string {
	t.Helper()
	value, err := p.env.ExecuteActivity(name, in)
	require.NoError(t, err, name)
	var answer json.RawMessage
	if value.HasValue() {
		require.NoError(t, value.Get(&answer))
	}
	return string(answer)
}

// rows returns all that is recorded of the periodic job.
func (p *party) rows(t *testing.T) string {
	t.Helper()
	job, err := p.db.PeriodicJob(t.Context(), "p1")
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return "deleted"
	}
	require.NoError(t, err)
	runs, err := p.db.LastPeriodicRuns(t.Context(), "p1", 100)
	require.NoError(t, err)
	text, err := json.Marshal(map[string]any{"job": job, "runs": runs})
	require.NoError(t, err)
	return string(text)
}

// TestActivitiesAreIdempotent runs each activity twice: the second time it returns the same and changes
// nothing. A run submits one job.
func TestActivitiesAreIdempotent(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		p := newParty(t, address)
		job, err := p.db.PeriodicJob(t.Context(), "p1")
		require.NoError(t, err)
		job.Version, job.Submitted = 1, 1
		run := Run{PeriodicID: "p1", ScheduledAt: first}
		row := run.row()
		row.Outcome, row.Revision = bfia.RunSubmitted, 1
		id := jobIDs(run, time.Now())[0]

		calls := []struct {
			name   string
			in     any
			before func()
		}{
			{name: "RecordPeriodicJob", in: RecordPeriodicJobInput{Job: job, Runs: []store.PeriodicRun{row}}},
			{name: "LoadPeriodicJob", in: "p1"},
			{name: "SubmitPeriodicRun", in: SubmitPeriodicRunInput{Run: run, Name: "daily"}},
			{name: "AwaitPeriodicRun", in: AwaitPeriodicRunInput{Run: run, JobID: id, Submitted: true},
				before: func() {
					require.NoError(t, p.db.UpdateScheduleJob(t.Context(), id, bfia.JobFinished, "bad data",
						time.Now()))
				}},
			{name: "DeletePeriodicJob", in: "p1"},
		}
		var names, all []string
		for _, c := range calls {
			names = append(names, c.name)
			if c.before != nil {
				c.before()
			}
			before := p.rows(t)
			answer := p.do(t, c.name, c.in)
			once := p.rows(t)
			if c.name != "LoadPeriodicJob" {
				assert.NotEqual(t, before, once, "%s does something", c.name)
			}
			assert.Equal(t, answer, p.do(t, c.name, c.in), "%s twice", c.name)
			assert.Equal(t, once, p.rows(t), "%s twice", c.name)
		}
		for i := range reflect.TypeOf(p.Activities).NumMethod() {
			all = append(all, reflect.TypeOf(p.Activities).Method(i).Name)
		}
		slices.Sort(names)
		assert.Equal(t, all, names, "each activity is tested here")
		assert.Equal(t, []string{"daily alice " + id}, p.submitted)
		assert.Regexp(t, "^"+first.Format("20060102150405")+`\d{7}$`, id)
	})
}

func (p *party) record(t *testing.T, run Run) {
	t.Helper()
	job, err := p.db.PeriodicJob(t.Context(), "p1")
	require.NoError(t, err)
	job.Version++
	row := run.row()
	row.Outcome, row.Revision = bfia.RunSubmitted, 1
	require.NoError(t, p.db.WritePeriodicJob(t.Context(), job, []store.PeriodicRun{row}))
}

// TestSubmission checks what becomes of refusals, of a party that does not answer, and of a crash after the
// submission.
func TestSubmission(t *testing.T) {
	p := newParty(t, storetest.SQLite(t))
	run := Run{PeriodicID: "p1", ScheduledAt: first}
	in := SubmitPeriodicRunInput{Run: run, Name: "daily"}
	_, err := p.env.ExecuteActivity("SubmitPeriodicRun", in)
	require.ErrorContains(t, err, "is not known", "nothing is submitted before it is recorded")
	p.record(t, run)

	for _, code := range []bfia.Code{bfia.CodeUnavailable, bfia.CodeTooMany} {
		p.answer = bfia.Errorf(code, "later")
		_, err = p.env.ExecuteActivity("SubmitPeriodicRun", in)
		require.ErrorContains(t, err, "later")
	}
	p.answer = nil
	require.Contains(t, p.do(t, "SubmitPeriodicRun", in), `"job_id"`)
	require.Len(t, p.submitted, 3)
	require.Equal(t, p.submitted[0], p.submitted[2], "each try is the same job")
	p.do(t, "SubmitPeriodicRun", in)
	require.Len(t, p.submitted, 3)

	// If the id is known only to the run, as after a submission without an answer, the job is found.
	id := jobIDs(run, time.Now())[0]
	require.NoError(t, p.db.UpdateScheduleJob(t.Context(), id, bfia.JobFinished, "x", time.Now()))
	require.Contains(t, p.do(t, "AwaitPeriodicRun", AwaitPeriodicRunInput{Run: run}), `"outcome"`)

	refused := Run{PeriodicID: "p1", ScheduledAt: first.Add(time.Hour)}
	p.record(t, refused)
	p.answer = bfia.Errorf(bfia.CodeForbidden, "alice lacks the role operator")
	want := p.do(t, "SubmitPeriodicRun", SubmitPeriodicRunInput{Run: refused, Name: "daily"})
	require.Contains(t, want, "alice lacks the role operator")
	runs, err := p.db.LastPeriodicRuns(t.Context(), "p1", 1)
	require.NoError(t, err)
	require.Equal(t, bfia.RunRefused, runs["p1"][0].Outcome)
	require.NotNil(t, runs["p1"][0].EndedAt)
	p.answer = nil
	require.Equal(t, want, p.do(t, "SubmitPeriodicRun", SubmitPeriodicRunInput{Run: refused, Name: "daily"}))
	require.Len(t, p.submitted, 4, "a refused run is not submitted again")
}

// TestAwaitUnknownJob checks that a job which is not there ends its run: as deleted if it existed, or else as
// refused.
func TestAwaitUnknownJob(t *testing.T) {
	p := newParty(t, storetest.SQLite(t))
	run := Run{PeriodicID: "p1", ScheduledAt: first}
	p.record(t, run)
	p.env.SetTestTimeout(time.Minute)
	require.Contains(t, p.do(t, "AwaitPeriodicRun", AwaitPeriodicRunInput{Run: run, JobID: "1",
		Unsubmitted: "the scheduler did not answer"}), "REFUSED")
	runs, err := p.db.LastPeriodicRuns(t.Context(), "p1", 1)
	require.NoError(t, err)
	require.Equal(t, "the scheduler did not answer", runs["p1"][0].Reason)
	require.Contains(t, p.do(t, "AwaitPeriodicRun", AwaitPeriodicRunInput{Run: run, JobID: "1",
		Submitted: true}), "UNKNOWN")
}

// TestAwaitStopsWithItsWorker checks that a wait does not delay the end of its worker.
func TestAwaitStopsWithItsWorker(t *testing.T) {
	p := newParty(t, storetest.SQLite(t))
	require.NoError(t, p.db.CreateScheduleJob(t.Context(), store.ScheduleJob{JobID: "1", FlowID: "f"}, nil,
		nil))
	stop := make(chan struct{})
	close(stop)
	p.env.SetWorkerStopChannel(stop)
	_, err := p.env.ExecuteActivity("AwaitPeriodicRun", AwaitPeriodicRunInput{JobID: "1", Submitted: true,
		Run: Run{PeriodicID: "p1", ScheduledAt: first}})
	require.ErrorContains(t, err, "another worker continues")
}

func TestJobIDs(t *testing.T) {
	run := Run{PeriodicID: "p1", ScheduledAt: first}
	ids := jobIDs(run, first)
	require.Equal(t, ids, jobIDs(run, first.Add(time.Hour)), "the same at each try")
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), len(ids))
	manual := run
	manual.Manual = true
	require.NotEqual(t, ids, jobIDs(manual, first))
	late := first.AddDate(0, 0, 3)
	require.Contains(t, jobIDs(run, late)[0], late.Format("20060102150405"),
		"no party refuses the id as too old")
	for _, id := range ids {
		at, ok := bfia.JobIDTime(id)
		require.True(t, ok)
		require.Equal(t, first, at.Truncate(time.Second))
	}
}

// TestPlaceholders checks that a run submits its document with its scheduled time in the calendar's zone, at
// each try.
func TestPlaceholders(t *testing.T) {
	p := newParty(t, storetest.SQLite(t))
	doc := strings.Replace(document, `"flow_id":"flow"`, `"flow_id":"{{date}} {{hour}}"`, 1)
	revision, err := p.db.AddPeriodicDocument(t.Context(), store.PeriodicDocument{PeriodicID: "p1",
		Document: []byte(doc), Owner: store.PeriodicOwner{Name: "alice"}})
	require.NoError(t, err)
	run := Run{PeriodicID: "p1", ScheduledAt: time.Date(2026, 11, 29, 2, 0, 0, 0, time.UTC)}
	row := run.row()
	row.Outcome, row.Revision = bfia.RunSubmitted, revision
	require.NoError(t, p.db.WritePeriodicJob(t.Context(), store.PeriodicJob{PeriodicID: "p1", Name: "daily",
		Recurrence: bfia.Recurrence{Cron: "@daily"}, Revision: revision, Version: 1},
		[]store.PeriodicRun{row}))
	in := SubmitPeriodicRunInput{Run: run, Name: "daily", Timezone: "America/New_York"}
	for range 2 {
		p.do(t, "SubmitPeriodicRun", in)
	}
	require.Len(t, p.submitted, 1)
	words := strings.Fields(p.submitted[0])
	job, err := p.db.ScheduleJob(t.Context(), words[len(words)-1])
	require.NoError(t, err)
	require.Equal(t, "2026-11-28 21", job.FlowID)
}
