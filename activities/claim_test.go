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
