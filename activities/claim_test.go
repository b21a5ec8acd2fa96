package activities_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// A provider is registered again with other constraints, or deleted, while a job that uses it runs. The job
// keeps the constraints, and the slot, that it was created with.
func TestClaimAfterProviderIsRegisteredAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		h.claimTaskA()
		require.NoError(t, h.participant.RecordTaskEnd(t.Context(),
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))
		claim := func() {
			claims, err := h.participant.ClaimTask(t.Context(),
				participant.ClaimTaskInput{Task: h.taskRef("b"), Parts: []bfia.Part{guestA}, At: time.Now()})
			require.NoError(t, err)
			require.Equal(t, []participant.Claim{{Part: guestA, RunnerID: "runner-1", Attempt: 1}}, claims)
		}

		found, err := h.db.Providers(t.Context(), store.ProviderFilter{Name: "vendor-b"})
		require.NoError(t, err)
		found[0].Metadata = json.RawMessage(`{"command":["/other"],"requires":{"gpu":"a100"}}`)
		_, err = h.db.PutProvider(t.Context(), found[0])
		require.NoError(t, err)
		claim()
		_, err = h.db.DeleteProvider(t.Context(), store.ProviderFilter{Name: "vendor-b"}, true)
		require.NoError(t, err)
		claim()
	})
}

// TestClaimStartsTheJob checks that a claim makes the job RUNNING if it should, and only then.
func TestClaimStartsTheJob(t *testing.T) {
	for starts, want := range map[bool]bfia.JobState{false: bfia.JobReady, true: bfia.JobRunning} {
		h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
		h.claimTaskA()
		_, err := h.participant.ClaimTask(t.Context(), participant.ClaimTaskInput{Task: h.taskRef("a"),
			Parts: []bfia.Part{guestA}, StartsJob: starts, At: time.Now()})
		require.NoError(t, err)
		job, err := h.db.Job(t.Context(), jobID)
		require.NoError(t, err)
		require.Equal(t, want, job.State)
	}
}

// TestClaimRecordsTheCause checks that a party records why the attempt before ended if another party's part
// of the job can have ended it, and only then.
func TestClaimRecordsTheCause(t *testing.T) {
	elsewhere := bfia.Failure{Kind: bfia.FailedTemporary, NodeID: "B", Role: "host.0", Message: "no licence"}
	for name, change := range map[string]func(f *bfia.Failure){
		"of another part":   func(*bfia.Failure) {},
		"of an own part":    func(f *bfia.Failure) { f.NodeID, f.Role = "A", "guest.0" },
		"of no part":        func(f *bfia.Failure) { f.NodeID = "C" },
		"of another role":   func(f *bfia.Failure) { f.Role = "host.1" },
		"that ends the job": func(f *bfia.Failure) { f.Kind = bfia.FailedExit },
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
			h.claimTaskA()
			cause := elsewhere
			change(&cause)
			again := bfia.TaskRef{JobID: jobID, TaskName: "a", TaskID: bfia.AttemptID(jobID, "a", 2),
				Attempt: 2, Lost: &cause}
			_, err := h.participant.ClaimTask(t.Context(),
				participant.ClaimTaskInput{Task: again, Parts: []bfia.Part{guestA}, At: time.Now()})
			require.NoError(t, err)
			earlier, err := h.db.EarlierAttempts(t.Context(), jobID, "a")
			require.NoError(t, err)
			require.NotEmpty(t, earlier)
			require.Equal(t, name == "of another part", earlier[0].Cause != nil)
		})
	}
}
