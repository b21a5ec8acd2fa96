package activities_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestRetentionOfProjects checks that the retention of a project counts instead of the party's, also where
// the party keeps results for ever.
func TestRetentionOfProjects(t *testing.T) {
	ctx := t.Context()
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	for name, hours := range map[string]int{"short": 24, "long": 24 * 365, "same": 0} {
		_, err := h.db.CreateProject(ctx, name, bfia.ProjectSettings{RetentionHours: hours}, "admin")
		require.NoError(t, err)
	}
	for _, project := range []string{"short", "long", "same", "default"} {
		_, err := h.db.AddSubmission(ctx, "of-"+project, "digest", project)
		require.NoError(t, err)
		h.recordEndedJob("of-"+project, time.Now().Add(-48*time.Hour), "")
	}
	left := func(keep time.Duration) (jobs []string) {
		t.Helper()
		h.housekeeping.Keep = keep
		require.NoError(t, h.execute(&housekeeping.RemovalProgress{}, "RemoveExpiredJobs",
			housekeeping.RemoveExpiredJobsInput{}))
		for _, project := range []string{"short", "long", "same", "default"} {
			if _, err := h.db.Job(ctx, "of-"+project); err == nil {
				jobs = append(jobs, project)
			}
		}
		return jobs
	}
	require.Equal(t, []string{"long", "same", "default"}, left(0))
	require.Equal(t, []string{"long", "same", "default"}, left(30*24*time.Hour))
	require.Equal(t, []string{"long"}, left(time.Hour))
}

// TestQuotaOfWaitingJob checks that a job which its project's quota keeps from starting gets that as the
// reason, and starts once the quota is raised.
func TestQuotaOfWaitingJob(t *testing.T) {
	ctx := t.Context()
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	_, err := h.db.CreateProject(ctx, "risk",
		bfia.ProjectSettings{Quota: bfia.ProjectQuota{Jobs: 1}}, "admin")
	require.NoError(t, err)
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "runner-1", NodeID: "A",
		Devices: []string{h.driver.Device()}, TaskQueue: "q", Slots: 20}))
	body, err := h.db.Document(ctx, jobID)
	require.NoError(t, err)
	reserve := func(id string) bfia.Grant {
		t.Helper()
		answer, err := h.participant.Reserve(ctx, participant.ReserveInput{JobID: id, Scheduler: "B",
			Created: time.Now(), At: time.Now()})
		require.NoError(t, err)
		return answer.Grant
	}
	for _, id := range []string{"first", "second", "other"} {
		project := "risk"
		if id == "other" {
			project = "default"
		}
		_, err := h.db.AddSubmission(ctx, id, "digest", project)
		require.NoError(t, err)
		doc, err := bfia.ParseDocument([]byte(strings.Replace(string(body), jobID, id, 1)))
		require.NoError(t, err)
		h.putRecord(doc)
		plan := h.own
		plan.JobID = id
		require.NoError(t, h.participant.RecordJob(ctx, participant.RecordJobInput{Plan: plan,
			Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: time.Now()}))
	}
	require.True(t, reserve("first").Granted)
	waits := reserve("second")
	require.False(t, waits.Granted)
	require.Equal(t, "the quota of the job's project at A is used up: 1 of 1 jobs hold resources",
		waits.Reason)
	require.True(t, reserve("other").Granted)

	_, err = h.db.SetProject(ctx, bfia.SetProject{Name: "risk", Quota: bfia.ProjectQuota{Jobs: 2}.Change()})
	require.NoError(t, err)
	require.True(t, reserve("second").Granted)
}
