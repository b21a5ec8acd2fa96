package activities_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/drivertest"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// plainDriver hides what a driver can do beyond its interface: it does not take over outputs.
type plainDriver struct{ driver.Driver }

// A party runs as an ordinary user. Its container leaves folders that only the container's user can read. The
// party takes them over, so the task succeeds, its outputs are readable, and housekeeping removes them. Where
// that is impossible, the task fails with the path, and housekeeping continues to other jobs and reports the
// path.
func TestOutputsOfAnotherUser(t *testing.T) {
	if prog.dockerErr != nil {
		t.Skipf("no Docker Engine answers: %v", prog.dockerErr)
	}
	if drivertest.AsOrdinaryUser(t, prog.image) == "" {
		return
	}
	r, err := docker.New(docker.Options{NodeID: "T" + rand.Text(), HostNetwork: true})
	require.NoError(t, err)
	d := removeContainersAfter(t, testDriver{r, "/prog"})
	h := newTestParty(t, storetest.SQLite(t), d, []string{"secret", "DATA"}, nil)
	h.claimTaskA()
	result, err := h.runTaskA(t.Context(), plainDriver{d.Driver}, nil)
	require.NoError(t, err)
	require.Nil(t, result.Failure)
	end := participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
		State: bfia.TaskSuccess, At: time.Now()}
	folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + end.TaskID)
	require.NoError(t, err)
	private := filepath.Join(folder, "private")
	err = h.participant.RecordTaskEnd(t.Context(), end)
	require.ErrorContains(t, err, "open "+private+": permission denied")
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, activities.FailureRefused, app.Type(), "a retry would not help")

	month := time.Now().Add(-30 * 24 * time.Hour)
	require.NoError(t, h.db.UpdateJob(t.Context(), jobID, bfia.JobFinished, "", month))
	h.recordEndedJob("other", month, "")
	h.housekeeping.Keep = time.Hour
	var removed housekeeping.RemovalProgress
	require.NoError(t, h.execute(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{}))
	assert.Equal(t, 1, removed.Jobs, "the other job")
	require.Len(t, removed.Failed, 1)
	assert.Equal(t, jobID, removed.Failed[0].JobID)
	assert.Contains(t, removed.Failed[0].Reason, private)
	failed, err := h.db.RemovalFailures(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, failed, 1)
	assert.Contains(t, failed[0].RemovalFailure, private)

	// The container still exists in the eyes of the driver that can take over.
	spec := driver.Spec{Name: "again-" + rand.Text(), Image: prog.image,
		Command: []string{"/prog", "exit", "0"},
		Mounts:  []driver.Mount{{Source: folder, Target: "out"}}}
	_, err = r.Create(t.Context(), spec)
	require.NoError(t, err)
	require.NoError(t, r.OwnOutputs(t.Context(), spec.Name))
	require.NoError(t, h.participant.RecordTaskEnd(t.Context(), end))
	outputs, err := h.db.Outputs(t.Context(), jobID)
	require.NoError(t, err)
	require.Len(t, outputs, 1)
	content, err := os.ReadFile(filepath.Join(private, "deep", "data"))
	require.NoError(t, err)
	assert.Equal(t, "rows of private/deep/data", string(content))
	require.NoError(t, h.execute(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{}))
	require.NoFileExists(t, folder)
	_, err = h.db.Job(t.Context(), jobID)
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
}
