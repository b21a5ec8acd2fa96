package activities_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/dataset"
	"hutong/store/storetest"
)

// specRecorder records what containers are created with.
type specRecorder struct {
	testDriver
	mu   sync.Mutex
	spec driver.Spec
}

func (r *specRecorder) Create(ctx context.Context, s driver.Spec) (string, error) {
	r.mu.Lock()
	r.spec = s
	r.mu.Unlock()
	return r.testDriver.Create(ctx, s)
}

// input returns the address that the last container got for its input.
func (r *specRecorder) input() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spec.Env["runtime.component.input.in"]
}

// A job reads the generation of its dataset that was current when it was created, in all attempts.
func TestJobReadsOneGeneration(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		ctx := t.Context()
		h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, []string{"exit", "0"})
		datasets := dataset.New(h.blobs, h.db)
		upload := func(name, value string) string {
			table, err := datasets.Ingest(ctx, dataset.IngestRequest{Namespace: "n", Name: name, Head: true},
				strings.NewReader("id,x\n1,"+value+"\n"))
			require.NoError(t, err)
			return table.Generation
		}
		body, err := h.db.Document(ctx, jobID)
		require.NoError(t, err)
		document := func(id, name, oldJobID string) *bfia.Document {
			text := bytes.Replace(body, []byte(jobID), []byte(id), 1)
			text = bytes.Replace(text, []byte(`"task_params":{}`),
				[]byte(`"task_params":{"guest":{"0":{"a":{"dataset_id":"n#`+name+`"}}}}`), 1)
			if oldJobID != "" {
				text = bytes.Replace(text, []byte("{"), []byte(`{"old_job_id":"`+oldJobID+`",`), 1)
			}
			doc, err := bfia.ParseDocument(text)
			require.NoError(t, err)
			return doc
		}
		create := func(id, name string) {
			h.putRecord(document(id, name, ""))
			plan := h.own
			plan.JobID = id
			for range 2 { // recording it twice changes nothing
				require.NoError(t, h.participant.RecordJob(ctx,
					participant.RecordJobInput{Plan: plan, Roles: []string{"guest.0"}, Scheduler: "B",
						State: bfia.JobReady, At: time.Now()}))
			}
		}
		recorder := &specRecorder{testDriver: d}
		h.runner = h.newRunner(recorder)
		runAttempt := func(id string, attempt int) string {
			taskID := bfia.AttemptID(id, "a", attempt)
			_, err := h.db.StartTask(ctx, id, "a", taskID, attempt, time.Now())
			require.NoError(t, err)
			_, err = h.env(ctx).ExecuteActivity("RunTask", activities.PartRequest{
				Key: activities.TaskKey{JobID: id, Task: "a",
					Role: "guest"}, Part: guestA, TaskID: taskID, Attempt: attempt})
			require.NoError(t, err)
			return recorder.input()
		}
		generation := func(id string) string {
			row, err := h.db.Task(ctx, store.TaskKey{JobID: id, Name: "a", Role: "guest"})
			require.NoError(t, err)
			return row.DatasetGeneration
		}

		const first, late = "202609010000009999991", "202609010000009999992"
		old := upload("d", "old")
		create(first, "d")
		require.Equal(t, old, generation(first))
		require.Contains(t, runAttempt(first, 1), `"d.`+old+`"`)
		require.NoError(t, h.participant.RecordTaskEnd(ctx,
			participant.RecordTaskEndInput{Key: activities.TaskKey{JobID: first, Task: "a", Role: "guest"},
				Part: guestA, TaskID: bfia.TaskID(first, "a"), State: bfia.TaskSuccess, At: time.Now()}))

		// A later job reuses the task as long as it would read the same.
		reusable := func() []string {
			plan := h.own
			plan.JobID = late
			names, err := participant.Reusable(ctx, h.db, h.blobs, document(late, "d", first), &plan)
			require.NoError(t, err)
			return names
		}
		require.Equal(t, []string{"a"}, reusable())
		renewed := upload("d", "new")
		require.NotEqual(t, old, renewed)
		require.Empty(t, reusable(), "the dataset was uploaded again")
		require.NoError(t, h.housekeeping.SweepStorage(ctx))
		require.Contains(t, runAttempt(first, 2), `"d.`+old+`"`, "another attempt reads the same")
		require.Equal(t, old, generation(first))

		// A job whose dataset does not exist is not created, whatever is uploaded later.
		h.participant.CheckDatasets = true
		h.putRecord(document(late, "late", ""))
		plan := h.own
		plan.JobID = late
		err = h.participant.RecordJob(ctx, participant.RecordJobInput{Plan: plan, Roles: []string{"guest.0"},
			Scheduler: "B", State: bfia.JobReady, At: time.Now()})
		require.ErrorContains(t, err, `dataset_id: dataset "n#late" is not known`)
	})
}
