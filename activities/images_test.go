package activities_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// imageObserver is a driver that finds images, and shows the image of each container.
type imageObserver struct {
	specObserver
	driver.ImageFinder
}

// testImages is an image of which a test moves the reference.
type testImages struct {
	t   *testing.T
	d   testDriver
	ref string
}

// move makes the reference name a new image, and returns its id.
func (i testImages) move() string {
	_, err := importImage(prog.path, i.ref)
	require.NoError(i.t, err)
	id, err := i.d.Driver.(driver.ImageFinder).ImageID(i.t.Context(), i.ref)
	require.NoError(i.t, err)
	i.t.Cleanup(func() { removeImage(id) })

	return id
}

func removeImage(id string) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return
	}
	defer func() { _ = docker.Close() }()
	_, _ = docker.ImageRemove(context.Background(), id, dockerimage.RemoveOptions{Force: true})
}

// eachMovedImage runs f with a job that was created before any runner had resolved its image, and whose task
// a has run since. Then the reference was moved to another image.
func eachMovedImage(t *testing.T,
	f func(h *testParty, ref, id string, run func() (string, *bfia.Failure))) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		if d.Device() != string(bfia.DeviceDocker) || prog.path == "" {
			t.Skip("only Docker runs images by id")
		}
		images := testImages{t, d, "hutong-activities-test:" + strings.ToLower(rand.Text())}
		id := images.move()
		h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, []string{"exit", "0"})
		for _, name := range []string{"a", "b"} {
			metadata, err := json.Marshal(bfia.Metadata{Image: images.ref,
				Command: []string{d.program, "exit", "0"}})
			require.NoError(t, err)
			_, err = h.db.PutProvider(t.Context(), store.Provider{Name: "vendor-" + name, Version: "1",
				Device: d.Device(), Metadata: metadata,
				Components: map[string]json.RawMessage{"C": component("vendor-" + name)}})
			require.NoError(t, err)
		}
		h.recordAgain()
		h.claimTaskA()

		var created string
		observed := imageObserver{specObserver{d, func(s driver.Spec) { created = s.Image }},
			d.Driver.(driver.ImageFinder)}
		result, err := h.runTask(t.Context(), "a", &observed, nil)
		require.NoError(t, err)
		require.Nil(t, result.Failure)
		require.Equal(t, id, created)
		require.NoError(t, h.participant.RecordTaskEnd(t.Context(),
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))

		require.NotEqual(t, id, images.move())
		_, err = h.participant.ClaimTask(t.Context(), participant.ClaimTaskInput{Task: h.taskRef("b"),
			Parts: []bfia.Part{guestA}, At: time.Now()})
		require.NoError(t, err)
		f(h, images.ref, id, func() (string, *bfia.Failure) {
			created = ""
			result, err := h.runTask(t.Context(), "b", &observed, nil)
			require.NoError(t, err)
			return created, result.Failure
		})
	})
}

// The first container of a job that was created before its image was resolved fixes the image for the job: a
// reference that is moved while the job runs does not change what its other tasks run.
func TestMovedImageDoesNotChangeJob(t *testing.T) {
	eachMovedImage(t, func(h *testParty, ref, id string, run func() (string, *bfia.Failure)) {
		created, failure := run()
		require.Equal(h.t, id, created)
		require.Nil(h.t, failure)
		record, err := h.db.JobRecord(h.t.Context(), jobID)
		require.NoError(h.t, err)
		require.Equal(h.t, map[string]map[string]string{ref: {"runner-1": id}}, record.Images)
		providers, err := h.db.Providers(h.t.Context(), store.ProviderFilter{Name: "vendor-a"})
		require.NoError(h.t, err)
		require.Equal(h.t, record.Images, providers[0].Images, "the provider has the same id")
	})
}

// A runner that lacks the id which the job runs does not run another image of the same name. The failure says
// so.
func TestRunnerLacksFixedImage(t *testing.T) {
	eachMovedImage(t, func(h *testParty, ref, id string, run func() (string, *bfia.Failure)) {
		removeImage(id)
		_, failure := run()
		require.NotNil(h.t, failure)
		require.Equal(h.t, bfia.FailedImage, failure.Kind)
		require.Contains(h.t, failure.Message, "the image "+ref+" ("+id+") is not on runner runner-1")
		require.Contains(h.t, failure.Message, "the job runs no other image, also if "+ref+" names one now")
	})
}
