package activities_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// A part of an earlier job replaces one of a later job while its outputs exist. Repeating the reuse changes
// nothing.
func TestReuse(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		ctx := t.Context()
		h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, []string{"exit", "0"})
		h.claimTaskA()
		const other = "202609010000009999999"
		body, err := h.db.Document(ctx, jobID)
		require.NoError(t, err)
		body = bytes.Replace(body, []byte(jobID), []byte(other), 1)
		doc, err := bfia.ParseDocument(bytes.Replace(body, []byte("{"), []byte(`{"old_job_id":"`+jobID+`",`),
			1))
		require.NoError(t, err)
		h.putRecord(doc)
		plan := h.own
		plan.JobID = other
		require.NoError(t, h.participant.RecordJob(ctx,
			participant.RecordJobInput{Plan: plan, Roles: []string{"guest.0"}, Scheduler: "B",
				State: bfia.JobReady, At: time.Now()}))
		reusable := func() []string {
			names, err := participant.Reusable(ctx, h.db, h.blobs, doc, &plan)
			require.NoError(t, err)
			return names
		}
		assert.Empty(t, reusable(), "it is still running")
		output := "guest-A-dataset-d/" + bfia.TaskID(jobID, "a")
		require.NoError(t, h.blobs.Put(ctx, output+"/data_0", bytes.NewReader([]byte("a row\n"))))
		require.NoError(t, h.participant.RecordTaskEnd(ctx,
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))
		assert.Equal(t, []string{"a"}, reusable(), "b has not run")

		ref := bfia.TaskRef{JobID: other, TaskID: bfia.TaskID(other, "a"), TaskName: "a", Reuse: true}
		key := activities.TaskKey{JobID: other, Task: "a", Role: "guest"}
		for range 2 {
			_, err := h.env(ctx).ExecuteActivity("ReuseTask",
				participant.ReuseTaskInput{Task: ref, Plan: plan, At: time.Now()})
			require.NoError(t, err)
			require.NoError(t, h.participant.RecordTaskEnd(ctx,
				participant.RecordTaskEndInput{Key: key, Part: guestA, TaskID: ref.TaskID,
					State: bfia.TaskSuccess, At: time.Now()}))
		}
		row, err := h.db.Task(ctx, store.TaskKey{JobID: other, Name: "a", Role: "guest"})
		require.NoError(t, err)
		assert.Equal(t, []string{jobID, bfia.TaskID(jobID, "a"), ref.TaskID},
			[]string{row.ReusedJobID, row.OutputTaskID(), row.TaskID})
		assert.Equal(t, bfia.TaskSuccess, row.State)
		outputs, err := h.db.Outputs(ctx, other)
		require.NoError(t, err)
		require.Len(t, outputs, 1)
		assert.Equal(t, output, outputs[0].Namespace+"/"+outputs[0].Name)
		assert.EqualValues(t, 6, outputs[0].Bytes)

		require.NoError(t, h.blobs.Delete(ctx, output+"/data_0"))
		assert.Empty(t, reusable(), "its outputs are gone")
		_, err = h.env(ctx).ExecuteActivity("ReuseTask",
			participant.ReuseTaskInput{Task: ref, Plan: plan, At: time.Now()})
		require.ErrorContains(t, err, "the outputs of task a of job "+jobID+" no longer exist")
	})
}
