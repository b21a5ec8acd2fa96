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

// A provider is registered anew while a job runs that holds room for it, and requires another host now: the task goes to one
// that has what it requires, waits for one where there is none, and does not wait for ever for room that its job could not get.
func TestClaimAfterProviderIsRegisteredAnew(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		h.begin()
		require.NoError(t, h.parts.RecordTaskEnd(t.Context(), participant.RecordTaskEndInput{Key: h.key("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"), State: bfia.TaskSuccess, At: time.Now()}))
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
			return h.parts.ClaimTask(t.Context(), participant.ClaimTaskInput{Task: h.ref("b"), Parts: []bfia.Part{guestA}, At: time.Now()})
		}
		requires(`{"gpu":"a100"}`)
		_, err := claim()
		require.ErrorContains(t, err, "host host-1 lacks the label gpu=a100, and there is no other")
		require.NoError(t, h.db.PutRunner(t.Context(), store.Runner{RunnerID: "host-2", NodeID: "A", Devices: []string{h.device.Device()},
			Labels: map[string]string{"gpu": "a100"}, TaskQueue: "q2", Slots: 1}))
		for range 2 {
			claims, err := claim()
			require.NoError(t, err)
			require.Equal(t, []participant.Claim{{Part: guestA, RunnerID: "host-2", Attempt: 1}}, claims)
		}
		requires(`{}`)
		claims, err := claim()
		require.NoError(t, err)
		require.Equal(t, "host-2", claims[0].RunnerID, "what fits stays where it is")
	})
}
