package activities_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"hutong/activities"
	"hutong/activities/driver/process"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/storetest"
	"hutong/test/testenv/disk"
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

// A container may exit with code 0 and leave data that nobody can read. Its part can't end as SUCCESS. Data
// without metadata, or without a number of partitions, is whole.
func TestRecordIncompleteData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ metadata, object, refusal string }{
		{"", "data_0", " is empty"},
		{"{", "data_0", " can't be parsed: "},
		{`{"partitions":"x"}`, "data_0", " can't be parsed: "},
		{`{"partitions":0}`, "data_0", " has partitions 0, not 1 to "},
		{`{"partitions":2}`, "data_0", " has partitions 2, but the object OUT/data_1 does not exist"},
		{`{"partitions":1}`, "part-0", " has partitions 1, but the object OUT/data_0 does not exist"},
		{`{"partitions":1}`, "data_0", ""},
		{`{}`, "data_0", ""},
		{`{}`, "part-0", ""},
	} {
		t.Run(c.metadata+" "+c.object, func(t *testing.T) {
			r, err := process.New(process.Options{Dir: t.TempDir(), AllowedCommands: []string{prog.path}})
			require.NoError(t, err)
			d := removeContainersAfter(t, testDriver{r, prog.path})
			h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/metadata", c.metadata,
				"append", "DATA/" + c.object, oneStart}, nil)
			h.claimTaskA()
			result, err := h.runTaskA(t.Context(), d, nil)
			require.NoError(t, err)
			require.Nil(t, result.Failure)
			taskID := bfia.TaskID(jobID, "a")
			end := participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: taskID,
				State: bfia.TaskSuccess, At: time.Now()}
			err = h.participant.RecordTaskEnd(t.Context(), end)
			if c.refusal == "" {
				require.NoError(t, err)
				require.Equal(t, bfia.TaskSuccess, h.taskRow("a").State)
				return
			}
			out := "guest-A-dataset-d/" + taskID
			require.ErrorContains(t, err,
				"output out: the object "+out+"/metadata, as the algorithm wrote it,"+
					strings.ReplaceAll(c.refusal, "OUT", out))
			var refusal *temporal.ApplicationError
			require.ErrorAs(t, err, &refusal)
			require.True(t, refusal.NonRetryable(), "it ends the part, and is not tried for a day")
			require.Equal(t, bfia.TaskRunning, h.taskRow("a").State)
			outputs, err := h.db.Outputs(t.Context(), jobID)
			require.NoError(t, err)
			require.Empty(t, outputs)
		})
	}
}

// A container ignores that the storage is full, and exits with code 0. Its part fails, since its outputs may
// be incomplete.
func TestStorageFullAtTheEnd(t *testing.T) {
	t.Parallel()
	r, err := process.New(process.Options{Dir: t.TempDir(), AllowedCommands: []string{prog.path}})
	require.NoError(t, err)
	d := removeContainersAfter(t, testDriver{r, prog.path})
	proceed := filepath.Join(t.TempDir(), "continue")
	h := newTestParty(t, storetest.SQLite(t), d,
		[]string{"append", "DATA/data_0", oneStart, "wait", proceed, "print", "wrote everything"}, nil)
	dir := t.TempDir()
	disk.Mount(t, dir, "4m")
	h.blobs, err = blob.Open(t.Context(), "file://"+dir)
	require.NoError(t, err)
	h.participant.Blobs = h.blobs
	h.claimTaskA()

	var empty func()
	filling := make(chan struct{})
	go func() {
		defer close(filling)
		h.waitForOutput()
		empty = disk.Fill(t, dir)
		assert.NoError(t, os.WriteFile(proceed, nil, 0o600))
	}()
	result, err := h.runTaskA(t.Context(), d, nil)
	<-filling
	require.NoError(t, err)
	require.NotNil(t, result.Failure)
	require.Equal(t, bfia.FailedOutput, result.Failure.Kind)
	require.Equal(t, activities.StorageFullMessage, result.Failure.Message)
	require.Equal(t, []string{"wrote everything"}, result.Failure.Log)
	require.Equal(t, result.Failure, h.taskRow("a").Failure)

	// Its callback may report SUCCESS before.
	end := participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
		State: bfia.TaskSuccess, At: time.Now()}
	err = h.participant.RecordTaskEnd(t.Context(), end)
	require.ErrorContains(t, err, activities.StorageFullMessage)
	var refusal *temporal.ApplicationError
	require.ErrorAs(t, err, &refusal)
	require.True(t, refusal.NonRetryable())
	require.Equal(t, bfia.TaskRunning, h.taskRow("a").State)

	empty()
	again, err := h.runTaskA(t.Context(), d, nil)
	require.NoError(t, err)
	require.Equal(t, result, again)
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
