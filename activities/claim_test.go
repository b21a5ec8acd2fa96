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

// A provider is registered again with other constraints while a job that uses it holds a reservation.
// The task moves to a runner that meets the constraints, and waits while there is none.
// It does not wait for ever for resources that its job could not reserve.
func TestClaimAfterProviderIsRegisteredAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		h.claimTaskA()
		require.NoError(t, h.participant.RecordTaskEnd(t.Context(),
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))
		requires := func(labels string) {
			found, err := h.db.Providers(t.Context(), store.ProviderFilter{Name: "vendor-b"})
			require.NoError(t, err)
			var metadata map[string]any
			require.NoError(t, json.Unmarshal(found[0].Metadata, &metadata))
			metadata["requires"] = json.RawMessage(labels)
			found[0].Metadata, err = json.Marshal(metadata)
			require.NoError(t, err)
			_, err = h.db.PutProvider(t.Context(), found[0])
			require.NoError(t, err)
		}
		claim := func() ([]participant.Claim, error) {
			return h.participant.ClaimTask(t.Context(),
				participant.ClaimTaskInput{Task: h.taskRef("b"), Parts: []bfia.Part{guestA}, At: time.Now()})
		}
		requires(`{"gpu":"a100"}`)
		_, err := claim()
		require.ErrorContains(t, err,
			"runner runner-1 lacks the label gpu=a100, and no other runner is online")
		require.NoError(t, h.db.PutRunner(t.Context(),
			store.Runner{RunnerID: "runner-2", NodeID: "A", Devices: []string{h.driver.Device()},
				Labels: map[string]string{"gpu": "a100"}, TaskQueue: "q2", Slots: 1}))
		for range 2 {
			claims, err := claim()
			require.NoError(t, err)
			require.Equal(t, []participant.Claim{{Part: guestA, RunnerID: "runner-2", Attempt: 1}}, claims)
		}
		requires(`{}`)
		claims, err := claim()
		require.NoError(t, err)
		require.Equal(t, "runner-2", claims[0].RunnerID, "a claim that meets the constraints does not move")
	})
}
