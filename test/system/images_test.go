package system

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	dockerimage "github.com/docker/docker/api/types/image"

	"hutong/bfia"
)

// TestImageOnOneRunner has a provider's image on one of two machines, the busier one: its tasks run there.
// When the image is removed from there, a job fails with the names of both machines.
func TestImageOnOneRunner(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		t.Skip("this test runs dockerd for each runner, which needs dockerd and root")
	}
	b, file := newMultiRunnerParty(t)
	large := newRunnerMachine(t, "iml", file, "HUTONG_RUNNER_SLOTS=8")
	small := newRunnerMachine(t, "ims", file, "HUTONG_RUNNER_SLOTS=2")
	cli := large.client()
	_, err := cli.ImageRemove(t.Context(), referenceImage, dockerimage.RemoveOptions{Force: true})
	require.NoError(t, err)
	large.start()
	small.start()
	for range 3 {
		jobs, on := b.submitHeldJobs(2, nil)
		assert.Equal(t, map[string]int{small.id: 2}, on)
		b.release(jobs)
	}

	_, err = small.client().ImageRemove(t.Context(), referenceImage, dockerimage.RemoveOptions{Force: true})
	require.NoError(t, err)
	s := b.awaitJob(b.submit(b.document(nil, 0)), time.Minute, isFinished)
	require.Equal(t, bfia.FailedImage, s.Failure.Kind)
	for _, word := range []string{large.id, small.id, "of machine ", referenceImage} {
		assert.Contains(t, s.Failure.Text(), word)
	}
}

// TestImageTagMovedWhileJobRuns moves the tag of a provider's image to an empty image while a job runs. The
// job's later task runs the image that its first one ran. 'job show' has its id.
func TestImageTagMovedWhileJobRuns(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		t.Skip("this test runs dockerd for each runner, which needs dockerd and root")
	}
	b, file := newMultiRunnerParty(t)
	machine := newRunnerMachine(t, "imt", file)
	cli := machine.client()
	before, err := cli.ImageInspect(t.Context(), referenceImage)
	require.NoError(t, err)
	machine.start()
	jobID := b.submit(b.document(nil, 5, 0))
	b.countByRunner([]string{jobID}) // its container exists

	var layer bytes.Buffer
	require.NoError(t, tar.NewWriter(&layer).Close())
	out, err := cli.ImageImport(t.Context(), dockerimage.ImportSource{Source: &layer, SourceName: "-"},
		referenceImage, dockerimage.ImportOptions{})
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, out)
	require.NoError(t, err)
	require.NoError(t, out.Close())
	after, err := cli.ImageInspect(t.Context(), referenceImage)
	require.NoError(t, err)
	require.NotEqual(t, before.ID, after.ID)

	s := b.awaitJob(jobID, time.Minute, isFinished)
	require.Nil(t, s.Failure)
	var view bfia.JobView
	b.mustRequest(http.MethodGet, bfia.PathJobShow+"?job_id="+jobID, nil, &view)
	require.Equal(t, []string{before.ID}, view.Tasks[0].Images[0].ImageIDs)
}

// client returns a client of the machine's Docker Engine.
func (m *runnerMachine) client() *client.Client {
	cli, err := client.NewClientWithOpts(client.WithHost(m.host), client.WithAPIVersionNegotiation())
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = cli.Close() })

	return cli
}
