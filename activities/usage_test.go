package activities_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// usage returns the only row of the account of the party's job.
func (h *testParty) usage() store.Usage {
	rows, err := h.db.Usages(h.t.Context(), jobID)
	require.NoError(h.t, err)
	require.Len(h.t, rows, 1)
	return rows[0]
}

// TestUsageAfterCrash stops a worker while a container runs. The next one finds it running, or ended, and
// what it has used is recorded in both cases.
func TestUsageAfterCrash(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		const cpu = 300 * time.Millisecond
		h := newTestParty(t, storetest.SQLite(t), d, []string{"burn", cpu.String(), "append", "DATA/data_0",
			oneStart, "wait", "DATA/proceed", "sleep", "1s", "exit", "0"}, nil)
		h.claimTaskA()
		stop := make(chan struct{})
		go func() {
			for { // until it was measured
				rows, err := h.db.Usages(t.Context(), jobID)
				if err != nil || len(rows) > 0 {
					close(stop)
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		_, err := h.runTaskA(t.Context(), d, stop)
		require.Error(t, err, "the worker shut down")
		before := h.usage()
		require.NotNil(t, before.CPUMillis)
		require.Nil(t, before.EndedAt)
		require.False(t, before.Final)

		h.waitForOutput()
		folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, "proceed"), nil, 0o644))
		_, err = d.Wait(t.Context(), h.containerName("a")) // it ends without a worker
		require.NoError(t, err)
		_, err = h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		row := h.usage()
		require.Equal(t, d.Device(), row.Device)
		require.Equal(t, 1, row.Attempt)
		require.Equal(t, h.taskRow("a").TaskID, row.TaskID)
		require.NotNil(t, row.StartedAt)
		require.GreaterOrEqual(t, row.EndedAt.Sub(*row.StartedAt), cpu+time.Second)
		require.GreaterOrEqual(t, *row.CPUMillis, *before.CPUMillis)
		require.Positive(t, *row.PeakMemory)
		if d.Device() == "process" { // the supervisor outlives the worker
			require.True(t, row.Final)
			require.GreaterOrEqual(t, *row.CPUMillis, cpu.Milliseconds())
		} else {
			require.False(t, row.Final, "the rest is unknown: these are lower bounds")
		}
	})
}

// TestUsageOfAVanishedContainer removes a container while no worker watches it. What was measured stays, and
// its end stays unknown.
func TestUsageOfAVanishedContainer(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart, "forever"},
			nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "after Start"}, nil)
		require.Error(t, err)
		h.waitForOutput()
		require.NoError(t, d.Remove(t.Context(), h.containerName("a")))
		_, err = h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		row := h.usage()
		require.Nil(t, row.CPUMillis, "nobody knows")
		require.Nil(t, row.PeakMemory)
		require.Nil(t, row.StartedAt)
		require.Nil(t, row.EndedAt)
	})
}

// TestNoUsageWithoutStart stops a task before its container starts: it has used nothing.
func TestNoUsageWithoutStart(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "before Start"}, nil)
		require.Error(t, err)
		require.NoError(t, d.Stop(t.Context(), h.containerName("a"), 0))
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		rows, err := h.db.Usages(t.Context(), jobID)
		require.NoError(t, err)
		require.Empty(t, rows)
	})
}

var _ driver.Meter = testDriver{}
