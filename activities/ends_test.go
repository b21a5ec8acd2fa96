package activities_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// newReservedParty returns a party with one slot, at which a first job holds the reservation and a second one
// waits for it.
func newReservedParty(t *testing.T) (h *testParty, first, second string) {
	t.Helper()
	ctx := t.Context()
	h = newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "runner-1", NodeID: "A",
		Devices: []string{h.driver.Device()}, TaskQueue: "q", Slots: 1}))
	body, err := h.db.Document(ctx, jobID)
	require.NoError(t, err)
	for i, id := range []string{"first", "second"} {
		doc, err := bfia.ParseDocument([]byte(strings.Replace(string(body), jobID, id, 1)))
		require.NoError(t, err)
		h.putRecord(doc)
		plan := h.own
		plan.JobID = id
		require.NoError(t, h.participant.RecordJob(ctx, participant.RecordJobInput{Plan: plan,
			Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: time.Now()}))
		answer, err := h.participant.Reserve(ctx, participant.ReserveInput{JobID: id, Scheduler: "B",
			Created: time.Now(), At: time.Now()})
		require.NoError(t, err)
		require.Equal(t, i == 0, answer.Grant.Granted)
	}

	return h, "first", "second"
}

// TestEndPart checks that an end is recorded before it is reported, and stays recorded if the scheduler does
// not answer or refuses the report.
func TestEndPart(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter) bool
		want   participant.EndPartResult
	}{
		"reported": {func(w http.ResponseWriter) bool { return accept(w, nil) },
			participant.EndPartResult{Reported: true}},
		"no answer": {hangUp, participant.EndPartResult{}},
		"refused": {func(w http.ResponseWriter) bool { return refuse(w, bfia.CodeNotFound, "no such task") },
			participant.EndPartResult{Refused: "no such task"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, first, _ := newReservedParty(t)
			key := h.taskKey("a")
			key.JobID = first
			h.partner.answer = func(w http.ResponseWriter, path, _ string) bool {
				assert.Equal(t, bfia.PathTaskCallback, path)
				row, err := h.db.Task(t.Context(), key.Row())
				assert.NoError(t, err)
				assert.Equal(t, bfia.TaskFailed, row.State)

				return c.answer(w)
			}
			in := participant.EndPartInput{
				End: participant.RecordTaskEndInput{Key: key, Part: guestA, TaskID: bfia.TaskID(first, "a"),
					State: bfia.TaskFailed, Failure: &bfia.Failure{Kind: bfia.FailedStart}, At: time.Now()},
				Callback: participant.SendCallbackInput{Node: "B", Report: bfia.TaskReport{
					TaskID: bfia.TaskID(first, "a"), Status: bfia.TaskFailed, Role: "guest"}},
			}
			for range 2 {
				var result participant.EndPartResult
				require.NoError(t, h.execute(&result, "EndPart", in))
				require.Equal(t, c.want, result)
			}
			require.Len(t, h.partner.bodies(bfia.PathTaskCallback), 2)
		})
	}
}

// TestEndPartUnrecorded checks that an end which is not recorded is not reported.
func TestEndPartUnrecorded(t *testing.T) {
	h, _, _ := newReservedParty(t)
	key := h.taskKey("a")
	key.JobID = "unknown"
	require.Error(t, h.execute(nil, "EndPart", participant.EndPartInput{
		End:      participant.RecordTaskEndInput{Key: key, Part: guestA, State: bfia.TaskFailed},
		Callback: participant.SendCallbackInput{Node: "B"}}))
	require.Empty(t, h.partner.bodies(bfia.PathTaskCallback))
}

// TestEndJob checks that the end of a job releases its reservation, and its session unless another job waits
// for the reservation: the hint to that job comes first. A session that could not be released is left.
func TestEndJob(t *testing.T) {
	const release = "/v1/interconn/chan/release"
	h, first, second := newReservedParty(t)
	var silent atomic.Bool // the transport
	h.partner.answer = func(w http.ResponseWriter, path, _ string) bool {
		return path == release && silent.Load() && hangUp(w)
	}
	end := func(jobID string) participant.EndJobResult {
		in := participant.EndJobInput{
			State: participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished,
				Outcome: bfia.OutcomeSuccess, At: time.Now()},
			Release:  participant.ReleaseReservationInput{JobID: jobID, At: time.Now()},
			Sessions: []string{bfia.SessionID(jobID)},
		}
		var result participant.EndJobResult
		require.NoError(t, h.execute(&result, "EndJob", in))
		job, err := h.db.Job(t.Context(), jobID)
		require.NoError(t, err)
		require.Equal(t, bfia.JobFinished, job.State)
		slots, err := h.db.ReservedSlots(t.Context(), jobID)
		require.NoError(t, err)
		require.Empty(t, slots)

		return result
	}

	for range 2 {
		require.Equal(t, participant.EndJobResult{
			Waiting:  []participant.Waiting{{JobID: second, Scheduler: "B"}},
			Sessions: []string{bfia.SessionID(first)},
		}, end(first))
	}
	require.Empty(t, h.partner.bodies(release))

	silent.Store(true)
	require.Equal(t, participant.EndJobResult{Sessions: []string{bfia.SessionID(second)}}, end(second))
	silent.Store(false)
	for range 2 {
		require.Equal(t, participant.EndJobResult{}, end(second))
	}
	require.Len(t, h.partner.bodies(release), 3)
}

// TestForgetJobReleases checks that a job which is undone releases its reservation, and returns the job that
// waits for it, also if it is forgotten twice.
func TestForgetJobReleases(t *testing.T) {
	h, first, second := newReservedParty(t)
	for range 2 {
		var waiting []participant.Waiting
		require.NoError(t, h.execute(&waiting, "ForgetJob",
			participant.ForgetJobInput{JobID: first, At: time.Now()}))
		require.Equal(t, []participant.Waiting{{JobID: second, Scheduler: "B"}}, waiting)
	}
}
