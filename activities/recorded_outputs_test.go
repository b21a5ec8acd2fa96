package activities_test

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// lockedStore is a storage in which a container left an object that only its own user can read.
type lockedStore struct{ blob.Store }

func (l lockedStore) List(context.Context, string) ([]blob.Info, error) {
	return nil, fmt.Errorf("storage: failed to list: %w",
		&fs.PathError{Op: "open", Path: "/storage/out/private", Err: fs.ErrPermission})
}

// A part can't end as SUCCESS with an output that its party can't read.
func TestRecordUnreadableOutput(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	require.NoError(t, h.participant.RecordJob(t.Context(), participant.RecordJobInput{Plan: h.own,
		Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: time.Now()}))
	_, err := h.db.StartTask(t.Context(), jobID, "a", bfia.TaskID(jobID, "a"), 1, time.Now())
	require.NoError(t, err)
	h.participant.Blobs = lockedStore{h.blobs}
	err = h.participant.RecordTaskEnd(t.Context(),
		participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
			State: bfia.TaskSuccess, At: time.Now()})
	require.ErrorContains(t, err, "output out: this party can't read what the container wrote: ")
	require.ErrorContains(t, err, "/storage/out/private: permission denied")
	var refusal *temporal.ApplicationError
	require.ErrorAs(t, err, &refusal)
	require.True(t, refusal.NonRetryable(), "it ends the part, and is not tried for a day")
	require.Equal(t, bfia.TaskRunning, h.taskRow("a").State)
}

// A container that writes an output after its callback has ended the part still has that output recorded.
func TestOutputAfterCallbackIsRecorded(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart}, nil)
		h.claimTaskA()
		require.NoError(t, h.participant.RecordTaskEnd(t.Context(),
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))
		outputs, err := h.db.Outputs(t.Context(), jobID)
		require.NoError(t, err)
		require.Empty(t, outputs)
		_, err = h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		outputs, err = h.db.Outputs(t.Context(), jobID)
		require.NoError(t, err)
		require.Len(t, outputs, 1)
		require.Equal(t, int64(len(oneStart)), outputs[0].Bytes)
	})
}
