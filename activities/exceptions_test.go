package activities_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// askForExceptions registers the provider of task a again, so that it asks for exceptions.
func (h *testParty) askForExceptions(allow bfia.Exceptions) store.Provider {
	h.t.Helper()
	found, err := h.db.Providers(h.t.Context(), store.ProviderFilter{Name: "vendor-a"})
	require.NoError(h.t, err)
	var metadata map[string]any
	require.NoError(h.t, json.Unmarshal(found[0].Metadata, &metadata))
	metadata["allow"] = allow
	found[0].Metadata, err = json.Marshal(metadata)
	require.NoError(h.t, err)
	_, err = h.db.PutProvider(h.t.Context(), found[0])
	require.NoError(h.t, err)

	return found[0]
}

// A task whose provider asks for exceptions fails with the command that approves them, and runs with them
// once they were approved. A registration after the approval takes it away.
func TestRunTaskWithExceptions(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		if d.Device() == string(bfia.DeviceProcess) {
			t.Skip("processes have no container profile")
		}
		asked := bfia.Exceptions{Root: true, Writable: true}
		refused := func(t *testing.T, prepare func(h *testParty)) {
			h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, nil)
			prepare(h)
			h.recordAgain()
			h.claimTaskA()
			result, err := h.runTaskA(t.Context(), d, nil)
			require.NoError(t, err)
			require.NotNil(t, result.Failure)
			require.Equal(t, bfia.FailedStart, result.Failure.Kind)
			require.Contains(t, result.Failure.Message,
				"run 'hutong provider allow vendor-a:1 root,writable'")
		}
		t.Run("not approved", func(t *testing.T) {
			refused(t, func(h *testParty) { h.askForExceptions(asked) })
		})
		t.Run("approved in part", func(t *testing.T) {
			refused(t, func(h *testParty) {
				p := h.askForExceptions(asked)
				require.NoError(t, h.db.AllowProvider(t.Context(), p, bfia.Exceptions{Root: true}))
			})
		})
		t.Run("registered again", func(t *testing.T) {
			refused(t, func(h *testParty) {
				require.NoError(t, h.db.AllowProvider(t.Context(), h.askForExceptions(asked), asked))
				h.askForExceptions(asked)
			})
		})
		for name, approve := range map[string]func(h *testParty, p store.Provider){
			"approved": func(h *testParty, p store.Provider) {
				require.NoError(t, h.db.AllowProvider(t.Context(), p, asked))
			},
			"no approval needed": func(h *testParty, _ store.Provider) { h.allowExceptions = true },
		} {
			t.Run(name, func(t *testing.T) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "x"}, nil)
				approve(h, h.askForExceptions(asked))
				h.recordAgain()
				h.claimTaskA()
				var created driver.Spec
				result, err := h.runTaskA(t.Context(),
					&specObserver{testDriver: d, seen: func(s driver.Spec) { created = s }}, nil)
				require.NoError(t, err)
				require.Nil(t, result.Failure)
				require.Equal(t, "x", h.readOutput("a"), "the user of its image can write to its output")
				require.Equal(t, asked, created.Allow)
			})
		}
	})
}
